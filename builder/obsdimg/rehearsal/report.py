"""A rehearsal for the eye: questions with answers, disk actions, sets, files, one verdict."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from obsdimg.rehearsal.result import Rehearsal
from obsdimg.rehearsal.transcript import TranscriptQuestion
from obsdimg.rehearsal.world import SetState


def show(result: Rehearsal, console: Console, *, all_files: bool = True) -> None:
    """Print `result`, the verdict last."""
    if result.questions:
        console.print(_questions(result))
    if result.unused and result.questions:
        console.print("\nLines of the response file that were not used:")
        for number, text in result.unused:
            console.print(f"  {number:>3}  {escape(text)}", highlight=False)
    if result.actions:
        console.print(_actions(result))
    if result.sets:
        console.print(_sets(result))
    if result.files and all_files:
        console.print(_files(result))
    if result.site_output:
        console.print("\ninstall.site said:")
        for line in result.site_output.splitlines():
            console.print(f"  {escape(line)}", highlight=False)
    if not result.passed:
        console.print("\nThe last lines of the console:")
        for line in result.transcript.rstrip().splitlines()[-12:]:
            console.print(f"  {escape(line)}", highlight=False)
    console.print()
    color = "green" if result.passed else "red"
    console.print(f"[bold {color}]{result.verdict.value}[/]: {escape(result.message)}")
    if result.hint:
        console.print(f"hint: {escape(result.hint)}", highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _questions(result: Rehearsal) -> Table:
    table = _table("\nWhat the installer asked", "Question", "Answer", "From")
    for asked in result.questions:
        table.add_row(escape(asked.text), escape(asked.answer), origin(asked))
    return table


def origin(asked: TranscriptQuestion) -> str:
    """Where an answer came from, in words."""
    if not asked.known:
        return "UNKNOWN QUESTION"
    if asked.line is None:
        return "default"
    return f"line {asked.line}" if asked.line else "ramdisk hook"


def _actions(result: Rehearsal) -> Table:
    table = _table("\nWhat was done to disks", "Program", "Disk", "What", "On stdin")
    for action in result.actions:
        failed = " (failed)" if action.status else ""
        told = " ".join(action.stdin.split("\n")) if action.stdin else ""
        table.add_row(action.program, action.target, escape(action.detail) + failed, escape(told))
    return table


def _sets(result: Rehearsal) -> Table:
    signature = f", signature of SHA256.sig: {result.signature}" if result.signature else ""
    table = _table(f"\nSets{escape(signature)}", "Set", "Bytes", "SHA-256", "Installed")
    for found in result.sets:
        if found.installed or found.sha256 or found.error:
            table.add_row(found.name, str(found.size), checked(found), _installed(found))
    return table


def checked(found: SetState) -> str:
    """What verification said of a set."""
    if not found.sha256:
        return "not checked"
    if not found.listed:
        return "in no list"
    return "as signed" if found.listed == found.sha256 else "DIFFERS"


def _installed(found: SetState) -> str:
    if found.error:
        return found.error
    if not found.installed:
        return "no"
    return "unpacked" if found.unpacked else "yes (not unpacked here)"


def _files(result: Rehearsal) -> Table:
    table = _table("\nFiles of the site set, as they land", "Mode", "Owner", "Bytes", "Path")
    for found in result.files:
        path = escape(found.path) + (" (removed again)" if found.gone else "")
        kind = {"dir": "d", "link": "l"}.get(found.kind, "-")
        table.add_row(f"{kind}{found.mode:04o}", found.owner, str(found.size), path)
    return table
