"""The genuine installer of a release, from a source tree of OpenBSD, as its ramdisk holds it.

OBSDIMG_SRC66, OBSDIMG_SRC77 and OBSDIMG_SRC78 name source trees (of which distrib/miniroot,
distrib/amd64 and etc/etc.amd64 are read).  Programs are names only: stand-ins take their place.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from obsdimg.rehearsal import RamdiskNode


def source_tree(digits: str) -> Path:
    """The tree that the environment names; skips the test where there is none."""
    name = f"OBSDIMG_SRC{digits}"
    found = os.environ.get(name)
    if not found:
        pytest.skip(f"{name} names no source tree of {digits[:-1]}.{digits[-1]}")
    return Path(found)


def installer_tree(digits: str) -> dict[str, RamdiskNode]:
    """The ramdisk of amd64, by its own list of contents."""
    top = source_tree(digits)
    listed = top / "distrib/amd64/ramdisk_cd/list"
    tree: dict[str, RamdiskNode] = {}

    def folder(path: str) -> None:
        tree.setdefault(path, RamdiskNode("dir", 0o755))

    for path in ("/bin", "/dev", "/etc", "/etc/signify", "/etc/ssl", "/mnt", "/mnt2", "/sbin"):
        folder(path)
    for path in ("/tmp", "/usr", "/usr/bin", "/usr/sbin", "/var", "/var/db", "/var/run"):
        folder(path)
    folder("/var/db/dhcpleased")
    for line in listed.read_text().splitlines():
        words = line.split()
        if words[:2] == ["LINK", "instbin"]:
            for word in words[2:]:
                tree[f"/{word}"] = RamdiskNode("file", 0o755, b"", 2)
        if words[:1] == ["SYMLINK"] and len(words) == 3:
            tree[f"/{words[2]}"] = RamdiskNode("link", 0o755, words[1].encode())
    miniroot = top / "distrib/miniroot"
    for source, target in (("dot.profile", ".profile"), ("install.sub", "install.sub")):
        data = (miniroot / source).read_bytes()
        tree[f"/{target}"] = RamdiskNode("file", 0o755, data)
    for name in ("group", "protocols", "services"):
        tree[f"/etc/{name}"] = RamdiskNode("file", 0o644, (miniroot / name).read_bytes())
    tree["/install.md"] = RamdiskNode(
        "file", 0o644, (top / "distrib/amd64/common/install.md").read_bytes()
    )
    makedev = top / "etc/etc.amd64/MAKEDEV"
    tree["/dev/MAKEDEV"] = RamdiskNode("file", 0o555, makedev.read_bytes())
    tree["/var/tzlist"] = RamdiskNode("file", 0o644, b"Europe/\nEurope/Paris\nUTC\n")
    return tree
