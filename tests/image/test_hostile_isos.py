"""ISOs that somebody made to keep us busy: each command says one line, soon, in little memory."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.core.errors import ObsdimgError
from obsdimg.ffs import FileSystem
from obsdimg.kernel.bootkernel import BootKernel, BootKernelError
from obsdimg.kernel.elf import Elf, ElfError
from obsdimg.standin.elf import standin_kernel
from obsdimg.standin.ramdisk import make_ramdisk, standin_files
from support.bounded import make_iso, run_measured

SETS = "6.6/amd64"


def ramdisk() -> bytes:
    return make_ramdisk(standin_files(b"", "6.6", 0), 0)


def good_kernel() -> bytes:
    return standin_kernel(ramdisk(), b"obsdimg: a stand-in")


def symbol_tables(count: int = 60_000) -> bytes:
    """A kernel with `count` symbol tables, all at the same four megabytes."""
    kernel = bytearray(good_kernel())
    table = len(kernel)
    symbol = struct.pack("<IBBHQQ", 1, 0x11, 0, 1, 0, 0)
    kernel += symbol * ((4 << 20) // len(symbol)) + b"\0name\0"
    sections = len(kernel)
    header = struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, table, 4 << 20, 1, 0, 8, 24)
    kernel += header * count
    struct.pack_into("<Q", kernel, 40, sections)
    struct.pack_into("<HH", kernel, 58, 64, count)
    return bytes(kernel)


def endless_names() -> bytes:
    """A kernel whose symbols' names have no end: each would be the rest of the file."""
    kernel = bytearray(good_kernel())
    symbols, strings = len(kernel), 4 << 20
    count = 100_000
    kernel += b"".join(struct.pack("<IBBHQQ", n + 1, 0x11, 0, 1, 0, 0) for n in range(count))
    at = len(kernel)
    kernel += b"x" * strings
    sections = len(kernel)
    kernel += struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, symbols, 24 * count, 1, 0, 8, 24)
    kernel += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at, strings, 0, 0, 1, 0)
    struct.pack_into("<Q", kernel, 40, sections)
    struct.pack_into("<HH", kernel, 58, 64, 2)
    return bytes(kernel)


def sparse_inodes(count: int = 896) -> bytes:
    """A ramdisk in which every free inode is a sparse file as large as the file system."""
    system = FileSystem(ramdisk())
    made = 0
    while made < count and system.free().inodes:
        system.write_file(f"/s{made}", b"")
        made += 1
    volume = system.volume
    size = volume.sb.size * volume.sb.fsize
    for n in range(made):
        ino = system.existing(f"/s{n}")
        volume.put_dinode(ino, replace(volume.dinode(ino), size=size))
    return standin_kernel(system.image(), b"obsdimg: a stand-in")


def full_of_magic() -> bytes:
    """A stripped kernel that could hold a file system at every fourth byte."""
    head = b"\x7fELF\x02\x01\x01" + bytes(57)
    return head + (0x011954).to_bytes(4, "little") * (10 << 20)


def kernel_bomb() -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(stream.compress(bytes(1 << 20)) for _ in range(1024)), stream.flush()])


KERNELS: dict[str, Callable[[], bytes]] = {
    "60,000 symbol tables": symbol_tables,
    "symbols whose names do not end": endless_names,
    "896 sparse inodes": sparse_inodes,
    "magic numbers everywhere": full_of_magic,
    "a bomb of 1 GB": kernel_bomb,
    "no kernel": lambda: bytes(60 << 20),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What becomes the ISO: a good one, so far."""
    if shutil.which("genisoimage") is None:
        pytest.skip("genisoimage is not installed")
    made = tmp_path / "iso"
    (made / SETS).mkdir(parents=True)
    (made / "etc").mkdir()
    (made / "etc/boot.conf").write_text(f"set image /{SETS}/bsd.auto\n")
    (made / SETS / "bsd.auto").write_bytes(good_kernel())
    (made / SETS / "bsd.rd").write_bytes(good_kernel())
    (made / SETS / "SHA256").write_text(f"SHA256 (bsd) = {'0' * 64}\n")
    return made


def judge(folder: Path) -> None:
    """Every command that reads a foreign ISO."""
    iso = folder.parent / "hostile.iso"
    make_iso(folder, iso)
    for words in (("inspect", iso), ("rehearse", iso, "--limit", "25")):
        done = run_measured(*words, "--quiet")
        done.check()
        assert done.status in (0, 1)
        assert done.out or done.err


@pytest.mark.parametrize("name", KERNELS)
def test_a_hostile_kernel_is_one_line_soon(folder: Path, name: str) -> None:
    (folder / SETS / "bsd.auto").write_bytes(KERNELS[name]())
    judge(folder)


def site_bomb(folder: Path) -> None:
    (folder / SETS / "site66.tgz").write_bytes(kernel_bomb())


def site_sparse(folder: Path) -> None:
    """A sparse member of 20 GB."""
    hole = folder.parent / "hole"
    with hole.open("wb") as stream:
        stream.truncate(20 << 30)
    words = ["tar", "--format=gnu", "--sparse", "-czf", folder / SETS / "site66.tgz"]
    subprocess.run([*words, "-C", folder.parent, "hole"], check=True)
    hole.unlink()


def many_names(folder: Path) -> None:
    """2,000 names of one file of 16 MB."""
    first = folder / SETS / "base66.tgz"
    first.write_bytes(b"\x1f\x8b\x08" + os.urandom(16 << 20))
    for n in range(2000):
        os.link(first, folder / SETS / f"x{n}66.tgz")


def large_list(folder: Path) -> None:
    line = b"SHA256 (x%07d) = " + b"0" * 64 + b"\n"
    with (folder / SETS / "SHA256").open("wb") as stream:
        for n in range(1_000_000):
            stream.write(line % n)


def large_boot_conf(folder: Path) -> None:
    with (folder / "etc/boot.conf").open("ab") as stream:
        stream.write(b"set image " * (6 << 20))


def deep_folders(folder: Path) -> None:
    here = folder / SETS
    for _ in range(200):
        here = here / "d"
    here.mkdir(parents=True)


def many_files(folder: Path) -> None:
    for n in range(20_000):
        (folder / SETS / f"f{n}").touch()


def strange_names(folder: Path) -> None:
    for n, name in enumerate(("a\x1b[2Jb", "n\nl", "-rf", "x" * 200)):
        (folder / SETS / name).write_text(str(n))


TREES = [
    site_bomb,
    site_sparse,
    many_names,
    large_list,
    large_boot_conf,
    deep_folders,
    many_files,
    strange_names,
]


@pytest.mark.parametrize("spoil", TREES, ids=[f.__name__ for f in TREES])
def test_a_hostile_tree_is_one_line_soon(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    judge(folder)


def test_what_is_too_much_is_said_by_name() -> None:
    with pytest.raises(ElfError, match="larger than the file"):
        Elf.parse(symbol_tables(100))
    assert Elf.parse(endless_names()).symbols.keys() <= {"rd_root_size", "rd_root_image"}
    with pytest.raises(ObsdimgError, match="sparse files that are larger than the image"):
        FileSystem(BootKernel.parse(sparse_inodes()).ramdisk)
    with pytest.raises(BootKernelError, match="full of what looks like file systems"):
        BootKernel.parse(full_of_magic())
    with pytest.raises(BootKernelError, match="more than"):
        BootKernel.parse(kernel_bomb())
