"""Damaged images give IsoError or a right result, and never anything else."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.iso import Iso, IsoError, remaster

SECTOR = 2048
CHANGES = {
    "/etc/boot.conf": b"set image bsd.auto\n",
    "/new/file": b"new",
    "/site66.tgz": b"s" * 5000,
}

fixtures = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@functools.cache
def structure(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """An image's bytes, and the offsets of all bytes that are not file contents."""
    data = path.read_bytes()
    with Iso.open(path) as iso:
        files = [
            range(e.extent * SECTOR, e.extent * SECTOR + e.size)
            for e in iso.entries()
            if e.kind == "file" and not e.path.endswith(("TRANS.TBL", "boot.catalog"))
        ]
    taken = bytearray(len(data))
    for extent in files:
        taken[extent.start : extent.stop] = b"\x01" * len(extent)
    offsets = [o for o in range(16 * SECTOR, len(data)) if not taken[o]]
    return data, tuple(o for o in offsets if data[o] or o % 7 == 0)


def check(data: bytes) -> None:
    """Open, read everything, remaster, open the result: all well, or one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.iso"
        path.write_bytes(data)
        out = Path(folder) / "out.iso"
        try:
            with Iso.open(path) as iso:
                contents = {e.path: iso.read(e.path) for e in iso.entries() if e.kind == "file"}
                with out.open("w+b") as output:
                    report = remaster(iso, output, CHANGES, epoch=1_600_000_000)
        except IsoError as error:
            assert error.message and "\n" not in error.message
            return
        assert report.size == out.stat().st_size
        assert report.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
        with Iso.open(out) as iso:
            after = {e.path: iso.read(e.path) for e in iso.entries() if e.kind == "file"}
    listings = {p for p in contents | after if p.endswith("/TRANS.TBL")}
    assert {p: d for p, d in after.items() if p not in listings} == {
        p: d for p, d in (contents | CHANGES).items() if p not in listings
    }


@fixtures
@given(data=st.data())
def test_flipped_bytes_in_the_structures(xorriso_iso: Path, data: st.DataObject) -> None:
    flip_and_check(xorriso_iso, data)


@fixtures
@given(data=st.data())
def test_flipped_bytes_in_the_structures_of_the_stand_in(
    small_iso: Path, data: st.DataObject
) -> None:
    flip_and_check(small_iso, data)


def flip_and_check(iso: Path, data: st.DataObject) -> None:
    whole, offsets = structure(iso)
    damaged = bytearray(whole)
    flips = st.lists(
        st.tuples(st.sampled_from(offsets), st.integers(0, 255)), min_size=1, max_size=6
    )
    for offset, value in data.draw(flips):
        damaged[offset] = value
    check(bytes(damaged))


@settings(parent=fixtures, max_examples=100)
@given(data=st.data())
def test_a_cut_image_is_always_an_error(xorriso_iso: Path, data: st.DataObject) -> None:
    whole = xorriso_iso.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.iso"
        path.write_bytes(whole[:length])
        with pytest.raises(IsoError):
            Iso.open(path)


def test_random_files_are_not_images(tmp_path: Path) -> None:
    for size in (1, 2048, 17 * SECTOR, 40 * SECTOR):
        (tmp_path / "x").write_bytes(os.urandom(size))
        with pytest.raises(IsoError, match="not an ISO 9660 image"):
            Iso.open(tmp_path / "x")
