"""ISO images put together byte by byte, for what no program would write."""

from __future__ import annotations

import struct
from collections.abc import Sequence

SECTOR = 2048
ROOT = 20
"""Sector of the root directory; 16 to 19 hold the descriptors and the path tables."""


def both32(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def both16(value: int) -> bytes:
    return struct.pack("<H", value) + struct.pack(">H", value)


def record(name: bytes, extent: int, size: int, directory: bool = False, use: bytes = b"") -> bytes:
    """A directory record; `use` is its system use area."""
    date, flags = bytes((119, 10, 12, 0, 0, 0, 0)), bytes((2 * directory, 0, 0))
    body = both32(extent) + both32(size) + date + flags + both16(1) + bytes((len(name),))
    body += name + b"\x00" * ((len(name) + 1) % 2) + use
    body += b"\x00" * (len(body) % 2)
    return bytes((len(body) + 2, 0)) + body


def pack(records: Sequence[bytes]) -> bytes:
    """Records as whole sectors, none crossed."""
    out = bytearray()
    for raw in records:
        room = -len(out) % SECTOR
        out += b"\x00" * (room if len(raw) > room else 0) + raw
    return bytes(out) + b"\x00" * (-len(out) % SECTOR)


def image(
    records: Sequence[bytes],
    *,
    claimed: int | None = None,
    table_size: int = 10,
    descriptors: int = 1,
    tail: bytes = b"",
) -> bytes:
    """An image whose root directory has these records; `claimed` is the size that its own record
    says, `tail` what follows it, from sector ROOT + its sectors on."""
    size = len(pack([record(b"\x00", 0, 0), record(b"\x01", 0, 0), *records]))
    said = size if claimed is None else claimed
    dots = [record(b"\x00", ROOT, said, True), record(b"\x01", ROOT, said, True)]
    body = pack([*dots, *records]) + tail
    pvd = bytearray(SECTOR)
    pvd[:7] = b"\x01CD001\x01"
    pvd[8:72] = b" " * 64
    pvd[80:88] = both32(ROOT + len(body) // SECTOR)
    pvd[120:132] = both16(1) + both16(1) + both16(SECTOR)
    pvd[132:140] = both32(table_size)
    pvd[140:152] = struct.pack("<IIII", 18, 0, 0, 0)[:8] + struct.pack(">I", 19)
    pvd[156:190] = record(b"\x00", ROOT, said, True)
    pvd[190:813] = b" " * 623
    for offset in (813, 830, 847, 864):
        pvd[offset : offset + 17] = b"0" * 16 + b"\x00"
    pvd[881] = 1
    end = b"\xffCD001\x01".ljust(SECTOR, b"\x00")
    tables = [struct.pack(f"{o}BBIHH", 1, 0, ROOT, 1, 0).ljust(SECTOR, b"\x00") for o in "<>"]
    head = bytes(16 * SECTOR) + bytes(pvd) * descriptors + end
    return head + tables[0] + tables[1] + body
