"""Make an empty FFS1 file system of one cylinder group, as newfs(8) and makefs(8) would.

The stand-in medium's ramdisk is made with it.  The same arguments give the same bytes.
"""

from __future__ import annotations

import struct

from obsdimg.ffs import directory
from obsdimg.ffs.errors import FfsError
from obsdimg.ffs.group import Group
from obsdimg.ffs.layout import (
    CG_HEADER,
    CG_MAGIC,
    DEV_BSIZE,
    DINODE_SIZE,
    DIRBLKSIZ,
    FS_44INODEFMT,
    FS_CSTOTAL,
    FS_CSTOTAL64,
    FS_DYNAMICPOSTBLFMT,
    FS_MAGIC_OFFSET,
    FS_UFS1_MAGIC,
    IFDIR,
    NDADDR,
    NIADDR,
    ROOTINO,
    SBLOCK_UFS1,
    SBSIZE,
    Csum,
    Dinode,
    howmany,
)
from obsdimg.ffs.superblock import FIELDS, Superblock, power_of_two

SIZEOF_FS = 1380
SBLOCKSIZE = 8192  # bytes set aside for each superblock
DENSITY = 4096  # bytes per inode, as the release's makefs call has it


def make_image(
    size_bytes: int, *, bsize: int = 4096, fsize: int = 512, inodes: int | None = None
) -> bytes:
    """An image of `size_bytes` with an empty root directory (0755, owner 0, time 0).

    `bsize`, `fsize`: bytes of a block and a fragment; `inodes`: how many at least (default:
    one per 4096 bytes).  Raises FfsError where the sizes do not go together.
    """
    if not power_of_two(bsize, 4096, 65536) or not power_of_two(fsize, 512, bsize):
        raise FfsError(f"block size {bsize} and fragment size {fsize} do not go together")
    if bsize // fsize > 8:
        raise FfsError(f"block size {bsize} is more than 8 fragments of {fsize}")
    values = geometry(size_bytes // fsize, bsize, fsize, inodes or size_bytes // DENSITY)
    if values["dblkno"] + 2 > values["size"]:
        raise FfsError(f"{size_bytes} bytes are too small for a file system")
    if values["cgsize"] > bsize:
        raise FfsError(
            f"{size_bytes} bytes do not fit into one cylinder group of {bsize}-byte blocks",
            "take a larger block size",
        )
    sb = Superblock(**values, cstotal=Csum(1, 0, 0, 0))
    sb.check()
    group = first_group(sb)
    image = bytearray(size_bytes)
    superblock = pack_superblock(sb, group.csum())
    for at in (SBLOCK_UFS1, sb.cgsblock(0) * fsize):
        image[at : at + len(superblock)] = superblock
    put(image, sb.cgtod(0) * fsize, group.pack())
    put(image, sb.csaddr * fsize, group.csum().pack())
    root = sb.csaddr + sb.csum_fragments()
    put(image, root * fsize, directory.empty(ROOTINO, ROOTINO))
    dinode = Dinode(
        mode=IFDIR | 0o755,
        nlink=2,
        size=DIRBLKSIZ,
        blocks=fsize // DEV_BSIZE,
        gen=1,
        pointers=(root, *(0,) * (NDADDR + NIADDR - 1)),
    )
    put(image, sb.inode_offset(ROOTINO), dinode.pack())
    return bytes(image)


def geometry(size: int, bsize: int, fsize: int, inodes: int) -> dict[str, int]:
    """The superblock's int32 fields for `size` fragments in one group."""
    frag = bsize // fsize
    inopb = bsize // DINODE_SIZE
    ipg = howmany(max(inodes, inopb), inopb) * inopb
    fpg = howmany(size, frag) * frag
    nspf = fsize // DEV_BSIZE

    def blocks(count: int) -> int:
        return howmany(howmany(count, fsize), frag) * frag

    sblkno = blocks(SBLOCK_UFS1 + SBLOCKSIZE)
    cblkno = sblkno + blocks(SBLOCKSIZE)
    iblkno = cblkno + frag
    dblkno = iblkno + ipg // inopb * frag
    cgsize = maps_offset() + howmany(ipg, 8) + howmany(fpg, 8)
    return {
        "sblkno": sblkno,
        "cblkno": cblkno,
        "iblkno": iblkno,
        "dblkno": dblkno,
        "cgoffset": 0,
        "cgmask": -1,
        "size": size,
        "ncg": 1,
        "bsize": bsize,
        "fsize": fsize,
        "frag": frag,
        "bmask": -bsize,
        "fmask": -fsize,
        "bshift": bsize.bit_length() - 1,
        "fshift": fsize.bit_length() - 1,
        "fragshift": frag.bit_length() - 1,
        "sbsize": howmany(SIZEOF_FS, fsize) * fsize,
        "nindir": bsize // 4,
        "inopb": inopb,
        "nspf": nspf,
        "npsect": size * nspf,
        "interleave": 1,
        "trackskew": 0,
        "csaddr": dblkno,
        "cssize": fsize,
        "cgsize": howmany(cgsize, fsize) * fsize,
        "nsect": size * nspf,
        "spc": size * nspf,
        "ncyl": 1,
        "cpg": 1,
        "ipg": ipg,
        "fpg": fpg,
        "contigsumsize": 0,
        "maxsymlinklen": 60,
        "inodefmt": FS_44INODEFMT,
        "postblformat": FS_DYNAMICPOSTBLFMT,
        "nrpos": 1,
    }


def maps_offset() -> int:
    """Byte offset of the inode map: behind one cylinder's rotational tables."""
    return CG_HEADER + 4 + 2


def first_group(sb: Superblock) -> Group:
    """The only group: superblocks, group, inodes, summary and the root directory are used."""
    taken = sb.csaddr + sb.csum_fragments() + 1
    free = bytearray(taken) + b"\1" * (sb.size - taken) + bytes(sb.fpg - sb.size)
    used = bytearray(b"\1" * (ROOTINO + 1)).ljust(sb.ipg, b"\0")
    header = bytearray(sb.cgsize)
    struct.pack_into("<4i2hi", header, 0, 0, CG_MAGIC, 0, 0, 0, sb.ipg & 0x7FFF, sb.size)
    freeoff = maps_offset() + howmany(sb.ipg, 8)
    offsets = (CG_HEADER, CG_HEADER + 4, maps_offset(), freeoff, freeoff + howmany(sb.fpg, 8))
    struct.pack_into("<5i", header, 84, *offsets)
    return Group(0, sb, sb.size, 1, free, used, bytes(header), rotational=True)


def pack_superblock(sb: Superblock, total: Csum) -> bytes:
    """struct fs, with FFS1's fields and their wide copies, clean and never mounted."""
    data = bytearray(SBSIZE)
    for name, at in FIELDS.items():
        struct.pack_into("<i", data, at, getattr(sb, name))
    dsize = sb.size - sb.dblkno - sb.csum_fragments()
    struct.pack_into("<i", data, 40, dsize)
    struct.pack_into("<i", data, 68, 60)  # fs_rps
    struct.pack_into("<2i", data, 88, 1, sb.nindir)  # fs_maxcontig, fs_maxbpg
    struct.pack_into("<i", data, 100, sb.nspf.bit_length() - 1)  # fs_fsbtodb
    struct.pack_into("<i", data, 128, 1)  # fs_optim: space
    data[FS_CSTOTAL : FS_CSTOTAL + 16] = total.pack()
    struct.pack_into("<4B", data, 208, 0, 1, 0, 0x80)  # clean; FS_FLAGS_UPDATED
    struct.pack_into("<i", data, 860, sb.bsize)  # fs_maxbsize
    struct.pack_into("<q", data, 1000, SBLOCK_UFS1)
    data[FS_CSTOTAL64 : FS_CSTOTAL64 + 32] = total.pack64()
    struct.pack_into("<4q", data, 1072, 0, sb.size, dsize, sb.csaddr)
    struct.pack_into("<2i", data, 1196, 16384, 64)  # fs_avgfilesize, fs_avgfpdir
    struct.pack_into(
        "<3q", data, 1328, sb.max_file_blocks() * sb.bsize - 1, sb.bsize - 1, sb.fsize - 1
    )
    struct.pack_into("<i", data, FS_MAGIC_OFFSET, FS_UFS1_MAGIC)
    return bytes(data)


def put(image: bytearray, at: int, data: bytes) -> None:
    image[at : at + len(data)] = data
