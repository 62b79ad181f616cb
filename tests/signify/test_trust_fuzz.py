"""Damage anywhere in what mirrors send ends in an explained refusal, never in a traceback."""

from __future__ import annotations

import gzip
import io
import tarfile

from hypothesis import example, given, settings
from hypothesis import strategies as st

from obsdimg.core.errors import ObsdimgError
from obsdimg.fetch.package_names import PackageName, matches, version_key
from obsdimg.fetch.packages import parse_listing, read_contents, verify_package
from obsdimg.signify.message import SignifySecretKey
from support.package_maker import package, signed

KEY = SignifySecretKey("stand-in secret key", b"\7" * 8, b"\x08" * 32)
NAME = "bash-5.0.11"
SIGNED = signed(package(NAME, ("a/b:b-*:b-1",), payload=bytes(range(256)) * 600), KEY)
TAR = gzip.decompress(package(NAME, ("a/b:b-*:b-1",)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damaged_package_is_accepted_as_another_one(data: st.DataObject) -> None:
    bad = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bad) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if how == "flip":
            bad[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del bad[at : at + data.draw(st.integers(1, 3000))]
        else:
            bad[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        if not bad:
            break
    try:
        found = verify_package(bytes(bad), KEY.public(), NAME, "amd64", "x.tgz")
    except ObsdimgError as error:
        assert error.message.startswith("x.tgz: ")
        return
    # Only the untrusted comment and the hint on the compression level are not signed.
    assert found.data.split(b"\n", 1)[1] == SIGNED.split(b"\n", 1)[1]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TAR) - 1), st.integers(0, 255), st.integers(0, len(TAR)))
def test_no_damaged_tar_is_more_than_refused(at: int, value: int, size: int) -> None:
    bad = bytearray(TAR)
    bad[at] = value
    for raw in (bytes(bad), bytes(bad[:size])):
        try:
            read_contents(gzip.compress(raw, mtime=0), "x.tgz")
        except ObsdimgError as error:
            assert error.message.startswith("x.tgz: ")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_no_packing_list_is_more_than_refused(text: bytes) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("+CONTENTS")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    try:
        read_contents(raw.getvalue(), "x.tgz")
    except ObsdimgError as error:
        assert error.message.startswith("x.tgz: ")


@given(st.text())
@example("x-1.tgz" * 1000)
def test_listings_give_names_without_folders(text: str) -> None:
    for name in parse_listing(text):
        assert "/" not in name and not name.startswith(".")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_two_versions_can_be_compared(one: str, other: str) -> None:
    first, second = version_key(one), version_key(other)
    assert (first < second) + (first == second) + (first > second) == 1


@given(st.text(max_size=40), st.text(max_size=60))
def test_any_name_and_specification_can_be_asked(name: str, specification: str) -> None:
    if (parsed := PackageName.parse(name)) is not None:
        matches(parsed, specification)
        assert parsed.name == name and parsed.stem
