"""Private scratch folders that do not outlive their run by long.

A run that is ended by `kill -9` cannot clean up behind itself; the next one does: each folder
is locked by the process that works in it, and one whose lock is free belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from obsdimg.core.files import FileError, describe

PREFIX = "run-"
_LOCK = ".lock"
LONGEST_BASE = 56
"""Bytes: the name of a socket may have 103 (sun_path of the BSDs), and ours adds 47 at most: a
user, a run's folder, and what ssh puts behind a control socket's name while it makes it."""


def runtime_folder() -> Path:
    """A folder (0700) of this user for sockets and scratch folders that nothing refers to later.

    Its name is short enough for a socket's.  Raises FileError: it is somebody else's.
    """
    base, temporary = os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()
    if base and len(os.fsencode(base)) <= LONGEST_BASE and Path(base).is_dir():
        folder = Path(base) / "obsdimg"
    else:
        short = len(os.fsencode(temporary)) <= LONGEST_BASE
        folder = Path(temporary if short else "/tmp") / f"obsdimg-{os.getuid()}"  # noqa: S108
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {describe(error)}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise FileError(
            f"{folder}: is not a folder that only this user may use", "remove it, or chmod 700"
        )
    return folder


@contextmanager
def run_folder(parent: Path) -> Iterator[Path]:
    """A new folder (0700) in `parent`, gone afterwards; what dead runs left there goes first."""
    remove_dead(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new folder and the lock on it.  One that another run has taken for a dead run's, in the
    moment before it was locked, is given up."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):
                return folder, lock
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def remove_dead(parent: Path) -> None:
    """Remove the folders of runs that have ended without doing so."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
