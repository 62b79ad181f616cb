"""Whether an image is consistent: what fsck_ffs checks, reduced to yes or DamagedError.

An image is checked once, when it is opened, so that all later code may trust addresses,
directories and maps.  Blocks that are marked used and belong to nobody are tolerated.
Source: the passes of fsck_ffs(8).
"""

from __future__ import annotations

from obsdimg.ffs import directory
from obsdimg.ffs.errors import DamagedError
from obsdimg.ffs.layout import (
    DEV_BSIZE,
    IFDIR,
    IFLNK,
    KINDS,
    NDADDR,
    NIADDR,
    ROOTINO,
    Dinode,
    howmany,
)
from obsdimg.ffs.volume import Volume


def check(volume: Volume) -> None:
    """Raise DamagedError, naming inode or group, at the first contradiction."""
    links = check_inodes(volume)
    names = check_tree(volume)
    for ino, nlink in links.items():
        if names.get(ino, 0) != nlink:
            raise DamagedError(f"inode {ino}: {names.get(ino, 0)} names, link count {nlink}")


def check_inodes(volume: Volume) -> dict[int, int]:
    """Check every dinode, its blocks and the maps; give inode number → link count."""
    sb = volume.sb
    owner = bytearray(volume.reserved)
    links: dict[int, int] = {}
    holes = 0
    for group in volume.groups:
        ndir = 0
        for i in range(sb.ipg):
            ino = group.index * sb.ipg + i
            if ino < ROOTINO:
                continue
            dinode = volume.dinode(ino)
            if not group.used[i]:
                if dinode.mode:
                    raise DamagedError(f"inode {ino}: in use, but marked free")
                continue
            holes += check_inode(volume, ino, dinode, owner)
            if holes > sb.size:
                raise DamagedError(f"inode {ino}: sparse files that are larger than the image")
            ndir += dinode.type == IFDIR
            links[ino] = dinode.nlink
        if ndir != group.ndir:
            raise DamagedError(f"cylinder group {group.index}: {ndir} directories, not as counted")
    free = b"".join(bytes(group.free[: group.ndblk]) for group in volume.groups)
    if any(map(int.__and__, owner, free)):
        raise DamagedError("blocks in use are marked free")
    return links


def check_inode(volume: Volume, ino: int, dinode: Dinode, owner: bytearray) -> int:
    """Check one dinode in use, mark its fragments in `owner`, and count those that are holes.

    A ramdisk's files have none; what all files together hold thus stays near the image's size.
    """
    if dinode.type not in KINDS:
        raise DamagedError(f"inode {ino}: unknown type {dinode.mode:o}")
    try:
        extents = volume.block_map(dinode)
    except DamagedError as error:
        raise DamagedError(f"inode {ino}: {error.message.partition(': ')[2]}") from error
    fragments = 0
    for extent in extents.held():
        span = slice(extent.address, extent.address + extent.count)
        if any(owner[span]):
            raise DamagedError(f"inode {ino}: block {extent.address} belongs to two")
        owner[span] = b"\1" * extent.count
        fragments += extent.count
    if fragments * volume.sb.fsize // DEV_BSIZE != dinode.blocks:
        raise DamagedError(f"inode {ino}: wrong count of blocks")
    if volume.has_blocks(dinode):
        check_unused_pointers(volume, ino, dinode)
    if dinode.type == IFDIR and (not dinode.size or any(not e.address for e in extents.data)):
        raise DamagedError(f"inode {ino}: a directory with holes")
    if dinode.type == IFLNK and not dinode.size:
        raise DamagedError(f"inode {ino}: an empty symbolic link")
    return sum(e.count for e in extents.data if not e.address)


def check_unused_pointers(volume: Volume, ino: int, dinode: Dinode) -> None:
    """Addresses beyond the file's end must be 0."""
    blocks = howmany(dinode.size, volume.sb.bsize)
    levels, reach = 0, NDADDR
    while reach < blocks:
        levels += 1
        reach += volume.sb.nindir**levels
    unused = dinode.pointers[min(blocks, NDADDR) : NDADDR] + dinode.pointers[NDADDR + levels :]
    if levels > NIADDR or any(unused):
        raise DamagedError(f"inode {ino}: addresses beyond its end")


def check_tree(volume: Volume) -> dict[int, int]:
    """Check every directory from the root on; give inode number → number of names."""
    if not volume.in_use(ROOTINO) or volume.dinode(ROOTINO).type != IFDIR:
        raise DamagedError("there is no root directory")
    names: dict[int, int] = {}
    todo, seen = [(ROOTINO, ROOTINO)], {ROOTINO}
    while todo:
        ino, parent = todo.pop()
        try:
            found = directory.entries(volume.read(volume.dinode(ino)))
        except DamagedError as error:
            raise DamagedError(f"inode {ino}: {error.message.partition(': ')[2]}") from error
        if [(e.name, e.ino) for e in found[:2]] != [(b".", ino), (b"..", parent)]:
            raise DamagedError(f"inode {ino}: a directory without . and .. in their places")
        for n, entry in enumerate(found):
            if not volume.in_use(entry.ino) or entry.ino < ROOTINO:
                raise DamagedError(f"inode {ino}: an entry for inode {entry.ino}, which is free")
            kind = volume.dinode(entry.ino).type
            if kind >> 12 != entry.type:
                raise DamagedError(f"inode {ino}: an entry of another type than its inode's")
            names[entry.ino] = names.get(entry.ino, 0) + 1
            if kind == IFDIR and n >= 2:
                if entry.ino in seen:
                    raise DamagedError(f"inode {entry.ino}: a directory with two names")
                seen.add(entry.ino)
                todo.append((entry.ino, ino))
    return names
