"""Files on the host: private folders, and files that appear whole or not at all.

Everything is written to a temporary name in the target's own folder, synced, and renamed;
a run that is killed leaves at most a `.NAME.XXXXXX.part` file, never a half result.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from obsdimg.errors import ObsdimgError

PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700
PUBLIC_FILE = 0o644


class FileError(ObsdimgError):
    """A file or folder on the host could not be read or written."""


def describe(error: OSError) -> str:
    """What went wrong, in the system's words and without the path (the caller names it)."""
    return (error.strerror or str(error)).lower()


@contextmanager
def atomic_file(path: Path, mode: int = PRIVATE_FILE) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on a clean exit it becomes `path` with `mode`.

    Any exception, ctrl-C included, removes the temporary file and leaves `path` as it was.
    Raises FileError where the folder is missing, read-only or full.
    """
    part: str | None = None
    try:
        fd, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(fd, "w+b") as stream:
            yield cast(BinaryIO, stream)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), mode)
        os.replace(part, path)  # noqa: PTH105
        part = None
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written: {describe(error)}",
            "check that the folder exists, is writable and has room",
        ) from error
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


def write_file(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write `data` to `path` whole or not at all.  Raises FileError."""
    with atomic_file(path, mode) as stream:
        stream.write(data)


def private_dir(path: Path) -> Path:
    """Make `path` (and its parents) if missing; a folder made here has mode 0700."""
    try:
        path.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be made: {describe(error)}") from error
    return path


def read_file(path: Path, what: str, hint: str | None = None) -> bytes:
    """The bytes of `path`; `what` names it in the error (`configuration`, `ISO`).

    Raises FileError.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the {what}: {describe(error)}", hint) from error
