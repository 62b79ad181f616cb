"""Where things go in a remastered image: which sectors change, and what is appended.

Pure: from an opened image and the sizes of the files to put in, to sectors and their new bytes.
Everything that is on the image stays where it is; new files, directories that outgrow their
sectors and new path tables go behind its end.  So boot images, boot catalogs with whatever lies
in them, boot info tables, continuation areas and shared extents stay true without being touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from obsdimg.iso.reader import Iso
from obsdimg.iso.structures import (
    DAMAGED,
    FIRST_DESCRIPTOR,
    MAX_SIZE,
    PRIMARY,
    SECTOR,
    IsoError,
    PathTableEntry,
    change_primary,
    move_record,
    pack_path_table,
    parse_path_table,
    sectors,
)
from obsdimg.iso.tree import Content, Tree, TreeNode
from obsdimg.iso.volume import walk

_GPT = b"EFI PART"
_MAX_DIRECTORIES = 0xFFFF
"""A path table numbers directories in 16 bits."""


@dataclass(frozen=True)
class Appended:
    """A new extent of `size` bytes at sector `extent`; `data` if it is known here, else the new
    content of the file `path`."""

    extent: int
    size: int
    path: str
    data: bytes | None


@dataclass(frozen=True)
class PlannedFile:
    """A file that is put in: its name, its ISO 9660 identifier, its sector, its size in bytes."""

    path: str
    identifier: str
    extent: int
    size: int
    replaced: bool


@dataclass(frozen=True)
class Layout:
    """`patches`: new bytes (whole sectors) by first sector; `appended`: in the order of sectors,
    from sector `start` to `end` without gaps."""

    patches: dict[int, bytes]
    appended: list[Appended]
    files: list[PlannedFile]
    start: int
    end: int


def plan(iso: Iso, sizes: Mapping[str, int], epoch: int) -> Layout:
    """The layout after putting files of these sizes (bytes, by absolute name) into `iso`.

    A name that exists is replaced, missing directories are made.  New records get the date
    `epoch` (seconds since 1970), mode 0644 (directories 0755) and root:wheel.  Raises IsoError.
    """
    _refuse_unfit(iso)
    tree = Tree(iso, epoch)
    contents = [tree.put(path, sizes[path]) for path in sorted(sizes)]
    listings = tree.update_listings()
    start = max(sectors(iso.size), iso.primary.volume_sectors)
    moved, areas, end = _place_directories(iso, tree, start)
    tables = _PathTables(iso, tree, end) if moved else None
    end = tables.end if tables else end
    end = _place_contents([*listings, *contents], end)
    if end > MAX_SIZE:
        raise IsoError(f"{iso.path}: too large with what is put in")
    patches = _changed_directories(iso, tree)
    appended = [Appended(n.extent, n.size, n.path, tree.pack(n)) for n in moved] + areas
    if tables:
        patches |= tables.patches
        appended += tables.appended
    appended += [Appended(c.extent, c.size, c.path, c.data) for c in [*listings, *contents]]
    sector = FIRST_DESCRIPTOR + [d[0] for d in iso.descriptors].index(PRIMARY)
    patches[sector] = change_primary(
        iso.primary,
        end,
        tables.size if tables else iso.primary.path_table_size,
        tables.places if tables else iso.primary.path_tables,
        move_record(iso.primary.root.raw, tree.root.extent, tree.root.size),
        epoch,
    )
    appended.sort(key=lambda extent: (extent.extent, extent.size))
    return Layout(patches, appended, _files(tree, contents), start, end)


def _refuse_unfit(iso: Iso) -> None:
    if not iso.has_rock_ridge:
        raise IsoError(f"{iso.path}: no Rock Ridge names", "give an OpenBSD install ISO")
    if iso.has_supplementary():
        raise IsoError(
            f"{iso.path}: a second tree of names (Joliet), which would become untrue",
            "make the ISO again without Joliet",
        )
    if iso.read_extent(0, 512, len(_GPT), "the system area") == _GPT:
        raise IsoError(
            f"{iso.path}: a GPT in the system area, whose copy at the end would be lost",
            "give the plain install ISO, not one made for USB sticks",
        )


def _place_directories(
    iso: Iso, tree: Tree, start: int
) -> tuple[list[TreeNode], list[Appended], int]:
    """Give new directories, and those that outgrew their sectors, a place from `start` on.

    A directory that moves takes those below with it: readers that go through an image in one
    direction (libarchive) want each behind its parent.  Returns all these, the continuation
    areas that go with them, and the sector behind all.
    """
    moved: list[TreeNode] = []
    areas: list[Appended] = []
    end = start
    for node in tree.walk():
        needed = len(tree.pack(node))
        fits = sectors(needed) <= sectors(node.size)
        if node.extent and fits and (node.parent is None or node.parent.extent < start):
            continue
        if node.extent and tree.has_relocations:
            raise IsoError(
                f"{iso.path}: no room in {node.path}, and it cannot be moved: "
                "the image has relocated directories (Rock Ridge CL)",
                "give an OpenBSD install ISO",
            )
        area = tree.take_continuation(node, end + sectors(needed)) if node.extent else None
        node.extent, node.size = end, needed
        end += sectors(needed)
        moved.append(node)
        if area:
            areas.append(Appended(end, len(area), f"{node.path} continued", area))
            end += sectors(len(area))
    return moved, areas, end


def _place_contents(contents: list[Content], end: int) -> int:
    """Give each content a place; an empty file needs none, and its record says sector 0."""
    for content in contents:
        if content.size > MAX_SIZE:
            raise IsoError(f"{content.path}: {content.size} bytes are too much for one file")
        content.extent = end if content.size else 0
        end += sectors(content.size)
    return end


def _changed_directories(iso: Iso, tree: Tree) -> dict[int, bytes]:
    """The directories that stay in their place with other bytes, by sector."""
    changed = {}
    for node in tree.walk():
        if node.extent * SECTOR >= iso.size:
            continue
        data = tree.pack(node).ljust(sectors(node.size) * SECTOR, b"\x00")
        if data[: node.size] != iso.read_extent(node.extent, 0, node.size, node.path):
            changed[node.extent] = data
    return changed


class _PathTables:
    """New path tables, once directories were made or moved: in place if they fit, else behind.

    `places` are their sectors as in PrimaryDescriptor, `size` the bytes of each.
    """

    def __init__(self, iso: Iso, tree: Tree, end: int) -> None:
        entries = _path_table(tree)
        if len(entries) > _MAX_DIRECTORIES:
            raise IsoError(f"{iso.path}: more than {_MAX_DIRECTORIES} directories")
        little, big = pack_path_table(entries, "<"), pack_path_table(entries, ">")
        self.size = len(little)
        self.patches: dict[int, bytes] = {}
        self.appended: list[Appended] = []
        self.places = iso.primary.path_tables
        self.end = end
        _check_path_tables(iso)
        room = sectors(iso.primary.path_table_size) * SECTOR
        if self.size <= room:
            for place, table in zip(self.places, (little, little, big, big), strict=True):
                if place:
                    self.patches[place] = table.ljust(room, b"\x00")
            return
        self.places = (end, 0, end + sectors(self.size), 0)
        self.end = end + 2 * sectors(self.size)
        for place, table in ((self.places[0], little), (self.places[2], big)):
            self.appended.append(Appended(place, self.size, "path table", table))


def _check_path_tables(iso: Iso) -> None:
    """Raise IsoError unless each table lists the directories: their positions, of which the
    descriptor has one copy only, are about to be written to."""
    known = {(d.identifier, d.extent) for d in walk(iso.root)}
    size = iso.primary.path_table_size
    for place, order in zip(iso.primary.path_tables, "<<>>", strict=True):
        if place:
            what = f"path table at sector {place}"
            entries = parse_path_table(iso.read_extent(place, 0, size, what), order)
            if entries is None or {(e.identifier, e.extent) for e in entries} != known:
                raise IsoError(f"{iso.path}: {what}: not a list of the directories", DAMAGED)


def _path_table(tree: Tree) -> list[PathTableEntry]:
    """The directories by level, then by their parent's number (ECMA-119, 6.9.1)."""
    numbers: dict[int, int] = {}
    entries = []
    for number, node in enumerate(tree.walk(), start=1):
        numbers[id(node)] = number
        parent = 1 if node.parent is None else numbers[id(node.parent)]
        entries.append(PathTableEntry(node.identifier, node.extent, parent))
    return entries


def _files(tree: Tree, contents: list[Content]) -> list[PlannedFile]:
    """What was put in, by name."""
    identifiers = {
        item.content.path: item.identifier.decode("ascii", "backslashreplace")
        for node in tree.walk()
        for item in node.items
        if item.content is not None
    }
    return [
        PlannedFile(c.path, identifiers[c.path], c.extent, c.size, c.replaces) for c in contents
    ]
