"""Edited images before a genuine kernel and a genuine fsck_ffs (OpenBSD 5.1, QEMU).

Slow because OpenBSD boots twice, about 20 seconds each.
"""

from __future__ import annotations

import functools
import io
import re
import tarfile
import tempfile
from pathlib import Path

import pytest
from dissect.ffs import FFS

from obsdimg.ffs import FileSystem, NoRoomError, make_image
from obsdimg.kernel.bootkernel import BootKernel
from support.ffs_judges import makefs, problems, read_tree
from support.floppy_console import Floppy
from support.genuine_installer import genuine_ramdisk, media

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.media]
MB = 1 << 20


@functools.cache
def floppy_kernel() -> BootKernel:
    floppy = FFS(io.BytesIO(media("floppy51-i386.img").read_bytes()))
    return BootKernel.parse(bytes(floppy.get("bsd").open().read()))


def edited(image: bytes) -> bytes:
    """Every kind of change: directories that grow, links, indirect blocks, replaced files."""
    fs = FileSystem(image)
    fs.mkdir("/new", mode=0o750)
    fs.mkdir("/new/sub")
    for n in range(40):
        fs.write_file(f"/new/sub/{'long' * 10}{n}", bytes([n]) * (n * 61))
    fs.symlink("s" * 59, "/new/short")
    fs.symlink("l" * 95, "/new/long")
    fs.write_file("/new/big", bytes(n % 256 for n in range(90_001)), mode=0o4711, uid=7, gid=8)
    fs.write_file("/new/big", bytes(n % 251 for n in range(120_001)), mode=0o4711, uid=7, gid=8)
    for n in range(0, 40, 3):
        fs.remove(f"/new/sub/{'long' * 10}{n}")
    for path in [p for p, s in fs.walk() if s.kind == "file" and p.startswith("/etc/")][:3]:
        fs.write_file(path, fs.read_file(path) + b"# a line more\n")
    return fs.image()


def many_groups() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc" / "motd").write_text("hello\n" * 2000)
        # makefs makes no lost+found and fsck_ffs wants none.
        return makefs(Path(name), tree, 6 * MB, bsize=8192, fsize=1024, maxbpcg=100, density=4096)


SUMMARY = re.compile(r"^(\d+) files, (\d+) used, (\d+) free \((\d+) frags, (\d+) blocks", re.M)


def complaints(report: str) -> list[str]:
    """What fsck_ffs says beyond its headings and its last line."""
    ignored = ("** ", "SALVAGE? no")
    lines = [line.strip() for line in report.splitlines()]
    return [
        line for line in lines if line and not line.startswith(ignored) and not SUMMARY.match(line)
    ]


IMAGES = {
    "6.6 alpha": genuine_ramdisk,
    "5.1 i386": lambda: floppy_kernel().ramdisk,
    "many groups": many_groups,
    "ours": lambda: make_image(2 * MB),
}


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_a_genuine_kernel_and_fsck_accept_an_edited_image(name: str, tmp_path: Path) -> None:
    before = IMAGES[name]()
    after = edited(before)
    assert problems(after) == []
    disks = [tmp_path / "before.img", tmp_path / "after.img", tmp_path / "archive.img"]
    disks[0].write_bytes(before)
    disks[1].write_bytes(after)
    disks[2].write_bytes(bytes(8 * MB))
    with Floppy(media("floppy51-i386.img"), disks, keep=disks[2:]) as shell:
        shell.run("cd /dev && sh MAKEDEV wd0 wd1 wd2; cd /")
        old = shell.run("fsck_ffs -fn /dev/rwd0c")
        new = shell.run("fsck_ffs -fn /dev/rwd1c")
        shell.run("mount -r -t ffs /dev/wd1c /mnt")
        shell.run("cd /mnt && pax -w -x ustar -f /dev/rwd2c . ; cd /; umount /mnt")
        # The kernel's own allocator works on our maps, and leaves nothing to mend.
        shell.run("mount -t ffs /dev/wd1c /mnt")
        shell.run("mkdir /mnt/theirs; cat /mnt/new/big >/mnt/theirs/copy; rm -r /mnt/new/sub")
        used = shell.run("ls -l /mnt/theirs; umount /mnt")
        later = shell.run("fsck_ffs -fn /dev/rwd1c")
    assert "Phase 5" in old
    assert complaints(new) == complaints(old)
    assert "120001" in used
    assert complaints(later) == complaints(old)

    counts = SUMMARY.search(new)
    free = FileSystem(after).free()
    assert counts is not None
    assert (int(counts[4]), int(counts[5])) == (free.fragments, free.blocks)

    with tarfile.open(disks[2]) as archive:
        seen = {
            "/" + m.name.removeprefix("./"): (
                m.mode & 0o7777,
                m.linkname.encode() if m.issym() else b"",
                archive.extractfile(m).read() if m.isreg() else b"",  # type: ignore[union-attr]
            )
            for m in archive
            if (m.isreg() or m.issym()) and m.name not in (".",)
        }
    tree = read_tree(after)
    assert len([p for p in seen if p.startswith("/new/")]) == 29
    for path, (mode, target, content) in seen.items():
        kind, bits, expected = tree[path]
        assert (target or content) == expected, path
        assert kind == "link" or mode == bits, path


def test_a_file_put_into_the_floppys_own_ramdisk_is_there_when_it_runs(tmp_path: Path) -> None:
    image = media("floppy51-i386.img").read_bytes()
    outer = FileSystem(image)
    kernel = BootKernel.parse(outer.read_file("/bsd"))
    inner = FileSystem(kernel.ramdisk)
    text = b"obsdimg was here\n" * 50
    inner.mkdir("/obsdimg")
    inner.write_file("/obsdimg/hello", text, mode=0o640, uid=0, gid=5, mtime=1570882929)
    inner.symlink("obsdimg/hello", "/hello")
    profile = inner.read_file("/.profile")
    inner.write_file("/.profile", profile + b"print profile-was-changed\n")
    try:
        # The floppy has no block to spare: packed as OpenBSD does it, gzip -9n.
        outer.write_file("/bsd", kernel.with_ramdisk(inner.image(), level=9), mode=0o644)
    except NoRoomError as error:
        pytest.fail(f"the rebuilt kernel does not fit the floppy: {error.message}")
    assert problems(outer.image()) == []
    path = tmp_path / "floppy.img"
    path.write_bytes(outer.image())
    with Floppy(path) as shell:
        assert "OpenBSD" in shell.run("dmesg | sed -n 1,3p")
        assert shell.run("cat /hello").encode() == text
        assert "-rw-r-----  1 root  operator  850 Oct 12  2019" in shell.run("ls -l /obsdimg/hello")
        assert "print profile-was-changed" in shell.run("sed -n '$p' /.profile")
        assert "rd0a on / " in shell.run("mount") or "/dev/rd0a" in shell.run("df /")
