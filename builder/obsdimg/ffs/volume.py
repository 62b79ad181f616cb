"""Inodes, blocks and fragments of an FFS1 image in memory; no names, no directories.

A Volume gives dinodes and the bytes behind them, allocates and frees as FFS does (whole
blocks, and fragments only for the tail of a file that needs no indirect block), and puts
the maps and counts back into the image.  Sources: fs.h; sys/ufs/ffs/ffs_alloc.c and
ffs_balloc.c for the rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from obsdimg.ffs.errors import DamagedError, NoRoomError
from obsdimg.ffs.extents import (
    BlockMap,
    Extent,
    Space,
    has_blocks,
    indirect_needed,
    tail_fragments,
)
from obsdimg.ffs.group import Group
from obsdimg.ffs.layout import (
    DEV_BSIZE,
    DINODE_SIZE,
    FS_CSTOTAL,
    FS_CSTOTAL64,
    IFLNK,
    NDADDR,
    NIADDR,
    SBLOCK_UFS1,
    SBSIZE,
    Csum,
    Dinode,
    howmany,
)
from obsdimg.ffs.superblock import Superblock


@dataclass(frozen=True)
class Free:
    """Room left: whole blocks, fragments outside of them, inodes, and bytes of the first two."""

    blocks: int
    fragments: int
    inodes: int
    bytes: int


@dataclass(frozen=True)
class Snapshot:
    """A state to go back to when an operation fails half way."""

    image: bytes
    groups: tuple[Group, ...]


class Volume:
    """An image and its cylinder groups.  Raises FfsError subclasses on construction."""

    def __init__(self, image: bytes | bytearray) -> None:
        self.sb = sb = Superblock.parse(image)
        self.check_length(len(image))
        self.data = bytearray(image)
        self.reserved = sb.reserved()
        self.space = Space(sb, self.data, self.reserved)
        self.groups = [
            Group.parse(sb, c, bytes(self.data[self.group_offset(c) :][: sb.cgsize]))
            for c in range(sb.ncg)
        ]
        self.check_counts()
        self.total_offsets = self.find_totals()

    # The file system as a whole.

    def check_length(self, length: int) -> None:
        size = self.sb.size * self.sb.fsize
        if length < size:
            raise DamagedError(f"{length} bytes, but the superblock says {size}")

    def check_counts(self) -> None:
        """Raise DamagedError unless summary area and superblock agree with the groups."""
        for group in self.groups:
            at = self.summary_offset(group.index)
            if bytes(self.data[at : at + 16]) != group.csum().pack():
                raise DamagedError(f"summary area: wrong counts of cylinder group {group.index}")
        if self.totals() != self.sb.cstotal:
            raise DamagedError("superblock: wrong totals of free blocks and inodes")

    def find_totals(self) -> list[tuple[int, bool]]:
        """(byte offset, whether 64 bits wide) of every copy of the totals that is true now.

        Backup superblocks of newfs keep the counts of an empty file system for ever, those
        of makefs the true ones; fsck_ffs compares neither.  What is true stays true.
        """
        sb, found = self.sb, []
        places = [SBLOCK_UFS1, *(sb.cgsblock(c) * sb.fsize for c in range(sb.ncg))]
        for place in places:
            magic = slice(place + SBSIZE - 4, place + SBSIZE)
            if self.data[magic] != self.data[SBLOCK_UFS1 + SBSIZE - 4 : SBLOCK_UFS1 + SBSIZE]:
                continue
            for offset, wide in ((FS_CSTOTAL, False), (FS_CSTOTAL64, True)):
                old = sb.cstotal.pack64() if wide else sb.cstotal.pack()
                at = place + offset
                if self.data[at : at + len(old)] == old:
                    found.append((at, wide))
        return found

    def group_offset(self, c: int) -> int:
        return self.sb.cgtod(c) * self.sb.fsize

    def summary_offset(self, c: int) -> int:
        return self.sb.csaddr * self.sb.fsize + 16 * c

    def totals(self) -> Csum:
        each = [group.csum() for group in self.groups]
        return Csum(
            sum(c.ndir for c in each),
            sum(c.nbfree for c in each),
            sum(c.nifree for c in each),
            sum(c.nffree for c in each),
        )

    def free(self) -> Free:
        total, sb = self.totals(), self.sb
        room = total.nbfree * sb.bsize + total.nffree * sb.fsize
        return Free(total.nbfree, total.nffree, total.nifree, room)

    def flush(self) -> bytes:
        """The image with its maps, counts and totals put back; same length as given."""
        for group in self.groups:
            if group.dirty:
                at = self.group_offset(group.index)
                self.data[at : at + self.sb.cgsize] = group.pack()
                at = self.summary_offset(group.index)
                self.data[at : at + 16] = group.csum().pack()
        total = self.totals()
        for at, wide in self.total_offsets:
            packed = total.pack64() if wide else total.pack()
            self.data[at : at + len(packed)] = packed
        return bytes(self.data)

    def snapshot(self) -> Snapshot:
        return Snapshot(bytes(self.data), tuple(g.copy() for g in self.groups))

    def restore(self, state: Snapshot) -> None:
        self.data[:] = state.image
        self.groups = list(state.groups)

    # Inodes.

    def inodes(self) -> int:
        return self.sb.ncg * self.sb.ipg

    def dinode(self, ino: int) -> Dinode:
        return Dinode.parse(self.data, self.sb.inode_offset(ino))

    def put_dinode(self, ino: int, dinode: Dinode) -> None:
        at = self.sb.inode_offset(ino)
        self.data[at : at + DINODE_SIZE] = dinode.pack()

    def in_use(self, ino: int) -> bool:
        c, i = divmod(ino, self.sb.ipg)
        return 0 <= c < self.sb.ncg and self.groups[c].used[i] == 1

    def take_inode(self, near: int) -> int | None:
        """A free inode, of the group of inode `near` if that has one.  None: all are in use."""
        for group in self.groups_from(near // self.sb.ipg):
            i = group.take_inode()
            if i is not None:
                return group.index * self.sb.ipg + i
        return None

    def release_inode(self, ino: int) -> None:
        """Mark `ino` free and clear its dinode; the generation number stays, as in ffs_freefile."""
        c, i = divmod(ino, self.sb.ipg)
        self.groups[c].release_inode(i)
        self.put_dinode(ino, Dinode(gen=self.dinode(ino).gen))

    def count_directory(self, ino: int, change: int) -> None:
        self.groups[ino // self.sb.ipg].count_directory(change)

    # What an inode holds.

    def has_blocks(self, dinode: Dinode) -> bool:
        return has_blocks(self.sb, dinode)

    def block_map(self, dinode: Dinode) -> BlockMap:
        """Every extent of `dinode`.  Raises DamagedError; see Space.block_map."""
        return self.space.block_map(dinode)

    def read(self, dinode: Dinode) -> bytes:
        """The bytes of a file, a directory or a symbolic link's target."""
        if dinode.type == IFLNK and not self.has_blocks(dinode):
            return dinode.inline[: dinode.size]
        fsize = self.sb.fsize
        parts = []
        for extent in self.block_map(dinode).data:
            at, size = extent.address * fsize, extent.count * fsize
            parts.append(bytes(self.data[at : at + size]) if extent.address else bytes(size))
        return b"".join(parts)[: dinode.size]

    # Changing what an inode holds.

    def clear(self, ino: int) -> None:
        """Give back every block of `ino`; its size becomes 0."""
        dinode = self.dinode(ino)
        for extent in self.block_map(dinode).held():
            self.release(extent)
        zero = (0,) * (NDADDR + NIADDR)
        self.put_dinode(ino, replace(dinode, size=0, blocks=0, pointers=zero))

    def write(self, ino: int, content: bytes, what: str) -> None:
        """Replace what `ino` holds by `content`; `what` names it in the error.

        Raises NoRoomError.  The volume is then half changed: the caller restores a snapshot.
        """
        sb = self.sb
        self.clear(ino)
        dinode = self.dinode(ino)
        tail = tail_fragments(sb, len(content))
        whole = howmany(len(content), sb.bsize) - (1 if tail else 0)
        indirect = indirect_needed(sb, whole)
        before = self.free()
        home = ino // sb.ipg
        near = 0
        addresses: list[int] = []
        fits = whole + indirect <= before.blocks and len(content) <= before.bytes
        pointers: tuple[int, ...] | None = None
        if fits and whole <= sb.max_file_blocks():
            for _ in range(whole):
                near = self.take_block(home, near)
                addresses.append(near)
            last = self.take_fragments(home, tail) if tail else 0
            if last is not None:
                self.fill(addresses, last, content)
                pointers = self.point(addresses + ([last] if tail else []), home)
        if pointers is None:
            raise NoRoomError(
                f"{what}: no room: {count(whole + indirect, 'block')} of {sb.bsize} bytes and "
                f"{count(tail, 'adjacent fragment')} of {sb.fsize} needed; "
                f"{before.blocks} and {before.fragments} are free",
                "put less into the ramdisk, or remove something from it",
            )
        used = (whole + indirect) * sb.bsize + tail * sb.fsize
        self.put_dinode(
            ino,
            replace(dinode, size=len(content), blocks=used // DEV_BSIZE, pointers=pointers),
        )

    def overwrite(self, dinode: Dinode, content: bytes) -> None:
        """Put `content`, as long as what is there, into the blocks that `dinode` has."""
        at = 0
        for extent in self.block_map(dinode).data:
            size = min(extent.count * self.sb.fsize, len(content) - at)
            start = extent.address * self.sb.fsize
            self.data[start : start + size] = content[at : at + size]
            at += size

    def fill(self, addresses: Sequence[int], last: int, content: bytes) -> None:
        """Copy `content` into whole blocks at `addresses`, the rest into the fragments at
        `last`, padded with zeros."""
        bsize, fsize = self.sb.bsize, self.sb.fsize
        for n, address in enumerate(addresses):
            piece = content[n * bsize : (n + 1) * bsize]
            at = address * fsize
            self.data[at : at + bsize] = piece.ljust(bsize, b"\0")
        rest = content[len(addresses) * bsize :]
        if rest:
            size = howmany(len(rest), fsize) * fsize
            self.data[last * fsize : last * fsize + size] = rest.ljust(size, b"\0")

    def point(self, addresses: Sequence[int], home: int) -> tuple[int, ...]:
        """The 15 addresses of a dinode for these blocks; allocates the indirect blocks."""
        direct = [*addresses[:NDADDR], *([0] * (NDADDR - len(addresses[:NDADDR])))]
        rest = list(addresses[NDADDR:])
        roots = []
        for level in range(1, NIADDR + 1):
            span = self.sb.nindir**level
            roots.append(self.tree(rest[:span], level, home) if rest else 0)
            rest = rest[span:]
        return (*direct, *roots)

    def tree(self, addresses: Sequence[int], level: int, home: int) -> int:
        """Write an indirect block of `level` for `addresses`; its own address."""
        span = self.sb.nindir ** (level - 1)
        pointers = (
            list(addresses)
            if level == 1
            else [
                self.tree(addresses[n : n + span], level - 1, home)
                for n in range(0, len(addresses), span)
            ]
        )
        address = self.take_block(home, 0)
        at = address * self.sb.fsize
        packed = struct.pack(f"<{len(pointers)}i", *pointers)
        self.data[at : at + self.sb.bsize] = packed.ljust(self.sb.bsize, b"\0")
        return address

    # Allocation over all groups.

    def groups_from(self, c: int) -> Iterator[Group]:
        yield from self.groups[c:]
        yield from self.groups[:c]

    def take_block(self, home: int, near: int) -> int:
        """A block of group `home` or the next that has one, after fragment `near` if not 0.

        The caller has made sure that there is one.
        """
        c = near // self.sb.fpg if near else home
        for group in self.groups_from(c):
            base = self.sb.cgbase(group.index)
            at = group.take_block(near - base if near and group.index == c else 0)
            if at is not None:
                return base + at
        raise NoRoomError("no free block is left")

    def take_fragments(self, home: int, count: int) -> int | None:
        for group in self.groups_from(home):
            at = group.take_fragments(count)
            if at is not None:
                return self.sb.cgbase(group.index) + at
        return None

    def release(self, extent: Extent) -> None:
        c, at = divmod(extent.address, self.sb.fpg)
        self.groups[c].release(at, extent.count)


def count(number: int, noun: str) -> str:
    """`1 block`, `2 blocks`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
