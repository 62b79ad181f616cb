"""SHA-256 of files at the speed of the disk, with progress.

hashlib releases the interpreter's lock for large buffers; one buffer of 1 MiB is reused, so
memory stays flat for any size.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from obsdimg.core.files import FileError, describe
from obsdimg.core.progress import Progress

BUFFER = 1 << 20
"""Bytes read at a time."""


def sha256_file(
    path: Path, progress: Progress | None = None, title: str | None = None
) -> tuple[str, int]:
    """SHA-256 (64 hex digits) and size (bytes) of what was read.  Raises FileError."""
    progress = progress or Progress()
    digest = hashlib.sha256()
    size = 0
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as stream:
            total = os.fstat(stream.fileno()).st_size
            with progress.step(title or f"Hashing {path.name}", total=total) as step:
                while count := stream.readinto(buffer):
                    digest.update(view[:count])
                    size += count
                    step.advance(count)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {describe(error)}") from error
    return digest.hexdigest(), size
