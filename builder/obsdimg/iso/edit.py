"""Files put into an image by pycdlib, while everything that is on it stays where it is.

After a change pycdlib lays the whole image out anew.  Here new files, directories that outgrow
their sectors and new path tables go behind the end instead, so boot images, boot catalogs with
whatever lies in them, boot info tables and shared extents stay true without being touched, and
a build is little more than a copy.  What pycdlib then writes is kept as patches by sector, and
read back before anything is made of it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from pycdlib.dr import DirectoryRecord
from pycdlib.pycdlib import PyCdlib
from pycdlib.rockridge import RockRidge

from obsdimg.iso import names, transtbl
from obsdimg.iso.errors import DAMAGED, WHICH_ISO, IsoError, one_line
from obsdimg.iso.reader import Iso
from obsdimg.iso.records import IsoEntry, Named, long_date, posix, stamp, walk
from obsdimg.iso.view import CHANGED, SECTOR, View, sectors

MAX_SIZE = 2**32 - 1
"""Bytes of the largest extent, and sectors of the largest volume: the fields have 32 bits."""
_DEEPEST = 7
"""Levels of directories below which pycdlib moves new ones elsewhere (ECMA-119, 6.8.2.1)."""
_FILE, _LISTING, _DIRECTORY = 0o100644, 0o100444, 0o40755
_LISTING_NAME = transtbl.NAME.decode()


@dataclass(frozen=True)
class PutFile:
    """A file that was put in: absolute name, size in bytes, first sector, whether it took the
    place of another, and SHA-256 in hex, once it is written."""

    path: str
    size: int
    extent: int
    replaced: bool
    sha256: str = ""


@dataclass(frozen=True)
class IsoLayout:
    """`patches`: new bytes by sector; `files` with `listings` (TRANS.TBL, made here) before them,
    in the order of their extents; sectors from `start` to `end` are new."""

    patches: dict[int, bytes]
    files: list[PutFile]
    listings: dict[str, bytes]
    start: int
    end: int


def plan(iso: Iso, sizes: Mapping[str, int], epoch: int) -> IsoLayout:
    """The layout after putting files of these sizes (bytes, by absolute name) into `iso`.

    A name that exists is replaced, missing directories are made.  New records get the date
    `epoch` (seconds since 1970), mode 0644 (directories 0755) and root:wheel; TRANS.TBL gets
    lines for them.  Raises IsoError.
    """
    _refuse_unfit(iso)
    with one_line(iso.path):
        edit = _Edit(iso, epoch)
        for path in sorted(sizes):
            edit.put(path, sizes[path])
        edit.update_listings()
        layout = edit.placed(max(sectors(iso.size), edit.disc.pvd.space_size))
        _read_back(iso, layout)
        return layout


def _refuse_unfit(iso: Iso) -> None:
    if not iso.has_rock_ridge:
        raise IsoError(f"{iso.path}: no Rock Ridge names", WHICH_ISO)
    if iso.has_supplementary:
        raise IsoError(
            f"{iso.path}: a second tree of names (Joliet), which would become untrue",
            "make the ISO again without Joliet",
        )
    if iso.pread(512, 8) == b"EFI PART":
        raise IsoError(
            f"{iso.path}: a GPT in the system area, whose copy at the end would be lost",
            "give the plain install ISO, not one made for USB sticks",
        )


class _Disc(PyCdlib):
    """pycdlib without its habit of giving everything a new place."""

    def _reshuffle_extents(self) -> None:
        self._needs_reshuffle = False


class _Edit:
    """A model of the image that files are put into."""

    def __init__(self, iso: Iso, epoch: int) -> None:
        self._iso = iso
        self._epoch = epoch
        self.disc = iso.disc(_Disc())
        self._root = self.disc.pvd.root_directory_record()
        known = [named for named in walk(self.disc, iso.size) if named.entry.path != "/"]
        self._named = {named.entry.path: named for named in reversed(known)}
        self._folders = {p: n.directory for p, n in self._named.items() if n.directory}
        self._folders["/"] = self._root
        self._style = names.style_of(
            (n.record.file_ident for n in known if not n.record.isdir),
            (n.record.file_ident for n in known if n.record.isdir),
        )
        self._old = {id(d): (d, d.data_length) for d in _directories(self._root)}
        self._relocations = any(n.directory and n.directory is not n.record for n in known)
        records = (r for d, _ in self._old.values() for r in d.children)
        numbers = (px.posix_serial_number for r in records if (px := posix(r)))
        self._serial = max(numbers, default=0)
        self._table_size = self.disc.pvd.path_table_size()
        self._added: dict[str, list[DirectoryRecord]] = {}
        self._files: dict[str, DirectoryRecord] = {}
        self._listings: dict[str, bytes] = {}
        # Identifiers of the medium's own style, such as the directory `6.6`, are checked by
        # names.py; pycdlib checks none at level 4.
        self.disc.interchange_level = 4

    def put(self, path: str, size: int) -> None:
        """Put a file of `size` bytes at `path`, over an old one or in a new place."""
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or {"", ".", ".."} & set(parts[1:]) or "\x00" in path:
            raise IsoError(f"{path}: not an absolute name on an ISO")
        if parts[-1] == _LISTING_NAME:
            raise IsoError(f"{path}: TRANS.TBL is kept by the remastering itself")
        if size > MAX_SIZE:
            raise IsoError(f"{path}: {size} bytes are too much for one file")
        old = self._named.get(path)
        if old is not None:
            self._refuse_replacing(old.entry)
        self._file(path, self._folder(parts[:-1]), size, _FILE)

    def _refuse_replacing(self, entry: IsoEntry) -> None:
        if entry.kind != "file":
            raise IsoError(f"{entry.path} is not a plain file and stays as it is")
        fixed = {boot.lba for boot in self._iso.boot_entries} | {self._iso.catalog_sector}
        if entry.extent in fixed and entry.size:
            raise IsoError(
                f"{entry.path} belongs to the boot catalog and cannot be replaced",
                "leave it out of the files that are put in",
            )

    def _folder(self, parts: list[str]) -> DirectoryRecord:
        """The directory of these names (the first is empty), made where it is missing."""
        path = "/".join(parts) or "/"
        if path in self._folders:
            return self._folders[path]
        if path in self._named or path in self._files:
            raise IsoError(f"{path} is not a directory")
        parent = self._folder(parts[:-1])
        if len(parts) > _DEEPEST:
            raise IsoError(f"{path}: deeper than {_DEEPEST} folders, which no ISO can hold")
        iso_path = f"{_iso_path(parent)}/{self._identifier(parent, parts[-1], directory=True)}"
        self.disc.add_directory(iso_path, rr_name=parts[-1], file_mode=_DIRECTORY)
        record = self._new(path, parent, iso_path)
        for dot in record.children:
            self._finish(dot)
        self._folders[path] = record
        return record

    def _file(self, path: str, parent: DirectoryRecord, size: int, mode: int) -> None:
        name = path.rpartition("/")[2]
        old = self._named.get(path)
        if old is None:
            identifier = self._identifier(parent, name, directory=False)
        else:
            identifier, parent = old.record.file_ident.decode(), old.record.parent or parent
            self.disc.rm_hard_link(iso_path=f"{_iso_path(parent)}/{identifier}")
        iso_path = f"{_iso_path(parent)}/{identifier}"
        self.disc.add_fp(io.BytesIO(), size, iso_path, rr_name=name, file_mode=mode)
        self._files[path] = self._new(path, parent, iso_path)

    def _new(self, path: str, parent: DirectoryRecord, iso_path: str) -> DirectoryRecord:
        record = cast(DirectoryRecord, self.disc.get_record(iso_path=iso_path))
        if _ridge(record).dr_entries.ce_record is not None:
            raise IsoError(f"{path}: the name is too long for one directory record")
        self._finish(record)
        if path not in self._named:
            self._added.setdefault(path.rpartition("/")[0], []).append(record)
        return record

    def _finish(self, record: DirectoryRecord) -> None:
        """What depends on the clock, and the number by which libarchive tells hard links."""
        stamp(record, self._epoch)
        numbers = posix(record)
        if numbers is not None and record.file_ident not in (b"\x00", b"\x01"):
            self._serial += 1
            numbers.posix_serial_number = self._serial

    def _identifier(self, parent: DirectoryRecord, name: str, directory: bool) -> str:
        taken = {child.file_ident for child in parent.children}
        return names.identifier(name, directory, self._style, taken).decode("ascii")

    def update_listings(self) -> None:
        """Give each directory with new names a true TRANS.TBL, if the medium has such files."""
        listed = f"/{_LISTING_NAME}" in self._named
        for folder, added in sorted(self._added.items()):
            path = f"{folder}/{_LISTING_NAME}"
            parent = self._folders[folder or "/"]
            if path not in self._named and (id(parent) in self._old or not listed):
                continue
            table = self._iso.read(path) if path in self._named else b""
            for record in added:
                kind = "D" if record.isdir else "F"
                table = transtbl.insert(table, kind, record.file_ident, _ridge(record).name())
            self._listings[path] = table
            self._file(path, parent, len(table), _LISTING)

    def placed(self, start: int) -> IsoLayout:
        """The layout with everything that is new behind sector `start`."""
        directories = list(_directories(self._root))
        moved, end = self._place_directories(directories, start)
        pvd = self.disc.pvd
        tables: list[tuple[int, int]] = []
        if moved:
            if pvd.optional_path_table_location_le or pvd.optional_path_table_location_be:
                raise IsoError("damaged, or a second copy of the path tables", DAMAGED)
            length = sectors(pvd.path_table_size())
            if length > sectors(self._table_size):
                pvd.path_table_location_le, pvd.path_table_location_be = end, end + length
                end += 2 * length
            length = max(length, sectors(self._table_size))
            tables = [(t, length) for t in (pvd.path_table_location_le, pvd.path_table_location_be)]
        # Listings come first: they are read with their directories.
        files = []
        for path in sorted(self._files, key=lambda path: (path not in self._listings, path)):
            record = self._files[path]
            size, extent = record.data_length, end if record.data_length else 0
            record.set_data_location(extent, 0)
            files.append(PutFile(path, size, extent, path in self._named))
            end += sectors(size)
        if end > MAX_SIZE:
            raise IsoError("too large with what is put in")
        for other in self.disc.pvds:
            other.space_size = end
        extents = [(d.extent_location(), sectors(d.data_length)) for d in directories]
        areas = [(start + n, 1) for n in range(end - start)]
        wanted = {a + n for a, length in [*extents, *tables, *areas] for n in range(length)}
        return IsoLayout(self._patches(wanted, end), files, self._listings, start, end)

    def _place_directories(
        self, directories: list[DirectoryRecord], start: int
    ) -> tuple[list[DirectoryRecord], int]:
        """Give new directories, and those that outgrew their sectors, a place from `start` on.

        A directory that moves takes those below with it: readers that go through an image in
        one direction (libarchive) want each behind its parent, and behind it the continuation
        area of its own record (the root has one: it names the version of Rock Ridge).
        """
        moved: dict[int, DirectoryRecord] = {}
        end = start
        for directory in directories:
            needed = directory.children[-1].extents_to_here
            old = self._old.get(id(directory))
            if old and needed <= sectors(old[1]) and id(directory.parent) not in moved:
                directory.data_length = max(old[1], SECTOR * needed if old[1] % SECTOR else 0)
                continue
            if old and self._relocations:
                raise IsoError(
                    "no room in a directory, and it cannot be moved: "
                    "the image has relocated directories (Rock Ridge CL)",
                    WHICH_ISO,
                )
            moved[id(directory)] = directory
            directory.data_length = needed * SECTOR
            directory.set_data_location(end, 0)
            end += needed
            ridge = directory.children[0].rock_ridge
            if ridge is not None and ridge.dr_entries.ce_record is not None:
                ridge.clear_ce_areas()
                ridge.dr_entries.ce_record.update_extent(end)
                ridge.dr_entries.ce_record.update_offset(0)
                end += 1
        numbers = {id(d): number for number, d in enumerate(directories, start=1)}
        for directory in directories:
            parent = directory.parent or directory
            if directory.ptr is not None:
                directory.ptr.update_parent_directory_number(numbers[id(parent)])
            for dot, target in zip(directory.children, (directory, parent), strict=False):
                dot.set_data_location(target.extent_location(), 0)
                dot.data_length = target.data_length
            if id(directory) not in self._old or self._has_new_folders(parent):
                _ridge(directory.children[1]).copy_file_links(_ridge(parent.children[0]))
        return list(moved.values()), end

    def _has_new_folders(self, directory: DirectoryRecord) -> bool:
        return any(c.isdir and id(c) not in self._old for c in directory.children[2:])

    def _patches(self, wanted: set[int], end: int) -> dict[int, bytes]:
        """What pycdlib writes to the sectors `wanted`, and the descriptors."""
        self.disc.inodes = []  # contents are copied by writer.py
        sink = _Sink(end * SECTOR)
        self.disc.write_fp(cast(BinaryIO, sink))
        for pvd in self.disc.pvds:
            sector = sink.sectors[pvd.extent_location()]
            sector[CHANGED : CHANGED + 17] = long_date(self._epoch)  # pycdlib writes the clock's
            wanted.add(pvd.extent_location())
        return {n: bytes(sink.sectors[n]) for n in sorted(wanted & sink.sectors.keys())}


def _directories(root: DirectoryRecord) -> Iterator[DirectoryRecord]:
    """The recorded tree, breadth first: the order of path tables."""
    level = [root]
    while level:
        yield from level
        level = [c for d in level for c in d.children[2:] if c.isdir]


def _iso_path(directory: DirectoryRecord) -> str:
    """The path of ISO 9660 identifiers that pycdlib knows a directory by; the root's is empty."""
    if directory.parent is None:
        return ""
    return f"{_iso_path(directory.parent)}/{directory.file_ident.decode()}"


def _ridge(record: DirectoryRecord) -> RockRidge:
    if record.rock_ridge is None:
        raise IsoError("a record without Rock Ridge among others that have it", DAMAGED)
    return record.rock_ridge


def _read_back(iso: Iso, layout: IsoLayout) -> None:
    """Raise IsoError unless the image as planned has every old name as it was, and the new."""
    view = View(iso.pread, layout.end * SECTOR, {**iso.instead, **layout.patches})
    disc = PyCdlib()
    disc.open_fp(cast(BinaryIO, view))
    after = {n.entry.path: n for n in reversed(list(walk(disc, layout.end * SECTOR)))}
    planned = {f.path: (f.extent, f.size) for f in layout.files}
    wrong = [e.path for e in iso.entries() if e.path not in planned and not _same(e, after)]
    for path, place in planned.items():
        if path not in after or (after[path].entry.extent, after[path].entry.size) != place:
            wrong.append(path)
    if wrong:
        raise IsoError(f"{wrong[0]}: would not be the same on the new ISO", DAMAGED)


def _same(old: IsoEntry, after: Mapping[str, Named]) -> bool:
    new = after[old.path].entry if old.path in after else None
    if new is None or old.kind != new.kind or (old.mode, old.mtime) != (new.mode, new.mtime):
        return False
    place = old.kind == "dir" or (old.extent, old.size) == (new.extent, new.size)
    return place and old.target == new.target


class _Sink(io.RawIOBase):
    """A file object that keeps what is written to it, by sector."""

    def __init__(self, size: int) -> None:
        self.sectors: dict[int, bytearray] = {}
        self._at = 0
        self._size = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:  # type: ignore[override]
        left = memoryview(data)
        while left:
            sector, offset = divmod(self._at, SECTOR)
            part = left[: SECTOR - offset]
            kept = self.sectors.setdefault(sector, bytearray(SECTOR))
            kept[offset : offset + len(part)] = part
            self._at += len(part)
            left = left[len(part) :]
        return len(data)
