"""A rehearsal for the commands that hold one: `rehearse`, and `build` and `demo` at their end."""

from __future__ import annotations

from pathlib import Path

from obsdimg.cli.ui import Ui, table_console
from obsdimg.core.secret import Secret
from obsdimg.iso import Iso
from obsdimg.rehearsal import (
    MachineChanges,
    Operator,
    Rehearsal,
    RehearsalLimits,
    RehearsalMachine,
    SandboxError,
    TypedPassphrase,
    find_host,
    rehearse_iso,
)
from obsdimg.rehearsal.machine import PASSPHRASE
from obsdimg.rehearsal.ramdisk import medium_release
from obsdimg.rehearsal.report import show
from obsdimg.releases.release import known_releases, load_release
from obsdimg.response.known import KnownQuestions
from obsdimg.response.questions import load

LIMIT = 120.0
"""Seconds for a whole rehearsal."""


def why_not() -> str | None:
    """Why this system cannot hold a rehearsal, or None if it can."""
    try:
        find_host()
    except SandboxError as error:
        return f"{error.message}; {error.hint}"
    return None


def rehearse(
    iso: Path,
    ui: Ui,
    passphrase: Secret | None,
    machine: RehearsalMachine | MachineChanges | None = None,
    *,
    wipe: bool = False,
    typed: TypedPassphrase = TypedPassphrase.REAL,
    limit: float = LIMIT,
) -> Rehearsal:
    """Rehearse `iso` with the questions known for its release.

    `machine` None: one that fits the response file; `passphrase` is what the operator types
    unless `typed` says otherwise.
    """
    with Iso.open(iso) as opened:
        version, _ = medium_release(opened)
    known = None
    if version in known_releases():
        known = KnownQuestions(load(load_release(version).question_table))
    phrase = passphrase.reveal() if passphrase else PASSPHRASE
    operator = Operator.default(phrase, wipe=wipe, typed=typed)
    with ui.progress().step(f"Rehearsing the installer of {iso.name}"):
        return rehearse_iso(iso, machine, operator, known=known, limits=RehearsalLimits(limit))


def report(result: Rehearsal) -> None:
    """The tables, on stdout."""
    show(result, table_console())
