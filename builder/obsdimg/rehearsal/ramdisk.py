"""The ramdisk of an ISO's boot kernel, as a tree of nodes, and the programs it has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from obsdimg.core.errors import ObsdimgError
from obsdimg.ffs import FileSystem
from obsdimg.iso import Iso
from obsdimg.kernel.bootkernel import MAX_KERNEL, BootKernel
from obsdimg.rehearsal.limits import MAX_TREE


class UnreadableRamdiskError(ObsdimgError):
    """The ISO has no ramdisk that could be rehearsed."""


@dataclass(frozen=True)
class RamdiskNode:
    """A file, directory, link (its target in `data`) or device node of the ramdisk."""

    kind: Literal["file", "dir", "link", "node"]
    mode: int = 0o644
    data: bytes = b""
    links: int = 1


MAX_BOOT_CONF = 64 << 10
"""Bytes."""
AMD64_PROGRAMS = (
    "/bin: arch cat chgrp chmod cp date dd df ed eject hostname ksh ln ls mkdir mt mv pax rm sh"
    " sha256 sha512 sleep stty sync tar",
    "/sbin: bioctl chown dhclient disklabel dmesg fdisk fsck fsck_ffs fsck_msdos growfs halt"
    " ifconfig init kbd mknod mount mount_cd9660 mount_ext2fs mount_ffs mount_msdos mount_nfs"
    " mount_udf newfs newfs_msdos ping ping6 reboot restore route slaacd sysctl umount",
    "/usr/bin: doas egrep encrypt fgrep ftp grep gunzip gzcat gzip less more sed signify tee",
    "/usr/sbin: chroot installboot pwd_mkdb",
)
"""The programs of 6.6's amd64 ramdisk (openbsd.md section 4) that have a stand-in."""

_STANDIN = b"A stand-in of obsdimg for a program"


def amd64_programs() -> tuple[str, ...]:
    """Their absolute paths."""
    found = []
    for line in AMD64_PROGRAMS:
        folder, _, names = line.partition(": ")
        found += [f"{folder}/{name}" for name in names.split()]
    return tuple(found)


def boot_image_path(boot_conf: str) -> str:
    """The kernel that `set image` of /etc/boot.conf names.  Raises UnreadableRamdiskError."""
    found = re.findall(r"^\s*set\s+image\s+(\S+)\s*$", boot_conf, re.MULTILINE)
    if not found:
        raise UnreadableRamdiskError(
            "/etc/boot.conf of the ISO has no line `set image`", "is this an OpenBSD install ISO?"
        )
    return str(found[-1])


def medium_release(iso: Iso) -> tuple[str, str]:
    """Release and port of an install ISO, `("6.6", "amd64")`, by the place of its boot kernel.

    Raises UnreadableRamdiskError.
    """
    path = boot_image_path(iso.read("/etc/boot.conf", MAX_BOOT_CONF).decode("latin-1"))
    found = re.match(r"/(\d\.\d)/(\w+)/", path)
    if found is None:
        raise UnreadableRamdiskError(
            f"the boot kernel {path} lies in no folder such as /6.6/amd64",
            "is this an OpenBSD install ISO?",
        )
    return found[1], found[2]


def read_ramdisk(iso: Iso) -> tuple[str, dict[str, RamdiskNode]]:
    """The boot kernel's path and its ramdisk.

    Raises UnreadableRamdiskError, and what reading raises.
    """
    path = boot_image_path(iso.read("/etc/boot.conf", MAX_BOOT_CONF).decode("latin-1"))
    return path, tree_of(FileSystem(BootKernel.parse(iso.read(path, MAX_KERNEL)).ramdisk))


def tree_of(files: FileSystem) -> dict[str, RamdiskNode]:
    """Every path of the file system.  A program with many names (one crunched binary for all)
    is not copied: only its name counts."""
    tree: dict[str, RamdiskNode] = {}
    room = MAX_TREE
    for path, found in files.walk():
        match found.kind:
            case "dir":
                tree[path] = RamdiskNode("dir", found.mode)
            case "link":
                tree[path] = RamdiskNode("link", found.mode, files.readlink(path).encode())
            case "file":
                data = b"" if found.nlink > 1 else files.read_file(path)
                room -= len(data)
                if room < 0:
                    raise UnreadableRamdiskError(
                        f"the ramdisk's files are more than {MAX_TREE >> 20} MB",
                        "is this an OpenBSD install ISO?",
                    )
                tree[path] = RamdiskNode("file", found.mode, data, found.nlink)
            case _:
                tree[path] = RamdiskNode("node", 0o600)
    return tree


def programs(tree: Mapping[str, RamdiskNode]) -> tuple[str, ...]:
    """The paths that get a stand-in: machine code in the ramdisk.

    obsdimg's own stand-in medium has no machine code: it gets the list of 6.6 amd64.
    """
    found = [p for p, node in tree.items() if _is_program(node)]
    ours = not found or any(_STANDIN in tree[p].data for p in found)
    return tuple(sorted({*found, *(amd64_programs() if ours else ())}))


def _is_program(node: RamdiskNode) -> bool:
    if node.kind != "file" or not node.mode & 0o111:
        return False
    return node.links > 1 or node.data.startswith(b"\x7fELF") or _STANDIN in node.data
