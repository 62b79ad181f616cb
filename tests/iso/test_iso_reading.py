"""Reading ISO images made by xorriso, genisoimage, pycdlib and OpenBSD's mkhybrid."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
from pathlib import Path

import pytest

from obsdimg.iso import BootEntry, Iso, IsoError
from support import iso_judges as judges

SECTOR = 2048


def seen_by_us(path: Path) -> dict[str, judges.Found]:
    with Iso.open(path) as iso:
        found = {}
        for entry in iso.entries():
            if entry.kind == "file":
                what = hashlib.sha256(iso.read(entry.path)).hexdigest()
                found[entry.path] = judges.Found("file", entry.mode, entry.mtime, what)
            elif entry.kind == "link":
                found[entry.path] = judges.Found("link", 0, 0, entry.target or "")
            else:
                found[entry.path] = judges.Found("dir", entry.mode, 0, "")
        return found


def test_names_modes_times_and_bytes_are_what_xorriso_extracts(
    medium: Path, tmp_path: Path
) -> None:
    judges.need("xorriso")
    ours, theirs = seen_by_us(medium), judges.by_xorriso(medium, tmp_path)
    if medium.name == "dirty.iso":  # xorriso extracts a catalog of its own making
        del ours["/6.6/amd64/boot.catalog"], theirs["/6.6/amd64/boot.catalog"]
    assert ours == theirs


def test_names_modes_times_and_bytes_are_what_bsdtar_extracts(medium: Path, tmp_path: Path) -> None:
    judges.need("bsdtar")
    ours = seen_by_us(medium)
    ours.pop("/rr_moved", None)  # bsdtar hides the folder of relocated directories
    assert ours == judges.by_bsdtar(medium, tmp_path)


def test_boot_entries_for_bios_and_efi_are_found_with_their_files(xorriso_iso: Path) -> None:
    with Iso.open(xorriso_iso) as iso:
        bios, efi = iso.boot_entries
        assert (bios.platform, bios.media, bios.sector_count) == ("bios", "none", 4)
        assert (efi.platform, efi.media) == ("efi", "none")
        assert (bios.path, efi.path) == ("/7.8/amd64/cdbr", "/7.8/amd64/eficdboot")
        assert iso.volume_id == "OpenBSD/amd64   7.8 Install CD"


def test_junk_behind_the_last_entry_of_a_boot_catalog_is_no_entry(
    standin_iso: Path, tmp_path: Path
) -> None:
    with Iso.open(standin_iso) as iso:
        clean, sector = iso.boot_entries, iso.catalog_sector
    assert sector is not None
    for index, junk in enumerate(JUNK):
        dirty = tmp_path / f"{index}.iso"
        shutil.copy(standin_iso, dirty)
        judges.dirty_catalog(dirty, junk, sector)
        with Iso.open(dirty) as iso:
            assert iso.boot_entries == clean


JUNK = [
    b"\xff" * 1984,
    b"\x44" + b"\x00" * 31 + b"\x88" * 64,
    b"\x91\xef\x01\x00" + b"\x00" * 28 + b"\xff" * 64,  # a section whose entry cannot be
    b"\x90\x00\xff\xff" + b"\x00" * 28,  # more entries than fit
    b"\x91\x07\x01\x00" + b"\x00" * 28 + b"\x88" + b"\x00" * 31,  # no such platform
    b"\x91\xef\x01\x00" + b"\x00" * 28 + b"\x88\x00" + b"\xff" * 30,  # an image behind the end
]


def test_pycdlib_refuses_a_dirty_catalog_which_is_why_it_is_hidden_from_it(
    standin_iso: Path, tmp_path: Path
) -> None:
    pycdlib = pytest.importorskip("pycdlib")
    dirty = tmp_path / "dirty.iso"
    shutil.copy(standin_iso, dirty)
    with Iso.open(standin_iso) as iso:
        judges.dirty_catalog(dirty, JUNK[0], iso.catalog_sector or 0)
    with pytest.raises(pycdlib.pycdlibexception.PyCdlibInvalidISO):
        pycdlib.PyCdlib().open(str(dirty))


@pytest.mark.media
def test_the_genuine_cd_has_three_names_for_one_extent(
    genuine_iso: Path,
) -> None:
    with Iso.open(genuine_iso) as iso:
        assert iso.volume_id == "OpenBSD/alpha   6.6 boot-only CD"
        assert iso.application_id == "OpenBSD 6.6 alpha bootonly CD"
        assert iso.boot_entries == []
        extents = {
            e.extent for e in iso.entries() if e.path.startswith(("/bsd", "/6.6/alpha/bsd."))
        }
        assert len(extents) == 1


def test_a_file_is_a_seekable_stream(standin_iso: Path) -> None:
    with Iso.open(standin_iso) as iso, iso.open_file("/6.6/amd64/bsd.rd") as stream:
        whole = iso.read("/6.6/amd64/bsd.rd")
        assert stream.read(4) == b"\x7fELF"
        assert stream.seek(-10, io.SEEK_END) == len(whole) - 10
        assert stream.read(100) == whole[-10:]
        assert stream.read() == b""
        stream.seek(5000)
        assert stream.read(70000) == whole[5000:75000]


def test_a_missing_name_and_a_directory_are_errors_that_name_them(standin_iso: Path) -> None:
    with Iso.open(standin_iso) as iso:
        assert iso.exists("/etc/boot.conf")
        assert not iso.exists("/etc/boot.con")
        with pytest.raises(IsoError, match=r"no /bsd\.none in it"):
            iso.read("/bsd.none")
        with pytest.raises(IsoError, match="/etc is no plain file"):
            iso.read("/etc")


def patched(source: Path, target: Path, *patches: tuple[int, bytes]) -> Path:
    shutil.copy(source, target)
    with target.open("r+b") as stream:
        for offset, data in patches:
            stream.seek(offset)
            stream.write(data)
    return target


def test_each_kind_of_bad_file_has_its_own_message(standin_iso: Path, tmp_path: Path) -> None:
    whole = standin_iso.read_bytes()
    udf = b"\x00" * 16 * SECTOR + b"".join(
        b"\x00" + name + b"\x01" + b"\x00" * (SECTOR - 7) for name in (b"BEA01", b"NSR02", b"TEA01")
    )
    cases = {
        "the file is empty": b"",
        "not an ISO 9660 image, or truncated: only 5 bytes": b"hello",
        "not an ISO 9660 image": b"\x00" * 40 * SECTOR,
        "a UDF image without ISO 9660": udf,
        "the volume descriptors have no end": whole[: 17 * SECTOR] + b"\x00" * SECTOR * 9,
        f"truncated: {len(whole) - 1} of {len(whole)} bytes": whole[:-1],
        f"truncated: {20 * SECTOR} of {len(whole)} bytes": whole[: 20 * SECTOR],
    }
    for index, (message, data) in enumerate(cases.items()):
        path = tmp_path / f"{index}.iso"
        path.write_bytes(data)
        with pytest.raises(IsoError) as caught:
            Iso.open(path)
        assert caught.value.message == f"{path}: {message}"
        assert caught.value.hint


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(IsoError, match="no such file"):
        Iso.open(tmp_path / "none.iso")
    with pytest.raises(IsoError, match="not a regular file"):
        Iso.open(tmp_path)


PVD = 16 * SECTOR


def both32(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def test_damaged_structures_are_errors(standin_iso: Path, tmp_path: Path) -> None:
    with Iso.open(standin_iso) as iso:
        top, etc = iso.entry("/"), iso.entry("/etc")
        assert top is not None and etc is not None
        catalog = (iso.catalog_sector or 0) * SECTOR
    root = top.extent * SECTOR
    at = standin_iso.read_bytes().index(both32(etc.extent), root) - 2
    name_at = standin_iso.read_bytes().index(b"NM\x08\x01\x00etc", at) + 5
    cases: list[tuple[str, int, bytes]] = [
        ("logical blocks of 512 bytes", PVD + 128, struct.pack("<H", 512)),
        ("size of the volume: its two copies differ", PVD + 80, b"\x01"),
        ("extent location disagree", PVD + 158, b"\x01"),
        ("4294967295 bytes", PVD + 166, both32(0xFFFFFFFF)),
        ("extent location disagree", at + 2, b"\xff"),
        ("loop", at + 2, both32(root // SECTOR)),
        ("damaged", at + 2, both32(0x7FFFFFFF)),
        ("several extents", at + 25, b"\x82"),
        ("extended attribute record", at + 1, b"\x01"),
        ("damaged", at, b"\x01"),
        ("a file named 'e/c'", name_at + 1, b"/"),
        ("El Torito", catalog + 2, b"\x01"),
        ("first entry of the El Torito boot catalog", catalog + 32, b"\x01"),
    ]
    for index, (message, offset, data) in enumerate(cases):
        path = patched(standin_iso, tmp_path / f"{index}.iso", (offset, data))
        with pytest.raises(IsoError) as caught:
            Iso.open(path)
        assert message in caught.value.message, caught.value.message
        assert caught.value.message.startswith(f"{path}: ")
        assert "\n" not in caught.value.message


def test_names_that_would_leave_their_folder_are_refused(xorriso_iso: Path, tmp_path: Path) -> None:
    data = xorriso_iso.read_bytes()
    at = data.index(b"NM\x08\x01\x00etc")
    path = patched(xorriso_iso, tmp_path / "x.iso", (at + 5, b"../"))
    with pytest.raises(IsoError, match="a file named"):
        Iso.open(path)


def test_an_image_without_rock_ridge_is_listed_by_its_iso_names(
    sample_tree: Path, tmp_path: Path
) -> None:
    judges.need("genisoimage")
    path = tmp_path / "plain.iso"
    judges.run("genisoimage", "-quiet", "-o", path, sample_tree / "etc")
    with Iso.open(path) as iso:
        assert [e.path for e in iso.entries()] == ["/BOOT.CON"]
        assert not iso.has_rock_ridge


def test_a_boot_entry_says_what_the_catalog_says(standin_iso: Path) -> None:
    with Iso.open(standin_iso) as iso:
        lba = next(e.extent for e in iso.entries() if e.path == "/6.6/amd64/cdbr")
        assert iso.boot_entries == [
            BootEntry("bios", True, "none", 0, 0, 4, lba, "/6.6/amd64/cdbr")
        ]
