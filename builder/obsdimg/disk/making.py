"""Makes the disk: the ISO is installed in QEMU, the disk is searched, and on request proven.

The scenario is the smoke test's, cut off where the installer reboots: the installed system is
not started, so that host keys and whatever else a first boot makes come to be on the real
machine.  The proof starts a copy (an overlay), never the disk itself.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.progress import Progress
from obsdimg.disk.both import start_by_uefi_too
from obsdimg.disk.content import open_image
from obsdimg.smoke.machine import AcceleratorError, make_disk
from obsdimg.smoke.plan import SmokePlan
from obsdimg.smoke.play import RunOptions
from obsdimg.smoke.result import SmokeResult, SmokeVerdict
from obsdimg.smoke.scenario import Scenario


class DiskMakingError(ObsdimgError):
    """The ISO did not become a good disk."""


class DiskMaking(Scenario):
    """Installation, search, and the proof on a copy."""

    def search(self, disk: Path) -> None:
        """Look for what must not be readable on the installed disk."""
        self._disk(disk)

    def prove(self, overlay: Path) -> None:
        """Start the machine with the copy `overlay`, unlock it and use the tunnel."""
        with self.machine(overlay, cd=False) as (machine, console):
            self._unlock(machine, console, first=True)
            self._first_boot(machine, console, "first-boot", "first boot of a copy")
            self._tunnel(machine, "tunnel", "tunnel of every client")
            self._ports(machine)


def make(
    plan: SmokePlan,
    options: RunOptions,
    progress: Progress,
    result: SmokeResult,
    *,
    prove: bool = False,
    loader: bytes | None = None,
) -> Path:
    """The installed disk (qcow2) in `options.folder`; what was seen is in `result`.

    With `options.installed` that disk is searched and proven instead of a new one.  With `loader`,
    a boot image for UEFI, a disk for the BIOS gets that, too, and is proven with both.

    Raises DiskMakingError, with the stage that failed; AcceleratorError and MachineError as the
    smoke test's.
    """
    play = DiskMaking(plan, options, progress, result)
    disk = options.installed or options.folder / "disk.qcow2"
    try:
        if options.installed is None:
            play.install(disk)
            if options.finished_install and not result.failed:
                disk = options.finished_install(disk)
        if loader is not None and not result.failed:
            disk = _for_both(disk, plan, options, loader)
        if not result.failed:
            play.search(disk)
        for uefi in (False, True) if loader is not None else (plan.uefi,):
            if prove and not result.failed:
                _prove(disk, replace(plan, uefi=uefi), play, named=loader is not None)
    except AcceleratorError:
        raise
    except ObsdimgError:
        if result.failed is None:
            raise
    finally:
        result.seconds = time.monotonic() - play.started
    if (stage := result.failed) is not None:
        raise DiskMakingError(result.sentence, stage.hint or None)
    return disk


def _for_both(disk: Path, plan: SmokePlan, options: RunOptions, loader: bytes) -> Path:
    """A disk that UEFI starts, too; one that is kept stays as it is."""
    if disk.parent != options.folder:
        disk = Path(shutil.copyfile(disk, options.folder / "both.qcow2"))
    start_by_uefi_too(disk, plan.disk_size, loader)
    return disk


def _prove(disk: Path, plan: SmokePlan, play: DiskMaking, *, named: bool) -> None:
    """Start a copy as `plan` says; `named`: the stages say by which firmware."""
    overlay = play.options.folder / "copy.qcow2"
    make_disk(overlay, open_image(disk).size, backing=disk)
    before, kind = len(play.result.stages), "uefi" if plan.uefi else "bios"
    if named:
        play.progress.note(f"with {kind}:")
    own = DiskMaking(plan, play.options, play.progress, play.result, play.started)
    try:
        own.prove(overlay)
    finally:
        overlay.unlink(missing_ok=True)
        for stage in play.result.stages[before:] if named else ():
            stage.name, stage.title = f"{stage.name}-{kind}", f"{stage.title}, {kind}"


def good_checks(result: SmokeResult) -> list[str]:
    """The names of the checks that passed, in their order, each once."""
    return list(
        dict.fromkeys(
            check.name
            for stage in result.stages
            for check in stage.checks
            if check.verdict is SmokeVerdict.PASSED
        )
    )


def kdf_rounds(result: SmokeResult) -> int | None:
    """The rounds of the disk's passphrase, as the encryption step showed them."""
    for line in result.transcript:
        if found := re.search(r"Deriving key using bcrypt PBKDF with (\d+) rounds", line.text):
            return int(found[1])
    return None
