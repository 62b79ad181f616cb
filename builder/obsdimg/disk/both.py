"""Makes an installed disk that the BIOS starts one that UEFI starts, too.

It gets an EFI System partition behind its end: the boot image for UEFI of the install ISO, with
more room in it, so that a later loader can be written beside the one that is there.  It stands in
the partition table of the BIOS (type EF; UEFI 2.10, sections 5.2.2 and 13.3.2), as OpenBSD's own
install images for USB have it (distrib/amd64/iso/Makefile: `fdisk -yi -b`), and as partition i in
the disklabel, so that it can be mounted (sys/sys/disklabel.h).  Nothing that was there is moved
or changed.
"""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core.process import ProcessError, run
from obsdimg.disk.content import UNIT, DiskImageError
from obsdimg.smoke.disk_search import read_at

SECTOR = 512
HEAD = 64 << 10
"""Bytes at the start of the disk in which table and label lie."""
_TABLE, _ENTRY, _ENTRIES = 446, 16, 4
_OPENBSD, _EFI_SYSTEM = 0xA6, 0xEF
_LABEL_SECTOR = 1
"""From the start of the OpenBSD partition."""
_MAGIC = 0x82564557
_MAGIC2_AT, _CHECKSUM_AT, _PARTITIONS_AT, _PARTITION = 132, 136, 148, 16
_LETTERS, _I, _MSDOS = 16, 8, 8
"""Partitions of a label, the number of `i`, and FS_MSDOS."""

_FAT12_LIMIT = 4085
"""Clusters: with so many it is no FAT12 (Microsoft, FAT: General Overview of On-Disk Format)."""

_HINT = (
    "it comes with qemu-img: Debian/Ubuntu `apt install qemu-utils`, Fedora `dnf install qemu-img`,"
    " Homebrew `brew install qemu`"
)


@dataclass(frozen=True)
class DiskPatch:
    """Bytes to be written at byte `at` of the disk."""

    at: int
    data: bytes


def find_writer() -> None:
    """Raise DiskImageError without the program that `start_by_uefi_too` needs."""
    if shutil.which("qemu-io") is None:
        raise DiskImageError("qemu-io is not installed", _HINT)


def room_for(loader: bytes) -> int:
    """Bytes by which the disk grows: whole MiB."""
    return -(-len(loader) // UNIT) * UNIT


def with_room(loader: bytes) -> bytes:
    """The FAT12 file system `loader`, filling the whole partition now, as far as its table goes.

    Nothing in it moves.  What is no FAT12 with 512-byte sectors is given back as it is.
    """
    room = room_for(loader) // SECTOR
    if len(loader) < SECTOR or loader[510:512] != b"\x55\xaa":
        return loader
    size, per, reserved, tables, roots, total, _, spare = struct.unpack_from(
        "<HBHBHHBH", loader, 11
    )
    start = reserved + tables * spare + -(-roots * 32 // SECTOR)
    if size != SECTOR or not per or not spare or not start < total <= len(loader) // SECTOR:
        return loader
    if (total - start) // per >= _FAT12_LIMIT:
        return loader
    most = min(spare * SECTOR * 2 // 3 - 2, _FAT12_LIMIT - 1, (room - start) // per)
    new = bytearray(loader.ljust(room * SECTOR, b"\0"))
    struct.pack_into("<H", new, 19, max(total, start + most * per))
    return bytes(new)


def patches(head: bytes, size: int, loader: bytes) -> list[DiskPatch]:
    """What makes a disk of `size` bytes, whose first bytes are `head`, start by UEFI, too.

    `loader`: a FAT file system with /EFI/BOOT/BOOTX64.EFI.  Raises DiskImageError: not a disk as
    OpenBSD's installer leaves it.
    """
    head = head.ljust(SECTOR, b"\0")
    entries = [head[n : n + _ENTRY] for n in range(_TABLE, _TABLE + _ENTRIES * _ENTRY, _ENTRY)]
    types = [entry[4] for entry in entries]
    if head[510:512] != b"\x55\xaa" or types.count(_OPENBSD) != 1 or 0 not in types:
        raise DiskImageError(
            "the installed disk has no partition table with one OpenBSD partition and room for"
            " another",
            "make it with --firmware bios or uefi",
        )
    start = size // SECTOR
    count = len(loader) // SECTOR
    if start + count >= 1 << 32:
        raise DiskImageError(
            "a partition table of the BIOS ends at 2 TiB", "make a smaller disk: --size"
        )
    (first,) = struct.unpack_from("<I", entries[types.index(_OPENBSD)], 8)
    label_at = (first + _LABEL_SECTOR) * SECTOR
    label = _with_partition_i(head[label_at : label_at + SECTOR], start, count)
    # Beyond what cylinders, heads and sectors can say: FE FF FF.
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", _EFI_SYSTEM, b"\xfe\xff\xff", start, count)
    return [
        DiskPatch(size, loader),
        DiskPatch(label_at, label),
        DiskPatch(_TABLE + types.index(0) * _ENTRY, entry),
    ]


def _with_partition_i(label: bytes, start: int, count: int) -> bytes:
    """The disklabel with a partition i of FAT."""
    if (
        len(label) < SECTOR
        or struct.unpack_from("<I", label)[0] != _MAGIC
        or struct.unpack_from("<I", label, _MAGIC2_AT)[0] != _MAGIC
        or _sum(label) != 0
    ):
        raise DiskImageError("the installed disk has no disklabel", "report it: it should have one")
    at = _PARTITIONS_AT + _I * _PARTITION
    new = bytearray(label)
    if new[at : at + 4] != bytes(4):
        raise DiskImageError("the installed disk has a partition i", "report it: it should not")
    struct.pack_into("<IIHHBBH", new, at, count, start, 0, 0, _MSDOS, 0, 0)
    struct.pack_into("<H", new, _CHECKSUM_AT, 0)
    struct.pack_into("<H", new, _CHECKSUM_AT, _sum(bytes(new)))
    return bytes(new)


def _sum(label: bytes) -> int:
    """Exclusive or of all 16-bit words up to the last partition (dkcksum of subr_disk.c)."""
    found = 0
    (number,) = struct.unpack_from("<H", label, _CHECKSUM_AT + 2)
    end = _PARTITIONS_AT + min(number, _LETTERS) * _PARTITION
    for (word,) in struct.iter_unpack("<H", label[:end]):
        found ^= word
    return found


def start_by_uefi_too(disk: Path, size: int, loader: bytes) -> None:
    """Change the qcow2 image `disk`, which holds `size` bytes and grows by `room_for`.

    Raises DiskImageError.
    """
    loader = with_room(loader)
    changes = patches(read_at(disk, 0, HEAD), size, loader)
    piece = disk.with_name("uefi.piece")  # no blanks: qemu-io's commands are words
    try:
        run(["qemu-img", "resize", "-q", "-f", "qcow2", disk, str(size + room_for(loader))],
            timeout=60)  # fmt: skip
        for one in changes:
            piece.write_bytes(one.data)
            words = f"write -q -s {piece.name} {one.at} {len(one.data)}"
            run(["qemu-io", "-f", "qcow2", "-c", words, disk.name], cwd=disk.parent, timeout=60)
    except ProcessError as error:
        raise DiskImageError(error.message, _HINT) from error
    finally:
        piece.unlink(missing_ok=True)
    if any(read_at(disk, one.at, len(one.data)) != one.data for one in changes):
        raise DiskImageError("qemu-io did not write what it was told to", "is it out of room?")
