"""Reading archives that somebody else made: gzip and tar, bounded in memory and time.

Python's tarfile and gzip read what a header promises; here everything has an end: bytes when
unpacked, members, the length of names.  Sparse members are refused (a few bytes of header stand
for any size), other kinds pass.  Nothing is written anywhere.

Formats: gzip RFC 1952; tar(5): ustar, pax and GNU long names.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from obsdimg.core.errors import ObsdimgError

BLOCK = 512
MAX_NAME = 4096
"""Bytes of a member's name, PATH_MAX; a pax header may have 16 of them."""
_CHUNK = 1 << 16


class ArchiveError(ObsdimgError):
    """An archive is damaged, or holds more than it may."""


@dataclass(frozen=True)
class ArchiveLimits:
    """`unpacked` bytes of the whole archive when unpacked, and `members`."""

    unpacked: int = 1 << 30
    members: int = 100_000


class GzipReader(io.RawIOBase):
    """The bytes in a gzip stream of one or more members; at most `limit` of them.

    Raises ArchiveError for what is no gzip, is cut short, or holds more.
    """

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.stream = stream
        self.left = limit
        self._unpacker = zlib.decompressobj(31)
        self._input = b""
        self._members = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        while size:
            if self._unpacker.eof:
                rest = (self._unpacker.unused_data or self._input).lstrip(b"\0")
                while not rest and (more := self.stream.read(_CHUNK)):
                    rest = more.lstrip(b"\0")
                if not rest:
                    return b""
                self._members += 1
                self._unpacker, self._input = zlib.decompressobj(31), rest
            waiting = self._unpacker.unconsumed_tail or self._input
            self._input = b""
            if not waiting:
                waiting = self.stream.read(_CHUNK)
            try:
                data = self._unpacker.decompress(waiting, size)
                if not waiting and not data and not self._unpacker.eof:
                    raise ArchiveError("gzip: unexpected end of file")
            except zlib.error as error:
                raise ArchiveError(f"gzip: {error}") from error
            self.left -= len(data)
            if self.left < 0:
                raise ArchiveError("gzip: unpacks to more than is taken here")
            if data:
                return data
        return b""


def open_gzip(stream: BinaryIO, limit: int) -> BinaryIO:
    """A buffered GzipReader."""
    return io.BufferedReader(GzipReader(stream, limit), _CHUNK)


def read_tar(
    stream: BinaryIO, limits: ArchiveLimits | None = None
) -> Iterator[tuple[tarfile.TarInfo, MemberData]]:
    """The members of an uncompressed tar archive, in order, each with its data; what is not read
    of that is skipped.  Raises ArchiveError."""
    limits = limits or ArchiveLimits()
    reader = _TarReader(stream, limits)
    while (member := reader.next()) is not None:
        data = MemberData(reader, member.size if member.isreg() else 0)
        yield member, data
        data.skip()


class MemberData:
    """The data of one member; `read` gives at most what is left of it."""

    def __init__(self, reader: _TarReader, size: int) -> None:
        self._reader = reader
        self.left = size
        self._padding = -size % BLOCK

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes (default: all).  Raises ArchiveError."""
        wanted = self.left if size < 0 else min(size, self.left)
        data = self._reader.take(wanted)
        self.left -= len(data)
        return data

    def skip(self) -> None:
        """To the end of the member."""
        self._reader.skip(self.left + self._padding)
        self.left = self._padding = 0


class _TarReader:
    def __init__(self, stream: BinaryIO, limits: ArchiveLimits) -> None:
        self.stream = stream
        self.left = limits.unpacked
        self.members = limits.members

    def take(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise ArchiveError("tar: holds more than is taken here")
        data = self.stream.read(size)
        if len(data) < size:
            raise ArchiveError("tar: unexpected end of file")
        return data

    def skip(self, size: int) -> None:
        while size:
            step = min(size, _CHUNK)
            self.take(step)
            size -= step

    def next(self) -> tarfile.TarInfo | None:
        """The next member, its long name applied; None at the end."""
        extra: dict[str, str] = {}
        while True:
            block = self.stream.read(BLOCK)
            self.left -= len(block)
            if not block.strip(b"\0"):
                return None
            self.members -= 1
            if self.members < 0:
                raise ArchiveError("tar: more members than are taken here")
            try:
                member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise ArchiveError(f"tar: {error}") from error
            if member.size < 0:
                raise ArchiveError("tar: a member of negative size")
            kind = member.type
            if kind == tarfile.GNUTYPE_SPARSE:
                raise ArchiveError("tar: a sparse member; these are not taken")
            if kind == tarfile.GNUTYPE_LONGNAME:
                extra["path"] = self._text(member.size)
            elif kind == tarfile.GNUTYPE_LONGLINK:
                extra["linkpath"] = self._text(member.size)
            elif kind in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
                found = _pax(self._data(member.size, 16 * MAX_NAME))
                if kind != tarfile.XGLTYPE:
                    extra |= found
            else:
                return _applied(member, extra)

    def _data(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise ArchiveError("tar: a name that is longer than any can be")
        data = self.take(size)
        self.skip(-size % BLOCK)
        return data

    def _text(self, size: int) -> str:
        return self._data(size, MAX_NAME + 1).rstrip(b"\0").decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """Records `LENGTH KEY=VALUE\\n`."""
    found = {}
    while data:
        digits, blank, _ = data[:12].partition(b" ")
        if not blank or not digits.isdigit() or not len(digits) + 3 <= int(digits) <= len(data):
            raise ArchiveError("tar: a pax header that is none")
        record, data = data[len(digits) + 1 : int(digits)], data[int(digits) :]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise ArchiveError("tar: a sparse member; these are not taken")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return found


def _applied(member: tarfile.TarInfo, extra: dict[str, str]) -> tarfile.TarInfo:
    member.name = extra.get("path", member.name)
    member.linkname = extra.get("linkpath", member.linkname)
    if "size" in extra:
        if not extra["size"].isdigit() or len(extra["size"]) > 15:
            raise ArchiveError("tar: a size that is none")
        member.size = int(extra["size"])
    return member
