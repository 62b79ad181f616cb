"""The structures of ISO 9660: volume descriptors, directory records, path tables, dates.

Pure functions between bytes and typed values.  Positions are sectors of 2048 bytes counted
from the start of the image.  Source: ECMA-119 (2nd edition, 1987), sections 6 to 9; section
numbers below are its own.
"""

from __future__ import annotations

import calendar
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from obsdimg.core.errors import ObsdimgError

SECTOR = 2048
"""Bytes of a logical sector; images with logical blocks of another size are refused."""
FIRST_DESCRIPTOR = 16
"""Sector of the first volume descriptor, behind the system area (6.2.1)."""
MAX_DESCRIPTORS = 64
"""Volume descriptors looked at before the set counts as unterminated."""
STANDARD_ID = b"CD001"
BOOT_RECORD, PRIMARY, SUPPLEMENTARY, TERMINATOR = 0, 1, 2, 255

SELF, PARENT = b"\x00", b"\x01"
"""Identifiers of a directory's first two records: itself and its parent (6.8.2.2)."""
FLAG_DIRECTORY, FLAG_MULTI_EXTENT = 0x02, 0x80
RECORD_HEAD = 33
"""Bytes of a directory record before its identifier (9.1)."""
MAX_RECORD = 254
"""A record's length is one byte, and even."""
MAX_SIZE = 2**32 - 1
"""Bytes of the largest extent, and sectors of the largest volume: the fields have 32 bits."""

DAMAGED = "fetch the ISO again and compare its SHA256"


class IsoError(ObsdimgError):
    """An ISO image cannot be read or remastered; the message names the image and the place."""


def both16(value: int) -> bytes:
    """A 16-bit number in both byte orders, little-endian first (7.2.3)."""
    return struct.pack("<H", value) + struct.pack(">H", value)


def both32(value: int) -> bytes:
    """A 32-bit number in both byte orders, little-endian first (7.3.3)."""
    return struct.pack("<I", value) + struct.pack(">I", value)


def read_both32(data: bytes, offset: int, what: str) -> int:
    """The number at `offset`; raises IsoError where its two halves differ."""
    little: int = struct.unpack_from("<I", data, offset)[0]
    big: int = struct.unpack_from(">I", data, offset + 4)[0]
    if little != big:
        raise IsoError(f"{what}: its two copies differ ({little} and {big})", DAMAGED)
    return little


def sectors(size: int) -> int:
    """Sectors that `size` bytes take."""
    return -(-size // SECTOR)


def short_date(seconds: int) -> bytes:
    """The 7 bytes of a recording date (9.1.5) for seconds since 1970, in UTC.

    Years outside 1900 to 2155 cannot be written: IsoError.
    """
    t = _calendar(seconds)
    if not 1900 <= t.tm_year <= 2155:
        raise IsoError(f"the date {seconds} (seconds since 1970) does not fit into an ISO")
    return bytes((t.tm_year - 1900, t.tm_mon, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, 0))


def long_date(seconds: int) -> bytes:
    """The 17 bytes of a volume's date (8.4.26.1) for seconds since 1970, in UTC."""
    return time.strftime("%Y%m%d%H%M%S00", _calendar(seconds)).encode("ascii") + b"\x00"


def _calendar(seconds: int) -> time.struct_time:
    try:
        return time.gmtime(seconds)
    except (ValueError, OverflowError, OSError) as error:
        raise IsoError(
            f"the date {seconds} (seconds since 1970) does not fit into an ISO"
        ) from error


def read_short_date(data: bytes) -> int:
    """Seconds since 1970 of a 7-byte date; 0 where it names no moment."""
    year, month, day, hour, minute, second, zone = struct.unpack("6Bb", data[:7])
    return _seconds(year + 1900, month, day, hour, minute, second, zone)


def read_long_date(data: bytes) -> int:
    """Seconds since 1970 of a 17-byte date; 0 where it names no moment."""
    digits = data[:14]
    if not digits.isdigit():
        return 0
    year, rest = int(digits[:4]), [int(digits[i : i + 2]) for i in range(4, 14, 2)]
    zone: int = struct.unpack_from("b", data, 16)[0]
    return _seconds(year, rest[0], rest[1], rest[2], rest[3], rest[4], zone)


def _seconds(
    year: int, month: int, day: int, hour: int, minute: int, second: int, zone: int
) -> int:
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return 0
    local = calendar.timegm((year, month, day, hour, minute, second))
    return local - zone * 15 * 60  # the zone is given in quarters of an hour east of UTC


@dataclass(frozen=True)
class Record:
    """A directory record (9.1): where a file or directory lies, and its name.

    `extent` is a sector, `size` bytes, `mtime` seconds since 1970; `identifier` keeps a version
    such as `;1`; `system_use` is what Rock Ridge fills.
    """

    raw: bytes
    extent: int
    size: int
    flags: int
    mtime: int
    identifier: bytes
    system_use: bytes

    @property
    def is_directory(self) -> bool:
        return bool(self.flags & FLAG_DIRECTORY)


def parse_record(raw: bytes, what: str) -> Record:
    """The record in `raw`, which is exactly as long as the record says.

    Raises IsoError on damage, and on forms that install media never use: extended attribute
    records, interleaving, files in several extents.
    """
    if len(raw) < RECORD_HEAD + 1:
        raise IsoError(f"{what}: a directory record of {len(raw)} bytes", DAMAGED)
    name_length = raw[32]
    name_end = RECORD_HEAD + name_length
    if name_length == 0 or name_end > len(raw):
        raise IsoError(f"{what}: a directory record whose name does not fit", DAMAGED)
    flags = raw[25]
    if raw[1] or raw[26] or raw[27]:
        raise IsoError(f"{what}: an extended attribute record or interleaving", _UNUSUAL)
    if flags & FLAG_MULTI_EXTENT:
        raise IsoError(f"{what}: a file in several extents (over 4 GiB)", _UNUSUAL)
    return Record(
        raw=raw,
        extent=read_both32(raw, 2, f"{what}: extent"),
        size=read_both32(raw, 10, f"{what}: size"),
        flags=flags,
        mtime=read_short_date(raw[18:25]),
        identifier=raw[RECORD_HEAD:name_end],
        system_use=raw[name_end + (name_length + 1) % 2 :],
    )


_UNUSUAL = "OpenBSD's install media have no such thing; is this the right ISO?"


def make_record(
    identifier: bytes, extent: int, size: int, flags: int, mtime: int, system_use: bytes = b""
) -> bytes:
    """The bytes of a directory record; raises IsoError where it gets too long."""
    head = bytes((0, 0)) + both32(extent) + both32(size) + short_date(mtime)
    head += bytes((flags, 0, 0)) + both16(1) + bytes((len(identifier),))
    body = head + identifier + b"\x00" * ((len(identifier) + 1) % 2) + system_use
    body += b"\x00" * (len(body) % 2)
    if len(body) > MAX_RECORD:
        name = identifier.decode("ascii", "replace")
        raise IsoError(f"{name}: the name is too long for one directory record")
    return bytes((len(body),)) + body[1:]


def move_record(raw: bytes, extent: int, size: int) -> bytes:
    """The same record, pointing at `size` bytes at sector `extent`."""
    return raw[:2] + both32(extent) + both32(size) + raw[18:]


def split_directory(data: bytes, what: str) -> list[bytes]:
    """The raw records of a directory's extent; none crosses the end of a sector (6.8.1.1)."""
    return list(_split(data, what))


def _split(data: bytes, what: str) -> Iterator[bytes]:
    for start in range(0, len(data), SECTOR):
        sector = data[start : start + SECTOR]
        offset = 0
        while offset < len(sector) and sector[offset]:
            length = sector[offset]
            if offset + length > len(sector):
                raise IsoError(f"{what}: a record crosses the end of its sector", DAMAGED)
            yield sector[offset : offset + length]
            offset += length


def pack_directory(records: Iterable[bytes]) -> bytes:
    """Records as a directory's extent: whole sectors, none crossed, zeros behind."""
    packed = bytearray()
    for raw in records:
        room = -len(packed) % SECTOR
        if len(raw) > room:
            packed += b"\x00" * room
        packed += raw
    return bytes(packed) + b"\x00" * (-len(packed) % SECTOR)


def sort_key(identifier: bytes) -> tuple[bytes, bytes]:
    """Order of records in a directory: name, then extension, each padded by spaces (9.3)."""
    name, _, rest = identifier.partition(b".")
    extension = rest.partition(b";")[0]
    return name.partition(b";")[0].ljust(255, b" "), extension.ljust(255, b" ")


@dataclass(frozen=True)
class PathTableEntry:
    """A directory in a path table (9.4): identifier, first sector, parent's number from 1."""

    identifier: bytes
    extent: int
    parent: int


def pack_path_table(entries: Sequence[PathTableEntry], order: str) -> bytes:
    """A path table in one byte order (`<`: type L, `>`: type M), without padding."""
    table = b""
    for entry in entries:
        name = entry.identifier
        table += struct.pack(f"{order}BBIH", len(name), 0, entry.extent, entry.parent)
        table += name + b"\x00" * (len(name) % 2)
    return table


def parse_path_table(table: bytes, order: str) -> list[PathTableEntry] | None:
    """The entries of a path table in one byte order; None where it is damaged."""
    entries = []
    offset = 0
    while offset + 8 < len(table):
        length, _, extent, parent = struct.unpack_from(f"{order}BBIH", table, offset)
        name = table[offset + 8 : offset + 8 + length]
        if length == 0 or len(name) < length:
            return None
        entries.append(PathTableEntry(name, extent, parent))
        offset += 8 + length + length % 2
    return entries


@dataclass(frozen=True)
class PrimaryDescriptor:
    """The primary volume descriptor (8.4), with its bytes; `volume_sectors` is what it claims.

    `path_tables` are the sectors of the tables: L, optional L, M, optional M; 0 is none.
    """

    raw: bytes
    system_id: str
    volume_id: str
    publisher_id: str
    application_id: str
    volume_sectors: int
    path_table_size: int
    path_tables: tuple[int, int, int, int]
    root: Record


def parse_primary(raw: bytes) -> PrimaryDescriptor:
    """The primary volume descriptor in one sector.  Raises IsoError."""
    block: int = struct.unpack_from("<H", raw, 128)[0]
    if block != SECTOR:
        raise IsoError(f"logical blocks of {block} bytes, not {SECTOR}", _UNUSUAL)
    (table_l, table_l2) = struct.unpack_from("<II", raw, 140)
    (table_m, table_m2) = struct.unpack_from(">II", raw, 148)
    if raw[156] != 34:
        raise IsoError("volume descriptor: the root directory's record is damaged", DAMAGED)
    return PrimaryDescriptor(
        raw=raw,
        system_id=_text(raw[8:40]),
        volume_id=_text(raw[40:72]),
        publisher_id=_text(raw[318:446]),
        application_id=_text(raw[574:702]),
        volume_sectors=read_both32(raw, 80, "volume descriptor: size of the volume"),
        path_table_size=read_both32(raw, 132, "volume descriptor: size of the path table"),
        path_tables=(table_l, table_l2, table_m, table_m2),
        root=parse_record(raw[156:190], "volume descriptor: root directory"),
    )


def _text(field: bytes) -> str:
    """A padded identifier; bytes that no identifier may hold are shown escaped."""
    return field.rstrip(b" \x00").decode("ascii", "backslashreplace")


def change_primary(
    primary: PrimaryDescriptor,
    volume_sectors: int,
    path_table_size: int,
    path_tables: tuple[int, int, int, int],
    root: bytes,
    mtime: int,
) -> bytes:
    """The descriptor's bytes with a new size, path tables, root record and date of change."""
    raw = bytearray(primary.raw)
    raw[80:88] = both32(volume_sectors)
    raw[132:140] = both32(path_table_size)
    raw[140:148] = struct.pack("<II", *path_tables[:2])
    raw[148:156] = struct.pack(">II", *path_tables[2:])
    raw[156:190] = root
    raw[830:847] = long_date(mtime)
    return bytes(raw)
