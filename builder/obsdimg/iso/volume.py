"""An ISO 9660 volume as recorded: its descriptors and its tree of directory extents.

Everything is read and checked when the image is opened, and distrusted: positions, lengths,
loops.  Names as users see them, files and boot entries are iso_reader.py's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from obsdimg.core.files import describe
from obsdimg.iso import rockridge
from obsdimg.iso.rockridge import Posix
from obsdimg.iso.structures import (
    DAMAGED,
    FIRST_DESCRIPTOR,
    MAX_DESCRIPTORS,
    PRIMARY,
    SECTOR,
    STANDARD_ID,
    SUPPLEMENTARY,
    TERMINATOR,
    IsoError,
    PrimaryDescriptor,
    Record,
    parse_primary,
    parse_record,
    split_directory,
)

MAX_DIRECTORY = 16 << 20
"""Bytes of the largest directory that is read."""
MAX_RECORDS = 250_000
"""Records in the whole image; install media have a few dozen."""


@dataclass
class Directory:
    """A directory as recorded: its extent, and its records (`.` and `..` first) with their
    Rock Ridge entries.  `children` are by sector."""

    extent: int
    size: int
    identifier: bytes
    records: list[tuple[Record, Posix]]
    parent: Directory | None
    children: dict[int, Directory] = field(default_factory=dict)


class IsoVolume:
    """An opened image; use it as a context manager.

    `size` is the file's bytes; `descriptors` are the volume descriptors before the terminator.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._fd = descriptor
        self._skip: int | None = None
        self._records = 0
        self.descriptors: list[bytes] = []
        self.primary: PrimaryDescriptor
        self.root: Directory

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open and check the image at `path`.  Raises IsoError: one message for each fault."""
        path = Path(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise IsoError(f"{path}: not a regular file", "give the path of an ISO image")
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise IsoError(f"{path}: cannot be read: {describe(error)}") from error
        try:
            volume = cls(path, descriptor, os.fstat(descriptor).st_size)
            with located(path):
                volume._load()
        except BaseException:
            os.close(descriptor)
            raise
        return volume

    def close(self) -> None:
        """Close the file; streams of open_file end with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_rock_ridge(self) -> bool:
        return self._skip is not None

    def has_supplementary(self) -> bool:
        """Whether there is a second tree: Joliet, or ISO 9660:1999."""
        return any(d[0] == SUPPLEMENTARY for d in self.descriptors)

    def read_extent(self, sector: int, offset: int, size: int, what: str) -> bytes:
        """`size` bytes from byte `offset` of `sector`; IsoError where the image ends before."""
        start = sector * SECTOR + offset
        if start + size > self.size:
            raise IsoError(
                f"truncated: {what} ends at byte {start + size}, the file has {self.size}", DAMAGED
            )
        data = self.pread(start, size)
        if len(data) != size:
            raise IsoError(f"truncated while reading {what}", DAMAGED)
        return data

    def pread(self, start: int, size: int) -> bytes:
        """At most `size` bytes of the file from byte `start`.  Raises IsoError."""
        try:
            return os.pread(self._fd, size, start)
        except (OSError, ValueError) as error:
            reason = describe(error) if isinstance(error, OSError) else str(error)
            raise IsoError(f"{self.path}: cannot be read: {reason}") from error

    def _load(self) -> None:
        """Read the descriptors and the tree; messages of errors do not name the file yet."""
        self._load_descriptors()
        claimed = self.primary.volume_sectors * SECTOR
        if claimed > self.size:
            raise IsoError(f"truncated: {self.size} of {claimed} bytes", "fetch the ISO again")
        self.root = self._load_tree()

    def _load_descriptors(self) -> None:
        if self.size == 0:
            raise IsoError("the file is empty", "fetch the ISO again")
        start = FIRST_DESCRIPTOR * SECTOR
        if self.pread(start, 6)[1:] != STANDARD_ID:
            raise self._not_iso9660()
        for index in range(MAX_DESCRIPTORS):
            raw = self.read_extent(FIRST_DESCRIPTOR + index, 0, SECTOR, "a volume descriptor")
            if raw[1:6] != STANDARD_ID:
                break
            if raw[0] == TERMINATOR:
                primaries = [d for d in self.descriptors if d[0] == PRIMARY]
                if not primaries:
                    raise IsoError("no primary volume descriptor", DAMAGED)
                self.primary = parse_primary(primaries[0])
                return
            self.descriptors.append(raw)
        raise IsoError("the volume descriptors have no end", DAMAGED)

    def _not_iso9660(self) -> IsoError:
        if self.size < (FIRST_DESCRIPTOR + 1) * SECTOR:
            return IsoError(
                f"not an ISO 9660 image, or truncated: only {self.size} bytes", _WHICH_FILE
            )
        area = self.pread(FIRST_DESCRIPTOR * SECTOR, 16 * SECTOR)
        if any(area[o + 1 : o + 4] == b"NSR" for o in range(0, len(area), SECTOR)):
            return IsoError("a UDF image without ISO 9660", _WHICH_FILE)
        return IsoError("not an ISO 9660 image", _WHICH_FILE)

    def _load_tree(self) -> Directory:
        """The recorded tree, from the root down; every extent is visited once."""
        record = self.primary.root
        root = self._load_directory(record, None, "root directory")
        seen, pending = {root.extent}, [root]
        while pending:
            directory = pending.pop()
            for child, posix in directory.records[2:]:
                if not child.is_directory:
                    continue
                what = f"directory {shown(posix.name or child.identifier)}"
                if child.extent in seen:
                    raise IsoError(f"{what}: a loop, or two directories in one place", DAMAGED)
                seen.add(child.extent)
                loaded = self._load_directory(child, directory, what)
                directory.children[child.extent] = loaded
                pending.append(loaded)
        return root

    def _load_directory(self, record: Record, parent: Directory | None, what: str) -> Directory:
        if record.size > MAX_DIRECTORY or record.size == 0:
            raise IsoError(f"{what}: {record.size} bytes", DAMAGED)
        data = self.read_extent(record.extent, 0, record.size, what)
        raws = split_directory(data, what)
        self._records += len(raws)
        if self._records > MAX_RECORDS:
            raise IsoError(f"more than {MAX_RECORDS} names", DAMAGED)
        plain = [parse_record(raw, what) for raw in raws]
        dots = [r.identifier for r in plain[:2]]
        if dots != [b"\x00", b"\x01"] or plain[0].extent != record.extent:
            raise IsoError(f"{what}: its first two records are not itself and its parent", DAMAGED)
        if parent is None:
            self._skip = rockridge.sharing_offset(plain[0].system_use)
        records = [
            (r, self._posix(r, index == 0 and parent is None, what))
            for index, r in enumerate(plain)
        ]
        return Directory(record.extent, record.size, record.identifier, records, parent)

    def _posix(self, record: Record, is_root: bool, what: str) -> Posix:
        if self._skip is None:
            return Posix()
        area = record.system_use if is_root else record.system_use[self._skip :]
        place = f"{what}: {shown(record.identifier)}"
        return rockridge.parse(area, lambda s, o, n: self._area(s, o, n, place), place)

    def _area(self, sector: int, offset: int, size: int, what: str) -> bytes:
        if offset + size > SECTOR:
            raise IsoError(f"{what}: a continuation area crosses its sector", DAMAGED)
        return self.read_extent(sector, offset, size, what)


_WHICH_FILE = "give an OpenBSD install ISO, such as install66.iso"


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Put the image's name in front of messages of the pure functions."""
    try:
        yield
    except IsoError as error:
        if error.message.startswith(f"{path}: "):
            raise
        raise IsoError(f"{path}: {error.message}", error.hint) from error


def walk(root: Directory) -> Iterator[Directory]:
    """The recorded tree, breadth first: the order of path tables."""
    level = [root]
    while level:
        yield from level
        level = [child for directory in level for child in directory.children.values()]


def shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
