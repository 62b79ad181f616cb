"""Reading an ISO 9660 image: its names, files and boot entries.

The whole directory tree is read and checked when the image is opened; file contents are read
on demand.  Everything in the image is distrusted: positions, lengths, loops, names.  Structures
are in iso9660.py, rockridge.py and eltorito.py.
"""

from __future__ import annotations

import io
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

from obsdimg.iso import eltorito
from obsdimg.iso.eltorito import BootEntry
from obsdimg.iso.rockridge import Posix
from obsdimg.iso.structures import (
    BOOT_RECORD,
    DAMAGED,
    SECTOR,
    IsoError,
    Record,
)
from obsdimg.iso.volume import Directory, IsoVolume, located, shown, walk

Kind = Literal["file", "dir", "link", "other"]
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
}


@dataclass(frozen=True)
class IsoEntry:
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


@dataclass(frozen=True)
class NamedFile:
    """A record's place in the tree that the user sees: its directory, entry, and own directory."""

    entry: IsoEntry
    within: Directory
    index: int
    directory: Directory | None


class Iso(IsoVolume):
    """An opened image; use it as a context manager.

    `size` is the file's bytes; `volume_id` and `application_id` come from the primary volume
    descriptor; `boot_entries` are in the catalog's order, empty without El Torito.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        super().__init__(path, descriptor, size)
        self.catalog_sector: int | None = None
        self.boot_entries: list[BootEntry] = []
        self._named: dict[str, NamedFile] = {}

    @property
    def volume_id(self) -> str:
        return self.primary.volume_id

    @property
    def application_id(self) -> str:
        return self.primary.application_id

    def entries(self) -> list[IsoEntry]:
        """Every name except the root, each directory before what it holds."""
        return [named.entry for path, named in self._named.items() if path != "/"]

    def exists(self, path: str) -> bool:
        """Whether the image has that absolute name."""
        return path in self._named

    def named(self, path: str) -> NamedFile | None:
        """The place of an absolute name in the recorded tree; `/` is the root."""
        return self._named.get(path)

    def named_paths(self) -> list[tuple[str, NamedFile]]:
        """Every absolute name, the root's included, with its place in the recorded tree."""
        return list(self._named.items())

    def read(self, path: str) -> bytes:
        """The bytes of a file.  Raises IsoError."""
        entry = self._file(path)
        with located(self.path):
            return self.read_extent(entry.extent, 0, entry.size, path)

    def open_file(self, path: str) -> BinaryIO:
        """A seekable stream of a file's bytes, read from the image as needed.  Raises IsoError."""
        entry = self._file(path)
        window = _Window(self, entry.extent * SECTOR, entry.size)
        return cast(BinaryIO, io.BufferedReader(window, 1 << 16))

    def _file(self, path: str) -> IsoEntry:
        named = self._named.get(path)
        if named is None:
            raise IsoError(f"{self.path}: no {path} in it", "is this the right ISO?")
        if named.entry.kind != "file":
            raise IsoError(f"{self.path}: {path} is no plain file")
        return named.entry

    def _load(self) -> None:
        super()._load()
        self._name_tree()
        self._load_boot_entries()

    def _name_tree(self) -> None:
        """Fill the table of absolute names, following moved directories to their real place."""
        by_sector = {d.extent: d for d in walk(self.root)}
        _, dot = self.root.records[0]
        mode = 0o755 if dot.mode is None else stat.S_IMODE(dot.mode)
        top = IsoEntry("/", "dir", self.root.size, mode, dot.mtime or 0, self.root.extent)
        self._named["/"] = NamedFile(top, self.root, 0, self.root)
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
                self._named.setdefault(path, NamedFile(entry, directory, index, own))
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

    def _entry(self, path: str, record: Record, posix: Posix, own: Directory | None) -> IsoEntry:
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
        return IsoEntry(
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


def _checked_name(record: Record, posix: Posix) -> str:
    """The name that users see; one that could leave its directory is refused."""
    if posix.name is not None:
        name = posix.name
    else:
        name = record.identifier.partition(b";")[0].rstrip(b".")
    if not name or name in (b".", b"..") or b"/" in name or b"\x00" in name:
        raise IsoError(f"a file named {shown(name)!r}", DAMAGED)
    return shown(name)


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
