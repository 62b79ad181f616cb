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

from pycdlib.pycdlib import PyCdlib

from obsdimg.core.files import describe
from obsdimg.core.progress import Progress
from obsdimg.iso.edit import PutFile, plan
from obsdimg.iso.errors import IsoError
from obsdimg.iso.reader import Iso
from obsdimg.iso.records import long_date
from obsdimg.iso.view import CHANGED, FIRST_DESCRIPTOR, SECTOR, sectors

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
    _copy(iso, output.fileno(), 0, iso.size)


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
        for start in range(0, iso.size, SLICE):
            end = min(start + SLICE, iso.size)
            if not copied:
                _copy(iso, out, start, end)
            for sector in range(start // SECTOR, sectors(end)):
                if sector in layout.patches:
                    data = layout.patches[sector][: end - sector * SECTOR]
                    _write(out, data, sector * SECTOR)
            _reread(digest, out, start, end)
            step.advance(end - start)
        os.truncate(out, total)
        for sector, data in layout.patches.items():
            if sector >= layout.start:
                _write(out, data, sector * SECTOR)
        for file in layout.files:
            own, position = hashlib.sha256(), file.extent * SECTOR
            for chunk in _chunks(contents[file.path], file.size):
                own.update(chunk)
                _write(out, chunk, position)
                position += len(chunk)
            if file.path not in layout.listings:
                files.append(replace(file, sha256=own.hexdigest()))
        _reread(digest, out, iso.size, total)
        step.advance(total - iso.size)
    return Remastered(total, digest.hexdigest(), tuple(files))


def write_dated(disc: PyCdlib, output: BinaryIO, epoch: int) -> None:
    """Write a new image with `epoch` for its date of change: pycdlib writes the clock's."""
    disc.write_fp(output)
    output.seek(FIRST_DESCRIPTOR * SECTOR + CHANGED)
    output.write(long_date(epoch))


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


def _copy(iso: Iso, out: int, start: int, end: int) -> None:
    """Bytes `start` to `end` of the image, to the same place; by the kernel where it can."""
    in_kernel = hasattr(os, "copy_file_range")
    while start < end:
        done = 0
        if in_kernel:
            try:
                done = os.copy_file_range(iso.fd, out, end - start, start, start)
            except OSError:
                in_kernel = False  # not between these; or an error, which comes again below
        if not done:
            data = iso.pread(start, min(CHUNK, end - start))
            if not data:
                raise IsoError(f"{iso.path}: became shorter while it was read")
            _write(out, data, start)
            done = len(data)
        start += done


def _write(out: int, data: bytes, position: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(out, left, position)
        left, position = left[done:], position + done


def _reread(digest: hashlib._Hash, descriptor: int, start: int, end: int) -> None:
    """Feed `digest` bytes `start` to `end` of what was written, out of the system's own cache."""
    for at in range(start - start % SLICE, end, SLICE):
        length = min(SLICE, end - at)
        with (
            mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=at) as mapped,
            memoryview(mapped) as whole,
            whole[max(start - at, 0) :] as part,
        ):
            digest.update(part)


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
