"""Rock Ridge: POSIX names, modes and times in the system use area of directory records.

Reads what mkhybrid, genisoimage and xorriso write (RRIP 1.09 to 1.12); writes plain files and
directories in the style of the medium.  Source: SUSP (IEEE P1281) and RRIP (IEEE P1282).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from obsdimg.iso.structures import (
    DAMAGED,
    IsoError,
    both32,
    read_both32,
    read_long_date,
    read_short_date,
    short_date,
)

MAX_CONTINUATIONS = 64
"""Continuation areas followed for one record before they count as a loop."""

_CONTINUE, _CURRENT, _PARENT, _ROOT = 1, 2, 4, 8
"""Flags of NM and of the components of SL."""
_TF_CREATION, _TF_MODIFY, _TF_LONG = 0x01, 0x02, 0x80
_TF_NEW = 0x0E
"""Times that mkhybrid gives a file: modification, access, change of attributes."""
_RR_PX, _RR_NM, _RR_TF = 0x01, 0x08, 0x80
"""Bits of the RR entry (RRIP 1.09): which other entries the record has."""

ReadArea = Callable[[int, int, int], bytes]
"""Reads a continuation area: sector, offset and length in bytes."""


@dataclass(frozen=True)
class Posix:
    """What Rock Ridge says of one record; None where it says nothing.

    `mode` has the file type's bits (0o100644); `mtime` is seconds since 1970; `child_link` is
    the sector of a directory that was moved elsewhere; `relocated` marks such a directory.
    """

    name: bytes | None = None
    mode: int | None = None
    links: int | None = None
    uid: int = 0
    gid: int = 0
    inode: int = 0
    mtime: int | None = None
    target: str | None = None
    child_link: int | None = None
    relocated: bool = False


@dataclass(frozen=True)
class Style:
    """How a medium writes Rock Ridge: with RR entries (1.09), with inodes in PX (1.12)."""

    rr_entry: bool
    inodes: bool


def sharing_offset(root_system_use: bytes) -> int | None:
    """Bytes to skip in each system use area (SP of the root's own record); None: no SUSP."""
    if len(root_system_use) >= 7 and root_system_use[:2] == b"SP":
        return root_system_use[6] if root_system_use[4:6] == b"\xbe\xef" else None
    return None


def style_of(root_system_use: bytes) -> Style:
    """The medium's style, from the root directory's own record."""
    rr_entry = inodes = False
    for signature, entry in _entries(root_system_use, "root directory"):
        rr_entry |= signature == b"RR"
        inodes |= signature == b"PX" and len(entry) >= 44
    return Style(rr_entry, inodes)


def parse(system_use: bytes, read_area: ReadArea, what: str) -> Posix:
    """All entries of one record, continuation areas included.  Raises IsoError on damage."""
    posix = Posix()
    name, target = _Joined(), _Target()
    area: bytes | None = system_use
    for _ in range(MAX_CONTINUATIONS):
        if area is None:
            break
        here, area = area, None
        for signature, entry in _entries(here, what):
            if signature == b"CE":
                _need(entry, 28, what)
                place = [read_both32(entry, o, f"{what}: CE") for o in (4, 12, 20)]
                area = read_area(place[0], place[1], place[2])
            elif signature == b"NM":
                _need(entry, 5, what)
                name.add(entry[4], entry[5:])
            elif signature == b"SL":
                _need(entry, 5, what)
                target.add(entry[5:], what)
            else:
                posix = _apply(posix, signature, entry, what)
    else:
        raise IsoError(f"{what}: continuation areas without end", DAMAGED)
    return replace(posix, name=name.value, target=target.value)


def _apply(posix: Posix, signature: bytes, entry: bytes, what: str) -> Posix:
    """`posix` with what a PX, TF, CL or RE entry says; others change nothing."""
    if signature == b"PX":
        _need(entry, 36, what)
        mode, links, uid, gid = (read_both32(entry, o, f"{what}: PX") for o in (4, 12, 20, 28))
        inode = read_both32(entry, 36, f"{what}: PX") if len(entry) >= 44 else 0
        return replace(posix, mode=mode, links=links, uid=uid, gid=gid, inode=inode)
    if signature == b"TF":
        _need(entry, 5, what)
        return replace(posix, mtime=_modified(entry))
    if signature == b"CL":
        _need(entry, 12, what)
        return replace(posix, child_link=read_both32(entry, 4, f"{what}: CL"))
    if signature == b"RE":
        return replace(posix, relocated=True)
    return posix


def _modified(entry: bytes) -> int | None:
    """The modification time of a TF entry: behind the creation time, if there is one."""
    flags = entry[4]
    length = 17 if flags & _TF_LONG else 7
    start = 5 + (length if flags & _TF_CREATION else 0)
    stamp = entry[start : start + length]
    if not flags & _TF_MODIFY or len(stamp) < length:
        return None
    return read_long_date(stamp) if length == 17 else read_short_date(stamp)


class _Joined:
    """A name in several NM entries."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def add(self, flags: int, part: bytes) -> None:
        if not flags & (_CURRENT | _PARENT):
            self.value = (self.value or b"") + part


class _Target:
    """The target of a symbolic link: components, in one or several SL entries."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._open = False

    def add(self, area: bytes, what: str) -> None:
        while area:
            if len(area) < 2 or 2 + area[1] > len(area):
                raise IsoError(f"{what}: a damaged symbolic link", DAMAGED)
            flags, text, area = area[0], area[2 : 2 + area[1]], area[2 + area[1] :]
            special = {_CURRENT: b".", _PARENT: b"..", _ROOT: b""}.get(flags & ~_CONTINUE)
            if self._open:
                self._parts[-1] += text
            else:
                self._parts.append(text if special is None else special)
            self._open = bool(flags & _CONTINUE)

    @property
    def value(self) -> str | None:
        if not self._parts:
            return None
        joined = b"/".join(self._parts) or b"/"
        return joined.decode("utf-8", "backslashreplace")


def _entries(area: bytes, what: str) -> Iterator[tuple[bytes, bytes]]:
    """Signature and bytes of each entry; stops at ST and at padding."""
    offset = 0
    while offset + 4 <= len(area) and area[offset]:
        signature, length = area[offset : offset + 2], area[offset + 2]
        if length < 4 or offset + length > len(area):
            raise IsoError(f"{what}: a damaged Rock Ridge entry", DAMAGED)
        if signature == b"ST":
            return
        yield signature, area[offset : offset + length]
        offset += length


def _need(entry: bytes, length: int, what: str) -> None:
    if len(entry) < length:
        raise IsoError(f"{what}: a Rock Ridge entry of {len(entry)} bytes", DAMAGED)


def build(name: bytes | None, mode: int, links: int, inode: int, mtime: int, style: Style) -> bytes:
    """The system use area of a new record of root:wheel; `name` is None for `.` and `..`.

    `mode` has the file type's bits; `mtime` is seconds since 1970.
    """
    area = b""
    if style.rr_entry:
        flags = _RR_PX | _RR_TF | (_RR_NM if name is not None else 0)
        area += b"RR" + struct.pack("BBB", 5, 1, flags)
    if name is not None:
        if len(name) > 250:
            raise IsoError(f"{name.decode('utf-8', 'replace')}: the name is too long")
        area += b"NM" + struct.pack("BBB", 5 + len(name), 1, 0) + name
    numbers = [mode, links, 0, 0] + ([inode] if style.inodes else [])
    area += b"PX" + struct.pack("BB", 4 + 8 * len(numbers), 1)
    area += b"".join(both32(number) for number in numbers)
    return area + b"TF" + struct.pack("BBB", 26, 1, _TF_NEW) + short_date(mtime) * 3


def add_links(raw: bytes, start: int, more: int) -> bytes:
    """A directory record with `more` added to the link count of its PX entry, if it has one.

    `start` is the offset of the first entry.  A PX in a continuation area stays as it is: the
    count is for show on a read-only file system.
    """
    at = _find(raw, start, b"PX", 36)
    if at is None:
        return raw
    links = read_both32(raw, at + 12, "PX") + more
    return raw[: at + 12] + both32(links) + raw[at + 20 :]


def continuation(raw: bytes, start: int) -> tuple[int, int, int] | None:
    """Sector, offset and length in bytes of a record's continuation area, if it has one."""
    at = _find(raw, start, b"CE", 28)
    if at is None:
        return None
    sector, offset, length = (read_both32(raw, at + o, "CE") for o in (4, 12, 20))
    return sector, offset, length


def move_continuation(raw: bytes, start: int, sector: int) -> bytes:
    """The record with its continuation area at the start of `sector`."""
    at = _find(raw, start, b"CE", 28)
    if at is None:
        return raw
    return raw[: at + 4] + both32(sector) + both32(0) + raw[at + 20 :]


def _find(raw: bytes, start: int, signature: bytes, length: int) -> int | None:
    """Offset of the first entry of that kind, at least so long, in a record."""
    offset = start
    while offset + 4 <= len(raw) and raw[offset + 2] >= 4:
        if raw[offset : offset + 2] == signature and raw[offset + 2] >= length:
            return offset
        offset += raw[offset + 2]
    return None
