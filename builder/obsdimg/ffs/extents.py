"""Which fragments an inode holds: direct addresses, indirect blocks, the tail in fragments.

Pure functions of the superblock and the image.  Sources: inode(5), ffs_balloc.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from obsdimg.ffs.errors import DamagedError
from obsdimg.ffs.layout import IFDIR, IFLNK, IFREG, NDADDR, NIADDR, Dinode, howmany
from obsdimg.ffs.superblock import Superblock


@dataclass(frozen=True)
class Extent:
    """`count` fragments from `address`; address 0 is a hole."""

    address: int
    count: int


@dataclass(frozen=True)
class BlockMap:
    """What an inode holds: its data in order, and its indirect blocks."""

    data: tuple[Extent, ...]
    indirect: tuple[Extent, ...]

    def held(self) -> list[Extent]:
        return [e for e in (*self.data, *self.indirect) if e.address]


def has_blocks(sb: Superblock, dinode: Dinode) -> bool:
    """Whether the address area holds addresses: not for devices and short links."""
    if dinode.type == IFLNK:
        return dinode.size >= sb.maxsymlinklen
    return dinode.type in (IFDIR, IFREG)


def tail_fragments(sb: Superblock, size: int) -> int:
    """How many fragments the last block of a file of `size` bytes has (0: it is whole)."""
    if size == 0 or size > NDADDR * sb.bsize:
        return 0
    return howmany(size % sb.bsize, sb.fsize) % sb.frag


def indirect_needed(sb: Superblock, blocks: int) -> int:
    """How many indirect blocks a file of `blocks` whole blocks needs."""
    left, needed = blocks - NDADDR, 0
    for level in range(1, NIADDR + 1):
        if left <= 0:
            break
        here = min(left, sb.nindir**level)
        needed += sum(howmany(here, sb.nindir**n) for n in range(1, level + 1))
        left -= here
    return needed


@dataclass(frozen=True)
class Space:
    """The fragments of an image; `reserved` marks (one byte each) those that are no data."""

    sb: Superblock
    image: bytes | bytearray
    reserved: bytes | bytearray

    def block_map(self, dinode: Dinode) -> BlockMap:
        """Every extent of `dinode`.

        Raises DamagedError for addresses outside of the data area, for fragments that cross
        a block, and for a size that the file system cannot hold (a sparse file larger than
        it included).
        """
        sb = self.sb
        if not has_blocks(sb, dinode):
            return BlockMap((), ())
        if dinode.size > sb.size * sb.fsize:
            raise DamagedError(f"a file of {dinode.size} bytes is larger than the file system")
        blocks = howmany(dinode.size, sb.bsize)
        tail = tail_fragments(sb, dinode.size)
        data = [
            Extent(address, tail if tail and lbn == blocks - 1 else sb.frag)
            for lbn, address in enumerate(dinode.pointers[: min(blocks, NDADDR)])
        ]
        indirect: list[Extent] = []
        for level in range(1, NIADDR + 1):
            left = blocks - len(data)
            if left <= 0:
                break
            self.follow(dinode.pointers[NDADDR + level - 1], level, left, data, indirect)
        for extent in data:
            self.check_extent(extent)
        return BlockMap(tuple(data), tuple(indirect))

    def follow(
        self, address: int, level: int, left: int, data: list[Extent], indirect: list[Extent]
    ) -> None:
        """Append to `data` at most `left` blocks below the indirect block at `address`."""
        sb = self.sb
        span = sb.nindir ** (level - 1)
        count = min(left, span * sb.nindir)
        if address == 0:
            data.extend([Extent(0, sb.frag)] * count)
            return
        extent = Extent(address, sb.frag)
        self.check_extent(extent)
        indirect.append(extent)
        at = address * sb.fsize
        for (pointer,) in struct.iter_unpack("<i", bytes(self.image[at : at + sb.bsize])):
            if count <= 0:
                return
            if level == 1:
                data.append(Extent(pointer, sb.frag))
            else:
                self.follow(pointer, level - 1, min(count, span), data, indirect)
            count -= min(count, span)

    def check_extent(self, extent: Extent) -> None:
        """Raise DamagedError unless the extent is a hole, or data within one block."""
        start, count = extent.address, extent.count
        if start == 0:
            return
        if (
            not 0 < start <= self.sb.size - count
            or start % self.sb.frag + count > self.sb.frag
            or any(self.reserved[start : start + count])
        ):
            raise DamagedError(f"address {start} (of {count} fragments) is not in the data area")
