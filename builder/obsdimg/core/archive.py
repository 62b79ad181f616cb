"""Writing archives: one tar and one gzip, the same bytes wherever obsdimg runs.

tar: ustar (POSIX.1-1988, in tar(5)), owners 0:0 by number only, one time for every entry.  gzip:
RFC 1952 with a header of our own (no name, no time, "Unix"), since the byte for the operating
system that Python's gzip writes differs from version to version.  Between the same zlib
libraries deflate gives the same bytes; another implementation (zlib-ng, which some systems put
in zlib's place) packs differently, and just as correctly.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError

GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
"""Deflate, no flags, no time, no word on the level, Unix: what `gzip -n` writes."""
LEVEL: Final = 6
"""Of a boot kernel (7.4 MB, 6.6) level 9 saves a thousandth and takes twice the time."""


class TarPathError(ObsdimgError):
    """A path is too long for ustar."""


def gzip(data: bytes, level: int = LEVEL) -> bytes:
    """`data` as one gzip member; `level` 0 (stored) to 9."""
    return b"".join(gzip_pieces([data], level))


def gzip_pieces(pieces: Iterable[bytes | memoryview], level: int = LEVEL) -> Iterator[bytes]:
    """The same for content that comes in pieces, in pieces."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    crc = size = 0
    yield GZIP_HEADER
    for piece in pieces:
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        yield packer.compress(piece)
    yield packer.flush()
    yield crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def tar(entries: Iterable[Entry], epoch: int = 0, prefix: str = "") -> bytes:
    """`entries` in their order, dated `epoch` (seconds since 1970).

    Names are their paths without the slash at the front, behind `prefix` (`./` in OpenBSD's own
    sets).  Raises TarPathError.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in entries:
            member = tar_member(entry, len(entry.data), epoch, prefix)
            data = io.BytesIO(entry.data) if entry.kind == "file" else None
            try:
                archive.addfile(member, data)
            except ValueError as error:
                raise TarPathError(
                    f"{entry.path}: does not fit into a ustar archive: {error}",
                    "shorten the path (100 characters, 155 of folders before)",
                ) from error
    return stream.getvalue()


def tar_member(entry: Entry, size: int, epoch: int, prefix: str = "") -> tarfile.TarInfo:
    """The header of `entry`; `size` is that of its content, bytes."""
    member = tarfile.TarInfo(prefix + entry.path.removeprefix("/"))
    member.mtime, member.mode = epoch, entry.mode
    if entry.kind == "dir":
        member.type = tarfile.DIRTYPE
    elif entry.kind == "link":
        member.type = tarfile.SYMTYPE
        member.linkname = entry.target
    else:
        member.size = size
    return member
