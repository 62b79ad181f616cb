"""Files below a folder that foreign code has filled: read without ever following a link.

Every step is taken from a descriptor of the folder before (openat(2) with O_NOFOLLOW), so that
nothing which moves meanwhile leads elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def _parent(folder: int, path: str) -> Iterator[tuple[int, str]]:
    *above, name = [p for p in PurePosixPath(path).parts if p != "/"] or ["."]
    here = os.dup(folder)
    try:
        for part in above:
            if part == "..":
                raise FileNotFoundError(path)
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here, name
    finally:
        os.close(here)


def lstat_inside(folder: int, path: str) -> os.stat_result | None:
    """lstat(2) of `path` below the open `folder`; None where there is nothing, or a link on the
    way."""
    try:
        with _parent(folder, path) as (here, name):
            return os.stat(name, dir_fd=here, follow_symlinks=False)
    except OSError:
        return None


def open_inside(folder: int, path: str) -> int:
    """A descriptor of the regular file `path`, for reading.  Raises OSError."""
    with _parent(folder, path) as (here, name):
        fd = os.open(name, _FILE, dir_fd=here)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(f"{path}: not a regular file")


def read_inside(folder: int, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file; nothing where there is none."""
    try:
        with os.fdopen(open_inside(folder, path), "rb") as stream:
            return stream.read(limit)
    except OSError:
        return b""
