"""The upgrade half of the installer's script: what sysupgrade(8) restarts into.

The ramdisk is the pristine one of the ISO (`bsd.rd`), as a mirror has it: sysupgrade puts it on the
disk as /bsd.upgrade.  There are an installed system, /auto_upgrade.conf as sysupgrade writes it,
and the sets in /home/_sysupgrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from obsdimg.ffs import FileSystem
from obsdimg.iso import Iso
from obsdimg.kernel.bootkernel import MAX_KERNEL, BootKernel
from obsdimg.rehearsal import ramdisk
from obsdimg.rehearsal.disks import duid
from obsdimg.rehearsal.limits import RehearsalLimits
from obsdimg.rehearsal.machine import (
    InstalledSystem,
    MachineChanges,
    MachineDisk,
    RehearsalMachine,
)
from obsdimg.rehearsal.ramdisk import RamdiskNode
from obsdimg.rehearsal.rehearse import IsoCd, rehearse_tree
from obsdimg.rehearsal.result import Rehearsal
from obsdimg.rehearsal.world import Cd

ROOT: Final = "sd1"
"""The volume that the boot loader has unlocked; sd0 holds it."""
SETS: Final = "/home/_sysupgrade"
_NAMES_UNTIL: Final = (6, 8)
"""Releases up to this one also write `Set name(s) = done` (sysupgrade.sh), and their installer does
not add the root disk by itself."""
_ASKED: Final = (
    r"Terminal type\?",
    r"Choose your keyboard layout ",
    r"Which disk is the root disk\?",
    r"Force checking of clean non-root filesystems\?",
    r"Location of sets\?",
    r"Is the disk partition already mounted\?",
    r"Pathname to the sets\?",
    r"Set name\(s\)\?",
    r"Directory does not contain SHA256\.sig\. Continue without verification\?",
)
"""What the upgrade asks (install.sub of 6.6 and 7.7): each has a line or a right default."""


class UpgradeQuestions:
    """What an upgrade is known to ask, whatever the release."""

    def asks(self, text: str) -> bool:
        """Whether `text` is one of its questions."""
        return any(re.match(pattern, text) for pattern in _ASKED)

    def answers(self, key: str) -> bool:
        """Whether a line with `key` may go unused: none of sysupgrade's may."""
        return False


class NoUpgradeError(ramdisk.UnreadableRamdiskError):
    """The medium has no pristine ramdisk to upgrade with."""


def auto_upgrade(version: str) -> bytes:
    """/auto_upgrade.conf as sysupgrade of the release before `version` leaves it."""
    names = "Set name(s) = done\n" if _number(version) <= _NAMES_UNTIL else ""
    return (
        f"Location of sets = disk\nPathname to the sets = {SETS}/\n{names}"
        "Directory does not contain SHA256.sig. Continue without verification = yes\n"
    ).encode()


def _number(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def installed_system(version: str, arch: str, nics: tuple[str, ...]) -> InstalledSystem:
    """A server of the release before, with the upgrade that waits."""
    root = duid(ROOT)
    files = {
        "/etc/fstab": f"{root}.b none swap sw\n{root}.a / ffs rw 1 1\n".encode(),
        "/etc/myname": b"vpn.example.net\n",
        "/etc/installurl": b"https://cdn.openbsd.org/pub/OpenBSD\n",
        "/auto_upgrade.conf": auto_upgrade(version),
        "/bsd.upgrade": b"",
        "/bsd": b"",
        "/etc/rc.firsttime": f"rm -f {SETS}/*\n".encode(),
        **{f"/etc/hostname.{nic}": b"dhcp\n" for nic in nics},
    }
    return InstalledSystem(files, f"/{version}/{arch}", SETS)


def rehearse_upgrade(
    path: Path,
    changes: MachineChanges | None = None,
    *,
    limits: RehearsalLimits | None = None,
) -> Rehearsal:
    """Rehearse the upgrade of a server to the release of the ISO at `path`.

    Raises SandboxError, NoUpgradeError, and what reading the ISO raises.
    """
    with Iso.open(path) as iso:
        version, arch = ramdisk.medium_release(iso)
        kernel = f"/{version}/{arch}/bsd.rd"
        if not any(entry.path == kernel for entry in iso.entries()):
            raise NoUpgradeError(f"{path}: has no {kernel}", "is this an OpenBSD install ISO?")
        tree = ramdisk.tree_of(FileSystem(BootKernel.parse(iso.read(kernel, MAX_KERNEL)).ramdisk))
        base = (changes or MachineChanges()).applied(RehearsalMachine())
        machine = replace(base, version=version, arch=arch)
        return rehearse_upgrade_tree(tree, IsoCd(iso), machine, limits=limits)


def rehearse_upgrade_tree(
    tree: Mapping[str, RamdiskNode],
    cd: Cd | Mapping[str, bytes],
    machine: RehearsalMachine,
    *,
    limits: RehearsalLimits | None = None,
) -> Rehearsal:
    """The same with the ramdisk `tree` and the sets of `cd`, on `machine` with other disks.

    Raises SandboxError.
    """
    version = machine.version
    response = auto_upgrade(version)
    if _number(version) > _NAMES_UNTIL:
        response += f"Which disk is the root disk = {ROOT}\n".encode()
    nics = tuple(nic.name for nic in machine.nics)
    return rehearse_tree(
        tree,
        cd,
        replace(
            machine,
            disks=(MachineDisk(contents="encrypted"), MachineDisk(contents="openbsd")),
            installed=installed_system(version, machine.arch, nics),
        ),
        known=UpgradeQuestions(),
        limits=limits,
        expect_site=False,
        response=response,
    )
