"""An FFS1 image by path: read, list, create, replace, remove.

Each change happens whole or not at all, and touches nothing but what it must: the
directories' own times stay as they were, so that the same changes give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from obsdimg.ffs import directory
from obsdimg.ffs.check import check
from obsdimg.ffs.directory import DirectoryEntry
from obsdimg.ffs.errors import FfsError, NoRoomError
from obsdimg.ffs.layout import (
    IFBLK,
    IFCHR,
    IFDIR,
    IFLNK,
    IFREG,
    KINDS,
    LINK_MAX,
    MAXNAMLEN,
    MAXSYMLINKS,
    POINTERS,
    ROOTINO,
    Dinode,
)
from obsdimg.ffs.volume import Free, Volume

MAXPATHLEN = 1024


@dataclass(frozen=True)
class Stat:
    """What an inode says.  `mode`: permission bits with setuid and so on; `mtime`: seconds.

    `kind`: file, dir, link, char, block, fifo or socket; `rdev`: a device's number, else 0.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    mtime: int
    inode: int
    rdev: int


@dataclass(frozen=True)
class Found:
    """Where a path leads: the directory, the name in it, and the inode if there is one."""

    parent: int
    name: bytes
    ino: int | None


class FileSystem:
    """The file system in `image` (bytes from its first sector on; more may follow it).

    Raises UnsupportedError for FFS2, big-endian or no FFS, DamagedError for contradictions
    anywhere in it.  Paths are absolute; symbolic links on the way are followed.
    """

    def __init__(self, image: bytes | bytearray) -> None:
        self.volume = Volume(image)
        check(self.volume)

    # Reading.

    def read_file(self, path: str) -> bytes:
        """The content of a regular file.  Raises FfsError."""
        dinode = self.volume.dinode(self.existing(path))
        if dinode.type != IFREG:
            raise FfsError(f"{path}: is a {KINDS[dinode.type]}, not a regular file")
        return self.volume.read(dinode)

    def readlink(self, path: str) -> str:
        """The target of a symbolic link.  Raises FfsError."""
        dinode = self.volume.dinode(self.existing(path, follow=False))
        if dinode.type != IFLNK:
            raise FfsError(f"{path}: is a {KINDS[dinode.type]}, not a symbolic link")
        return decode(self.volume.read(dinode))

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted, without `.` and `..`.  Raises FfsError."""
        ino = self.existing(path)
        if self.volume.dinode(ino).type != IFDIR:
            raise FfsError(f"{path}: is not a directory")
        return sorted(decode(e.name) for e in self.entries(ino)[2:])

    def exists(self, path: str, follow: bool = True) -> bool:
        """Whether `path` leads to something (`follow`: through a symbolic link at its end)."""
        try:
            return self.lookup(path, follow).ino is not None
        except FfsError:
            return False

    def stat(self, path: str, follow: bool = True) -> Stat:
        """What is at `path` (`follow`: where a link at its end leads).  Raises FfsError."""
        return self.stat_inode(self.existing(path, follow))

    def walk(self) -> Iterator[tuple[str, Stat]]:
        """Every path below `/` (not `/` itself), sorted, with its own Stat."""
        found = []
        todo = [("", ROOTINO)]
        while todo:
            base, ino = todo.pop()
            for entry in self.entries(ino)[2:]:
                path = f"{base}/{decode(entry.name)}"
                found.append((path, self.stat_inode(entry.ino)))
                if entry.type == directory.DT_DIR:
                    todo.append((path, entry.ino))
        yield from sorted(found, key=lambda item: item[0])

    def free(self) -> Free:
        """Room left, in blocks, fragments outside of free blocks, inodes, and bytes."""
        return self.volume.free()

    def image(self) -> bytes:
        """The whole image, as long as it was given."""
        return self.volume.flush()

    # Changing.

    def write_file(
        self, path: str, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0
    ) -> None:
        """Create a regular file, or replace one; `mtime` in seconds.

        A replaced file keeps its inode, unless it has further names (hard links, as the
        programs of a ramdisk have): then this name gets a new inode and the others keep
        their content.  Anything but a regular file at `path` is an error.  Raises FfsError;
        NoRoomError says how many blocks, fragments and inodes were needed and free.
        """
        attributes(path, mode, uid, gid, mtime)
        with self.change():
            found = self.place(path)
            if found.ino is None:
                ino = self.new_inode(path, found.parent)
                self.enter(path, found, ino, IFREG)
                old = self.volume.dinode(ino)
            else:
                ino, old = found.ino, self.volume.dinode(found.ino)
                if old.type != IFREG:
                    raise FfsError(f"{path}: is a {KINDS[old.type]}, not a regular file")
                if old.nlink > 1:
                    self.volume.put_dinode(ino, replace(old, nlink=old.nlink - 1))
                    ino = self.new_inode(path, found.parent)
                    self.reenter(found, ino, IFREG)
                    old = self.volume.dinode(ino)
            new = replace(
                stamped(old, mtime), mode=IFREG | mode, nlink=1, uid=uid, gid=gid, flags=0
            )
            self.volume.put_dinode(ino, new)
            self.volume.write(ino, bytes(data), path)

    def mkdir(
        self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0, mtime: int = 0
    ) -> None:
        """Make an empty directory.  Raises FfsError, NoRoomError."""
        attributes(path, mode, uid, gid, mtime)
        with self.change():
            found = self.vacant(path)
            parent = self.volume.dinode(found.parent)
            if parent.nlink >= LINK_MAX:
                raise FfsError(f"{path}: the directory above has too many directories")
            ino = self.new_inode(path, found.parent)
            dinode = stamped(self.volume.dinode(ino), mtime)
            self.volume.put_dinode(
                ino, replace(dinode, mode=IFDIR | mode, nlink=2, uid=uid, gid=gid)
            )
            self.volume.count_directory(ino, 1)
            self.volume.write(ino, directory.empty(ino, found.parent), path)
            self.volume.put_dinode(found.parent, replace(parent, nlink=parent.nlink + 1))
            self.enter(path, found, ino, IFDIR)

    def symlink(
        self,
        target: str,
        path: str,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
    ) -> None:
        """Make a symbolic link at `path` to `target`.  Raises FfsError, NoRoomError."""
        attributes(path, mode, uid, gid, mtime)
        raw = encode(target, path)
        if not 0 < len(raw) < MAXPATHLEN or b"\0" in raw:
            raise FfsError(f"{path}: a target of {len(raw)} bytes; 1 to {MAXPATHLEN - 1} can be")
        with self.change():
            found = self.vacant(path)
            ino = self.new_inode(path, found.parent)
            dinode = stamped(self.volume.dinode(ino), mtime)
            dinode = replace(dinode, mode=IFLNK | mode, nlink=1, uid=uid, gid=gid)
            if len(raw) < self.volume.sb.maxsymlinklen:
                pointers = POINTERS.unpack(raw.ljust(POINTERS.size, b"\0"))
                self.volume.put_dinode(ino, replace(dinode, size=len(raw), pointers=pointers))
            else:
                self.volume.put_dinode(ino, dinode)
                self.volume.write(ino, raw, path)
            self.enter(path, found, ino, IFLNK)

    def remove(self, path: str) -> None:
        """Remove a name; the last one frees the inode.  A directory must be empty.

        A symbolic link is removed itself.  Raises FfsError.
        """
        with self.change():
            found = self.place(path)
            if found.ino is None:
                raise FfsError(f"{path}: no such file or directory")
            dinode = self.volume.dinode(found.ino)
            is_directory = dinode.type == IFDIR
            if is_directory and len(self.entries(found.ino)) > 2:
                raise FfsError(f"{path}: directory is not empty")
            data = self.volume.read(self.volume.dinode(found.parent))
            self.rewrite(found.parent, directory.remove(data, found.name), path)
            if is_directory:
                parent = self.volume.dinode(found.parent)
                self.volume.put_dinode(found.parent, replace(parent, nlink=parent.nlink - 1))
                self.volume.count_directory(found.ino, -1)
            if is_directory or dinode.nlink <= 1:
                self.volume.clear(found.ino)
                self.volume.release_inode(found.ino)
            else:
                self.volume.put_dinode(found.ino, replace(dinode, nlink=dinode.nlink - 1))

    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits; a symbolic link is followed.  Raises FfsError."""
        attributes(path, mode, 0, 0, 0)
        ino = self.existing(path)
        dinode = self.volume.dinode(ino)
        self.volume.put_dinode(ino, replace(dinode, mode=dinode.type | mode))

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group by number; a symbolic link is followed.  Raises FfsError."""
        attributes(path, 0, uid, gid, 0)
        ino = self.existing(path)
        self.volume.put_dinode(ino, replace(self.volume.dinode(ino), uid=uid, gid=gid))

    # Steps of the above.

    @contextmanager
    def change(self) -> Iterator[None]:
        """Undo everything done inside when it ends with an exception."""
        state = self.volume.snapshot()
        try:
            yield
        except BaseException:
            self.volume.restore(state)
            raise

    def entries(self, ino: int) -> list[DirectoryEntry]:
        return directory.entries(self.volume.read(self.volume.dinode(ino)))

    def stat_inode(self, ino: int) -> Stat:
        d = self.volume.dinode(ino)
        device = d.type in (IFCHR, IFBLK)
        return Stat(
            kind=KINDS[d.type],
            mode=d.mode & 0o7777,
            uid=d.uid,
            gid=d.gid,
            size=d.size,
            nlink=d.nlink,
            mtime=d.mtime,
            inode=ino,
            rdev=d.pointers[0] & 0xFFFFFFFF if device else 0,
        )

    def lookup(self, path: str, follow: bool) -> Found:
        """Follow `path` from the root.  Raises FfsError where something on the way is missing,
        is no directory, or the symbolic links do not end."""
        todo = split(encode(path, path))
        here, links = ROOTINO, 0
        found = Found(ROOTINO, b"", ROOTINO)
        while todo:
            name = todo.pop(0)
            if self.volume.dinode(here).type != IFDIR:
                raise FfsError(f"{path}: something on the way is not a directory")
            ino = next((e.ino for e in self.entries(here) if e.name == name), None)
            found = Found(here, name, ino)
            if ino is None:
                if todo:
                    raise FfsError(f"{path}: no such file or directory")
                return found
            dinode = self.volume.dinode(ino)
            if dinode.type == IFLNK and (todo or follow):
                links += 1
                if links > MAXSYMLINKS:
                    raise FfsError(f"{path}: more than {MAXSYMLINKS} symbolic links on the way")
                target = self.volume.read(dinode)
                todo = split(target) + todo
                if target.startswith(b"/"):
                    here, found = ROOTINO, Found(ROOTINO, b"", ROOTINO)
                elif not todo:
                    found = Found(here, b".", here)
            else:
                here = ino
        return found

    def existing(self, path: str, follow: bool = True) -> int:
        ino = self.lookup(path, follow).ino
        if ino is None:
            raise FfsError(f"{path}: no such file or directory")
        return ino

    def place(self, path: str) -> Found:
        """Where `path` is or may be made: an own name in a directory that exists."""
        found = self.lookup(path, follow=False)
        if found.name in (b"", b".", b".."):
            raise FfsError(f"{path}: is no name of its own")
        if len(found.name) > MAXNAMLEN:
            raise FfsError(f"{path}: a name of {len(found.name)} bytes; {MAXNAMLEN} can be")
        return found

    def vacant(self, path: str) -> Found:
        found = self.place(path)
        if found.ino is not None:
            raise FfsError(f"{path}: exists")
        return found

    def new_inode(self, path: str, near: int) -> int:
        """Take an inode for `path`, with the next generation number and nothing else."""
        ino = self.volume.take_inode(near)
        if ino is None:
            raise NoRoomError(
                f"{path}: no room: 1 inode needed, 0 of {self.volume.inodes()} are free",
                "put fewer files into the ramdisk, or remove some from it",
            )
        gen = self.volume.dinode(ino).gen
        self.volume.put_dinode(ino, Dinode(gen=(gen + 1) & 0x7FFFFFFF))
        return ino

    def enter(self, path: str, found: Found, ino: int, kind: int) -> None:
        """Add the name to its directory, which may grow by a chunk."""
        data = self.volume.read(self.volume.dinode(found.parent))
        entry = DirectoryEntry(ino, kind >> 12, found.name)
        self.rewrite(found.parent, directory.add(data, entry), f"{path} (its directory)")

    def reenter(self, found: Found, ino: int, kind: int) -> None:
        """Make the existing name stand for another inode."""
        data = self.volume.read(self.volume.dinode(found.parent))
        entry = DirectoryEntry(ino, kind >> 12, found.name)
        self.rewrite(found.parent, directory.change(data, found.name, entry), "directory")

    def rewrite(self, ino: int, data: bytes, what: str) -> None:
        """Put a directory's bytes back: in place if none were added, else anew."""
        dinode = self.volume.dinode(ino)
        if len(data) == dinode.size:
            self.volume.overwrite(dinode, data)
        else:
            self.volume.write(ino, data, what)


def attributes(path: str, mode: int, uid: int, gid: int, mtime: int) -> None:
    """Raise FfsError unless the values fit into a dinode."""
    if not 0 <= mode <= 0o7777:
        raise FfsError(f"{path}: mode {mode:#o} is not within 0 and 07777")
    for number in (uid, gid):
        if not 0 <= number < 0xFFFFFFFF:
            raise FfsError(f"{path}: owner or group {number} is out of range")
    if not -(2**31) <= mtime < 2**31:
        raise FfsError(f"{path}: time {mtime} is out of FFS1's range")


def stamped(dinode: Dinode, mtime: int) -> Dinode:
    return replace(
        dinode, atime=mtime, atimensec=0, mtime=mtime, mtimensec=0, ctime=mtime, ctimensec=0
    )


def split(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def encode(text: str, path: str) -> bytes:
    """UTF-8, where bytes that are none went through `decode`.  Raises FfsError."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FfsError(f"{path!r}: cannot be a name") from error
    if b"\0" in raw:
        raise FfsError(f"{path!r}: a name cannot hold a NUL")
    return raw


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
