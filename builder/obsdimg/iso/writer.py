"""Writing a remastered image: the source streamed through, patched, and new extents behind it.

One pass, in order, so that the output can be hashed as it is written; hashing runs in threads
of its own (hashlib releases the interpreter's lock).  Memory stays at a few dozen megabytes for
any size.  What goes where is decided in iso_layout.py.
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

from obsdimg.core.files import describe
from obsdimg.core.progress import Progress, Step
from obsdimg.iso.layout import Appended, Layout, plan
from obsdimg.iso.reader import Iso
from obsdimg.iso.structures import SECTOR, IsoError, sectors

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
    sizes = {path: _size(content) for path, content in changes.items()}
    layout = plan(iso, sizes, epoch)
    with (progress or Progress()).step("Writing the ISO", total=layout.end * SECTOR) as step:
        return _write(iso, layout, output, changes, step, digests)


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
        emit(b"\x00" * (layout.start * SECTOR - iso.size))
        for extent in layout.appended:
            own = hashlib.sha256()
            for data in _content_chunks(extent, changes):
                own.update(data)
                emit(data)
            emit(b"\x00" * (sectors(extent.size) * SECTOR - extent.size))
            hashes[extent.path] = own.hexdigest()
    files = tuple(
        PutFile(f.path, f.identifier, f.size, hashes[f.path], f.extent, f.replaced)
        for f in layout.files
    )
    return Remastered(layout.end * SECTOR, digest.hexdigest(), files)


def _source_chunks(iso: Iso, layout: Layout) -> Iterator[tuple[bytes, bytes]]:
    """The source in chunks, each as it is and as it shall be."""
    patches = sorted((sector * SECTOR, data) for sector, data in layout.patches.items())
    position = 0
    while position < iso.size:
        original = iso.pread(position, min(CHUNK, iso.size - position))
        if not original:
            raise IsoError(f"{iso.path}: became shorter while it was read")
        yield original, _patched(original, position, patches)
        position += len(original)


def _patched(data: bytes, position: int, patches: list[tuple[int, bytes]]) -> bytes:
    """`data`, which starts at byte `position` of the image, with the patches that touch it."""
    end = position + len(data)
    touching = [(at, new) for at, new in patches if at < end and at + len(new) > position]
    if not touching:
        return data
    changed = bytearray(data)
    for at, new in touching:
        start, stop = max(at, position), min(at + len(new), end)
        changed[start - position : stop - position] = new[start - at : stop - at]
    return bytes(changed)


def _content_chunks(extent: Appended, changes: Mapping[str, bytes | Path]) -> Iterator[bytes]:
    """The bytes of a new extent, exactly as many as were planned."""
    content = changes[extent.path] if extent.data is None else extent.data
    if isinstance(content, bytes):
        yield content
        return
    left = extent.size
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
