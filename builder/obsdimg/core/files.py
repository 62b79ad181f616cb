"""Files on the host: private folders, and files that appear whole or not at all.

Everything is written in the target's own folder without its name, synced, and named at last;
a run that is killed never leaves a half result.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from obsdimg.core.errors import ObsdimgError

PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700
PUBLIC_FILE = 0o644


class FileError(ObsdimgError):
    """A file or folder on the host could not be read or written."""


def describe(error: OSError) -> str:
    """What went wrong, in the system's words and without the path (the caller names it)."""
    return (error.strerror or str(error)).lower()


@dataclass(frozen=True)
class FileIdentity:
    """What tells whether a file is still the one it was: times in nanoseconds since 1970.

    No user can set ctime, so whatever touches the file changes this.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def __str__(self) -> str:
        return f"{self.device}:{self.inode}:{self.size}:{self.mtime_ns}:{self.ctime_ns}"


def identity(file: Path | int) -> FileIdentity:
    """The identity of a regular file, given by its path or an open descriptor.

    Raises FileError.
    """
    try:
        found = os.stat(file)  # noqa: PTH116  (of a descriptor too)
    except OSError as error:
        raise FileError(f"{file}: cannot be read: {describe(error)}") from error
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{file}: not a regular file")
    return FileIdentity(
        found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )


@contextmanager
def atomic_file(path: Path, mode: int = PRIVATE_FILE) -> Iterator[BinaryIO]:
    """Open a file in `path`'s folder; on a clean exit it becomes `path` with `mode`.

    Any exception, ctrl-C included, leaves `path` as it was and nothing beside it.  On Linux the
    file has no name until it is finished (O_TMPFILE, open(2)), and then at once its own, so that
    even SIGKILL leaves nothing.  Where a file is replaced, and elsewhere, SIGKILL may leave a
    `.NAME.XXXXXXXX.part`, which goes with the next write or `remove_file` of that name.
    Raises FileError where the folder is missing, read-only or full.
    """
    part: Path | None = None
    try:
        if path.exists() and not path.is_file():
            # A device or a FIFO would be replaced by a file, for good.
            raise FileError(f"{path}: is not a regular file", "give the name of a file")
        _remove_left(path)
        fd, part = _temporary(path)
        with os.fdopen(fd, "w+b") as stream:
            _hold(fd)
            yield cast(BinaryIO, stream)
            _finish(stream, mode)
            if part is None and not _linked(fd, path):
                part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
                _linked(fd, part)
            if part is not None:  # while it is held: see _remove_left
                part.replace(path)
                part = None
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written: {describe(error)}",
            "check that the folder exists, is writable and has room",
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _finish(stream: IO[bytes], mode: int) -> None:
    stream.flush()
    os.fsync(stream.fileno())
    os.fchmod(stream.fileno(), mode)


def _linked(fd: int, path: Path) -> bool:
    """Give an open file without a name the name `path`, unless that is taken."""
    try:
        # Naming a folder makes Python use linkat(2), which alone follows the link.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except FileExistsError:
        return False
    return True


def _hold(fd: int) -> None:
    """Lock an unfinished file, so that nobody takes it for one of a dead process."""
    with suppress(OSError):  # some network file systems know no locks
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed left of `path`: its lock is free."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}\.part")
    try:
        left = [name for name in os.listdir(path.parent) if pattern.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return
    for name in left:
        part = path.with_name(name)
        with suppress(OSError):
            fd = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(fd)


def remove_file(path: Path) -> None:
    """Remove `path`, if it is there, and what killed processes left of it."""
    path.unlink(missing_ok=True)
    _remove_left(path)


def _temporary(path: Path) -> tuple[int, Path | None]:
    """A new file in the folder of `path`, open for reading and writing: without a name if the
    system can do that, else with the one given back."""
    flag = getattr(os, "O_TMPFILE", 0)
    if flag and Path("/proc/self/fd").exists():
        try:
            return os.open(path.parent, flag | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE), None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    return fd, Path(name)


def create_file(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> bool:
    """Write `data` to `path` unless there is such a file; say whether it was written.

    Of several that try at once, one succeeds and the others leave its file alone.
    Raises FileError.
    """
    part: Path | None = None
    try:
        _remove_left(path)
        fd, part = _temporary(path)
        with os.fdopen(fd, "w+b") as stream:
            _hold(fd)
            stream.write(data)
            _finish(stream, mode)
            if part is None:
                return _linked(fd, path)
            os.link(part, path)
            return True
    except FileExistsError:
        return False
    except OSError as error:
        raise FileError(
            f"{path}: cannot be made: {describe(error)}",
            "check that the folder exists, is writable and has room",
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_file(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write `data` to `path` whole or not at all.  Raises FileError."""
    with atomic_file(path, mode) as stream:
        stream.write(data)


def private_dir(path: Path) -> Path:
    """Make `path` (and its parents) if missing; every folder made here has mode 0700."""
    try:
        missing = [p for p in path.parents if not p.exists()]
        for folder in (*reversed(missing), path):
            folder.mkdir(mode=PRIVATE_DIR, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be made: {describe(error)}") from error
    return path


LARGEST_FILE = 16 << 20
"""Bytes of what is read whole, where nothing else is said."""


def open_regular(path: Path) -> BinaryIO:
    """`path`, open for reading.  A FIFO is not waited for, and a device not read without end.

    Raises FileError for what is no regular file, OSError as open(2).
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise FileError(f"{path}: is not a regular file", "give the name of a file")
    return os.fdopen(fd, "rb")


def read_file(path: Path, what: str, hint: str | None = None, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of `path`; `what` names it in the error (`configuration`, `ISO`).

    Raises FileError, also for what is no regular file or has more than `largest` bytes.
    """
    try:
        with open_regular(path) as stream:
            data = stream.read(largest + 1)
    except OSError as error:
        raise FileError(f"{path}: cannot read the {what}: {describe(error)}", hint) from error
    if len(data) > largest:
        raise FileError(f"{path}: has more than {largest >> 20} MB, too much for a {what}", hint)
    return data
