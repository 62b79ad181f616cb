"""The disk in its three forms: the same units, the same hashes; what is damaged is said."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from obsdimg.core.progress import Progress
from obsdimg.disk import bmap
from obsdimg.disk.content import UNIT, DiskImage, DiskImageError, open_image
from obsdimg.disk.writing import WrittenImage, write_image

COUNT = 12
FILLED = {0, 3, 4, 11}
needs_qemu_img = pytest.mark.skipif(
    shutil.which("qemu-img") is None, reason="qemu-img is not installed"
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = random.Random(7)
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    with path.open("wb") as stream:
        for number in range(COUNT):
            # Unit 4 is zeros but for its last byte.
            unit = bytes(UNIT - 1) + b"\1" if number == 4 else source.randbytes(UNIT)
            stream.write(unit if number in FILLED else bytes(UNIT))
    return path


def _written(disk: DiskImage, form: str, path: Path) -> WrittenImage:
    with path.open("w+b") as stream:
        return write_image(disk, form, stream, Progress())  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["raw", "raw.zst"])
def test_every_form_holds_the_same_disk(raw: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.{form}"
    written = _written(open_image(raw), form, path)
    disk = raw.read_bytes()
    assert written.disk_sha256 == hashlib.sha256(disk).hexdigest()
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (written.size, written.disk_size) == (path.stat().st_size, len(disk))
    assert written.stored == len(FILLED) * UNIT
    again = open_image(path)
    assert (again.form, again.size) == (form, len(disk))
    assert [unit is not None for unit in again.units()] == [n in FILLED for n in range(COUNT)]
    assert b"".join(unit or bytes(UNIT) for unit in again.units()) == disk
    if form == "raw":
        assert path.stat().st_blocks * 512 < len(disk) - 4 * UNIT  # sparse


@needs_qemu_img
def test_a_qcow2_is_read_in_the_order_of_the_disk(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    image = open_image(path)
    assert image.form == "qcow2"
    assert b"".join(unit or bytes(UNIT) for unit in image.units()) == raw.read_bytes()
    copy = tmp_path / "copy.qcow2"
    written = _written(image, "qcow2", copy)
    assert copy.read_bytes() == path.read_bytes()
    assert written.disk_sha256 == hashlib.sha256(raw.read_bytes()).hexdigest()


def test_the_map_is_bmaptools_and_its_sums_hold(raw: Path, tmp_path: Path) -> None:
    written = _written(open_image(raw), "raw", tmp_path / "x.raw")
    data = bmap.encode(COUNT, written.ranges)
    top = ET.fromstring(data)
    assert top.get("version") == "2.0"
    text = {one.tag: (one.text or "").strip() for one in top}
    assert int(text["ImageSize"]) == COUNT * UNIT and int(text["BlockSize"]) == 4096
    assert int(text["MappedBlocksCount"]) == len(FILLED) * 256
    own = text["BmapFileChecksum"].encode()
    assert hashlib.sha256(data.replace(own, b"0" * 64)).hexdigest().encode() == own
    disk = raw.read_bytes()
    mapped = set()
    for one in top.iter("Range"):
        first, last = map(int, (one.text or "").split("-"))
        part = disk[first * 4096 : (last + 1) * 4096]
        assert hashlib.sha256(part).hexdigest() == one.get("chksum")
        mapped |= set(range(first // 256, (last + 1) // 256))
    assert mapped == FILLED


def _spoilt(raw: Path, path: Path, how: str) -> Path:
    _written(open_image(raw), "raw.zst", path)
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 4
    if how == "cut":
        del data[len(data) // 2 :]
    if how == "longer":
        data += data
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("how", "complaint"), [("bit", "is damaged"), ("cut", "ends after|is damaged")]
)
def test_a_damaged_archive_is_said(raw: Path, tmp_path: Path, how: str, complaint: str) -> None:
    path = _spoilt(raw, tmp_path / "x.raw.zst", how)
    with pytest.raises(DiskImageError, match=complaint):
        list(open_image(path).units())


@pytest.mark.parametrize("size", [0, 5, UNIT + 1])
def test_a_file_that_is_no_disk_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(size))
    with pytest.raises(DiskImageError, match="no whole number of MiB"):
        open_image(path)
    with pytest.raises(DiskImageError, match="cannot be read"):
        open_image(tmp_path / "none")
