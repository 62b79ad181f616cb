"""The boot kernel: found, taken out and put back in all forms in which it occurs."""

from __future__ import annotations

import functools
import gzip
import io
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pycdlib
import pytest
from dissect.ffs import FFS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.core.errors import ObsdimgError
from obsdimg.ffs import FileSystem, make_image
from obsdimg.kernel.bootkernel import BootKernel, BootKernelError
from support.ffs_judges import problems, read_tree
from support.genuine_installer import genuine_ramdisk, media

MB = 1 << 20
BASE = 0xFFFFFFFF81000000


def elf(
    ramdisk: bytes, *, wide: bool = True, symbols: bool = True, size: int | None = None
) -> bytes:
    """A kernel: one loaded segment of text, rd_root_size and rd_root_image; symbol table."""
    base = BASE if wide else 0xD0200000
    head = struct.calcsize("<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH")
    phent, shent = (56, 64) if wide else (32, 40)
    start = 0x1000
    # The magic number also occurs as an operand in code, as in every kernel.
    text = (b"\x90" * 100 + struct.pack("<I", 0x011954)).ljust(4096, b"\x90")
    number = struct.pack("<I", len(ramdisk) if size is None else size).ljust(64, b"\0")
    body = text + number + ramdisk + b"\xcc" * 100
    size_at, image_at = base + len(text), base + len(text) + len(number)
    strings = b"\0rd_root_size\0rd_root_image\0"
    table = b""
    for name, value in ((0, 0), (1, size_at), (14, image_at)):
        section = 1 if name else 0
        if wide:
            table += struct.pack("<IBBHQQ", name, 0x11, 0, section, value, 0)
        else:
            table += struct.pack("<IIIBBH", name, value, 0, 0x11, 0, section)
    out = bytearray(start) + body
    sections = [(0, 0, 0, 0), (1, start, len(body), 0)]
    if symbols:
        sections += [(2, len(out), len(table), 3), (3, len(out) + len(table), len(strings), 0)]
        out += table + strings
    shoff = len(out)
    for kind, offset, length, link in sections:
        if wide:
            entry = struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, length, link, 0, 8, 24)
        else:
            entry = struct.pack("<10I", 0, kind, 0, 0, offset, length, link, 0, 4, 16)
        out += entry
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    fixed = (2, 62 if wide else 3, 1, base, head, shoff, 0, head, phent, 1, shent, len(sections), 0)
    out[:head] = struct.pack("<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH", ident, *fixed)
    if wide:
        segment = struct.pack("<IIQQQQQQ", 1, 7, start, base, base, len(body), len(body), 4096)
    else:
        segment = struct.pack("<8I", 1, start, base, base, len(body), len(body), 7, 4096)
    out[head : head + phent] = segment
    return bytes(out)


@functools.cache
def ramdisk() -> bytes:
    fs = FileSystem(make_image(MB))
    fs.write_file("/install.sub", b"#!/bin/ksh\n" * 100)
    return fs.image()


def squeeze(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=1)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_the_ramdisk_is_found_and_replaced(wide: bool, symbols: bool, packed: bool) -> None:
    plain = elf(ramdisk(), wide=wide, symbols=symbols)
    kernel = BootKernel.parse(squeeze(plain) if packed else plain)
    assert kernel.gzipped is packed
    assert kernel.located_by == ("symbols" if symbols else "superblock")
    assert kernel.machine == ("x86-64" if wide else "i386")
    assert kernel.ramdisk == ramdisk()
    fs = FileSystem(kernel.ramdisk)
    fs.write_file("/obsdimg.sh", b"print hello\n")
    result = kernel.with_ramdisk(fs.image())
    assert (result[:2] == b"\x1f\x8b") is packed
    unpacked = gzip.decompress(result) if packed else result
    assert len(unpacked) == len(plain)
    start = kernel.ramdisk_offset
    assert unpacked[:start] == plain[:start]
    assert unpacked[start + MB :] == plain[start + MB :]
    assert read_tree(unpacked[start : start + MB])["/obsdimg.sh"][2] == b"print hello\n"
    assert result == kernel.with_ramdisk(fs.image())
    assert BootKernel.parse(result).ramdisk == fs.image()


def test_binutils_agree_with_the_kernel_made_here(tmp_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("binutils are not installed")
    path = tmp_path / "bsd"
    path.write_bytes(elf(ramdisk()))
    listing = subprocess.run(
        ["readelf", "-lsW", str(path)], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    assert "rd_root_image" in listing
    assert "LOAD" in listing


def test_gzip_of_the_result_holds_no_time_and_no_name() -> None:
    kernel = BootKernel.parse(squeeze(elf(ramdisk())))
    assert kernel.with_ramdisk(ramdisk())[:10] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3])


def test_a_ramdisk_larger_than_its_file_system_keeps_its_length() -> None:
    padded = ramdisk() + bytes(4096)
    kernel = BootKernel.parse(elf(padded))
    assert kernel.ramdisk == padded
    assert len(FileSystem(kernel.ramdisk).image()) == len(padded)


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def changed(at: int, new: bytes) -> bytes:
    image = ramdisk()
    return image[:at] + new + image[at + len(new) :]


def ffs2() -> bytes:
    """Enough of an FFS2 superblock to be recognised, at 64 KB."""
    image = bytearray(MB)
    struct.pack_into("<3i", image, 65536 + 48, 16384, 2048, 8)
    struct.pack_into("<I", image, 65536 + 1372, 0x19540119)
    return bytes(image)


def big_endian() -> bytes:
    image = bytearray(MB)
    struct.pack_into(">3i", image, 8192 + 48, 8192, 1024, 8)
    struct.pack_into(">I", image, 8192 + 1372, 0x011954)
    return bytes(image)


BAD: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "not an ELF"),
    ("text", lambda: b"hello\n" * 100, "not an ELF"),
    ("cut gzip", lambda: squeeze(elf(ramdisk()))[:-100], "end too early"),
    ("damaged gzip", lambda: squeeze(elf(ramdisk()))[:-8] + bytes(8), "damaged gzip"),
    ("tail after gzip", lambda: squeeze(elf(ramdisk())) + b"more", "follows the gzip"),
    ("gzip of text", lambda: squeeze(b"hello"), "not an ELF"),
    ("header only", lambda: elf(ramdisk())[:64], "outside of the file"),
    ("cut kernel", lambda: elf(ramdisk(), symbols=False)[: MB // 2], "outside of the file"),
    (
        "big-endian kernel",
        lambda: elf(ramdisk())[:5] + b"\2" + elf(ramdisk())[6:],
        "big-endian",
    ),
    ("kernel without a ramdisk", lambda: elf(b"", symbols=False), "no ramdisk"),
    (
        "kernel never filled in",
        lambda: elf(b"|This is the root ramdisk!\n".ljust(MB, b"\0")),
        "never filled",
    ),
    ("size too large", lambda: elf(ramdisk(), size=8 * MB), "not in the file"),
    ("size too small", lambda: elf(ramdisk(), size=MB // 2), "in a ramdisk of"),
    ("FFS2 by symbols", lambda: elf(ffs2()), "FFS2"),
    ("FFS2 stripped", lambda: elf(ffs2(), symbols=False), "FFS2"),
    ("big-endian FFS by symbols", lambda: elf(big_endian()), "big-endian"),
    ("big-endian FFS stripped", lambda: elf(big_endian(), symbols=False), "big-endian"),
    ("damaged by symbols", lambda: elf(changed(8192 + 120, b"\0")), "impossible"),
    ("damaged stripped", lambda: elf(changed(8192 + 120, b"\0"), symbols=False), "impossible"),
    ("no backup", lambda: elf(changed(16384, bytes(1376)), symbols=False), "backup differ"),
    ("no size", lambda: elf(ramdisk(), symbols=False, size=17), "no rd_root_size"),
    ("two ramdisks", lambda: elf(ramdisk() + ramdisk(), symbols=False, size=MB), "2 ramdisks"),
]


@pytest.mark.parametrize(("make", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_no_usable_kernel_is_refused_with_one_line(
    make: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(ObsdimgError, match=message) as caught:
        BootKernel.parse(make())
    assert "\n" not in caught.value.message


def test_a_ramdisk_of_another_length_is_refused() -> None:
    with pytest.raises(BootKernelError, match="does not replace"):
        BootKernel.parse(elf(ramdisk())).with_ramdisk(ramdisk()[:-512])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=4),
    tail=st.booleans(),
    symbols=st.booleans(),
)
def test_flipped_bytes_in_the_tables_are_refused_or_harmless(
    flips: list[tuple[int, int]], tail: bool, symbols: bool
) -> None:
    small = elf(make_image(100_000, inodes=32), symbols=symbols)
    data = bytearray(small)
    for at, mask in flips:
        where = len(data) - 1 - at % 500 if tail else at % 120
        data[where] ^= mask
    try:
        kernel = BootKernel.parse(bytes(data))
    except ObsdimgError:
        return
    assert len(kernel.with_ramdisk(kernel.ramdisk)) == len(data)


@functools.cache
def alpha() -> bytes:
    iso = pycdlib.PyCdlib()
    iso.open(str(media("cd66-alpha.iso")))
    out = io.BytesIO()
    iso.get_file_from_iso_fp(out, rr_path="/bsd.rd")
    iso.close()
    return out.getvalue()


@functools.cache
def i386() -> bytes:
    floppy = FFS(io.BytesIO(media("floppy51-i386.img").read_bytes()))
    return bytes(floppy.get("bsd").open().read())


@pytest.mark.media
@pytest.mark.parametrize(
    ("read", "machine", "size"), [(alpha, "alpha", 2_940_928), (i386, "i386", 1_982_464)]
)
def test_genuine_kernels_are_stripped_and_found_by_their_superblock(
    read: Callable[[], bytes], machine: str, size: int
) -> None:
    data = read()
    kernel = BootKernel.parse(data)
    assert (kernel.gzipped, kernel.located_by, kernel.machine) == (True, "superblock", machine)
    assert len(kernel.ramdisk) == size
    assert problems(kernel.ramdisk) == []
    again = kernel.with_ramdisk(kernel.ramdisk)
    assert gzip.decompress(again) == gzip.decompress(data)
    plain = BootKernel.parse(gzip.decompress(data))
    assert not plain.gzipped
    assert plain.ramdisk == kernel.ramdisk


@pytest.mark.media
def test_the_genuine_6_6_ramdisk_is_the_one_that_others_find() -> None:
    assert BootKernel.parse(alpha()).ramdisk == genuine_ramdisk()


@pytest.mark.media
@pytest.mark.parametrize("read", [alpha, i386])
def test_genuine_ramdisks_take_the_files_of_an_unattended_installation(
    read: Callable[[], bytes],
) -> None:
    kernel = BootKernel.parse(read())
    fs = FileSystem(kernel.ramdisk)
    before = read_tree(kernel.ramdisk)
    fs.write_file("/obsdimg.sh", b"print hook\n" * 500, mode=0o755)
    fs.write_file("/auto_install.conf", b"System hostname = vpn\n" * 20)
    fs.write_file("/.profile", fs.read_file("/.profile") + b"# more\n", mode=0o644)
    after = read_tree(FileSystem(BootKernel.parse(kernel.with_ramdisk(fs.image())).ramdisk).image())
    assert problems(fs.image()) == []
    assert after["/obsdimg.sh"] == ("file", 0o755, b"print hook\n" * 500)
    assert after["/.profile"][2] == before["/.profile"][2] + b"# more\n"
    touched = {"/obsdimg.sh", "/auto_install.conf", "/.profile"}
    assert {p: v for p, v in after.items() if p not in touched} == {
        p: v for p, v in before.items() if p not in touched
    }
