"""An image as pycdlib shall see it: within limits, and without what it cannot take.

pycdlib believes what it reads.  A directory with its names in reverse order costs it the square
of their number, a boot catalog with junk behind its last entry (OpenBSD's mkhybrid leaves old
memory there) is refused, and a file that reaches beyond the image is cut without a word.  So it
reads through this file object, which hides the junk, counts, and never ends.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from typing import Final

from obsdimg.iso.errors import DAMAGED, WHICH_ISO, IsoError

SECTOR: Final = 2048
"""Bytes of a logical sector; images with logical blocks of another size are refused."""
FIRST_DESCRIPTOR: Final = 16
"""Sector of the first volume descriptor, behind the system area (ECMA-119, 6.2.1)."""
CHANGED: Final = 830
"""Offset of the date of change in a volume descriptor, 17 bytes (8.4.27)."""
BOOT_RECORD, PRIMARY, TERMINATOR = 0, 1, 255
MAX_DESCRIPTORS = 64
_ALSO_DESCRIPTORS = (b"CD001", b"CDW02", b"BEA01", b"NSR02", b"NSR03", b"TEA01", b"BOOT2")
"""What pycdlib takes for more descriptors: with these it would go on to UDF."""

MAX_READ = 128 << 10
"""Bytes of the largest directory or path table: a thousand names with Rock Ridge.  In reverse
order they cost pycdlib a second or two."""
MAX_LARGE = 512 << 10
"""Bytes of all directories together that are larger than a sector."""
MAX_READS = 4096
"""Reads altogether; install media need a few dozen."""

_ENTRY = 32
"""Bytes of an entry of a boot catalog (El Torito 1.0, section 2)."""
PLATFORMS = {0: "bios", 1: "ppc", 2: "mac", 0xEF: "efi"}

Pread = Callable[[int, int], bytes]
"""Reads at most so many bytes from a byte offset of the image."""


def sectors(size: int) -> int:
    """Sectors that `size` bytes take."""
    return -(-size // SECTOR)


class View:
    """A read-only file object over `pread`; `size` is the image's bytes.

    `instead` has the bytes of sectors that are shown in place of those of the image.  Raises
    IsoError where a read is beyond the image or the limits.
    """

    def __init__(self, pread: Pread, size: int, instead: Mapping[int, bytes]) -> None:
        self._pread = pread
        self._size = size
        self._instead = instead
        self._at = 0
        self._reads = self._large = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte.  The end is far away: pycdlib cuts files at what it takes for the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: 1 << 62}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The position in bytes."""
        return self._at

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        start, end = self._at, self._at + size
        self._reads += 1
        self._large += size if size > SECTOR else 0
        if size > MAX_READ or self._reads > MAX_READS or self._large > MAX_LARGE:
            raise IsoError(
                f"{size} bytes of names at byte {start}: too much for an install ISO", WHICH_ISO
            )
        if start < 0 or size < 0 or end > self._size:
            raise IsoError(
                f"truncated or damaged: {size} bytes wanted at byte {start} of {self._size}",
                DAMAGED,
            )
        self._at = end
        data = bytearray(self._pread(start, size).ljust(size, b"\x00"))
        for sector in range(start // SECTOR, sectors(end)):
            shown = self._instead.get(sector)
            if shown is not None:
                low, high = max(start, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                data[low - start : high - start] = shown[low - sector * SECTOR :][: high - low]
        return bytes(data)


def hidden(pread: Pread, size: int) -> tuple[dict[int, bytes], int | None]:
    """The sectors of an image that pycdlib shall see otherwise, and the sector of the boot catalog,
    if there is one.

    Hidden are the system area (pycdlib takes some for a partition table), whatever follows the
    descriptors (UDF), and junk in the boot catalog.  Raises IsoError unless it is an ISO image.
    """
    if size == 0:
        raise IsoError("the file is empty", DAMAGED)
    area = pread(FIRST_DESCRIPTOR * SECTOR, MAX_DESCRIPTORS * SECTOR)
    found = [area[n : n + SECTOR] for n in range(0, len(area), SECTOR)]
    if not found:
        raise IsoError(f"not an ISO 9660 image, or truncated: only {size} bytes", WHICH_ISO)
    if found[0][1:6] != b"CD001":
        udf = any(d[1:4] == b"NSR" for d in found)
        kind = "a UDF image without ISO 9660" if udf else "not an ISO 9660 image"
        raise IsoError(kind, WHICH_ISO)
    types = [d[0] if d[1:6] == b"CD001" and len(d) == SECTOR else None for d in found]
    if TERMINATOR not in types or None in types[: types.index(TERMINATOR)]:
        cut = "truncated: " if len(found) < MAX_DESCRIPTORS and None not in types else ""
        raise IsoError(f"{cut}the volume descriptors have no end", DAMAGED)
    end = types.index(TERMINATOR)
    instead = dict.fromkeys(range(FIRST_DESCRIPTOR), bytes(SECTOR))
    if found[end + 1 : end + 2] and found[end + 1][1:6] in _ALSO_DESCRIPTORS:
        instead[FIRST_DESCRIPTOR + end + 1] = bytes(SECTOR)
    claimed = _check_primary(found[:end], size)
    catalog = None
    for descriptor in found[:end]:
        if descriptor[0] == BOOT_RECORD and descriptor[7:30] == b"EL TORITO SPECIFICATION":
            catalog = struct.unpack_from("<I", descriptor, 71)[0]
            data = pread(catalog * SECTOR, SECTOR).ljust(SECTOR, b"\x00")
            instead[catalog] = data[: catalog_end(data, claimed)].ljust(SECTOR, b"\x00")
            break
    return instead, catalog


def _check_primary(descriptors: list[bytes], size: int) -> int:
    """Sectors that the primary descriptor claims: all must be there."""
    primary = next((d for d in descriptors if d[0] == PRIMARY), None)
    if primary is None:
        raise IsoError("no primary volume descriptor", DAMAGED)
    (block,) = struct.unpack_from("<H", primary, 128)
    if block != SECTOR:
        raise IsoError(f"logical blocks of {block} bytes, not {SECTOR}", WHICH_ISO)
    (claimed,), (other,) = (
        struct.unpack_from("<I", primary, 80),
        struct.unpack_from(">I", primary, 84),
    )
    if claimed != other:
        raise IsoError("volume descriptor: size of the volume: its two copies differ", DAMAGED)
    if claimed * SECTOR > size:
        raise IsoError(f"truncated: {size} of {claimed * SECTOR} bytes", DAMAGED)
    return int(claimed)


def catalog_end(data: bytes, volume: int) -> int:
    """Offset behind the last entry of a boot catalog, as firmware reads it.

    A section header that announces nothing, too much, or entries that cannot be is junk.
    """
    if not _is_entry(data[_ENTRY : 2 * _ENTRY], volume):
        raise IsoError("the first entry of the El Torito boot catalog is damaged", DAMAGED)
    end = 2 * _ENTRY
    while data[end] in (0x90, 0x91) and data[end + 1] in PLATFORMS:
        (count,) = struct.unpack_from("<H", data, end + 2)
        behind = end + _ENTRY
        for _ in range(count if 1 <= count <= SECTOR // _ENTRY else 0):
            if not _is_entry(data[behind : behind + _ENTRY], volume):
                return end
            behind += _ENTRY
            while data[behind : behind + 1] == b"\x44":  # an extension of the entry
                behind += _ENTRY
        if behind == end + _ENTRY or behind > SECTOR - _ENTRY:
            return end
        last, end = data[end] == 0x91, behind
        if last:
            break
    return end


def _is_entry(raw: bytes, volume: int) -> bool:
    (lba,) = struct.unpack_from("<I", raw.ljust(_ENTRY, b"\x00"), 8)
    return len(raw) == _ENTRY and raw[0] in (0x88, 0) and raw[1] <= 4 and 0 < lba < volume
