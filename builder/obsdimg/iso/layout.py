"""What other readers of an image may see that ours does not.

The boot loader finds directories by the path table and files by their ISO 9660 names
(sys/lib/libsa/cd9660.c), the kernel by the directories and Rock Ridge; UEFI's firmware takes every
slot of a boot catalog that looks like an entry, every boot record, and UDF behind the descriptors
(EDK2, MdeModulePkg/Universal/Disk/PartitionDxe).  Here is looked for what makes them disagree,
and for bytes that belong to nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from obsdimg.iso.errors import IsoError
from obsdimg.iso.reader import Iso
from obsdimg.iso.view import BOOT_RECORD, FIRST_DESCRIPTOR, SECTOR, TERMINATOR, catalog_end

SYSTEM_AREA = FIRST_DESCRIPTOR * SECTOR
"""Bytes before the first volume descriptor, where a hybrid boot loader would be."""
_PIECE = 1 << 20
_TABLE = struct.Struct("BB")
_LARGEST_TABLE = 128 << 10
_MOST_CONTINUED = 4096
_CATALOG_AT = 71
"""Of the catalog's sector in an El Torito boot record (El Torito 1.0, figure 7)."""


@dataclass(frozen=True)
class _Folder:
    """A directory in a path table: its identifier, its sector and that of its parent."""

    name: bytes
    extent: int
    parent: int


def descriptors(iso: Iso) -> list[bytes]:
    """The volume descriptors up to the terminator; of boot records without the catalog's place."""
    found = []
    for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 64):
        one = iso.pread(number * SECTOR, SECTOR)
        if one[:1] == bytes([BOOT_RECORD]):
            one = one[:_CATALOG_AT] + bytes(4) + one[_CATALOG_AT + 4 :]
        found.append(one)
        if one[:1] == bytes([TERMINATOR]):
            break
    return found


def behind_catalog(iso: Iso) -> bytes:
    """What is in the sector of the boot catalog behind its last entry."""
    if iso.catalog_sector is None:
        return b""
    data = iso.pread(iso.catalog_sector * SECTOR, SECTOR).ljust(SECTOR, b"\0")
    return data[catalog_end(data, iso.size // SECTOR) :]


def names_twice(iso: Iso) -> list[str]:
    """Paths that more than one record has, and files that share an ISO 9660 name as the boot loader
    compares them: without version and dot at the end."""
    seen: dict[tuple[str, str], str] = {}
    found = list(iso.twice)
    for entry in iso.entries():
        folder = entry.path.rpartition("/")[0]
        name = entry.iso_name.partition(";")[0].rstrip(".").upper()
        if (folder, name) in seen:
            found.append(entry.path)
        seen[folder, name] = entry.path
    return found


def path_table_faults(iso: Iso) -> list[str]:
    """How the path tables differ from the directories, and these from themselves."""
    try:
        little, big, *others = _tables(iso)
    except (IsoError, struct.error) as error:
        return [f"cannot be read: {error}"]
    faults = [] if little == big else ["the two differ"]
    faults += ["a second copy differs" for one in others if one != big]
    folders = [("/", iso.entry("/")), *((e.path, e) for e in iso.entries() if e.kind == "dir")]
    places = {path: entry.extent for path, entry in folders if entry is not None}
    there = {
        (
            "\0" if path == "/" else entry.iso_name,
            entry.extent,
            places[path.rpartition("/")[0] or "/"],
        )
        for path, entry in folders
        if entry is not None
    }
    listed = {(one.name.decode("utf-8", "backslashreplace"), one.extent, one.parent) for one in big}
    if listed != there or len(big) != len(there):
        faults.append("it names other directories")
    for path, entry in folders:
        if entry is None:
            continue
        dot = iso.pread(entry.extent * SECTOR, 34)
        if len(dot) < 34 or struct.unpack_from("<I4xI", dot, 2) != (entry.extent, entry.size):
            faults.append(f"{path} says that it is of another size")
    return faults


def _tables(iso: Iso) -> list[list[_Folder]]:
    """The path tables: little-endian, big-endian, and their second copies."""
    primary = _primary(iso)
    (size,) = struct.unpack_from("<I", primary, 132)
    if size > _LARGEST_TABLE:
        raise IsoError(f"a path table of {size} bytes")
    found = []
    for order, at in _places(primary):
        data = iso.pread(at * SECTOR, size)
        if len(data) != size:
            raise IsoError("a path table behind the end")
        found.append(_folders(data, order))
    return found


def _primary(iso: Iso) -> bytes:
    return next((one for one in descriptors(iso) if one[:1] == b"\1"), bytes(SECTOR))


def _places(primary: bytes) -> list[tuple[str, int]]:
    """Byte order and sector of each path table."""
    little = struct.unpack_from("<II", primary, 140)
    big = struct.unpack_from(">II", primary, 148)
    found = [("<", little[0]), (">", big[0])]
    return found + [(o, n) for o, n in (("<", little[1]), (">", big[1])) if n]


def _folders(data: bytes, order: str) -> list[_Folder]:
    raw: list[tuple[bytes, int, int]] = []
    at = 0
    while at < len(data):
        length, extended = _TABLE.unpack_from(data, at)
        extent, parent = struct.unpack_from(f"{order}IH", data, at + 2)
        if not length or extended:
            raise IsoError("an entry of a path table that cannot be")
        raw.append((data[at + 8 : at + 8 + length], extent, parent))
        at += 8 + length + length % 2
    if any(not 1 <= parent <= max(1, number) for number, (_, _, parent) in enumerate(raw)):
        raise IsoError("a path table with a directory before its parent")
    return [_Folder(name, extent, raw[parent - 1][1]) for name, extent, parent in raw]


def unaccounted(iso: Iso, upstream: Iso) -> list[int]:
    """Sectors that belong, in part or whole, to nothing (no descriptor, name, file or boot entry)
    and hold something that `upstream` has not in the same place, where files that were replaced
    stay.  At most five are given.
    """
    found: list[int] = []
    at = 0
    for start, end in [*sorted(_claims(iso)), (iso.size, iso.size)]:
        while at < start:
            size = min(start - at, _PIECE - at % _PIECE)
            if _is_strange(iso, upstream, at, size):
                for one in range(at - at % SECTOR, at + size, SECTOR):
                    low, high = max(at, one), min(at + size, one + SECTOR)
                    if _is_strange(iso, upstream, low, high - low):
                        found.append(one // SECTOR)
                    if len(found) == 5:
                        return found
            at += size
        at = max(at, end)
    return found


def _is_strange(iso: Iso, upstream: Iso, at: int, size: int) -> bool:
    data = iso.pread(at, size)
    return bool(data.strip(b"\0")) and data != upstream.pread(at, size)


def _claims(iso: Iso) -> Iterator[tuple[int, int]]:
    """From which byte to which something is known to be there."""
    head = descriptors(iso)
    yield 0, SYSTEM_AREA + len(head) * SECTOR
    primary = _primary(iso)
    (size,) = struct.unpack_from("<I", primary, 132)
    for _, at in _places(primary):
        yield at * SECTOR, at * SECTOR + size
    if iso.catalog_sector is not None:
        yield iso.catalog_sector * SECTOR, (iso.catalog_sector + 1) * SECTOR
    root = iso.entry("/")
    continued = 0
    for entry in [*([root] if root else []), *iso.entries()]:
        if entry.size:
            yield entry.extent * SECTOR, entry.extent * SECTOR + entry.size
        if entry.kind == "dir":
            for sector, offset, length in _continued(iso, entry.extent, entry.size):
                continued += 1
                if continued > _MOST_CONTINUED or offset + length > SECTOR:
                    raise IsoError("continued names: too much for an install ISO")
                yield sector * SECTOR + offset, sector * SECTOR + offset + length


def _continued(iso: Iso, extent: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Where the records of a directory go on (SUSP 1.12, 5.1: CE), once."""
    data = iso.pread(extent * SECTOR, min(size, _LARGEST_TABLE))
    at = 0
    while at < len(data):
        length = data[at]
        if length < 34:
            at = (at // SECTOR + 1) * SECTOR
            continue
        record = data[at : at + length]
        use = 33 + record[32] + (record[32] + 1) % 2
        while use + 4 <= len(record) and record[use + 2] >= 4:
            if record[use : use + 2] == b"CE" and use + 28 <= len(record):
                sector, offset, more = struct.unpack_from("<I4xI4xI", record, use + 4)
                yield sector, offset, more
            use += record[use + 2]
        at += length
