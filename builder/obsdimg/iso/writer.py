"""Writing a remastered image: the source copied by the kernel, patched, and what is new behind it.

The output is hashed from its own bytes as it grows.  Memory stays the same for any size.  What
goes where is decided in edit.py.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from obsdimg.core.files import describe
from obsdimg.core.progress import Progress
from obsdimg.iso.edit import PutFile, plan
from obsdimg.iso.errors import IsoError
from obsdimg.iso.reader import Iso
from obsdimg.iso.view import SECTOR

SLICE = 1 << 20
"""Bytes copied by one call and hashed thereafter: what a processor's cache holds; whole pages."""
CHUNK = 128 << 10
"""Bytes read at a time."""


@dataclass(frozen=True)
class Remastered:
    """The new image: size in bytes, SHA-256 in hex, and the files put in, by name."""

    size: int
    sha256: str
    files: tuple[PutFile, ...]


def copy(iso: Iso, output: BinaryIO) -> None:
    """Begin `output` with the bytes of `iso`, by the kernel where it can: what `remaster` would do
    first.  It takes little of the processor, so something else can be done meanwhile."""
    out, done, in_kernel = output.fileno(), 0, hasattr(os, "copy_file_range")
    while done < iso.size:
        if in_kernel:
            try:
                if copied := os.copy_file_range(iso.fd, out, iso.size - done, done, done):
                    done += copied
                    continue
            except OSError:
                in_kernel = False  # not between these; or an error, which comes again below
        data = iso.pread(done, min(CHUNK, iso.size - done))
        if not data:
            raise IsoError(f"{iso.path}: became shorter while it was read")
        _write(out, data, done)
        done += len(data)


def remaster(
    iso: Iso,
    output: BinaryIO,
    changes: Mapping[str, bytes | Path],
    *,
    progress: Progress | None = None,
    epoch: int,
    copied: bool = False,
) -> Remastered:
    """Write `iso` to the empty file `output` with files added or replaced; same input, same bytes.

    `changes` maps absolute Rock Ridge names to bytes or to files of the host; they get mode 0644,
    root:wheel and the date `epoch` (seconds since 1970).  Directories are made as needed.  All
    else stays: boot entries, system area, volume identifiers, names, modes and times, extents
    that files share.  TRANS.TBL files get lines for new names.  `copied` says that `copy` was
    there before.  Raises IsoError; errors of `output`, which must be readable too, come as
    OSError.
    """
    layout = plan(iso, {path: _size(content) for path, content in changes.items()}, epoch)
    out, total, digest = output.fileno(), layout.end * SECTOR, hashlib.sha256()
    contents = {**changes, **layout.listings}
    files = []
    with (progress or Progress()).step("Writing the ISO", total=total) as step:
        if not copied:
            copy(iso, output)
        # What nothing is written to are zeros.
        os.truncate(out, total)
        for sector, data in layout.patches.items():
            _write(out, data, sector * SECTOR)
        for file in layout.files:
            own, position = hashlib.sha256(), file.extent * SECTOR
            for chunk in _chunks(contents[file.path], file.size):
                own.update(chunk)
                _write(out, chunk, position)
                position += len(chunk)
            if file.path not in layout.listings:
                files.append(replace(file, sha256=own.hexdigest()))
        for start in range(0, total, SLICE):
            length = min(SLICE, total - start)
            with mmap.mmap(out, length, access=mmap.ACCESS_READ, offset=start) as mapped:
                digest.update(mapped)
            step.advance(length)
    return Remastered(total, digest.hexdigest(), tuple(files))


def _size(content: bytes | Path) -> int:
    if isinstance(content, bytes):
        return len(content)
    try:
        status = content.stat()
    except OSError as error:
        raise IsoError(f"{content}: cannot be read: {describe(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise IsoError(f"{content}: not a regular file")
    return status.st_size


def _write(out: int, data: bytes, position: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(out, left, position)
        left, position = left[done:], position + done


def _chunks(content: bytes | Path, size: int) -> Iterator[bytes]:
    """The bytes of a new file, exactly as many as were planned."""
    if isinstance(content, bytes):
        yield content
        return
    try:
        with content.open("rb", buffering=0) as stream:
            while size and (data := stream.read(min(CHUNK, size))):
                size -= len(data)
                yield data
            if size or stream.read(1):
                raise IsoError(f"{content}: changed while it was put into the ISO", "run it again")
    except OSError as error:
        raise IsoError(f"{content}: cannot be read: {describe(error)}") from error
