"""Remastering: what we touch is right, and all else stays, by the word of other programs."""

from __future__ import annotations

import hashlib
import io
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pycdlib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.core.files import atomic_file
from obsdimg.iso import Iso, IsoError, Remastered, remaster
from obsdimg.standin import build_iso
from support import iso_judges as judges

EPOCH = 1_600_000_000
SECTOR = 2048


def made(
    source: Path, target: Path, changes: Mapping[str, bytes | Path], epoch: int = EPOCH
) -> Remastered:
    with target.open("w+b") as stream, Iso.open(source) as iso:
        return remaster(iso, stream, changes, epoch=epoch)


def sets_folder(medium: Path) -> str:
    with Iso.open(medium) as iso:
        (rd,) = [e.path for e in iso.entries() if re.fullmatch(r"/\d\.\d/\w+/bsd\.(rd|gz)", e.path)]
    return rd.rpartition("/")[0]


def usual_changes(medium: Path, host_file: Path) -> dict[str, bytes | Path]:
    """What a build puts in: a boot kernel from the host, sets, lists, boot.conf, a new folder."""
    folder = sets_folder(medium)
    host_file.write_bytes(os.urandom(3_000_001))
    return {
        f"{folder}/bsd.auto": host_file,
        f"{folder}/site66.tgz": b"site" * 700,
        f"{folder}/SHA256": b"SHA256 (bsd) = 0\n",
        f"{folder}/SHA256.sig": b"untrusted comment: x\n",
        "/etc/boot.conf": b"set image bsd.auto\n",
        "/obsdimg/a/b-c.d.json": b"{}",
        "/obsdimg/empty": b"",
    }


def expected(before: dict[str, judges.Found], changes: Mapping[str, bytes | Path]):
    after = dict(before)
    for path, content in changes.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        after[path] = judges.Found("file", 0o644, EPOCH, hashlib.sha256(data).hexdigest())
        parent = path.rpartition("/")[0]
        while parent:
            after.setdefault(parent, judges.Found("dir", 0o755, 0, ""))
            parent = parent.rpartition("/")[0]
    return after


def without_listings(tree: dict[str, judges.Found]) -> dict[str, judges.Found]:
    return {path: found for path, found in tree.items() if not path.endswith("/TRANS.TBL")}


@pytest.mark.parametrize("judge", [judges.by_xorriso, judges.by_bsdtar])
def test_new_files_are_there_and_all_others_keep_bytes_modes_and_times(
    medium: Path, tmp_path: Path, judge
) -> None:
    judges.need("xorriso", "bsdtar")
    changes = usual_changes(medium, tmp_path / "host")
    made(medium, tmp_path / "out.iso", changes)
    before, after = judge(medium, tmp_path), judge(tmp_path / "out.iso", tmp_path)
    assert without_listings(after) == expected(without_listings(before), changes)
    touched = {path.rpartition("/")[0] for path in expected({}, changes)}
    for path, found in before.items():
        if path.endswith("/TRANS.TBL") and path.rpartition("/")[0] not in touched:
            assert after[path] == found


def test_boot_entries_and_images_stay_in_their_sectors(medium: Path, tmp_path: Path) -> None:
    judges.need("xorriso")
    out = tmp_path / "out.iso"
    made(medium, out, usual_changes(medium, tmp_path / "host"))
    if judges.boot_report(medium):
        assert judges.boot_report(out) == judges.boot_report(medium)
    with Iso.open(medium) as old, Iso.open(out) as new:
        assert new.boot_entries == old.boot_entries
        for boot in old.boot_entries:
            size = max(boot.sector_count * 512, SECTOR)
            assert new.read_extent(boot.lba, 0, size, "") == old.read_extent(boot.lba, 0, size, "")


def test_only_directories_path_tables_and_the_descriptor_change(
    medium: Path, tmp_path: Path
) -> None:
    """System area, boot catalog with its junk, and every file's sectors are the source's."""
    out = tmp_path / "out.iso"
    made(medium, out, usual_changes(medium, tmp_path / "host"))
    old, new = medium.read_bytes(), out.read_bytes()
    changed = {
        n
        for n in range(len(old) // SECTOR)
        if old[n * SECTOR :][:SECTOR] != new[n * SECTOR :][:SECTOR]
    }
    with Iso.open(medium) as iso:
        (size,) = struct.unpack_from("<I", old, 16 * SECTOR + 132)
        little, _ = struct.unpack_from("<II", old, 16 * SECTOR + 140)
        big, _ = struct.unpack_from(">II", old, 16 * SECTOR + 148)
        tables = {place + n for place in (little, big) for n in range(-(-size // SECTOR))}
        folders = [iso.entry("/"), *(e for e in iso.entries() if e.kind == "dir")]
        allowed = {e.extent + n for e in folders if e for n in range(e.size // SECTOR)}
    assert changed <= {16} | tables | allowed
    assert 16 in changed


def test_volume_identifiers_stay(medium: Path, tmp_path: Path) -> None:
    judges.need("isoinfo")
    made(medium, tmp_path / "out.iso", {"/x": b"x"})
    assert judges.volume_ids(tmp_path / "out.iso") == judges.volume_ids(medium)


def test_short_names_follow_the_style_of_the_medium(
    standin_iso: Path, xorriso_iso: Path, tmp_path: Path
) -> None:
    judges.need("isoinfo")
    out = tmp_path / "out.iso"
    made(
        standin_iso, out, {"/6.6/amd64/bsd.auto": b"", "/6.6/amd64/SHA256.sig": b"", "/7.8/a": b""}
    )
    new = set(judges.iso_names(out)) - set(judges.iso_names(standin_iso))
    assert new == {
        "/6.6/AMD64/BSD.AUTO",
        "/6.6/AMD64/SHA256.SIG",
        "/7.8",
        "/7.8/A",
        "/7.8/TRANS.TBL",
    }
    made(xorriso_iso, out, {"/7.8/amd64/bsd.auto": b"", "/7.8/amd64/a": b"", "/9.9/x.y.z": b""})
    new = set(judges.iso_names(out)) - set(judges.iso_names(xorriso_iso))
    assert new == {"/7.8/AMD64/BSD.AUTO;1", "/7.8/AMD64/A.;1", "/9.9", "/9.9/X_Y.Z;1"}


def listing(iso: Iso, folder: str) -> list[tuple[str, str, str]]:
    text = iso.read(f"{folder}/TRANS.TBL").decode()
    return [
        (line[0], line[2:].split("\t")[0].rstrip(), line.split("\t")[1])
        for line in text.splitlines()
    ]


def test_listings_name_every_file_of_their_folder_in_order(medium: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.iso"
    made(medium, out, usual_changes(medium, tmp_path / "host"))
    with Iso.open(out) as iso:
        if medium.name == "xorriso.iso":  # a medium without listings gets none
            assert not any(e.path.endswith("/TRANS.TBL") for e in iso.entries())
            return
        folders = [""] + [e.path for e in iso.entries() if e.kind == "dir"]
        for folder in folders:
            names = {
                e.path.rpartition("/")[2]
                for e in iso.entries()
                if e.path.rpartition("/")[0] == folder and not e.path.endswith("/TRANS.TBL")
            }
            if not iso.exists(f"{folder}/TRANS.TBL"):
                assert folder == "/rr_moved" or not names
                continue
            listed = listing(iso, folder)
            assert {name for _, _, name in listed} == names - {"rr_moved"}
            for kind, identifier, name in listed:
                known = iso.entry(f"{folder}/{name}")
                assert known is not None and (known.iso_name == identifier or kind == "D")


@pytest.mark.media
def test_a_listing_of_the_genuine_cd_with_one_more_line_is_mkhybrids_style(
    genuine_iso: Path, tmp_path: Path
) -> None:
    with Iso.open(genuine_iso) as iso:
        old = iso.read("/6.6/alpha/TRANS.TBL")
    made(genuine_iso, tmp_path / "out.iso", {"/6.6/alpha/bsd.auto": b"x"})
    with Iso.open(tmp_path / "out.iso") as iso:
        new = iso.read("/6.6/alpha/TRANS.TBL")
    line = b"F BSD.AUTO                          \tbsd.auto\n"
    assert new == old.replace(b"F BSD.GZ", line + b"F BSD.GZ")


@pytest.mark.media
def test_extents_that_files_share_stay_shared(genuine_iso: Path, tmp_path: Path) -> None:
    made(genuine_iso, tmp_path / "out.iso", {"/6.6/alpha/bsd.auto": b"x"})
    with Iso.open(genuine_iso) as old, Iso.open(tmp_path / "out.iso") as new:
        extents = {e.path: e.extent for e in new.entries()}
        for entry in old.entries():
            if entry.kind == "file" and not entry.path.endswith("TRANS.TBL"):
                assert extents[entry.path] == entry.extent
        assert extents["/bsd"] == extents["/bsd.rd"] == extents["/6.6/alpha/bsd.gz"]


@pytest.mark.media
def test_replacing_one_of_several_names_leaves_the_others(
    genuine_iso: Path, tmp_path: Path
) -> None:
    made(genuine_iso, tmp_path / "out.iso", {"/bsd": b"another"})
    with Iso.open(genuine_iso) as old, Iso.open(tmp_path / "out.iso") as new:
        assert new.read("/bsd") == b"another"
        assert new.read("/bsd.rd") == new.read("/6.6/alpha/bsd.gz") == old.read("/bsd.rd")


def test_a_boot_info_table_stays_true(xorriso_iso: Path, tmp_path: Path) -> None:
    """mkisofs -boot-info-table: descriptor's sector, own sector, length, sum of 32-bit words."""
    made(xorriso_iso, tmp_path / "out.iso", usual_changes(xorriso_iso, tmp_path / "host"))
    with Iso.open(tmp_path / "out.iso") as iso:
        image = iso.read("/7.8/amd64/cdbr")
        body = image[64:] + b"\x00" * (-len(image) % 4)
        total = sum(struct.unpack(f"<{len(body) // 4}I", body)) & 0xFFFFFFFF
        assert struct.unpack_from("<4I", image, 8) == (
            16,
            iso.boot_entries[0].lba,
            len(image),
            total,
        )


def test_many_new_files_move_a_directory_and_all_that_point_at_it(
    medium: Path, tmp_path: Path
) -> None:
    judges.need("xorriso", "bsdtar")
    folder = sets_folder(medium)
    changes = {f"{folder}/new-file-{n:03}.tgz": b"%d" % n for n in range(150)}
    if medium.name not in ("xorriso.iso", "genisoimage.iso"):
        # Those have a name that needs a continuation area, in the root: bsdtar wants such areas
        # behind the directory and before the file's own sectors, which cannot be once it moves.
        changes |= {f"/folder{n:03}/f": b"%d" % n for n in range(60)}
    changes |= {f"/d1/d2/new{n}/x": b"y" for n in range(40)}
    out = tmp_path / "out.iso"
    if "relocated" in medium.name:
        with pytest.raises(IsoError, match="relocated directories"):
            made(medium, out, changes)
        return
    made(medium, out, changes)
    for judge in (judges.by_xorriso, judges.by_bsdtar):
        before, after = judge(medium, tmp_path), judge(out, tmp_path)
        assert without_listings(after) == expected(without_listings(before), changes)
    judges.need("isoinfo")
    table = judges.run("isoinfo", "-p", "-i", out).splitlines()[1:]
    with Iso.open(out) as iso:
        top = iso.entry("/")
        assert top is not None
        folders = {e.extent for e in iso.entries() if e.kind == "dir"} | {top.extent}
    assert {int(line.split()[2], 16) for line in table} == folders


def test_pycdlib_reads_the_result_with_the_same_contents(standin_iso: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.iso"
    changes = usual_changes(standin_iso, tmp_path / "host")
    made(standin_iso, out, changes)
    iso = pycdlib.PyCdlib()
    iso.open(str(out))
    for path, content in changes.items():
        stream = io.BytesIO()
        iso.get_file_from_iso_fp(stream, rr_path=path)
        assert stream.getvalue() == (
            content if isinstance(content, bytes) else content.read_bytes()
        )
    iso.close()


def test_pycdlib_alone_moves_everything_and_loses_a_long_name(
    xorriso_iso: Path, tmp_path: Path
) -> None:
    """The smallest case for which edit.py keeps everything in its place (docs/architecture.md)."""
    disc = pycdlib.PyCdlib()
    disc.open(str(xorriso_iso))
    disc.add_fp(io.BytesIO(b""), 0, "/X", rr_name="x")
    disc.write(str(tmp_path / "out.iso"))
    disc.close()
    found = judges.boot_report(xorriso_iso)
    with pytest.raises(AssertionError, match="Damaged RR/SUSP"):
        judges.by_xorriso(tmp_path / "out.iso", tmp_path)
    made(xorriso_iso, tmp_path / "ours.iso", {"/x": b""})
    assert judges.boot_report(tmp_path / "ours.iso") == found


def test_link_counts_of_directories_follow_new_subdirectories(
    standin_iso: Path, tmp_path: Path
) -> None:
    made(standin_iso, tmp_path / "out.iso", {"/etc/a/b/c": b"", "/etc/d/e": b"", "/new/f": b""})
    disc = pycdlib.PyCdlib()
    disc.open(str(tmp_path / "out.iso"))
    folders = ("/", "/etc", "/etc/a", "/etc/a/b", "/etc/d", "/new", "/6.6")
    for directory in (disc.get_record(rr_path=path) for path in folders):
        below = [child for child in directory.children[2:] if child.is_dir()]
        counted = [directory.children[0], *(child.children[1] for child in below)]
        counted += [] if directory.is_root else [directory]
        for record in counted:
            assert record.rock_ridge.dr_entries.px_record.posix_file_links == 2 + len(below)
    disc.close()


def test_the_report_gives_sizes_and_hashes_of_what_was_written(
    standin_iso: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.iso"
    changes = usual_changes(standin_iso, tmp_path / "host")
    report = made(standin_iso, out, changes)
    assert report.size == out.stat().st_size
    assert report.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert [f.path for f in report.files] == sorted(changes)
    with Iso.open(out) as iso:
        for file in report.files:
            data = iso.read(file.path)
            assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert file.extent == next(e.extent for e in iso.entries() if e.path == file.path)
            assert file.replaced == (file.path in {"/etc/boot.conf", "/6.6/amd64/SHA256"})


def test_the_same_input_gives_the_same_bytes_anywhere_and_any_time(
    standin_iso: Path, tmp_path: Path
) -> None:
    changes = usual_changes(standin_iso, tmp_path / "host")
    first = made(standin_iso, tmp_path / "a.iso", changes)
    code = (
        "import sys; from pathlib import Path; from test_iso_remaster import made; "
        "made(Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3]))"
    )
    shuffled = dict(reversed(changes.items()))
    words = repr(shuffled).replace("PosixPath", "Path")
    environment = {**os.environ, "TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    time.sleep(1.1)  # a date from the clock would differ
    subprocess.run(
        [sys.executable, "-c", code, str(standin_iso), str(tmp_path / "b.iso"), words],
        env=environment,
        check=True,
        timeout=60,
    )
    assert (tmp_path / "a.iso").read_bytes() == (tmp_path / "b.iso").read_bytes()
    assert first.sha256 != made(standin_iso, tmp_path / "c.iso", changes, EPOCH + 1).sha256


def test_a_remastered_image_can_be_remastered(medium: Path, tmp_path: Path) -> None:
    judges.need("bsdtar")
    made(medium, tmp_path / "one.iso", {"/new/one": b"1", "/etc/boot.conf": b"1"})
    made(tmp_path / "one.iso", tmp_path / "two.iso", {"/new/two": b"2", "/etc/boot.conf": b"2"})
    tree = judges.by_bsdtar(tmp_path / "two.iso", tmp_path)
    both = {"/new/one": b"1", "/new/two": b"2", "/etc/boot.conf": b"2"}
    before = without_listings(judges.by_bsdtar(medium, tmp_path))
    assert without_listings(tree) == expected(before, both)


def test_a_source_that_is_no_multiple_of_a_sector_is_padded(
    standin_iso: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source.iso"
    source.write_bytes(standin_iso.read_bytes() + b"tail")
    made(source, tmp_path / "out.iso", {"/x": b"new"})
    data = (tmp_path / "out.iso").read_bytes()
    assert len(data) % SECTOR == 0
    assert data[standin_iso.stat().st_size :][:4] == b"tail"
    with Iso.open(tmp_path / "out.iso") as iso:
        assert iso.read("/x") == b"new"


REFUSALS = [
    ({"/6.6/amd64/cdbr": b""}, "belongs to the boot catalog"),
    ({"/6.6/amd64/boot.catalog": b""}, "belongs to the boot catalog"),
    ({"/etc": b""}, "/etc is not a plain file"),
    ({"/etc/boot.conf/x": b""}, "/etc/boot.conf is not a directory"),
    ({"/new": b"", "/new/x": b""}, "/new is not a directory"),
    ({"/new/TRANS.TBL": b""}, "kept by the remastering itself"),
    ({"etc/x": b""}, "not an absolute name"),
    ({"/etc/../x": b""}, "not an absolute name"),
    ({"/etc//x": b""}, "not an absolute name"),
    ({"/etc/": b""}, "not an absolute name"),
    ({"/": b""}, "not an absolute name"),
    ({"/x\x00y": b""}, "not an absolute name"),
    ({"/" + "x" * 200: b""}, "too long"),
    ({"/" + "x" * 300: b""}, "too long"),
    ({"/x": Path("/nonexistent/host/file")}, "cannot be read: no such file"),
    ({"/x": Path("/")}, "not a regular file"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS)
def test_a_change_that_cannot_be_made_is_an_error_and_leaves_nothing(
    standin_iso: Path, tmp_path: Path, changes: dict[str, bytes | Path], message: str
) -> None:
    with (
        pytest.raises(IsoError, match=re.escape(message)),
        Iso.open(standin_iso) as iso,
        atomic_file(tmp_path / "out.iso") as stream,
    ):
        remaster(iso, stream, changes, epoch=EPOCH)
    assert list(tmp_path.iterdir()) == []


def test_a_host_file_that_changes_meanwhile_is_an_error(standin_iso: Path, tmp_path: Path) -> None:
    """A file of /proc says that it has no bytes, and has some."""
    if not Path("/proc/version").exists():
        pytest.skip("no /proc")
    with pytest.raises(IsoError, match="changed while it was put in"):
        made(standin_iso, tmp_path / "out.iso", {"/x": Path("/proc/version")})


def test_a_second_tree_of_names_is_refused(sample_tree: Path, tmp_path: Path) -> None:
    joliet = judges.xorriso_iso(tmp_path / "j.iso", sample_tree, "-J", "-joliet-long")
    with pytest.raises(IsoError, match="Joliet"):
        made(joliet, tmp_path / "out.iso", {"/x": b""})


def test_an_image_without_rock_ridge_is_refused(sample_tree: Path, tmp_path: Path) -> None:
    judges.need("genisoimage")
    judges.run("genisoimage", "-quiet", "-o", tmp_path / "p.iso", sample_tree / "etc")
    with pytest.raises(IsoError, match="no Rock Ridge"):
        made(tmp_path / "p.iso", tmp_path / "out.iso", {"/x": b""})


def test_a_partition_table_with_a_copy_at_the_end_is_refused(
    standin_iso: Path, tmp_path: Path
) -> None:
    source = tmp_path / "gpt.iso"
    data = standin_iso.read_bytes()
    source.write_bytes(data[:512] + b"EFI PART" + data[520:])
    with pytest.raises(IsoError, match="GPT"):
        made(source, tmp_path / "out.iso", {"/x": b""})


@pytest.mark.parametrize("offset", [140, 144, 148, 152])
def test_a_damaged_position_of_a_path_table_is_not_written_to(
    standin_iso: Path, tmp_path: Path, offset: int
) -> None:
    source = tmp_path / "damaged.iso"
    data = bytearray(standin_iso.read_bytes())
    data[16 * SECTOR + offset + 3 * (offset >= 148)] += 3
    source.write_bytes(data)
    with pytest.raises(IsoError, match=r"not a list of the directories|damaged"):
        made(source, tmp_path / "out.iso", {"/new/x": b""})


def test_an_output_that_fills_up_is_the_callers_error_and_no_thread_is_left(
    standin_iso: Path, tmp_path: Path
) -> None:
    before = threading.active_count()
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, largest[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            made(standin_iso, tmp_path / "out.iso", {"/x": b""})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert threading.active_count() == before


def test_a_system_that_cannot_copy_inside_the_kernel_gives_the_same_bytes(
    standin_iso: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = usual_changes(standin_iso, tmp_path / "host")
    usual = made(standin_iso, tmp_path / "a.iso", changes)

    def refused(*_: int) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refused, raising=False)
    assert made(standin_iso, tmp_path / "b.iso", changes) == usual
    monkeypatch.delattr(os, "copy_file_range")
    assert made(standin_iso, tmp_path / "c.iso", changes) == usual
    assert (tmp_path / "a.iso").read_bytes() == (tmp_path / "b.iso").read_bytes()


@pytest.mark.parametrize("epoch", [-1, 0, 2**31, 5_000_000_000])
def test_dates_outside_32_bits_are_kept(standin_iso: Path, tmp_path: Path, epoch: int) -> None:
    made(standin_iso, tmp_path / "out.iso", {"/x": b""}, epoch=epoch)
    with Iso.open(tmp_path / "out.iso") as iso:
        assert next(e.mtime for e in iso.entries() if e.path == "/x") == epoch


@pytest.mark.parametrize("epoch", [10**12, -(10**11)])
def test_a_date_that_no_iso_can_hold_is_an_error(
    standin_iso: Path, tmp_path: Path, epoch: int
) -> None:
    with pytest.raises(IsoError, match="does not fit"):
        made(standin_iso, tmp_path / "out.iso", {"/x": b""}, epoch=epoch)


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    source = tmp_path / "big.iso"
    build_iso(source, iso_size_padding=96 << 20)
    tracemalloc.start()
    made(source, tmp_path / "out.iso", {"/x": b""})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
    min_size=1,
    max_size=30,
).filter(lambda name: name not in (".", "..", "TRANS.TBL") and len(name.encode()) < 90)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files=st.dictionaries(NAMES, st.binary(max_size=5000), max_size=40))
def test_any_names_come_back_and_their_short_names_differ(
    standin_iso: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    out = tmp_path / "out.iso"
    changes = {f"/6.6/{name}": data for name, data in files.items()}
    changes.pop("/6.6/amd64", None)
    made(standin_iso, out, changes)
    with Iso.open(out) as iso:
        for path, data in changes.items():
            assert iso.read(path) == data
        names = [e.iso_name for e in iso.entries() if e.path.rpartition("/")[0] == "/6.6"]
        assert len(set(names)) == len(names)
