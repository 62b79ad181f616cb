"""Writes a disk as an image in one of its forms, with everything that is known of it counted."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from obsdimg.core.progress import Progress
from obsdimg.disk.bmap import MappedRange
from obsdimg.disk.content import UNIT, ZEROS, DiskImage, Form

LEVEL = 3
"""Of zstd.  Ciphertext does not get smaller, and zeros need no effort."""


@dataclass(frozen=True)
class WrittenImage:
    """What was written: sizes in bytes, SHA-256 in hexadecimal."""

    form: Form
    size: int
    sha256: str
    """Of the file."""
    disk_size: int
    disk_sha256: str
    """Of the disk in it, which is what a machine's disk is held against."""
    ranges: tuple[MappedRange, ...]

    @property
    def stored(self) -> int:
        """Bytes of the disk that are not in units of zeros."""
        return UNIT * sum(one.count for one in self.ranges)


class _Counting:
    """What is written goes on to `stream`, and is counted and hashed."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.size, self.digest = stream, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return self.stream.write(data)


def write_image(disk: DiskImage, form: Form, stream: BinaryIO, progress: Progress) -> WrittenImage:
    """Write the disk of `disk` to the empty file `stream` as `form`.

    A qcow2 file is copied as it is and must be one already.  Raises DiskImageError, OSError.
    """
    title = f"Writing the disk ({form})"
    if form == "qcow2":
        assert disk.form == "qcow2"
        digest, ranges = _told(disk, lambda unit: None, progress, "Hashing the disk")
        copied = _Counting(stream)
        with disk.path.open("rb") as source:
            shutil.copyfileobj(source, copied, 4 * UNIT)
        own = copied.digest.hexdigest()
        return WrittenImage(form, copied.size, own, disk.size, digest, ranges)
    if form == "raw":
        digest, ranges = _told(disk, lambda unit: _sparse(stream, unit), progress, title)
        stream.truncate(disk.size)
        return WrittenImage(form, disk.size, digest, disk.size, digest, ranges)
    counted = _Counting(stream)
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with compressor.stream_writer(counted, size=disk.size, closefd=False) as packed:  # type: ignore[arg-type]
        digest, ranges = _told(disk, lambda unit: packed.write(unit or ZEROS), progress, title)
    return WrittenImage(form, counted.size, counted.digest.hexdigest(), disk.size, digest, ranges)


def _sparse(stream: BinaryIO, unit: bytes | None) -> None:
    if unit is None:
        stream.seek(UNIT, 1)
    else:
        stream.write(unit)


def _told(
    disk: DiskImage, write: Callable[[bytes | None], object], progress: Progress, title: str
) -> tuple[str, tuple[MappedRange, ...]]:
    """Give every unit to `write`; the SHA-256 of all, and the ranges that hold something."""
    whole = hashlib.sha256()

    def passed() -> Iterator[bytes | None]:
        with progress.step(title, total=disk.size) as step:
            for unit in disk.units():
                whole.update(unit or ZEROS)
                write(unit)
                step.advance(UNIT)
                yield unit

    ranges = tuple(mapped(passed()))
    return whole.hexdigest(), ranges


def mapped(units: Iterator[bytes | None]) -> Iterator[MappedRange]:
    """The ranges of units that hold something."""
    first, count, digest = 0, 0, hashlib.sha256()
    number = 0
    for number, unit in enumerate(units, 1):
        if unit is not None:
            digest.update(unit)
            count += 1
        if unit is None and count:
            yield MappedRange(first, count, digest.hexdigest())
            count, digest = 0, hashlib.sha256()
        if not count:
            first = number
    if count:
        yield MappedRange(first, count, digest.hexdigest())
