"""Reading an ISO 9660 image: its names, files and boot entries.

The whole directory tree is read and checked when the image is opened; file contents are read
on demand.  Everything in the image is distrusted: positions, lengths, loops, names.  Structures
are in iso9660.py, rockridge.py and eltorito.py.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

from obsdimg.files import describe
from obsdimg.media import eltorito, rockridge
from obsdimg.media.eltorito import BootEntry
from obsdimg.media.iso9660 import (
    BOOT_RECORD,
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
from obsdimg.media.rockridge import Posix

MAX_DIRECTORY = 16 << 20
"""Bytes of the largest directory that is read."""
MAX_RECORDS = 250_000
"""Records in the whole image; install media have a few dozen."""

Kind = Literal["file", "dir", "link", "other"]
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
}


@dataclass(frozen=True)
class Entry:
    """A name in the image, absolute (`/6.6/amd64/bsd.rd`), by Rock Ridge where there is one.

    `size` is in bytes, `mode` holds the permission bits, `mtime` seconds since 1970, `extent`
    the first sector; `target` is a symbolic link's.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime: int
    extent: int
    target: str | None = None
    uid: int = 0
    gid: int = 0


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


@dataclass(frozen=True)
class Named:
    """A record's place in the tree that the user sees: its directory, entry, and own directory."""

    entry: Entry
    within: Directory
    index: int
    directory: Directory | None


class Iso:
    """An opened image; use it as a context manager.

    `size` is the file's bytes; `volume_id` and `application_id` come from the primary volume
    descriptor; `boot_entries` are in the catalog's order, empty without El Torito.
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
        self.catalog_sector: int | None = None
        self.boot_entries: list[BootEntry] = []
        self._named: dict[str, Named] = {}

    @classmethod
    def open(cls, path: Path) -> Iso:
        """Open and check the image at `path`.  Raises IsoError: one message for each fault."""
        path = Path(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise IsoError(f"{path}: not a regular file", "give the path of an ISO image")
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise IsoError(f"{path}: cannot be read: {describe(error)}") from error
        try:
            iso = cls(path, descriptor, os.fstat(descriptor).st_size)
            with _located(path):
                iso._load()
        except BaseException:
            os.close(descriptor)
            raise
        return iso

    def close(self) -> None:
        """Close the file; streams of open_file end with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Iso:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def volume_id(self) -> str:
        return self.primary.volume_id

    @property
    def application_id(self) -> str:
        return self.primary.application_id

    @property
    def has_rock_ridge(self) -> bool:
        return self._skip is not None

    def entries(self) -> list[Entry]:
        """Every name except the root, each directory before what it holds."""
        return [named.entry for path, named in self._named.items() if path != "/"]

    def exists(self, path: str) -> bool:
        """Whether the image has that absolute name."""
        return path in self._named

    def named(self, path: str) -> Named | None:
        """The place of an absolute name in the recorded tree; `/` is the root."""
        return self._named.get(path)

    def named_paths(self) -> list[tuple[str, Named]]:
        """Every absolute name, the root's included, with its place in the recorded tree."""
        return list(self._named.items())

    def read(self, path: str) -> bytes:
        """The bytes of a file.  Raises IsoError."""
        entry = self._file(path)
        with _located(self.path):
            return self.read_extent(entry.extent, 0, entry.size, path)

    def open_file(self, path: str) -> BinaryIO:
        """A seekable stream of a file's bytes, read from the image as needed.  Raises IsoError."""
        entry = self._file(path)
        window = _Window(self, entry.extent * SECTOR, entry.size)
        return cast(BinaryIO, io.BufferedReader(window, 1 << 16))

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

    def _file(self, path: str) -> Entry:
        named = self._named.get(path)
        if named is None:
            raise IsoError(f"{self.path}: no {path} in it", "is this the right ISO?")
        if named.entry.kind != "file":
            raise IsoError(f"{self.path}: {path} is no plain file")
        return named.entry

    def _load(self) -> None:
        self._load_descriptors()
        claimed = self.primary.volume_sectors * SECTOR
        if claimed > self.size:
            raise IsoError(f"truncated: {self.size} of {claimed} bytes", "fetch the ISO again")
        self.root = self._load_tree()
        self._name_tree()
        self._load_boot_entries()

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
                what = f"directory {_shown(posix.name or child.identifier)}"
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
        place = f"{what}: {_shown(record.identifier)}"
        return rockridge.parse(area, lambda s, o, n: self._area(s, o, n, place), place)

    def _area(self, sector: int, offset: int, size: int, what: str) -> bytes:
        if offset + size > SECTOR:
            raise IsoError(f"{what}: a continuation area crosses its sector", DAMAGED)
        return self.read_extent(sector, offset, size, what)

    def _name_tree(self) -> None:
        """Fill the table of absolute names, following moved directories to their real place."""
        by_sector = {d.extent: d for d in walk(self.root)}
        _, dot = self.root.records[0]
        mode = 0o755 if dot.mode is None else stat.S_IMODE(dot.mode)
        top = Entry("/", "dir", self.root.size, mode, dot.mtime or 0, self.root.extent)
        self._named["/"] = Named(top, self.root, 0, self.root)
        seen, pending = {self.root.extent}, [("", self.root)]
        while pending:
            prefix, directory = pending.pop()
            for index, (record, posix) in enumerate(directory.records[2:], start=2):
                if posix.relocated:
                    continue
                path = f"{prefix}/{_checked_name(record, posix)}"
                own = self._own_directory(record, posix, by_sector, path)
                if own is not None and own.extent in seen:
                    raise IsoError(f"{path}: a directory that is in two places", DAMAGED)
                entry = self._entry(path, record, posix, own)
                self._named.setdefault(path, Named(entry, directory, index, own))
                if own is not None:
                    seen.add(own.extent)
                    pending.append((path, own))

    def _own_directory(
        self, record: Record, posix: Posix, by_sector: dict[int, Directory], path: str
    ) -> Directory | None:
        if posix.child_link is not None:
            if posix.child_link not in by_sector:
                raise IsoError(f"{path}: a moved directory that is nowhere", DAMAGED)
            return by_sector[posix.child_link]
        return by_sector[record.extent] if record.is_directory else None

    def _entry(self, path: str, record: Record, posix: Posix, own: Directory | None) -> Entry:
        size, extent = (record.size, record.extent) if own is None else (own.size, own.extent)
        if own is None and size and extent * SECTOR + size > self.size:
            raise IsoError(
                f"truncated: {path} ends at byte {extent * SECTOR + size}, "
                f"the file has {self.size}",
                DAMAGED,
            )
        default = 0o40755 if own is not None else 0o100444
        mode = default if posix.mode is None else posix.mode
        kind = "dir" if own is not None else _KINDS.get(stat.S_IFMT(mode), "other")
        if kind == "dir" and own is None:
            raise IsoError(f"{path}: called a directory, recorded as a file", DAMAGED)
        return Entry(
            path=path,
            kind=kind,
            size=size,
            mode=stat.S_IMODE(mode),
            mtime=record.mtime if posix.mtime is None else posix.mtime,
            extent=extent,
            target=posix.target if kind == "link" else None,
            uid=posix.uid,
            gid=posix.gid,
        )

    def _load_boot_entries(self) -> None:
        for raw in self.descriptors:
            if raw[0] != BOOT_RECORD:
                continue
            sector = eltorito.catalog_sector(raw)
            if sector is None:
                continue
            data = self.read_extent(sector, 0, SECTOR, "the El Torito boot catalog")
            self.catalog_sector = sector
            found = eltorito.parse_catalog(data, self.size // SECTOR)
            files = {e.extent: e.path for e in self.entries() if e.kind == "file" and e.size}
            self.boot_entries = [replace(entry, path=files.get(entry.lba)) for entry in found]
            return

    def has_supplementary(self) -> bool:
        """Whether there is a second tree: Joliet, or ISO 9660:1999."""
        return any(d[0] == SUPPLEMENTARY for d in self.descriptors)


_WHICH_FILE = "give an OpenBSD install ISO, such as install66.iso"


@contextmanager
def _located(path: Path) -> Iterator[None]:
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


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _checked_name(record: Record, posix: Posix) -> str:
    """The name that users see; one that could leave its directory is refused."""
    if posix.name is not None:
        name = posix.name
    else:
        name = record.identifier.partition(b";")[0].rstrip(b".")
    if not name or name in (b".", b"..") or b"/" in name or b"\x00" in name:
        raise IsoError(f"a file named {_shown(name)!r}", DAMAGED)
    return _shown(name)


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
