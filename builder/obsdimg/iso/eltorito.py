"""El Torito boot catalogs: which boot images an ISO offers to which firmware.

Reads a catalog as firmware does: entries up to the last section, whatever lies behind them.
OpenBSD's mkhybrid leaves old memory there.  Source: "El Torito" Bootable CD-ROM Format
Specification 1.0 (Phoenix and IBM, 1995), section 2; platform 0xEF: UEFI 2.x, 13.3.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from obsdimg.iso.structures import DAMAGED, IsoError

SYSTEM_ID = b"EL TORITO SPECIFICATION"
ENTRY = 32
"""Bytes of each entry of the catalog."""

_PLATFORMS = {0: "bios", 1: "ppc", 2: "mac", 0xEF: "efi"}
_MEDIA = ("none", "1.2M", "1.44M", "2.88M", "disk")
_BOOTABLE, _NOT_BOOTABLE = 0x88, 0x00
_MORE, _LAST, _EXTENSION = 0x90, 0x91, 0x44


@dataclass(frozen=True)
class BootEntry:
    """A boot image: for which firmware, how it is presented, where it lies.

    `media` is the emulation (`none`, a floppy's size, `disk`); `load_segment` a real-mode
    segment, 0 for the usual 0x7c0; `sector_count` the virtual sectors of 512 bytes to load;
    `lba` the image's first sector of 2048 bytes; `path` a file that shares it, if any.
    """

    platform: str
    bootable: bool
    media: str
    load_segment: int
    system_type: int
    sector_count: int
    lba: int
    path: str | None = None


def catalog_sector(boot_record: bytes) -> int | None:
    """The catalog's sector, from a boot record volume descriptor; None if not El Torito."""
    if not boot_record[7:39].startswith(SYSTEM_ID):
        return None
    sector: int = struct.unpack_from("<I", boot_record, 0x47)[0]
    return sector


def parse_catalog(data: bytes, volume_sectors: int) -> list[BootEntry]:
    """The entries of a catalog in its sector's bytes; images must lie inside the volume.

    A section header that announces nothing, too much, or entries that cannot be is taken for
    junk, and ends the catalog.  Raises IsoError where the validation or first entry is damaged.
    """
    head = data[:ENTRY]
    total = sum(struct.unpack("<16H", head)) & 0xFFFF if len(head) == ENTRY else 1
    if head[:1] != b"\x01" or head[30:32] != b"\x55\xaa" or total != 0:
        raise IsoError("the El Torito boot catalog is damaged", DAMAGED)
    first = _entry(data[ENTRY : 2 * ENTRY], head[1], volume_sectors)
    if first is None:
        raise IsoError("the first entry of the El Torito boot catalog is damaged", DAMAGED)
    entries = [first]
    offset = 2 * ENTRY
    while True:
        header = data[offset : offset + ENTRY]
        if len(header) < ENTRY or header[0] not in (_MORE, _LAST):
            return entries
        section = _section(data, offset + ENTRY, header, volume_sectors)
        if section is None:
            return entries
        found, offset = section
        entries += found
        if header[0] == _LAST:
            return entries


def _section(
    data: bytes, offset: int, header: bytes, volume_sectors: int
) -> tuple[list[BootEntry], int] | None:
    """The entries of one section and the offset behind them; None where it is junk."""
    count: int = struct.unpack_from("<H", header, 2)[0]
    if header[1] not in _PLATFORMS or not 1 <= count <= len(data) // ENTRY:
        return None
    entries = []
    for _ in range(count):
        entry = _entry(data[offset : offset + ENTRY], header[1], volume_sectors)
        if entry is None:
            return None
        entries.append(entry)
        offset += ENTRY
        while data[offset : offset + 1] == bytes((_EXTENSION,)):
            offset += ENTRY
    return entries, offset


def _entry(raw: bytes, platform: int, volume_sectors: int) -> BootEntry | None:
    """One section entry; None where its fields cannot be."""
    if len(raw) < ENTRY or raw[0] not in (_BOOTABLE, _NOT_BOOTABLE):
        return None
    media = raw[1] & 0x0F
    segment, system_type, count, lba = struct.unpack_from("<HBxHI", raw, 2)
    if media >= len(_MEDIA) or not 0 < lba < volume_sectors or platform not in _PLATFORMS:
        return None
    return BootEntry(
        platform=_PLATFORMS[platform],
        bootable=raw[0] == _BOOTABLE,
        media=_MEDIA[media],
        load_segment=segment,
        system_type=system_type,
        sector_count=count,
        lba=lba,
    )
