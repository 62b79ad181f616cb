"""Stand-in disks: partition table, disklabel, file systems and softraid volumes, no sectors.

Sizes and offsets count sectors of 512 bytes.  What a disk holds is known by structure only;
`first_bytes` makes up the start of the disk as dd would show it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from obsdimg.rehearsal.machine import SECTOR, MachineDisk, RehearsalMachine

CYLINDER = 16065
"""Sectors: 255 heads of 63 sectors, as fdisk and disklabel assume."""
START = 64
"""The first sector that a partition gets: sector 1 of track 1, rounded by disklabel."""

CRYPTO_OFFSET = 528
"""Sectors of a chunk taken by softraid metadata and boot areas (softraidvar.h)."""

METADATA = b"marcCRAM"
"""Magic of softraid metadata, SR_MAGIC as it lies on the disk."""


@dataclass
class MbrEntry:
    """A primary partition: type id (A6 OpenBSD, 83 Linux), start and size in sectors."""

    id: int
    start: int
    size: int
    active: bool = False


@dataclass
class Partition:
    """A partition of the disklabel; `mounted` is the mount point that the label remembers."""

    offset: int
    size: int
    fstype: str
    mounted: str = ""


@dataclass
class SoftraidVolume:
    """A softraid CRYPTO volume on a chunk; the passphrase is kept as a digest only."""

    digest: bytes
    rounds: str
    inner: StandInDisk
    keydisk: str = ""


@dataclass
class StandInDisk:
    """A disk as the kernel sees it; `chunk` names the partition under a softraid volume.

    `labelled` False: nobody wrote the label, the kernel made it up from the partition table.
    """

    name: str
    sectors: int
    model: str
    duid: str
    writable: bool = True
    mbr: list[MbrEntry] | None = None
    gpt: list[MbrEntry] | None = None
    label: dict[str, Partition] = field(default_factory=dict)
    filesystems: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, SoftraidVolume] = field(default_factory=dict)
    foreign: str = ""
    random_sectors: int = 0
    chunk: str = ""
    bootable: bool = False
    labelled: bool = True

    @property
    def bounds(self) -> tuple[int, int]:
        """First sector and end of the area that OpenBSD may use."""
        for entry in [*(self.mbr or []), *(self.gpt or [])]:
            if entry.id == 0xA6:
                return entry.start, entry.start + entry.size
        return 0, self.sectors

    @property
    def empty(self) -> bool:
        """Whether nothing on it can be recognised."""
        return not (self.mbr or self.gpt or self.label or self.volumes or self.foreign)

    def wipe_start(self) -> None:
        """The first megabyte was overwritten: tables, label and metadata are gone.

        Volumes whose chunk starts behind the first megabyte would survive; ours start at 64.
        """
        self.mbr = self.gpt = None
        self.labelled = False
        self.label.clear()
        self.volumes.clear()
        self.filesystems.clear()
        self.foreign = ""

    def first_bytes(self, size: int) -> bytes:
        """The first `size` bytes (at most a megabyte), with the magic numbers of what is there."""
        data = bytearray(min(size, 1 << 20))

        def put(offset: int, value: bytes) -> None:
            if offset + len(value) <= len(data):
                data[offset : offset + len(value)] = value

        if self.random_sectors and not self.mbr:
            data[:] = hashlib.shake_128(self.duid.encode()).digest(len(data))
        if self.mbr is not None:
            put(510, b"\x55\xaa")
        if self.foreign == "ext4":
            put(1080, b"\x53\xef")
        for letter in self.volumes:
            put((self.label[letter].offset + 16) * SECTOR if letter in self.label else 0, METADATA)
        return bytes(data)


def duid(name: str) -> str:
    """A disklabel UID, 16 hexadecimal digits, the same for the same disk in every rehearsal."""
    return hashlib.sha256(f"obsdimg rehearsal {name}".encode()).hexdigest()[:16]


def digest(passphrase: bytes) -> bytes:
    """What is remembered of a passphrase, to tell later whether another one is the same."""
    return hashlib.sha256(b"obsdimg rehearsal" + passphrase).digest()


def make_disks(machine: RehearsalMachine) -> dict[str, StandInDisk]:
    """The machine's disks as `sd0`, `sd1` and so on, with their contents."""
    return {f"sd{n}": _disk(f"sd{n}", spec) for n, spec in enumerate(machine.disks)}


def _disk(name: str, spec: MachineDisk) -> StandInDisk:
    disk = StandInDisk(name, spec.size // SECTOR, spec.model, duid(name), spec.writable)
    disk.labelled = spec.contents not in ("empty", "foreign")
    if spec.contents == "empty":
        return disk
    if spec.contents == "foreign":
        disk.mbr = [MbrEntry(0x83, 2048, disk.sectors - 2048, active=True)]
        disk.foreign = "ext4"
        disk.label = {"i": Partition(2048, disk.sectors - 2048, "ext2fs")}
        return disk
    write_openbsd_mbr(disk)
    first, end = disk.bounds
    if spec.contents == "openbsd":
        disk.label = {
            "a": Partition(first, (end - first) // 2, "4.2BSD", "/"),
            "b": Partition(first + (end - first) // 2, (end - first) // 8, "swap"),
        }
        disk.filesystems = {"a": "ffs"}
        return disk
    disk.label = {"a": Partition(first, end - first, "RAID")}
    inner = StandInDisk(
        "", end - first - CRYPTO_OFFSET, "OPENBSD, SR CRYPTO, 006", duid(f"{name} volume")
    )
    write_openbsd_mbr(inner)
    inner.label = {"a": Partition(64, inner.sectors - 64, "4.2BSD", "/")}
    inner.filesystems = {"a": "ffs"}
    disk.volumes = {"a": SoftraidVolume(digest(spec.passphrase.encode()), "auto", inner)}
    return disk


def forget_label(disk: StandInDisk) -> None:
    """Nothing is left where the label was looked for."""
    disk.label.clear()
    disk.filesystems.clear()
    disk.volumes.clear()
    disk.labelled = False


def made_up(disk: StandInDisk) -> dict[str, Partition]:
    """What the kernel adds to a label from the partition table."""
    return {k: v for k, v in disk.label.items() if v.fstype in ("MSDOS", "ext2fs")}


def efi_system_partition(disk: StandInDisk) -> bool:
    """Whether the disk has an EFI System partition."""
    return any(entry.id == 0xEF for entry in disk.gpt or [])


def write_openbsd_mbr(disk: StandInDisk) -> None:
    """`fdisk -iy`: one OpenBSD partition from sector 64 to the last full cylinder.

    A label that was in such a partition is there again; any other is gone.
    """
    if disk.gpt is not None or not disk.labelled:
        forget_label(disk)
    end = max(disk.sectors // CYLINDER, 1) * CYLINDER
    disk.mbr = [MbrEntry(0xA6, START, min(end, disk.sectors) - START, active=True)]
    disk.gpt = None
    disk.foreign = ""


def write_openbsd_gpt(disk: StandInDisk, boot: int) -> None:
    """`fdisk -iy -g -b SECTORS`: an EFI System partition of `boot` sectors, then OpenBSD.

    The kernel then finds no label and makes one up: the EFI System partition is `i`, of type
    MSDOS (spoofgpt in sys/kern/subr_disk.c; seen on 6.6 and 7.7).
    """
    forget_label(disk)
    disk.label["i"] = Partition(START, boot, "MSDOS")
    disk.mbr = [MbrEntry(0xEE, 1, disk.sectors - 1)]
    disk.gpt = [
        MbrEntry(0xEF, START, boot),
        MbrEntry(0xA6, START + boot, disk.sectors - 64 - START - boot),
    ]
    disk.foreign = ""
