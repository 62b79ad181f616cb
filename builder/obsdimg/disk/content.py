"""What a disk holds, as a sequence of units of 1 MiB, whatever file it is kept in.

Three forms: qcow2 (QEMU's), raw, and raw compressed with zstd.  A unit that is all zeros is
given as None: a disk that was not filled with random data is mostly that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import zstandard

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import describe, open_regular
from obsdimg.core.process import ProcessError
from obsdimg.smoke.disk_search import DiskExtent, extents

UNIT = 1 << 20
"""Bytes; every disk of obsdimg is a whole number of them."""
ZEROS = bytes(UNIT)
_MAGIC = b"\x28\xb5\x2f\xfd"
"""Of a zstd frame (RFC 8878, 3.1.1)."""
_QCOW2 = b"QFI\xfb"

Form = Literal["raw", "qcow2", "raw.zst"]
FORMS: tuple[Form, ...] = ("raw", "qcow2", "raw.zst")


class DiskImageError(ObsdimgError):
    """A disk image is not as it must be, or cannot be read."""


@dataclass(frozen=True)
class DiskImage:
    """An image on this host: its form, and the size of the disk in it (bytes)."""

    path: Path
    form: Form
    size: int

    @property
    def count(self) -> int:
        """Units of the disk."""
        return self.size // UNIT

    def units(self) -> Iterator[bytes | None]:
        """Every unit in order.  Raises DiskImageError: cut short, damaged, unreadable."""
        try:
            if self.form == "qcow2":
                yield from _qcow2_units(self.path, self.count)
                return
            with self.path.open("rb") as stream:
                if self.form == "raw":
                    yield from _stream_units(stream, self.count, self.path)
                else:
                    reader = zstandard.ZstdDecompressor().stream_reader(stream)
                    yield from _stream_units(reader, self.count, self.path)
        except zstandard.ZstdError as error:
            raise DiskImageError(f"{self.path}: is damaged: {error}", "make it again") from error
        except OSError as error:
            raise DiskImageError(f"{self.path}: cannot be read: {describe(error)}") from error


def open_image(path: Path) -> DiskImage:
    """The image at `path`; its form is told from its first bytes.

    Raises DiskImageError: no file, or no whole number of units.
    """
    try:
        with open_regular(path) as stream:
            head = stream.read(64)
            size = path.stat().st_size
        form: Form = "raw"
        if head[:4] == _MAGIC:
            form, size = "raw.zst", zstandard.get_frame_parameters(head).content_size
        elif head[:4] == _QCOW2:
            form, size = "qcow2", int.from_bytes(head[24:32], "big")  # docs/interop/qcow2.txt
    except zstandard.ZstdError as error:
        raise DiskImageError(f"{path}: is damaged: {error}") from error
    except OSError as error:
        hint = "`obsdimg disk` makes it"
        raise DiskImageError(f"{path}: cannot be read: {describe(error)}", hint) from error
    if not 0 < size < 1 << 60 or size % UNIT:
        raise DiskImageError(
            f"{path}: is no disk image of obsdimg: {size} bytes are no whole number of MiB"
        )
    return DiskImage(path, form, size)


def _stream_units(stream: BinaryIO, count: int, path: Path) -> Iterator[bytes | None]:
    for number in range(count):
        unit = stream.read(UNIT)
        while 0 < len(unit) < UNIT and (more := stream.read(UNIT - len(unit))):
            unit += more
        if len(unit) < UNIT:
            raise DiskImageError(
                f"{path}: ends after {number} of {count} MiB", "it was cut short: make it again"
            )
        yield None if unit == ZEROS else unit
    if stream.read(1):
        raise DiskImageError(f"{path}: is longer than the {count} MiB that it should have")


def _qcow2_units(image: Path, count: int) -> Iterator[bytes | None]:
    try:
        parts, size = extents(image)
    except ProcessError as error:
        raise DiskImageError(f"{image}: cannot be read: {error.message}") from error
    if size != count * UNIT:
        raise DiskImageError(f"{image}: holds {size} bytes, its header says {count} MiB")
    with image.open("rb") as stream:
        at = 0
        for number in range(count):
            start, end = number * UNIT, (number + 1) * UNIT
            while at < len(parts) and parts[at].start + parts[at].length <= start:
                at += 1
            unit = _gathered(stream, parts, at, start, end)
            yield None if unit == ZEROS else unit


def _gathered(stream: BinaryIO, parts: list[DiskExtent], at: int, start: int, end: int) -> bytes:
    """The bytes from `start` to `end`; `at`: the first part that may hold some of them."""
    if at >= len(parts) or parts[at].start >= end:
        return ZEROS
    unit = bytearray(end - start)
    while at < len(parts) and parts[at].start < end:
        part = parts[at]
        first, last = max(start, part.start), min(end, part.start + part.length)
        stream.seek(part.offset + first - part.start)
        unit[first - start : last - start] = stream.read(last - first)
        at += 1
    return bytes(unit)
