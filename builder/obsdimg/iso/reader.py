"""Reading an ISO 9660 image: its names, files and boot entries.

The directory tree is read by pycdlib and checked when the image is opened; file contents are
read on demand.  Everything in the image is distrusted: positions, lengths, loops, names.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from pycdlib.eltorito import EltoritoEntry
from pycdlib.pycdlib import PyCdlib

from obsdimg.core.files import describe
from obsdimg.iso.errors import DAMAGED, WHICH_ISO, IsoError, one_line
from obsdimg.iso.records import IsoEntry, shown, walk
from obsdimg.iso.view import PLATFORMS, SECTOR, View, hidden

_MEDIA = ("none", "1.2M", "1.44M", "2.88M", "disk")


@dataclass(frozen=True)
class BootEntry:
    """A boot image: for which firmware, how it is presented, where it lies.

    `media` is the emulation (`none`, a floppy's size, `disk`); `load_segment` a real-mode
    segment, 0 for the usual 0x7c0; `sector_count` the virtual sectors of 512 bytes to load;
    `lba` the image's first sector of 2048 bytes; `path` a file that shares it, if any.
    """

    platform: str
    bootable: bool
    media: str
    load_segment: int
    system_type: int
    sector_count: int
    lba: int
    path: str | None = None


class Iso:
    """An opened image; use it as a context manager.

    `size` is the file's bytes; `volume_id` and `application_id` come from the primary volume
    descriptor; `has_supplementary`: there is a second tree (Joliet, or ISO 9660:1999);
    `boot_entries` are in the catalog's order, empty without El Torito; `twice` are paths that
    more than one record has (the first counts).
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self.fd = descriptor
        self.instead, self.catalog_sector = hidden(self.pread, size)
        disc = self.disc(PyCdlib())
        self.volume_id = _text(disc.pvd.volume_identifier)
        self.application_id = _text(disc.pvd.application_identifier.record())
        self.has_rock_ridge = bool(disc.rock_ridge)
        self.has_supplementary = bool(disc.svds)
        self._entries: dict[str, IsoEntry] = {}
        self.twice: list[str] = []
        for named in walk(disc, size):
            if self._entries.setdefault(named.entry.path, named.entry) is not named.entry:
                self.twice.append(named.entry.path)
        self.boot_entries = self._boot_entries(disc)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open and check the image at `path`.  Raises IsoError: one message for each fault."""
        path = Path(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise IsoError(f"{path}: not a regular file", WHICH_ISO)
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise IsoError(f"{path}: cannot be read: {describe(error)}") from error
        try:
            with one_line(path):
                return cls(path, descriptor, os.fstat(descriptor).st_size)
        except BaseException:
            os.close(descriptor)
            raise

    def disc(self, disc: PyCdlib) -> PyCdlib:
        """`disc`, which has read this image: a model of pycdlib's, to look at or to change."""
        disc.open_fp(cast(BinaryIO, View(self.pread, self.size, self.instead)))
        return disc

    def close(self) -> None:
        """Close the file; streams of open_file end with it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def entries(self) -> list[IsoEntry]:
        """Every name except the root, each directory before what it holds."""
        return [entry for path, entry in self._entries.items() if path != "/"]

    def entry(self, path: str) -> IsoEntry | None:
        """What has that absolute name; `/` is the root."""
        return self._entries.get(path)

    def exists(self, path: str) -> bool:
        """Whether the image has that absolute name."""
        return path in self._entries

    def read(self, path: str, most: int | None = None) -> bytes:
        """The bytes of a file.  Raises IsoError, also where it has more than `most` bytes."""
        entry = self._file(path)
        if most is not None and entry.size > most:
            raise IsoError(
                f"{self.path}: {path} has {entry.size} bytes, more than {most}", WHICH_ISO
            )
        with one_line(self.path):
            return self.read_extent(entry.extent, 0, entry.size, path)

    def open_file(self, path: str) -> BinaryIO:
        """A seekable stream of a file's bytes, read from the image as needed.  Raises IsoError."""
        entry = self._file(path)
        window = _Window(self, entry.extent * SECTOR, entry.size)
        return cast(BinaryIO, io.BufferedReader(window, 1 << 16))

    def read_extent(self, sector: int, offset: int, size: int, what: str) -> bytes:
        """`size` bytes from byte `offset` of `sector`; IsoError where the image ends before."""
        data = self.pread(sector * SECTOR + offset, size)
        if len(data) != size:
            raise IsoError(f"truncated while reading {what}", DAMAGED)
        return data

    def pread(self, start: int, size: int) -> bytes:
        """At most `size` bytes of the file from byte `start`.  Raises IsoError."""
        try:
            return os.pread(self.fd, size, start)
        except OSError as error:
            raise IsoError(f"{self.path}: cannot be read: {describe(error)}") from error

    def _file(self, path: str) -> IsoEntry:
        entry = self._entries.get(path)
        if entry is None:
            raise IsoError(f"{self.path}: no {path} in it", "is this the right ISO?")
        if entry.kind != "file":
            raise IsoError(f"{self.path}: {path} is no plain file")
        return entry

    def _boot_entries(self, disc: PyCdlib) -> list[BootEntry]:
        catalog = disc.eltorito_boot_catalog
        if catalog is None:
            return []
        files = {e.extent: e.path for e in self.entries() if e.kind == "file" and e.size}

        def made(platform: int, entry: EltoritoEntry) -> BootEntry:
            return BootEntry(
                platform=PLATFORMS[platform],
                bootable=entry.boot_indicator == 0x88,
                media=_MEDIA[entry.boot_media_type],
                load_segment=entry.load_segment,
                system_type=entry.system_type,
                sector_count=entry.sector_count,
                lba=entry.get_rba(),
                path=files.get(entry.get_rba()),
            )

        first = made(catalog.validation_entry.platform_id, catalog.initial_entry)
        return [
            first,
            *(made(s.platform_id, e) for s in catalog.sections for e in s.section_entries),
        ]


def _text(field: bytes) -> str:
    """A padded identifier; bytes that no identifier may hold are shown escaped."""
    return shown(field.rstrip(b" \x00"))


class _Window(io.RawIOBase):
    """A read-only, seekable view of some bytes of the image."""

    def __init__(self, iso: Iso, start: int, size: int) -> None:
        self._iso, self._start, self._size, self._at = iso, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._at))
        data = self._iso.pread(self._start + self._at, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
