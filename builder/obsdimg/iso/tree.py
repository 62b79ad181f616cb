"""The directory tree of an image while files are put into it; still without new positions.

Records that exist keep their bytes and their order; new ones get Rock Ridge entries and
identifiers in the style of the medium, and a line in TRANS.TBL where the medium has that.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from obsdimg.iso import names as iso_names
from obsdimg.iso import rockridge, transtbl
from obsdimg.iso.reader import Iso
from obsdimg.iso.structures import (
    FLAG_DIRECTORY,
    PARENT,
    RECORD_HEAD,
    SELF,
    IsoError,
    make_record,
    move_record,
    pack_directory,
    sort_key,
)
from obsdimg.iso.volume import Directory, walk

FILE_MODE = stat.S_IFREG | 0o644
DIRECTORY_MODE = stat.S_IFDIR | 0o755
LISTING_MODE = stat.S_IFREG | 0o444
"""Mode of TRANS.TBL, as mkhybrid gives it."""

_NEW_LINKS = 2
"""Link count of an empty directory: its name and its own `.`."""


@dataclass
class Content:
    """New content of a file: `size` in bytes; `data` where it is known here (TRANS.TBL);
    `extent` is its sector, once placed."""

    path: str
    size: int
    data: bytes | None = None
    replaces: bool = False
    extent: int = 0


@dataclass
class Item:
    """A record of a directory, with its new content or its own directory, if it has one."""

    raw: bytes
    identifier: bytes
    name: bytes
    node: TreeNode | None = None
    content: Content | None = None


@dataclass
class TreeNode:
    """A directory: `dots` are the records of itself and its parent; `links` is its recorded link
    count; `extent` is 0 while new; `size` in bytes; `new_children` counts the directories made
    in it."""

    path: str
    identifier: bytes
    parent: TreeNode | None
    dots: tuple[bytes, bytes]
    links: int = _NEW_LINKS
    extent: int = 0
    size: int = 0
    items: list[Item] = field(default_factory=list)
    new_children: int = 0
    added: list[Item] = field(default_factory=list)

    @property
    def subdirectories(self) -> list[TreeNode]:
        return [item.node for item in self.items if item.node is not None]


class Tree:
    """The tree of `iso`; `put` changes it, `pack` gives a directory's bytes.

    `epoch` (seconds since 1970) is the date of all new records.
    """

    def __init__(self, iso: Iso, epoch: int) -> None:
        self._iso = iso
        self._epoch = epoch
        everything = list(walk(iso.root))
        records = [r for d in everything for r, _ in d.records[2:]]
        self._names = iso_names.style_of(
            (r.identifier for r in records if not r.is_directory),
            (r.identifier for r in records if r.is_directory),
        )
        root_area = iso.root.records[0][0].system_use
        self._style = rockridge.style_of(root_area)
        self._skip = rockridge.sharing_offset(root_area) or 0
        self._inode = max(p.inode for d in everything for _, p in d.records)
        self.has_relocations = any(
            p.child_link is not None for d in everything for _, p in d.records
        )
        self._items: dict[str, tuple[TreeNode, Item]] = {}
        self._nodes: dict[str, TreeNode] = {}
        self.root = self._load()
        self._listed = _item_named(self.root, transtbl.NAME) is not None

    def _load(self) -> TreeNode:
        iso = self._iso
        root = _node("/", iso.root, None)
        by_sector = {iso.root.extent: root}
        for directory in walk(iso.root):
            node = by_sector[directory.extent]
            for record, posix in directory.records[2:]:
                name = posix.name or record.identifier
                item = Item(record.raw, record.identifier, name)
                child = directory.children.get(record.extent) if record.is_directory else None
                if child is not None:
                    item.node = by_sector[child.extent] = _node("", child, node)
                node.items.append(item)
        for path, named in iso.named_paths():
            node = by_sector[named.within.extent]
            if named.directory is not None:
                self._nodes[path] = by_sector[named.directory.extent]
                self._nodes[path].path = path
            if path != "/":
                self._items[path] = (node, node.items[named.index - 2])
        return root

    def walk(self) -> Iterator[TreeNode]:
        """Every directory, breadth first."""
        level = [self.root]
        while level:
            yield from level
            level = [child for node in level for child in node.subdirectories]

    def put(self, path: str, size: int) -> Content:
        """Put a file of `size` bytes at `path`, over an old one or in a new place."""
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or {"", ".", ".."} & set(parts[1:]) or "\x00" in path:
            raise IsoError(f"{path}: not an absolute name on an ISO")
        if parts[-1].encode() == transtbl.NAME:
            raise IsoError(f"{path}: TRANS.TBL is kept by the remastering itself")
        node, name = self._directory(parts[:-1]), parts[-1]
        place = self._items.get(path)
        if place is None:
            content = Content(path, size)
            item = self._file(node, name, content)
            self._add(node, item)
            self._items[path] = (node, item)
            return content
        owner, item = place
        self._refuse_replacing(path, item)
        content = Content(path, size, replaces=True)
        new = self._file(owner, name, content, item.identifier)
        item.raw, item.content = new.raw, content
        return content

    def _refuse_replacing(self, path: str, item: Item) -> None:
        entry = self._iso.named(path)
        if item.node is not None or entry is None or entry.entry.kind != "file":
            raise IsoError(f"{self._iso.path}: {path} is not a plain file and stays as it is")
        fixed = {boot.lba for boot in self._iso.boot_entries} | {self._iso.catalog_sector}
        if entry.entry.extent in fixed and entry.entry.size:
            raise IsoError(
                f"{self._iso.path}: {path} belongs to the boot catalog and cannot be replaced",
                "leave it out of the files that are put in",
            )

    def _directory(self, parts: list[str]) -> TreeNode:
        """The directory of these names (the first is empty), made where it is missing."""
        path = "/".join(parts) or "/"
        node = self._nodes.get(path)
        if node is not None:
            return node
        if path in self._items:
            raise IsoError(f"{self._iso.path}: {path} is not a directory")
        parent, name = self._directory(parts[:-1]), parts[-1].encode()
        identifier = self._identifier(parent, parts[-1], directory=True)
        dots = (self._dot(SELF, _NEW_LINKS), self._dot(PARENT, parent.links))
        node = TreeNode(path, identifier, parent, dots)
        area = self._area(name, DIRECTORY_MODE, _NEW_LINKS)
        raw = make_record(identifier, 0, 0, FLAG_DIRECTORY, self._epoch, area)
        parent.new_children += 1
        self._add(parent, Item(raw, identifier, name, node=node))
        self._nodes[path] = node
        return node

    def _dot(self, identifier: bytes, links: int) -> bytes:
        area = self._area(None, DIRECTORY_MODE, links)
        return make_record(identifier, 0, 0, FLAG_DIRECTORY, self._epoch, area)

    def _file(
        self,
        node: TreeNode,
        name: str,
        content: Content,
        identifier: bytes | None = None,
        mode: int = FILE_MODE,
    ) -> Item:
        identifier = identifier or self._identifier(node, name, directory=False)
        area = self._area(name.encode(), mode, 1)
        raw = make_record(identifier, 0, content.size, 0, self._epoch, area)
        return Item(raw, identifier, name.encode(), content=content)

    def _area(self, name: bytes | None, mode: int, links: int) -> bytes:
        if name is not None:
            self._inode += 1
        area = rockridge.build(name, mode, links, self._inode, self._epoch, self._style)
        return b"\x00" * self._skip + area

    def _identifier(self, node: TreeNode, name: str, directory: bool) -> bytes:
        taken = {item.identifier for item in node.items}
        return iso_names.identifier(name, directory, self._names, taken)

    def _add(self, node: TreeNode, item: Item) -> None:
        """Put the record before the first that sorts behind it; the old ones keep their order."""
        key = sort_key(item.identifier)
        later = (i for i, old in enumerate(node.items) if sort_key(old.identifier) > key)
        node.items.insert(next(later, len(node.items)), item)
        node.added.append(item)

    def update_listings(self) -> list[Content]:
        """Give each directory with new names a true TRANS.TBL, if the medium has such files."""
        contents = []
        for node in list(self.walk()):
            old = _item_named(node, transtbl.NAME)
            is_new = node.extent == 0
            if not node.added or (old is None and not (is_new and self._listed)):
                continue
            table = b"" if old is None else self._read(old, node)
            for item in node.added:
                kind = "F" if item.node is None else "D"
                table = transtbl.insert(table, kind, item.identifier, item.name)
            name = transtbl.NAME.decode()
            content = Content(f"{node.path.rstrip('/')}/{name}", len(table), table)
            identifier = None if old is None else old.identifier
            new = self._file(node, name, content, identifier, LISTING_MODE)
            if old is None:
                self._add(node, new)
            else:
                old.raw, old.content = new.raw, content
            contents.append(content)
        return contents

    def _read(self, item: Item, node: TreeNode) -> bytes:
        name = f"{node.path.rstrip('/')}/{item.name.decode()}"
        return self._iso.read(name)

    def pack(self, node: TreeNode) -> bytes:
        """The bytes of a directory's extent, with the positions as they are now."""
        parent = node.parent or node
        dots = [self._linked(node.dots[0], node), self._linked(node.dots[1], parent)]
        return pack_directory([*dots, *(self._placed(item) for item in node.items)])

    def _placed(self, item: Item) -> bytes:
        if item.content is not None:
            return move_record(item.raw, item.content.extent, item.content.size)
        return item.raw if item.node is None else self._linked(item.raw, item.node)

    def _linked(self, raw: bytes, node: TreeNode) -> bytes:
        """A record of the directory `node`, with its position and its new number of links."""
        moved = move_record(raw, node.extent, node.size)
        if not node.new_children:
            return moved
        return rockridge.add_links(moved, self._first_entry(raw), node.new_children)

    def _first_entry(self, raw: bytes) -> int:
        """Offset of a record's first Rock Ridge entry."""
        start = RECORD_HEAD + raw[32] + (raw[32] + 1) % 2
        return start if raw[start : start + 2] == b"SP" else start + self._skip

    def take_continuation(self, node: TreeNode, sector: int) -> bytes | None:
        """The continuation area of a directory's own record, which now points at `sector`.

        Readers that go through an image in one direction (libarchive) want the area behind the
        directory.  The root has one: it names the version of Rock Ridge.
        """
        raw = node.dots[0]
        place = rockridge.continuation(raw, self._first_entry(raw))
        if place is None:
            return None
        moved = rockridge.move_continuation(raw, self._first_entry(raw), sector)
        node.dots = (moved, node.dots[1])
        return self._iso.read_extent(*place, f"continuation area of {node.path}")


def _node(path: str, directory: Directory, parent: TreeNode | None) -> TreeNode:
    dots = (directory.records[0][0].raw, directory.records[1][0].raw)
    links = directory.records[0][1].links or _NEW_LINKS
    extent, size = directory.extent, directory.size
    return TreeNode(path, directory.identifier, parent, dots, links, extent, size)


def _item_named(node: TreeNode, name: bytes) -> Item | None:
    return next((item for item in node.items if item.name == name and item.node is None), None)
