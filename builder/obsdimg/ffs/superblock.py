"""The superblock of FFS1: geometry, and where each thing lies.

Read once and checked; what changes (counts) is kept elsewhere.  Sources: fs(5), fs.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from obsdimg.ffs.errors import DamagedError, UnsupportedError
from obsdimg.ffs.layout import (
    CG_HEADER,
    DINODE_SIZE,
    FS_44INODEFMT,
    FS_CSTOTAL,
    FS_DYNAMICPOSTBLFMT,
    FS_MAGIC_OFFSET,
    FS_UFS1_MAGIC,
    FS_UFS2_MAGIC,
    MAXFRAG,
    NDADDR,
    NIADDR,
    SBLOCK_UFS1,
    SBLOCK_UFS2,
    SBSIZE,
    Csum,
    howmany,
)

# name: byte offset of an int32 in struct fs
FIELDS = {
    "sblkno": 8,
    "cblkno": 12,
    "iblkno": 16,
    "dblkno": 20,
    "cgoffset": 24,
    "cgmask": 28,
    "size": 36,
    "ncg": 44,
    "bsize": 48,
    "fsize": 52,
    "frag": 56,
    "bmask": 72,
    "fmask": 76,
    "bshift": 80,
    "fshift": 84,
    "fragshift": 96,
    "sbsize": 104,
    "nindir": 116,
    "inopb": 120,
    "nspf": 124,
    "npsect": 132,
    "interleave": 136,
    "trackskew": 140,
    "csaddr": 152,
    "cssize": 156,
    "cgsize": 160,
    "nsect": 168,
    "spc": 172,
    "ncyl": 176,
    "cpg": 180,
    "ipg": 184,
    "fpg": 188,
    "contigsumsize": 1316,
    "maxsymlinklen": 1320,
    "inodefmt": 1324,
    "postblformat": 1356,
    "nrpos": 1360,
}


@dataclass(frozen=True)
class Superblock:
    """Geometry of one file system; the names are those of struct fs without `fs_`.

    sblkno, cblkno, iblkno, dblkno, csaddr, size, fpg: fragments.  bsize, fsize, cssize,
    cgsize, sbsize: bytes.  ipg: inodes per group.
    """

    sblkno: int
    cblkno: int
    iblkno: int
    dblkno: int
    cgoffset: int
    cgmask: int
    size: int
    ncg: int
    bsize: int
    fsize: int
    frag: int
    bmask: int
    fmask: int
    bshift: int
    fshift: int
    fragshift: int
    sbsize: int
    nindir: int
    inopb: int
    nspf: int
    npsect: int
    interleave: int
    trackskew: int
    csaddr: int
    cssize: int
    cgsize: int
    nsect: int
    spc: int
    ncyl: int
    cpg: int
    ipg: int
    fpg: int
    contigsumsize: int
    maxsymlinklen: int
    inodefmt: int
    postblformat: int
    nrpos: int
    cstotal: Csum

    @classmethod
    def parse(cls, image: bytes | bytearray | memoryview, offset: int = SBLOCK_UFS1) -> Superblock:
        """The superblock at byte `offset` of `image`, checked against itself only.

        Raises UnsupportedError for another kind of file system, DamagedError for values
        that cannot be.
        """
        if offset < 0 or offset + SBSIZE > len(image):
            raise DamagedError(f"{len(image)} bytes end before the superblock at {offset}")
        check_magic(image, offset)
        values = {n: struct.unpack_from("<i", image, offset + at)[0] for n, at in FIELDS.items()}
        total = struct.unpack_from("<4i", image, offset + FS_CSTOTAL)
        sb = cls(**values, cstotal=Csum(*total))
        sb.check()
        return sb

    def check(self) -> None:
        """Raise where fields contradict each other.  The image's length is not known here."""
        if self.inodefmt != FS_44INODEFMT:
            raise UnsupportedError(f"FFS1 with inode format {self.inodefmt}, not 4.4BSD's (2)")
        if self.postblformat != FS_DYNAMICPOSTBLFMT:
            raise UnsupportedError(
                f"FFS1 with cylinder group format {self.postblformat}, not 4.4BSD's (1)"
            )
        for name, wrong in self.contradictions():
            if wrong:
                raise DamagedError(f"superblock: impossible {name}")

    def contradictions(self) -> Iterator[tuple[str, bool]]:
        """(what, whether it is wrong), in an order in which each may rely on those before."""
        yield f"block size {self.bsize}", not power_of_two(self.bsize, 4096, 65536)
        yield f"fragment size {self.fsize}", not power_of_two(self.fsize, 512, self.bsize)
        yield f"fragments per block {self.frag}", self.frag != self.bsize // self.fsize
        yield f"fragments per block {self.frag}", self.frag > MAXFRAG
        yield "block mask", self.bmask != -self.bsize
        yield "block shift", self.bshift != self.bsize.bit_length() - 1
        yield "fragment mask", self.fmask != -self.fsize
        yield "fragment shift", self.fshift != self.fsize.bit_length() - 1
        yield "fragment to block shift", self.fragshift != self.frag.bit_length() - 1
        yield f"inodes per block {self.inopb}", self.inopb != self.bsize // DINODE_SIZE
        yield f"addresses per block {self.nindir}", self.nindir != self.bsize // 4
        yield f"number of groups {self.ncg}", not 1 <= self.ncg <= self.size
        yield f"group size {self.fpg}", self.fpg < self.frag or self.fpg % self.frag != 0
        yield f"inodes per group {self.ipg}", self.ipg < self.inopb or self.ipg % self.inopb != 0
        last = self.cgbase(self.ncg - 1)
        yield f"size {self.size}", not last < self.size <= last + self.fpg
        yield "superblock place", self.sblkno * self.fsize < SBLOCK_UFS1 + SBSIZE
        yield (
            "order of superblock, cylinder group, inodes and data",
            not self.sblkno < self.cblkno < self.iblkno < self.dblkno
            or self.iblkno + self.ipg // self.inopb * self.frag != self.dblkno
            or any(n % self.frag for n in (self.sblkno, self.cblkno, self.iblkno)),
        )
        yield "cylinder group offset", not 0 <= self.cgoffset <= self.fpg
        shift = max(self.cgstart(c) - self.cgbase(c) for c in range(min(self.ncg, 1 << 16)))
        yield "cylinder group offset", shift % self.frag != 0 or shift + self.dblkno > self.fpg
        yield f"size {self.size} of the last group", self.cgdmin(self.ncg - 1) > self.size
        yield f"cylinder group size {self.cgsize}", not CG_HEADER < self.cgsize <= self.bsize
        room = (self.iblkno - self.cblkno) * self.fsize
        yield f"cylinder group size {self.cgsize}", self.cgsize > room
        end = self.csaddr + self.csum_fragments()
        yield (
            "summary area",
            self.cssize < self.ncg * 16
            or self.csaddr < self.cgdmin(0)
            or end > min(self.size, self.fpg),
        )
        yield f"cluster summary size {self.contigsumsize}", not 0 <= self.contigsumsize <= 16
        yield f"length of short links {self.maxsymlinklen}", self.maxsymlinklen != 60
        yield f"superblock size {self.sbsize}", not SBSIZE <= self.sbsize <= 8192

    # Where things lie; the names are those of the macros in fs.h.

    def cgbase(self, c: int) -> int:
        return self.fpg * c

    def cgstart(self, c: int) -> int:
        return self.cgbase(c) + self.cgoffset * (c & ~self.cgmask)

    def cgsblock(self, c: int) -> int:
        """Fragment of group c's backup superblock."""
        return self.cgstart(c) + self.sblkno

    def cgtod(self, c: int) -> int:
        return self.cgstart(c) + self.cblkno

    def cgimin(self, c: int) -> int:
        return self.cgstart(c) + self.iblkno

    def cgdmin(self, c: int) -> int:
        return self.cgstart(c) + self.dblkno

    def inode_offset(self, ino: int) -> int:
        """Byte offset of the dinode `ino` in the image."""
        c, i = divmod(ino, self.ipg)
        fragment = self.cgimin(c) + i // self.inopb * self.frag
        return fragment * self.fsize + i % self.inopb * DINODE_SIZE

    def csum_fragments(self) -> int:
        return howmany(self.cssize, self.fsize)

    def reserved(self) -> bytearray:
        """One byte a fragment: 1 where superblocks, groups, inodes or the summary lie."""
        marks = bytearray(self.size)
        for c in range(self.ncg):
            start, end = self.cgsblock(c), self.cgdmin(c)
            if c == 0:
                start = 0  # boot blocks
            marks[start:end] = b"\1" * (end - start)
        marks[self.csaddr : self.csaddr + self.csum_fragments()] = b"\1" * self.csum_fragments()
        return marks

    def max_file_blocks(self) -> int:
        return NDADDR + sum(int(self.nindir**level) for level in range(1, NIADDR + 1))


def check_magic(image: bytes | bytearray | memoryview, offset: int) -> None:
    """Raise UnsupportedError, with the name of what it is, unless FFS1's magic is in place."""

    def magic(at: int) -> bytes:
        return bytes(image[at + FS_MAGIC_OFFSET : at + FS_MAGIC_OFFSET + 4])

    found = magic(offset)
    if found == FS_UFS1_MAGIC.to_bytes(4, "little"):
        return
    if found == FS_UFS1_MAGIC.to_bytes(4, "big"):
        raise UnsupportedError("FFS1 in big-endian byte order", "use a little-endian port's medium")
    for at in (offset, SBLOCK_UFS2):
        if magic(at) in (FS_UFS2_MAGIC.to_bytes(4, "little"), FS_UFS2_MAGIC.to_bytes(4, "big")):
            raise UnsupportedError("FFS2; only FFS1 can be edited", "make it with newfs -O 1")
    raise UnsupportedError(f"no FFS1 file system: no superblock at byte {offset}")


def power_of_two(value: int, low: int, high: int) -> bool:
    return low <= value <= high and value & (value - 1) == 0
