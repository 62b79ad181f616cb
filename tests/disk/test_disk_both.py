"""A disk that BIOS and UEFI start: what is written where, and nothing else."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from obsdimg.disk.both import (
    DiskPatch,
    find_writer,
    patches,
    room_for,
    start_by_uefi_too,
    with_room,
)
from obsdimg.disk.content import UNIT, DiskImageError
from obsdimg.smoke.disk_search import PLAIN_START, plain_areas
from support.scripted_guest import HEAD, installed_head

SIZE = 15 * UNIT
SECTORS = SIZE // 512
LOADER = bytes(range(256)) * 4  # two sectors


def _xor(label: bytes) -> int:
    found = 0
    for word in struct.unpack("<202H", label[:404]):
        found ^= word
    return found


def test_a_partition_of_type_ef_behind_the_end_in_table_and_label() -> None:
    esp, label, entry = patches(installed_head(SECTORS), SIZE, LOADER)
    assert esp == DiskPatch(SIZE, LOADER)
    # The first free entry of the MBR: not active, type EF, 2 sectors from 30720.
    assert entry == DiskPatch(446, bytes.fromhex("00feffff effeffff 00780000 02000000"))
    assert (label.at, len(label.data)) == (65 * 512, 512)
    assert label.data[148 + 128 : 148 + 144] == bytes.fromhex(
        "02000000 00780000 0000 0000 08 00 0000"  # size, offset, high words, FS_MSDOS
    )
    assert _xor(label.data) == 0
    old = installed_head(SECTORS)[65 * 512 :]
    changed = {n for n in range(512) if old[n] != label.data[n]}
    assert changed <= {136, 137, *range(276, 292)}
    assert room_for(LOADER) == UNIT and room_for(bytes(UNIT + 1)) == 2 * UNIT
    assert room_for(b"") == 0


def _fat12(*, per: int = 4, total: int = 688, size: int = 512, spare: int = 1) -> bytes:
    """The boot sector of a FAT of the ISO's kind, and what follows it (350 KiB)."""
    values = (size, per, 1, 2, 512, total, 0xF8, spare)
    head = b"\xeb\x3c\x90mkfs.fat" + struct.pack("<HBHBHHBH", *values)
    return (head.ljust(510, b"\0") + b"\x55\xaa").ljust(358400, b"x")


@pytest.mark.parametrize(
    ("per", "total"),
    [
        (4, 35 + 339 * 4),  # a table of one sector has room for 341 entries, two of them not used
        (8, 35 + 251 * 8),  # as OpenBSD's makefs makes it: the partition's 2048 sectors end first
        (1, 688),  # full already
    ],
)
def test_the_file_system_of_the_loader_gets_room_for_another_loader(per: int, total: int) -> None:
    before = _fat12(per=per)
    after = with_room(before)
    assert len(after) == UNIT
    assert struct.unpack_from("<H", after, 19) == (total,)
    assert after[:19] == before[:19] and after[21:] == before[21:].ljust(UNIT - 21, b"\0")


@pytest.mark.parametrize(
    "loader",
    [LOADER, b"", _fat12(size=2048), _fat12(per=0), _fat12(total=0), _fat12(total=20),
     _fat12(total=9000), _fat12(spare=0)],
)  # fmt: skip
def test_what_is_no_fat12_stays_as_it_is(loader: bytes) -> None:
    assert with_room(loader) == loader


@pytest.mark.skipif(
    not (shutil.which("mkfs.fat") and shutil.which("mcopy")), reason="dosfstools, mtools"
)
def test_others_find_the_room_and_nothing_wrong(tmp_path: Path) -> None:
    image = tmp_path / "fat"
    image.write_bytes(bytes(350 << 10))
    subprocess.run(["mkfs.fat", "-F12", "-s4", image], check=True, stdout=subprocess.DEVNULL)
    loader = tmp_path / "loader"
    loader.write_bytes(bytes(range(256)) * 1000)
    subprocess.run(["mcopy", "-i", image, loader, "::BOOTX64.EFI"], check=True)
    assert subprocess.run(["mcopy", "-i", image, loader, "::A"], stderr=-3).returncode != 0
    subprocess.run(["mdel", "-i", image, "::A"], check=False, stderr=subprocess.DEVNULL)
    image.write_bytes(with_room(image.read_bytes()))
    subprocess.run(["mcopy", "-i", image, loader, "::BOOTX64.NEW"], check=True)
    subprocess.run(["fsck.fat", "-n", image], check=True, stdout=subprocess.DEVNULL)
    for name in ("BOOTX64.EFI", "BOOTX64.NEW"):
        subprocess.run(["mcopy", "-n", "-o", "-i", image, f"::{name}", tmp_path / "b"], check=True)
        assert (tmp_path / "b").read_bytes() == loader.read_bytes()


def _with(*changes: tuple[int, bytes], label_sum: bool = False) -> bytes:
    head = bytearray(installed_head(SECTORS))
    for at, data in changes:
        head[at : at + len(data)] = data
    if label_sum:
        at = 65 * 512 + 136
        (old,) = struct.unpack_from("<H", head, at)
        struct.pack_into("<H", head, at, old ^ _xor(head[65 * 512 :]))
    return bytes(head)


@pytest.mark.parametrize(
    ("head", "size", "says"),
    [
        (bytes(HEAD), SIZE, "no partition table"),
        (installed_head(SECTORS), 1 << 42, "ends at 2 TiB"),
        (_with((450, b"\x07"), (466, b"\x07"), (482, b"\x07")), SIZE, "room for another"),
        (_with((450, b"\xa6")), SIZE, "one OpenBSD partition"),
        (_with((65 * 512, b"X")), SIZE, "no disklabel"),
        (_with((65 * 512 + 20, b"X")), SIZE, "no disklabel"),  # its checksum
        (_with((454 + 48, b"\xff\xff\xff\xff")), SIZE, "no disklabel"),  # far away
        (_with((65 * 512 + 276, b"\x08"), label_sum=True), SIZE, "has a partition i"),
        (b"", SIZE, "no partition table"),
    ],
)
def test_a_disk_that_is_not_as_the_installer_leaves_it_stays_as_it_is(
    head: bytes, size: int, says: str
) -> None:
    with pytest.raises(DiskImageError, match=says) as caught:
        patches(head, size, LOADER)
    assert caught.value.hint


def test_without_the_program_that_writes_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DiskImageError, match="qemu-io is not installed") as caught:
        find_writer()
    assert "qemu-utils" in str(caught.value.hint)


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-utils is not installed")
def test_an_image_grows_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    body = bytearray(bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
    body[:HEAD] = installed_head(SECTORS)
    plain.write_bytes(body)
    disk = tmp_path / "a disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", plain, disk], check=True)
    start_by_uefi_too(disk, SIZE, LOADER)
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, tmp_path / "after"], check=True)
    after = (tmp_path / "after").read_bytes()
    expected = body + bytes(UNIT)
    for one in patches(bytes(body[:HEAD]), SIZE, LOADER):
        expected[one.at : one.at + len(one.data)] = one.data
    assert after == bytes(expected)
    assert plain_areas(disk) == ((0, PLAIN_START), (SIZE, SIZE + len(LOADER)))
    assert {p.name for p in tmp_path.iterdir()} == {"plain", "a disk.qcow2", "after"}
