"""Writing a remastered image: the source streamed through, patched, and what is new behind it.

One pass, in order, so that the output can be hashed as it is written; hashing runs in threads
of its own (hashlib releases the interpreter's lock).  Memory stays at a few dozen megabytes for
any size.  What goes where is decided in edit.py.
"""

from __future__ import annotations

import hashlib
import queue
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from pycdlib.pycdlib import PyCdlib

from obsdimg.core.files import describe
from obsdimg.core.progress import Progress, Step
from obsdimg.iso.edit import Layout, PlannedFile, plan
from obsdimg.iso.errors import IsoError
from obsdimg.iso.reader import Iso
from obsdimg.iso.records import long_date
from obsdimg.iso.view import CHANGED, FIRST_DESCRIPTOR, SECTOR

CHUNK = 1 << 18
"""Bytes read at a time; larger buffers cost more in page faults than they save in calls."""
_AHEAD = 16
"""Chunks that may wait for a hashing thread."""


class Digest(Protocol):
    """What a hash object of hashlib can do that is needed here."""

    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class PutFile:
    """A file that was put in: absolute name, ISO 9660 identifier, size in bytes, SHA-256 in hex,
    first sector, and whether it took the place of another."""

    path: str
    iso_name: str
    size: int
    sha256: str
    extent: int
    replaced: bool


@dataclass(frozen=True)
class Remastered:
    """The new image: size in bytes, SHA-256 in hex, and the files put in, by name."""

    size: int
    sha256: str
    files: tuple[PutFile, ...]


def remaster(
    iso: Iso,
    output: BinaryIO,
    changes: Mapping[str, bytes | Path],
    *,
    progress: Progress | None = None,
    epoch: int,
    digests: Sequence[Digest] = (),
) -> Remastered:
    """Write `iso` to `output` with files added or replaced; the same input, the same bytes.

    `changes` maps absolute Rock Ridge names to bytes or to files of the host; they get mode 0644,
    root:wheel and the date `epoch` (seconds since 1970).  Directories are made as needed.  All
    else stays: boot entries, system area, volume identifiers, names, modes and times, extents
    that files share.  TRANS.TBL files get lines for new names.  `digests` are fed every byte of
    `iso`, in order.  Raises IsoError; errors of `output` come as OSError.
    """
    layout = plan(iso, {path: _size(content) for path, content in changes.items()}, epoch)
    with (progress or Progress()).step("Writing the ISO", total=layout.end * SECTOR) as step:
        return _write(iso, layout, output, changes, step, digests)


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


def _write(
    iso: Iso,
    layout: Layout,
    output: BinaryIO,
    changes: Mapping[str, bytes | Path],
    step: Step,
    digests: Sequence[Digest],
) -> Remastered:
    digest = hashlib.sha256()
    hashes: dict[str, str] = {}
    with ExitStack() as threads:
        source_hash = threads.enter_context(_hashing(digests))
        output_hash = threads.enter_context(_hashing([digest]))

        def emit(data: bytes) -> None:
            output_hash.put(data)
            output.write(data)
            step.advance(len(data))

        for original, patched in _source_chunks(iso, layout):
            source_hash.put(original)
            emit(patched)
        emit(bytes(layout.start * SECTOR - iso.size))
        first = min((f.extent for f in layout.files if f.size), default=layout.end)
        for sector in range(layout.start, first):
            emit(layout.patches[sector])
        for file in layout.files:
            own = hashlib.sha256()
            for data in _content_chunks(file, changes):
                own.update(data)
                emit(data)
            emit(bytes(-file.size % SECTOR))
            hashes[file.path] = own.hexdigest()
    files = tuple(
        PutFile(f.path, f.iso_name, f.size, hashes[f.path], f.extent, f.replaced)
        for f in layout.files
        if f.data is None
    )
    return Remastered(layout.end * SECTOR, digest.hexdigest(), files)


def _source_chunks(iso: Iso, layout: Layout) -> Iterator[tuple[bytes, bytes]]:
    """The source in chunks, each as it is and as it shall be."""
    position = 0
    while position < iso.size:
        original = iso.pread(position, min(CHUNK, iso.size - position))
        if not original:
            raise IsoError(f"{iso.path}: became shorter while it was read")
        end = position + len(original)
        changed = bytearray(original)
        for sector, data in layout.patches.items():
            at = sector * SECTOR - position
            if 0 <= at < len(original):
                changed[at : at + SECTOR] = data[: len(original) - at]
        yield original, bytes(changed)
        position = end


def _content_chunks(file: PlannedFile, changes: Mapping[str, bytes | Path]) -> Iterator[bytes]:
    """The bytes of a new extent, exactly as many as were planned."""
    content = changes[file.path] if file.data is None else file.data
    if isinstance(content, bytes):
        yield content
        return
    left = file.size
    try:
        with content.open("rb", buffering=0) as stream:
            while left and (data := stream.read(min(CHUNK, left))):
                left -= len(data)
                yield data
            if left or stream.read(1):
                raise IsoError(f"{content}: changed while it was put into the ISO", "run it again")
    except OSError as error:
        raise IsoError(f"{content}: cannot be read: {describe(error)}") from error


class _HashThread:
    """Feeds digests in a thread; `put` waits while too much is on its way."""

    def __init__(self, digests: Sequence[Digest]) -> None:
        self._digests = digests
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._run, daemon=True)
        if digests:
            self._thread.start()

    def put(self, data: bytes) -> None:
        if self._digests:
            self._queue.put(data)

    def finish(self) -> None:
        """Wait until everything is hashed."""
        if self._digests:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            for digest in self._digests:
                digest.update(data)


@contextmanager
def _hashing(digests: Sequence[Digest]) -> Iterator[_HashThread]:
    thread = _HashThread(digests)
    try:
        yield thread
    finally:
        thread.finish()
