"""The genuine installer of a release, from a source tree of OpenBSD, as its ramdisk holds it.

OBSDIMG_SRC66 to OBSDIMG_SRC80 name source trees (of which distrib/miniroot, distrib/amd64 and
etc/etc.amd64 are read): folders, or a git repository and a commit in it as `REPOSITORY@COMMIT`.
Programs are names only: stand-ins take their place.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from obsdimg.rehearsal import RamdiskNode


def source_file(digits: str, path: str) -> bytes:
    """A file of the tree of release `digits` (`66`); skips the test where there is no tree."""
    name = f"OBSDIMG_SRC{digits}"
    found = os.environ.get(name)
    if not found:
        pytest.skip(f"{name} names no source tree of {digits[:-1]}.{digits[-1]}")
    repository, at, commit = found.rpartition("@")
    if not at:
        return (Path(found) / path).read_bytes()
    words = ["git", "--git-dir", repository, "show", f"{commit}:{path}"]
    return subprocess.run(words, capture_output=True, check=True, timeout=60).stdout


def installer_scripts(digits: str) -> str:
    """The text of install.sub and amd64's install.md."""
    paths = ("distrib/miniroot/install.sub", "distrib/amd64/common/install.md")
    return "\n".join(source_file(digits, path).decode() for path in paths)


def installer_tree(digits: str) -> dict[str, RamdiskNode]:
    """The ramdisk of amd64, by its own list of contents."""
    listed = source_file(digits, "distrib/amd64/ramdisk_cd/list").decode()
    tree: dict[str, RamdiskNode] = {}

    def folder(path: str) -> None:
        tree.setdefault(path, RamdiskNode("dir", 0o755))

    for path in ("/bin", "/dev", "/etc", "/etc/signify", "/etc/ssl", "/mnt", "/mnt2", "/sbin"):
        folder(path)
    for path in ("/tmp", "/usr", "/usr/bin", "/usr/sbin", "/var", "/var/db", "/var/run"):
        folder(path)
    folder("/var/db/dhcpleased")
    for line in listed.splitlines():
        words = line.split()
        if words[:2] == ["LINK", "instbin"]:
            for word in words[2:]:
                tree[f"/{word}"] = RamdiskNode("file", 0o755, b"", 2)
        if words[:1] == ["SYMLINK"] and len(words) == 3:
            tree[f"/{words[2]}"] = RamdiskNode("link", 0o755, words[1].encode())
    for path, name in (
        ("distrib/miniroot/dot.profile", ".profile"),
        ("distrib/miniroot/install.sub", "install.sub"),
        ("distrib/amd64/common/install.md", "install.md"),
        ("etc/etc.amd64/MAKEDEV", "dev/MAKEDEV"),
    ):
        mode = 0o555 if name.endswith("MAKEDEV") else 0o644 if name == "install.md" else 0o755
        tree[f"/{name}"] = RamdiskNode("file", mode, source_file(digits, path))
    for name in ("group", "protocols", "services"):
        data = source_file(digits, f"distrib/miniroot/{name}")
        tree[f"/etc/{name}"] = RamdiskNode("file", 0o644, data)
    tree["/var/tzlist"] = RamdiskNode("file", 0o644, b"Europe/\nEurope/Paris\nUTC\n")
    return tree
