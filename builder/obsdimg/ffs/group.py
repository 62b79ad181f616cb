"""One cylinder group: its two bitmaps, and everything that follows from them.

The bitmaps (free fragments, used inodes) are the truth; counts, fragment sums, cluster
summary and rotational tables are derived from them when the group is packed again.
Positions are fragments, or inodes, from the start of the group.  Source: fs.h (struct cg).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from obsdimg.ffs.errors import DamagedError
from obsdimg.ffs.layout import CG_HEADER, CG_MAGIC, MAXFRAG, ROOTINO, Csum, howmany
from obsdimg.ffs.superblock import Superblock

CG_CS = 24
CG_FRSUM = 52


@dataclass
class Group:
    """A cylinder group in memory.

    `free` has one byte a fragment (1: free), `used` one byte an inode (1: in use); both as
    long as fs_fpg and fs_ipg say.  `ndir` counts directories.
    """

    index: int
    sb: Superblock
    ndblk: int  # fragments that exist in this group
    ndir: int
    free: bytearray
    used: bytearray
    header: bytes  # the group block as read, for all that is not changed
    rotational: bool = False  # whether the old rotational tables are true, thus maintained
    dirty: bool = False  # whether the maps were touched since `header` was read

    @classmethod
    def parse(cls, sb: Superblock, index: int, data: bytes) -> Group:
        """Group `index` from its `data` (fs_cgsize bytes).  Raises DamagedError."""
        name = f"cylinder group {index}"
        magic, _time, cgx = struct.unpack_from("<iii", data, 4)
        ndblk, *cs = struct.unpack_from("<5i", data, 20)
        if magic != CG_MAGIC:
            raise DamagedError(f"{name}: wrong magic number")
        if cgx != index:
            raise DamagedError(f"{name}: calls itself {cgx}")
        if ndblk != min(sb.fpg, sb.size - sb.cgbase(index)):
            raise DamagedError(f"{name}: {ndblk} fragments do not fit the superblock")
        offsets = struct.unpack_from("<8i", data, 84)
        check_offsets(name, sb, ndblk, offsets)
        iusedoff, freeoff = offsets[2], offsets[3]
        group = cls(
            index,
            sb,
            ndblk,
            cs[0],
            from_bits(data, freeoff, sb.fpg),
            from_bits(data, iusedoff, sb.ipg),
            data,
        )
        if any(group.free[ndblk:]):
            raise DamagedError(f"{name}: free fragments beyond the end")
        if index == 0 and not all(group.used[:ROOTINO]):
            raise DamagedError(f"{name}: reserved inodes are marked free")
        if group.csum() != Csum(*cs):
            raise DamagedError(f"{name}: its counts disagree with its maps")
        table = group.rotational_tables()
        btotoff = offsets[0]
        group.rotational = table is not None and data[btotoff : btotoff + len(table)] == table
        return group

    # Derived from the maps.

    def csum(self) -> Csum:
        nbfree = nffree = 0
        for count in self.free_per_block():
            if count == self.sb.frag:
                nbfree += 1
            else:
                nffree += count
        return Csum(self.ndir, nbfree, self.used.count(0), nffree)

    def free_per_block(self) -> list[int]:
        frag = self.sb.frag
        return [self.free.count(1, b, b + frag) for b in range(0, self.ndblk, frag)]

    def frsum(self) -> list[int]:
        """How many runs of 1, 2, … 7 free fragments there are in partly used blocks."""
        sums = [0] * MAXFRAG
        frag = self.sb.frag
        for start in range(0, self.ndblk, frag):
            for run in bytes(self.free[start : start + frag]).split(b"\0"):
                if 0 < len(run) < frag:
                    sums[len(run)] += 1
        return sums

    def clusters(self) -> bytes:
        """One byte a whole block: 1 where it is free (the cluster map, unpacked)."""
        whole = self.ndblk // self.sb.frag
        return bytes(count == self.sb.frag for count in self.free_per_block()[:whole])

    def cluster_sums(self, clusters: bytes) -> list[int]:
        """How many runs of 1, 2, … free blocks; longer ones count as fs_contigsumsize."""
        sums = [0] * (self.sb.contigsumsize + 1)
        for run in clusters.split(b"\0"):
            if run:
                sums[min(len(run), self.sb.contigsumsize)] += 1
        return sums

    def rotational_tables(self) -> bytes | None:
        """cg_btot and cg_b as kernels before 2014 keep them, or None where geometry forbids.

        Free blocks per cylinder (int32 each), then per cylinder and position (int16 each).
        """
        sb = self.sb
        btotoff, boff, iusedoff = struct.unpack_from("<3i", self.header, 84)
        usable = (
            btotoff >= CG_HEADER
            and 0 < sb.cpg <= sb.bsize
            and 0 < sb.nrpos <= 8
            and boff == btotoff + 4 * sb.cpg
            and iusedoff >= boff + 2 * sb.cpg * sb.nrpos
            and min(sb.spc, sb.nsect, sb.npsect, sb.nspf) > 0
        )
        if not usable:
            return None
        totals = [0] * sb.cpg
        positions = [0] * (sb.cpg * sb.nrpos)
        for block, count in enumerate(self.free_per_block()):
            if count != sb.frag:
                continue
            sector = block * sb.frag * sb.nspf
            cylinder, rest = divmod(sector, sb.spc)
            track, within = divmod(rest, sb.nsect)
            turned = (track * sb.trackskew + within * sb.interleave) % sb.nsect
            position = turned * sb.nrpos // sb.npsect if sb.nrpos > 1 else 0
            if cylinder >= sb.cpg or not 0 <= position < sb.nrpos:
                return None
            totals[cylinder] += 1
            positions[cylinder * sb.nrpos + position] += 1
        if max(positions) > 0x7FFF:
            return None
        return struct.pack(f"<{len(totals)}i{len(positions)}h", *totals, *positions)

    def pack(self) -> bytes:
        """The group block again, with maps and all that follows from them."""
        data = bytearray(self.header)
        btotoff, _boff, iusedoff, freeoff, _next, sumoff, clusteroff, _n = struct.unpack_from(
            "<8i", data, 84
        )
        data[CG_CS : CG_CS + 16] = self.csum().pack()
        struct.pack_into("<8i", data, CG_FRSUM, *self.frsum())
        put_bits(data, iusedoff, self.used)
        put_bits(data, freeoff, self.free)
        if self.sb.contigsumsize > 0:
            clusters = self.clusters()
            put_bits(data, clusteroff, clusters)
            # Entry 0 shares its bytes with the end of the free map: never written.
            sums = self.cluster_sums(clusters)[1:]
            struct.pack_into(f"<{len(sums)}i", data, sumoff + 4, *sums)
        if self.rotational:
            table = self.rotational_tables()
            if table is not None:
                data[btotoff : btotoff + len(table)] = table
        return bytes(data)

    # Allocation.

    def take_block(self, near: int = 0) -> int | None:
        """Take the first free block at or after fragment `near`, else the first of all."""
        frag = self.sb.frag
        whole = b"\1" * frag
        start = min(howmany(max(near, 0), frag) * frag, self.ndblk)
        for low, high in ((start, self.ndblk), (0, start)):
            at = self.free.find(whole, low, high)
            while at >= 0:
                if at % frag == 0:
                    self.free[at : at + frag] = bytes(frag)
                    self.dirty = True
                    return at
                at = self.free.find(whole, at + 1, high)
        return None

    def take_fragments(self, count: int) -> int | None:
        """Take `count` adjacent fragments of one block: best fit among partly used blocks,
        else the head of a free block."""
        frag = self.sb.frag
        best: tuple[int, int] | None = None
        for start in range(0, self.ndblk, frag):
            block = bytes(self.free[start : start + frag])
            if block.count(1) == frag:
                continue
            at = 0
            for run in block.split(b"\0"):
                if len(run) >= count and (best is None or len(run) < best[0]):
                    best = len(run), start + at
                at += len(run) + 1
            if best is not None and best[0] == count:
                break
        at_best = best[1] if best is not None else self.take_block()
        if at_best is None:
            return None
        if best is None:
            self.free[at_best : at_best + frag] = b"\1" * frag
        self.free[at_best : at_best + count] = bytes(count)
        self.dirty = True
        return at_best

    def take_inode(self) -> int | None:
        at = self.used.find(0)
        if at < 0:
            return None
        self.used[at] = 1
        self.dirty = True
        return at

    def release_inode(self, at: int) -> None:
        self.used[at] = 0
        self.dirty = True

    def release(self, at: int, count: int) -> None:
        """Give back `count` fragments from `at`."""
        self.free[at : at + count] = b"\1" * count
        self.dirty = True

    def count_directory(self, change: int) -> None:
        self.ndir += change
        self.dirty = True

    def copy(self) -> Group:
        return replace(self, free=bytearray(self.free), used=bytearray(self.used))


def check_offsets(name: str, sb: Superblock, ndblk: int, offsets: tuple[int, ...]) -> None:
    """Raise DamagedError unless the maps lie one after the other inside the group block."""
    _btot, _b, iusedoff, freeoff, nextfreeoff, sumoff, clusteroff, nclusterblks = offsets
    end = freeoff + howmany(sb.fpg, 8)
    sane = (
        iusedoff >= CG_HEADER
        and freeoff >= iusedoff + howmany(sb.ipg, 8)
        and end <= nextfreeoff <= sb.cgsize
    )
    if sane and sb.contigsumsize > 0:
        sane = (
            sumoff + 4 >= end
            and clusteroff >= sumoff + 4 * (sb.contigsumsize + 1)
            and clusteroff + howmany(nclusterblks, 8) <= sb.cgsize
            and nclusterblks == ndblk // sb.frag
        )
    if not sane:
        raise DamagedError(f"{name}: its maps overlap or leave the group")


def from_bits(data: bytes, offset: int, count: int) -> bytearray:
    """`count` bits from byte `offset`, lowest bit first, as one byte each."""
    number = int.from_bytes(data[offset : offset + howmany(count, 8)], "little")
    text = f"{number:0{count}b}"[::-1][:count]
    return bytearray(text.encode().translate(BITS))


def put_bits(data: bytearray, offset: int, flags: bytes | bytearray) -> None:
    """The reverse of from_bits; bits of the last byte beyond `flags` are left as they are."""
    size = howmany(len(flags), 8)
    old = int.from_bytes(data[offset : offset + size], "little")
    number = int(bytes(flags[::-1]).translate(DIGITS) or b"0", 2)
    kept = old >> len(flags) << len(flags)
    data[offset : offset + size] = (number | kept).to_bytes(size, "little")


BITS = bytes.maketrans(b"01", b"\0\1")
DIGITS = bytes.maketrans(b"\0\1", b"01")
