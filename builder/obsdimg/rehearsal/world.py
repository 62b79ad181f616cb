"""The state that the stand-ins share: disks, mounts, network, CD, journal."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from obsdimg.rehearsal.disks import StandInDisk, make_disks
from obsdimg.rehearsal.machine import SECTOR, Dhcp, RehearsalMachine

TOKEN = b"\x00obsdimg-rehearsal-file\x00"
"""Starts a token: in place of a large file's bytes, its path on the CD travels through pipes."""


class Cd(Protocol):
    """The files of the install CD, by absolute path."""

    def paths(self) -> Iterable[str]:
        """All plain files."""

    def size(self, path: str) -> int:
        """Bytes."""

    def mode(self, path: str) -> int:
        """Permission bits."""

    def open(self, path: str) -> BinaryIO:
        """A stream of the file's bytes."""


@dataclass(frozen=True)
class Action:
    """Something done to a disk (or another part of the machine), in order.

    `stdin` is what the program was told there, secrets masked; `detail` is its meaning.
    """

    program: str
    target: str
    detail: str
    stdin: str = ""
    status: int = 0


@dataclass
class SetState:
    """What happened to a set on its way: hash computed, unpacked or only verified."""

    name: str
    size: int
    sha256: str = ""
    listed: str = ""
    installed: bool = False
    unpacked: bool = False
    error: str = ""


@dataclass
class Mount:
    """A mounted file system: device, point, used bytes."""

    device: str
    point: str
    options: str
    size: int
    used: int = 0


@dataclass
class Nic:
    """An interface as ifconfig shows it."""

    name: str
    lladdr: str
    dhcp: Dhcp | None
    inet: tuple[str, str, str] | None = None
    inet6: list[tuple[str, str]] = field(default_factory=list)
    autoconf4: bool = False
    autoconf6: bool = False
    up: bool = False
    groups: set[str] = field(default_factory=set)


class World:
    """Everything that stand-ins read and change."""

    def __init__(self, machine: RehearsalMachine, cd: Cd) -> None:
        self.machine = machine
        self.cd = cd
        self.disks: dict[str, StandInDisk] = make_disks(machine)
        self.mounts: dict[str, Mount] = {}
        self.nics = {n.name: Nic(n.name, n.lladdr, n.dhcp) for n in machine.nics}
        self.routes: dict[str, tuple[str, str]] = {}
        self.hostname = ""
        self.actions: list[Action] = []
        self.sets: dict[str, SetState] = {}
        self.signature = ""
        self.secrets: set[str] = set()
        self.owners: dict[str, str] = {}
        self.services: list[str] = []
        self.snapshots: list[bytes] = []
        self.hashed = 0
        self.daemons: set[str] = set()
        self.ended = ""
        self.unbootable = ""
        self.installing = ""
        self.landed: list[tarfile.TarInfo] = []
        self.echo = True
        self.lines = True
        self.zones: tuple[str, ...] = ("UTC",)

    def act(self, program: str, target: str, detail: str, stdin: str = "", status: int = 0) -> None:
        """Add to the journal."""
        self.actions.append(Action(program, target, detail, stdin, status))

    def disk_of(self, word: str) -> tuple[StandInDisk | None, str]:
        """Disk and partition letter that a device word names: `sd0`, `sd0a`, `/dev/rsd0c`,
        a DUID, or `DUID.a`.  The letter is empty for the whole disk."""
        name = word.removeprefix("/dev/")
        if name.startswith("r") and name[1:3] == "sd":
            name = name[1:]
        head, dot, letter = name.partition(".")
        for disk in self.disks.values():
            if name in (disk.name, disk.duid):
                return disk, ""
            if dot and head == disk.duid:
                return disk, letter
            if name[:-1] == disk.name and name[-1:].isalpha():
                return disk, name[-1]
        return None, ""

    def next_unit(self) -> str:
        """The name of the next disk that attaches: the lowest free unit."""
        unit = 0
        while f"sd{unit}" in self.disks:
            unit += 1
        return f"sd{unit}"

    def partition_bytes(self, disk: StandInDisk, letter: str) -> int:
        """Size of a partition in bytes, less what FFS keeps for itself (about 3 %)."""
        return disk.label[letter].size * SECTOR * 97 // 100

    def mount_of(self, path: str) -> Mount | None:
        """The file system that holds an absolute path of the sandbox."""
        found = None
        for mount in self.mounts.values():
            inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
            if inside and (found is None or len(mount.point) > len(found.point)):
                found = mount
        return found

    def charge(self, path: str, size: int) -> bool:
        """Account `size` bytes written at `path`; False where the file system is full."""
        mount = self.mount_of(path)
        if mount is None:
            return True
        if mount.used + size > mount.size:
            return False
        mount.used += size
        return True

    def network(self) -> bool:
        """Whether any interface is configured (a rehearsal still reaches nobody)."""
        return any(nic.inet for nic in self.nics.values())


def token(path: str) -> bytes:
    """The token for a file of the CD."""
    return TOKEN + path.encode() + b"\n"


def token_path(data: bytes) -> str | None:
    """The CD path that `data` stands for, or None if `data` is no token."""
    if not data.startswith(TOKEN):
        return None
    return data[len(TOKEN) :].split(b"\n", 1)[0].decode(errors="replace")
