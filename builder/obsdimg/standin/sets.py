"""The stand-in's sets and texts: small, valid, and plain about what they are.

Deterministic: written by core/archive.py.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from obsdimg.core.archive import gzip, gzip_pieces, tar, tar_member
from obsdimg.core.entry import Entry

SET_NAMES = ("base", "comp", "game", "man", "xbase", "xfont", "xshare", "xserv")
NOT_OPENBSD = "This is obsdimg's stand-in medium. It is not OpenBSD and installs nothing."

_PIECE = 1 << 20


def standin_set(name: str, mtime: int) -> bytes:
    """A gzip-compressed ustar archive with one file that says what it is."""
    text = f"{NOT_OPENBSD}\nHere the set {name} would be.\n".encode()
    own = Entry(f"/usr/share/obsdimg-standin/{name}", text)
    return gzip(tar([own], mtime, "./"))


def write_padded_set(path: Path, name: str, size: int, mtime: int) -> None:
    """Write a set that holds `size` bytes of noise, and so is a little longer than that."""
    with path.open("wb") as stream:
        stream.writelines(gzip_pieces(_padded_archive(name, size, mtime), level=0))


def _padded_archive(name: str, size: int, mtime: int) -> Iterator[bytes]:
    own = Entry(f"/usr/share/obsdimg-standin/{name}.noise")
    yield tar_member(own, size, mtime, "./").tobuf(tarfile.USTAR_FORMAT)
    yield from _noise(size)
    yield b"\x00" * (-size % 512 + 1024)


def _noise(size: int) -> Iterator[bytes]:
    """Bytes that do not compress: each piece is SHAKE-128 of its number, repeated no further."""
    for start in range(0, size, _PIECE):
        seed = hashlib.shake_128(start.to_bytes(8, "little"))
        yield seed.digest(min(_PIECE, size - start))
