"""From the end of a rehearsal to its one verdict: pure, in order of what explains most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from obsdimg.rehearsal.result import RehearsalVerdict
from obsdimg.rehearsal.server import End
from obsdimg.rehearsal.transcript import INNER, TranscriptQuestion, unanswered
from obsdimg.rehearsal.world import SetState
from obsdimg.response.matching import Line


@dataclass(frozen=True)
class Evidence:
    """What is known at the end.  `unused` holds the lines that answered nothing and that no
    known question of the release would take; `unterminated` text behind the last newline."""

    end: End
    console: str
    questions: Sequence[TranscriptQuestion]
    unused: Sequence[Line]
    unterminated: str
    sets: Sequence[SetState]
    signature: str
    refused: Sequence[str]
    exceeded: str
    unbootable: str
    limit: float
    expect_site: bool


SEE = "--transcript F writes all that the console showed"

Finding = tuple[RehearsalVerdict, str, str]

_STRINGS: tuple[tuple[str, RehearsalVerdict, str], ...] = (
    (r"^obsdimg: STOPPED: (.*)$", RehearsalVerdict.HOOK_FAILED, ""),
    (r"^install\.site failed$", RehearsalVerdict.SITE_SCRIPT_FAILED, "its output is below"),
    (
        r"write failed, file system is full",
        RehearsalVerdict.DISK_FULL,
        "give the machine a larger disk, leave sets out, or change the disklabel template",
    ),
    (
        r"^(Signature check of SHA256\.sig failed)",
        RehearsalVerdict.BAD_SIGNATURE,
        "build the ISO again",
    ),
    (r"^signify: (.*)$", RehearsalVerdict.BAD_SIGNATURE, "build the ISO again"),
    (r"^(Checksum test for \S+ failed)\.", RehearsalVerdict.BAD_CHECKSUM, "build the ISO again"),
    (
        r"^((?:Fetching|Installation) of \S+ failed)\.",
        RehearsalVerdict.BAD_SET,
        "build the ISO again",
    ),
    (r"and found no OpenBSD", RehearsalVerdict.NO_SETS, "check `Pathname to the sets`"),
    (
        r"^(Are you \*SURE\* your install is complete without '\S+')",
        RehearsalVerdict.NO_SETS,
        "check `Set name(s)`",
    ),
    (r"^(INSTALL\.\S+ not found)\.", RehearsalVerdict.NO_SETS, "the ISO lacks that file"),
    (r"^(Directory does not contain SHA256\.sig)\.", RehearsalVerdict.BAD_SIGNATURE, ""),
    (r"^(Unverified sets: .*)\. Continue", RehearsalVerdict.BAD_CHECKSUM, ""),
    (
        r"^((?:Autopartitioning failed|No autopartitioning template found)\.)$",
        RehearsalVerdict.DISK_LAYOUT,
        "",
    ),
    (r"^('/' must be configured!)$", RehearsalVerdict.DISK_LAYOUT, ""),
    (r"^(.* can't both be mounted at .*)$", RehearsalVerdict.DISK_LAYOUT, ""),
    (r"^(Failed to install bootblocks.*)$", RehearsalVerdict.DISK_LAYOUT, ""),
    (
        # Behind the question where that was quicker: it goes to the terminal, this through a log.
        r"(?:^|: )obsdimg: (This passphrase does not open the sealed secrets)\.$",
        RehearsalVerdict.WAITING,
        "give the one of the build: --passphrase-file F",
    ),
    (r"^(no such disk)$", RehearsalVerdict.BAD_ANSWER, ""),
    (r"^('.*' is not a valid (?:choice|hostname)\.)$", RehearsalVerdict.BAD_ANSWER, ""),
    (r"^(The directory '.*' does not exist\.)$", RehearsalVerdict.BAD_ANSWER, ""),
    (r"^('.*' is not a valid timezone on this system\.)$", RehearsalVerdict.BAD_ANSWER, ""),
    (r"^(Invalid hostname\.|A response is required\.)$", RehearsalVerdict.BAD_ANSWER, ""),
    (r"^(.* is not a usable loginname\.)$", RehearsalVerdict.BAD_ANSWER, ""),
)
"""What the installer prints when it gives up (openbsd.md section 11), and what that means."""


def judge(e: Evidence) -> Finding:
    """The verdict, one line that says what happened, and a hint."""
    if e.refused:
        return (
            RehearsalVerdict.REFUSED,
            e.refused[0],
            "a limit of the rehearsal: see docs/rehearsal.md",
        )
    if e.exceeded:
        return (
            RehearsalVerdict.TOO_MUCH,
            f"more than a rehearsal takes: {e.exceeded}",
            "no installer of OpenBSD does that: see docs/rehearsal.md",
        )
    if e.end is End.REBOOT:
        return _installed(e)
    return _unterminated(e) or _no_answer(e) or _said(e) or _stuck(e)


def _installed(e: Evidence) -> Finding:
    unknown = [q for q in e.questions if not q.known]
    if e.unbootable:
        return (
            RehearsalVerdict.DISK_LAYOUT,
            f"the machine would not start from its disk: {e.unbootable}",
            "compare the answer to `Use (W)hole disk MBR, whole disk (G)PT`",
        )
    if e.unterminated:
        return _unterminated(e) or (RehearsalVerdict.UNTERMINATED_LINE, "", "")
    if unknown:
        q = unknown[0]
        return (
            RehearsalVerdict.UNKNOWN_QUESTION,
            f"a question that this release is not known to ask: {q.text} (taken: {q.answer})",
            "answer it with [[answers]] in obsdimg.toml, and report it",
        )
    if e.unused:
        first = e.unused[0]
        return (
            RehearsalVerdict.UNUSED_LINE,
            f"line {first.number} answers no question: {first.text.strip()}",
            "compare its key with the questions above; defaults were taken instead",
        )
    site = [s for s in e.sets if s.name.startswith("site") and s.unpacked]
    if e.expect_site and not site:
        return (
            RehearsalVerdict.NO_SITE_SET,
            "installed, but without a site set: there is none on the ISO, or it was not selected",
            "the answer to `Set name(s)` must hold +site*",
        )
    missing = _not_found(e.console)
    if missing:
        return _missing(missing)
    return RehearsalVerdict.INSTALLED, "the installer ran to its end and rebooted", ""


def _unterminated(e: Evidence) -> Finding | None:
    if not e.unterminated:
        return None
    return (
        RehearsalVerdict.UNTERMINATED_LINE,
        "the response file does not end with a newline: the installer never sees its last line",
        "end the file with a newline",
    )


def _no_answer(e: Evidence) -> Finding | None:
    question = unanswered(e.console)
    if question is None:
        return None
    hint = f"add the line: {question.partition('?')[0]} = ANSWER"
    if e.unused:
        hint = f"a line that answers nothing: {e.unused[0].number}: {e.unused[0].text.strip()}"
    return RehearsalVerdict.NO_ANSWER, f"no answer to: {question}", hint


def _said(e: Evidence) -> Finding | None:
    full = [s.name for s in e.sets if s.error == "disk full"]
    for pattern, verdict, hint in _STRINGS:
        found = re.search(pattern, e.console, re.MULTILINE)
        if found:
            message = found[1] if found.groups() else found[0]
            if verdict is RehearsalVerdict.DISK_FULL and full:
                message = f"no room on the disk for {full[0]}"
            if verdict is RehearsalVerdict.BAD_SIGNATURE and e.signature:
                message = f"{message}: {e.signature}"
            return verdict, message, hint
    return None


def _stuck(e: Evidence) -> Finding:
    last = e.console.rstrip("\n").rpartition("\n")[2].strip()
    if "(S)hell?" in last:
        if e.end is End.WAITING and INNER not in e.console:
            return (
                RehearsalVerdict.NO_AUTOINSTALL,
                "the installer waits at its menu: nothing in this ramdisk starts autoinstall",
                "is this an ISO that obsdimg built?",
            )
    elif e.end is End.WAITING and not e.console.endswith("\n") and last:
        hint = SEE
        if "sealed secrets" in last:
            hint = "it asks for the passphrase of the build: give it with --passphrase-file F"
        return RehearsalVerdict.WAITING, f"somebody must answer: {last}", hint
    elif e.end is End.WAITING:
        return (
            RehearsalVerdict.TIME_LIMIT,
            f"nothing happens any more; the last line: {last}",
            f"a command that waits; {SEE}",
        )
    if e.end is End.LIMIT:
        return (
            RehearsalVerdict.TIME_LIMIT,
            f"no end in sight after {e.limit:g} s; the last line: {last}",
            f"an endless loop, or a command that waits; {SEE}",
        )
    if e.end is End.FLOOD:
        return (
            RehearsalVerdict.TIME_LIMIT,
            f"endless output; the last line: {last}",
            SEE,
        )
    missing = _not_found(e.console)
    if missing:
        return _missing(missing)
    if not e.questions and e.end is End.MENU:
        return (
            RehearsalVerdict.HOOK_FAILED,
            "it stopped before the first question: the ramdisk hook failed",
            SEE,
        )
    return RehearsalVerdict.FAILED, f"the installation failed; the last line: {_last_words(e)}", ""


def _last_words(e: Evidence) -> str:
    lines = [line for line in e.console.splitlines() if line.strip() and "(S)hell?" not in line]
    lines = [line for line in lines if "failed; check /tmp/ai/ai.log" not in line]
    return lines[-1].strip() if lines else ""


def _not_found(console: str) -> str | None:
    found = re.search(r"^(?:.*: )?(\S+): (?:inaccessible or )?not found$", console, re.MULTILINE)
    return found[1] if found else None


def _missing(name: str) -> Finding:
    return (
        RehearsalVerdict.MISSING_PROGRAM,
        f"a program was called that is not there: {name}",
        "the ramdisk has few programs: see docs/rehearsal.md",
    )
