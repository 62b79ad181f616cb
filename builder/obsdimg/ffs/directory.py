"""The bytes of a directory: entries in chunks of 512 bytes that each stand alone.

Pure functions from bytes to bytes.  An entry is d_ino (4 bytes), d_reclen (2), d_type (1),
d_namlen (1) and a name padded with zeros to a multiple of 4; the last entry of a chunk
takes what is left of it.  Source: dir(5), sys/ufs/ufs/dir.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from obsdimg.ffs.errors import DamagedError
from obsdimg.ffs.layout import DIRBLKSIZ, MAXNAMLEN

HEADER = struct.Struct("<IHBB")
DT_DIR = 4
MAX_DIRECTORY = 1 << 20
"""Bytes; a ramdisk's largest has some thousand."""


@dataclass(frozen=True)
class DirectoryEntry:
    """A name and the inode it stands for; `type` is the inode's mode shifted right by 12."""

    ino: int
    type: int
    name: bytes

    def size(self) -> int:
        """The least record length: header, name, a NUL, padding (DIRSIZ in dir.h)."""
        return HEADER.size + (len(self.name) + 4 & ~3)


def entries(data: bytes) -> list[DirectoryEntry]:
    """Every entry in use, in order.  Raises DamagedError."""
    if not data or len(data) % DIRBLKSIZ or len(data) > MAX_DIRECTORY:
        raise DamagedError(f"directory of {len(data)} bytes")
    found = [e for chunk in chunks(data) for e in chunk_entries(chunk)]
    if len({e.name for e in found}) != len(found):
        raise DamagedError("directory with a name twice")
    return found


def chunks(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), DIRBLKSIZ):
        yield data[at : at + DIRBLKSIZ]


def chunk_entries(chunk: bytes) -> list[DirectoryEntry]:
    """The entries in use of one chunk.  Raises DamagedError."""
    found, at = [], 0
    while at < DIRBLKSIZ:
        ino, reclen, kind, namlen = HEADER.unpack_from(chunk, at)
        name = chunk[at + HEADER.size : at + HEADER.size + namlen]
        entry = DirectoryEntry(ino, kind, name)
        if reclen % 4 or reclen < HEADER.size or at + reclen > DIRBLKSIZ:
            raise DamagedError(f"directory entry of {reclen} bytes")
        if ino:
            if entry.size() > reclen or not name or b"/" in name or b"\0" in name:
                raise DamagedError("directory entry with an impossible name")
            found.append(entry)
        at += reclen
    return found


def pack_chunk(found: Sequence[DirectoryEntry]) -> bytes:
    """A chunk that holds these entries, in order."""
    if not found:
        return HEADER.pack(0, DIRBLKSIZ, 0, 0).ljust(DIRBLKSIZ, b"\0")
    out = bytearray()
    for n, entry in enumerate(found):
        last = n == len(found) - 1
        reclen = DIRBLKSIZ - len(out) if last else entry.size()
        out += HEADER.pack(entry.ino, reclen, entry.type, len(entry.name))
        out += entry.name.ljust(reclen - HEADER.size, b"\0")
    return bytes(out)


def add(data: bytes, entry: DirectoryEntry) -> bytes:
    """`data` with `entry` in the first chunk that has room, or in a new one at the end."""
    if not 0 < len(entry.name) <= MAXNAMLEN:
        raise ValueError("the caller checks the length of names")
    parts = list(chunks(data))
    for n, chunk in enumerate(parts):
        found = chunk_entries(chunk)
        if sum(e.size() for e in found) + entry.size() <= DIRBLKSIZ:
            parts[n] = pack_chunk([*found, entry])
            return b"".join(parts)
    return data + pack_chunk([entry])


def remove(data: bytes, name: bytes) -> bytes:
    """`data` without the entry `name`; as long as before, as ufs_dirremove leaves it."""
    return change(data, name, None)


def change(data: bytes, name: bytes, entry: DirectoryEntry | None) -> bytes:
    """`data` with the entry `name` replaced by `entry` (of the same name), or removed."""
    parts = list(chunks(data))
    for n, chunk in enumerate(parts):
        found = chunk_entries(chunk)
        if any(e.name == name for e in found):
            kept = [entry if e.name == name else e for e in found]
            parts[n] = pack_chunk([e for e in kept if e is not None])
    return b"".join(parts)


def empty(ino: int, parent: int) -> bytes:
    """A new directory: `.` and `..`."""
    return pack_chunk([DirectoryEntry(ino, DT_DIR, b"."), DirectoryEntry(parent, DT_DIR, b"..")])
