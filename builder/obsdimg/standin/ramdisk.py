"""The stand-in's ramdisk: an FFS1 image of 6.6 amd64's size and block sizes.

It holds our own scripts, from the folder `ramdisk/` beside this module.  A caller may fill it
with something else: tests put the genuine installer's scripts in.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from obsdimg.ffs import FileSystem, make_image

SIZE = 7360 * 512
"""Bytes: MINIROOTSIZE of RAMDISK_CD, amd64, in sectors (openbsd.md, section 6)."""
BSIZE, FSIZE = 4096, 512
FREE = 235 * 1024
"""Bytes that are free in a ramdisk of 6.6 amd64 built from source, and so here."""

FillRamdisk = Callable[[FileSystem], None]
"""Puts files into an empty file system."""

_SCRIPTS = Path(__file__).with_name("ramdisk")
_DIRECTORIES = (
    *("/bin", "/dev", "/etc", "/etc/signify", "/etc/ssl", "/mnt", "/mnt2", "/sbin"),
    *("/usr", "/usr/bin", "/usr/sbin", "/var", "/var/db", "/var/empty", "/var/run"),
)
_TMP = "/tmp"  # noqa: S108  # the ramdisk's, mode 1777
_LINKS = {
    "/autoinstall": "install.sub",
    "/install": "install.sub",
    "/upgrade": "install.sub",
    "/etc/hosts": "../tmp/i/hosts",
}
_PROGRAM = b"#!/bin/ksh\n# A stand-in of obsdimg for a program of OpenBSD's ramdisk.\nexit 127\n"


def make_ramdisk(fill: FillRamdisk, mtime: int) -> bytes:
    """An image with what `fill` puts in, and ballast up to the free room of a genuine one."""
    system = FileSystem(make_image(SIZE, bsize=BSIZE, fsize=FSIZE))
    fill(system)
    ballast = system.free().bytes - FREE
    if ballast > 0 and not system.exists("/instbin"):
        line = b"obsdimg's stand-in for the programs of OpenBSD's ramdisk\n"
        data = (line * (ballast // len(line) + 1))[:ballast]
        system.write_file("/instbin", data, mode=0o755, mtime=mtime)
    return system.image()


def standin_files(base_key: bytes, version: str, mtime: int) -> FillRamdisk:
    """Puts the stand-in's own scripts in; `base_key` becomes the release's signify key."""
    release = version.replace(".", "")

    def fill(system: FileSystem) -> None:
        for path in _DIRECTORIES:
            system.mkdir(path, 0o755, mtime=mtime)
        system.mkdir(_TMP, 0o1777, mtime=mtime)
        for name, mode in (("install.sub", 0o755), ("install.md", 0o644), ("README", 0o644)):
            system.write_file(f"/{name}", _script(name), mode=mode, mtime=mtime)
        system.write_file("/.profile", _script("dot.profile"), mtime=mtime)
        system.write_file(f"/etc/signify/openbsd-{release}-base.pub", base_key, mtime=mtime)
        for path, target in _LINKS.items():
            system.symlink(target, path, mtime=mtime)

    return fill


def _script(name: str) -> bytes:
    return (_SCRIPTS / name).read_bytes()


def nobodys_key(comment: str) -> bytes:
    """A signify public key file whose secret half nobody has: its point is a hash of a text."""
    blob = b"Ed" + b"standin!" + hashlib.sha256(comment.encode()).digest()
    return f"untrusted comment: {comment}\n{b64encode(blob).decode()}\n".encode()


def copy_scripts(source: FileSystem, overrides: dict[str, bytes]) -> FillRamdisk:
    """Copies directories, links and plain files of another ramdisk, each with its mode and time.

    `overrides` replaces contents by path.  Device nodes stay out; the names of the crunched
    binary (one inode with many links) become a script of two lines that fails.
    """

    def fill(system: FileSystem) -> None:
        for path, stat in source.walk():
            if stat.kind == "dir":
                system.mkdir(path, stat.mode, stat.uid, stat.gid, stat.mtime)
            elif stat.kind == "link":
                system.symlink(
                    source.readlink(path), path, stat.mode, stat.uid, stat.gid, stat.mtime
                )
            elif stat.kind == "file":
                data = _PROGRAM if stat.nlink > 1 else source.read_file(path)
                data = overrides.get(path, data)
                system.write_file(path, data, stat.mode, stat.uid, stat.gid, stat.mtime)

    return fill
