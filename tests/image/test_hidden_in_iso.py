"""What an ISO says to its boot loader or firmware and not to us is seen without the manifest, too.

Each change leaves every file as it is for whoever reads directories and Rock Ridge.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.iso import Iso
from obsdimg.iso.view import SECTOR

FIRST, CATALOG = 16 * SECTOR, 71


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hidden") / "demo"
    main(["demo", "-q", str(folder)])
    return folder


@pytest.fixture
def image(made: Path, tmp_path: Path) -> Path:
    """The ISO without its manifest."""
    return Path(shutil.copy(made / "images/demo-66-amd64.iso", tmp_path))


def _at(data: bytearray, path: Path, name: str) -> int:
    """Where the record of `name` is."""
    with Iso.open(path) as iso:
        parent = iso.entry(name.rpartition("/")[0] or "/")
        own = iso.entry(name)
        assert parent is not None and own is not None
        at, end = parent.extent * SECTOR, parent.extent * SECTOR + parent.size
        while at < end:
            length = data[at] or SECTOR - at % SECTOR
            found = bytes(data[at + 33 : at + 33 + data[at + 32]])
            if data[at] and found == own.iso_name.encode():
                return at
            at += length
    raise AssertionError(name)


def _catalog(data: bytearray) -> int:
    return int(struct.unpack_from("<I", data, FIRST + SECTOR + CATALOG)[0]) * SECTOR


def _more(data: bytearray, what: bytes) -> int:
    """Put `what` behind the end; the sector where it is."""
    sector = len(data) // SECTOR
    data += what.ljust(-(-len(what) // SECTOR) * SECTOR, b"\0")
    return sector


def path_table(data: bytearray, path: Path) -> None:
    """The boot loader's own /etc: its path table gives the name to another directory."""
    for order, where in (("<", 140), (">", 148)):
        (table,) = struct.unpack_from(f"{order}I", data, FIRST + where)
        one, two = (data.index(name, table * SECTOR) for name in (b"ETC", b"6.6"))
        data[one - 6 : one - 2], data[two - 6 : two - 2] = (
            data[two - 6 : two - 2],
            data[one - 6 : one - 2],
        )


def other_name(data: bytearray, path: Path) -> None:
    """The boot loader takes another file for the kernel."""
    first, second = (_at(data, path, f"/6.6/amd64/{n}") for n in ("base66.tgz", "comp66.tgz"))
    for at in (first, second):
        assert data[at + 32] == 10
    data[first + 33 : first + 43] = b"COMP66.TGZ"
    data[second + 33 : second + 43] = b"BASE66.TGZ"


def name_twice(data: bytearray, path: Path) -> None:
    """A second record by a Rock Ridge name that is taken."""
    at = _at(data, path, "/6.6/amd64/comp66.tgz")
    end = at + data[at]
    name = data.index(b"comp66.tgz", at, end)
    data[name : name + 10] = b"base66.tgz"


def larger_directory(data: bytearray, path: Path) -> None:
    """The loader takes a directory's size from its first record."""
    with Iso.open(path) as iso:
        entry = iso.entry("/etc")
        assert entry is not None
        for order, at in (("<", 10), (">", 14)):
            struct.pack_into(f"{order}I", data, entry.extent * SECTOR + at, entry.size + SECTOR)


def slot(data: bytearray, path: Path) -> None:
    """Firmware of UEFI looks at every slot of the catalog, whatever announces it."""
    sector = _more(data, b"FAT")
    at = _catalog(data) + 1024
    struct.pack_into("<BBHBBHI", data, at, 0x88, 0, 0, 0xEF, 0, 64, sector)


def loads_more(data: bytearray, path: Path) -> None:
    struct.pack_into("<H", data, _catalog(data) + 32 + 6, 8)


def second_record(data: bytearray, path: Path) -> None:
    """Another boot record, with a catalog of its own."""
    catalog = _more(data, data[_catalog(data) : _catalog(data) + SECTOR])
    record = data[FIRST + SECTOR : FIRST + 2 * SECTOR]
    struct.pack_into("<I", record, CATALOG, catalog)
    end = data[FIRST + 2 * SECTOR : FIRST + 3 * SECTOR]
    data[FIRST + 2 * SECTOR : FIRST + 4 * SECTOR] = record + end


def udf(data: bytearray, path: Path) -> None:
    """A second file system, announced behind the descriptors."""
    (size,) = struct.unpack_from("<I", data, FIRST + 132)
    for order, where in (("<", 140), (">", 148)):
        (table,) = struct.unpack_from(f"{order}I", data, FIRST + where)
        moved = _more(data, data[table * SECTOR : table * SECTOR + size])
        struct.pack_into(f"{order}I", data, FIRST + where, moved)
    data[FIRST + 3 * SECTOR : FIRST + 6 * SECTOR] = bytes(3 * SECTOR)
    for number, name in enumerate((b"BEA01", b"NSR02", b"TEA01"), 3):
        at = FIRST + number * SECTOR
        data[at : at + 7] = b"\0" + name + b"\1"


def behind(data: bytearray, path: Path) -> None:
    _more(data, b"EFI PART")


def in_a_gap(data: bytearray, path: Path) -> None:
    """Behind the last byte of a file, in its last sector."""
    with Iso.open(path) as iso:
        entry = iso.entry("/etc/boot.conf")
        assert entry is not None and entry.size < 2000
        at = entry.extent * SECTOR + 2000
    data[at : at + 4] = b"here"


def hybrid(data: bytearray, path: Path) -> None:
    """A partition table of the BIOS."""
    struct.pack_into("<BBHBBHII", data, 446, 0x80, 0, 1, 0xEF, 0xFE, 0xFFFF, 64, 4096)
    data[510:512] = b"\x55\xaa"


ENTRIES = "the boot entries are upstream's"
SAME = "the boot loader and the kernel see the same files"
NOTHING = "what belongs to no file is upstream's"
HIDDEN: dict[Callable[[bytearray, Path], None], str] = {
    path_table: f"{SAME}: path table: it names other directories",
    other_name: f"{SAME}: /6.6/amd64/",
    name_twice: f"{SAME}: /6.6/amd64/base66.tgz is there twice",
    larger_directory: f"{SAME}: path table: /etc says that it is of another size",
    slot: ENTRIES,
    loads_more: ENTRIES,
    second_record: "error: ",  # pycdlib takes one
    udf: f"{NOTHING}: sector 19, sector 20, sector 21",
    behind: f"{NOTHING}: sector ",
    in_a_gap: f"{NOTHING}: sector ",
    hybrid: "the system area is upstream's",
}


def _failed(image: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    code = main(["inspect", str(image), "--upstream", str(made / "upstream/install66.iso")])
    said = capsys.readouterr()
    lines = [one.split("FAIL", 1)[1].strip() for one in said.out.splitlines() if " FAIL " in one]
    lines += [one for one in said.err.splitlines() if one.startswith("error: ")]
    assert code == (1 if lines else 0)
    return lines


def test_what_was_built_hides_nothing(
    image: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _failed(image, made, capsys) == []


@pytest.mark.parametrize("change", HIDDEN, ids=lambda f: f.__name__)
def test_what_others_would_see_is_found(
    image: Path,
    made: Path,
    change: Callable[[bytearray, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = bytearray(image.read_bytes())
    change(data, image)
    image.write_bytes(data)
    lines = _failed(image, made, capsys)
    assert any(line.startswith(HIDDEN[change]) for line in lines), lines


def test_a_manifest_that_names_no_files_makes_nothing_ok(
    image: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib
    import json

    value = json.loads((made / "images/demo-66-amd64.iso.json").read_text())
    value["iso"] |= {"sha256": hashlib.sha256(image.read_bytes()).hexdigest()}
    for part in ("ramdisk", "site_set"):
        value[part] = []
    Path(f"{image}.json").write_text(json.dumps(value))
    main(["inspect", str(image)])
    said = capsys.readouterr().out
    assert "not checked  files in the ramdisk are those of the manifest: it names none" in said
    assert "not checked  the manifest is this project's" in said
