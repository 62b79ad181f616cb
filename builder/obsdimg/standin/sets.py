"""The stand-in's sets and texts: small, valid, and plain about what they are.

Deterministic: numeric owners, one date, no name or time in the gzip header (RFC 1952).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

SET_NAMES = ("base", "comp", "game", "man", "xbase", "xfont", "xshare", "xserv")
NOT_OPENBSD = "This is obsdimg's stand-in medium. It is not OpenBSD and installs nothing."

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03"
_PIECE = 1 << 20


def standin_set(name: str, mtime: int) -> bytes:
    """A gzip-compressed ustar archive with one file that says what it is."""
    text = f"{NOT_OPENBSD}\nHere the set {name} would be.\n".encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(
            _member(f"./usr/share/obsdimg-standin/{name}", len(text), mtime), io.BytesIO(text)
        )
    return gzip(archive.getvalue())


def _member(name: str, size: int, mtime: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, mtime
    return member


def write_padded_set(path: Path, name: str, size: int, mtime: int) -> None:
    """Write a set that holds `size` bytes of noise, and so is a little longer than that."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS)
    crc = length = 0
    with path.open("wb") as stream:
        stream.write(_GZIP_HEADER)
        for piece in _padded_archive(name, size, mtime):
            crc, length = zlib.crc32(piece, crc), length + len(piece)
            stream.write(packer.compress(piece))
        stream.write(packer.flush() + crc.to_bytes(4, "little"))
        stream.write((length & 0xFFFFFFFF).to_bytes(4, "little"))


def _padded_archive(name: str, size: int, mtime: int) -> Iterator[bytes]:
    member = _member(f"./usr/share/obsdimg-standin/{name}.noise", size, mtime)
    yield member.tobuf(tarfile.USTAR_FORMAT)
    yield from _noise(size)
    yield b"\x00" * (-size % 512 + 1024)


def _noise(size: int) -> Iterator[bytes]:
    """Bytes that do not compress: each piece is SHAKE-128 of its number, repeated no further."""
    for start in range(0, size, _PIECE):
        seed = hashlib.shake_128(start.to_bytes(8, "little"))
        yield seed.digest(min(_PIECE, size - start))


def gzip(data: bytes) -> bytes:
    """What `gzip -9n` makes of `data`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(data) + packer.flush()
    tail = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return _GZIP_HEADER + body + tail
