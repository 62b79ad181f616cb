"""On-disk structures of FFS1: offsets, constants, the dinode.  Names are those of fs.h.

Everything is little-endian.  Addresses are fragment numbers (fs_fsize bytes each) from the
start of the file system, unless a name says otherwise; di_blocks counts 512-byte sectors.
Sources: sys/ufs/ffs/fs.h, sys/ufs/ufs/dinode.h, sys/ufs/ufs/dir.h of OpenBSD 5.1 and 6.6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SBLOCK_UFS1 = 8192  # byte offset of the primary superblock
SBSIZE = 1376  # bytes of it that carry meaning (fs_magic ends there)
FS_UFS1_MAGIC = 0x011954
FS_UFS2_MAGIC = 0x19540119
SBLOCK_UFS2 = 65536
FS_MAGIC_OFFSET = 1372
CG_MAGIC = 0x090255
CG_HEADER = 168  # sizeof(struct cg) without its maps

ROOTINO = 2
NDADDR = 12  # direct addresses in a dinode
NIADDR = 3  # single, double, triple indirect
DINODE_SIZE = 128
DIRBLKSIZ = 512
DEV_BSIZE = 512
MAXNAMLEN = 255
MAXSYMLINKS = 32
MAXFRAG = 8
LINK_MAX = 32767
FS_44INODEFMT = 2
FS_DYNAMICPOSTBLFMT = 1

# Byte offsets in the superblock of what is written back.
FS_CSTOTAL = 192  # four int32: ndir, nbfree, nifree, nffree
FS_CSTOTAL64 = 1008  # the same as int64, maintained by makefs and later kernels

CSUM = struct.Struct("<4i")
CSUM64 = struct.Struct("<4q")
DINODE = struct.Struct("<HhIQ6i15i5I8s")
POINTERS = struct.Struct("<15i")

IFMT = 0o170000
IFIFO, IFCHR, IFDIR, IFBLK, IFREG, IFLNK, IFSOCK = (
    0o010000,
    0o020000,
    0o040000,
    0o060000,
    0o100000,
    0o120000,
    0o140000,
)
KINDS = {
    IFIFO: "fifo",
    IFCHR: "char",
    IFDIR: "dir",
    IFBLK: "block",
    IFREG: "file",
    IFLNK: "link",
    IFSOCK: "socket",
}


def howmany(count: int, size: int) -> int:
    """How many units of `size` hold `count`."""
    return -(-count // size)


@dataclass(frozen=True)
class Csum:
    """Counts of a cylinder group, or of the whole file system (struct csum)."""

    ndir: int
    nbfree: int  # free blocks
    nifree: int  # free inodes
    nffree: int  # free fragments that are not part of a free block

    def pack(self) -> bytes:
        return CSUM.pack(self.ndir, self.nbfree, self.nifree, self.nffree)

    def pack64(self) -> bytes:
        return CSUM64.pack(self.ndir, self.nbfree, self.nifree, self.nffree)


@dataclass(frozen=True)
class Dinode:
    """A UFS1 dinode.  `pointers` are di_db and di_ib: 12 direct and 3 indirect addresses.

    A device keeps its number in pointers[0], a short symbolic link its target in all of
    them (`inline`).  Times are seconds; `blocks` counts 512-byte sectors.
    """

    mode: int = 0
    nlink: int = 0
    oldids: int = 0
    size: int = 0
    atime: int = 0
    atimensec: int = 0
    mtime: int = 0
    mtimensec: int = 0
    ctime: int = 0
    ctimensec: int = 0
    pointers: tuple[int, ...] = (0,) * (NDADDR + NIADDR)
    flags: int = 0
    blocks: int = 0
    gen: int = 0
    uid: int = 0
    gid: int = 0
    spare: bytes = bytes(8)

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, offset: int = 0) -> Dinode:
        fields = DINODE.unpack_from(data, offset)
        return cls(*(*fields[:10], fields[10:25], *fields[25:]))

    def pack(self) -> bytes:
        return DINODE.pack(
            self.mode,
            self.nlink,
            self.oldids,
            self.size,
            self.atime,
            self.atimensec,
            self.mtime,
            self.mtimensec,
            self.ctime,
            self.ctimensec,
            *self.pointers,
            self.flags,
            self.blocks,
            self.gen,
            self.uid,
            self.gid,
            self.spare,
        )

    @property
    def type(self) -> int:
        return self.mode & IFMT

    @property
    def inline(self) -> bytes:
        """The 60 bytes of the address area, where a short symbolic link keeps its target."""
        return POINTERS.pack(*self.pointers)
