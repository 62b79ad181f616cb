"""Checksum lists: parsing, writing, and verifying files against a signed one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError
from obsdimg.signify.errors import (
    BadSignatureError,
    HashMismatchError,
    MalformedListError,
    MissingFromListError,
    TruncatedError,
)
from obsdimg.signify.message import SignifyPublicKey, SignifySecretKey, sign_embedded
from obsdimg.signify.sha256list import parse, read_signed_list, render, verify_file

H1, H2 = "1" * 64, "2" * 64


def test_a_list_is_read_in_its_order() -> None:
    found = parse(f"SHA256 (base66.tgz) = {H1}\nSHA256 (INSTALL.amd64) = {H2}\n".encode())
    assert list(found.items()) == [("base66.tgz", H1), ("INSTALL.amd64", H2)]


def test_a_name_listed_twice_with_one_hash_is_one_entry() -> None:
    assert len(parse(f"SHA256 (a) = {H1}\nSHA256 (a) = {H1}\n".encode())) == 1


BAD = [
    (b"", TruncatedError, "SHA256: the checksum list is empty"),
    (f"SHA256 (a) = {H1}".encode(), TruncatedError, "cut off"),
    (
        f"SHA256 (a) = {H1}\nSHA256 (a) = {H2}\n".encode(),
        MalformedListError,
        "SHA256:2: a is listed",
    ),
    (f"SHA256 (a) = {H1}\r\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (a) = {'A' * 64}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (a) = {H1[1:]}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (a) = {H1}0\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA512 (a) = {H1}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (../a) = {H1}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (..) = {H1}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (a b) = {H1}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (a\x1b) = {H1}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 () = {H1}\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (a) = {H1}\n\n".encode(), MalformedListError, "SHA256:2:"),
    (f"{H1}  a\n".encode(), MalformedListError, "SHA256:1:"),
    (f"SHA256 (ä) = {H1}\n".encode(), MalformedListError, "not ASCII"),
]


@pytest.mark.parametrize(("data", "error", "words"), BAD)
def test_a_bad_list_names_the_line(data: bytes, error: type[ObsdimgError], words: str) -> None:
    with pytest.raises(error) as caught:
        parse(data)
    assert words in caught.value.message


names = st.from_regex(r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,20}", fullmatch=True)
hashes = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


@given(st.dictionaries(names, hashes, min_size=1, max_size=8))
def test_what_is_written_is_read_back_sorted(entries: dict[str, str]) -> None:
    data = render(entries)
    assert dict(parse(data)) == entries
    assert list(parse(data)) == sorted(entries)


@given(st.binary(max_size=300))
def test_no_bytes_cause_anything_but_an_explained_refusal(data: bytes) -> None:
    with pytest.raises(ObsdimgError):
        parse(data)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_the_system_s_own_sha256sum_writes_and_checks_the_same_list(tmp_path: Path) -> None:
    for name in ("a.tgz", "b"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    theirs = subprocess.run(
        ["sha256sum", "--tag", "a.tgz", "b"], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    assert render(parse(theirs)) == theirs
    (tmp_path / "SHA256").write_bytes(render(parse(theirs)))
    subprocess.run(["sha256sum", "-c", "SHA256"], cwd=tmp_path, check=True, capture_output=True)


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, bytes, SignifySecretKey]:
    key = SignifySecretKey.generate("list")
    (tmp_path / "base66.tgz").write_bytes(b"x" * 3_000_000)
    digest = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    return tmp_path, sign_embedded(render({"base66.tgz": digest}), key), key


def test_a_listed_file_verifies(signed: tuple[Path, bytes, SignifySecretKey]) -> None:
    folder, data, key = signed
    checksums = read_signed_list(data, key.public())
    found = verify_file(folder / "base66.tgz", checksums)
    assert (found.size, found.key) == (3_000_000, key.public())


@pytest.mark.parametrize("at", [0, 1_048_575, 1_048_576, 2_999_999])
def test_a_flipped_byte_is_a_hash_mismatch(
    signed: tuple[Path, bytes, SignifySecretKey], at: int
) -> None:
    folder, data, key = signed
    with (folder / "base66.tgz").open("r+b") as stream:
        stream.seek(at)
        stream.write(b"y")
    with pytest.raises(HashMismatchError, match=r"base66\.tgz: its SHA-256 is"):
        verify_file(folder / "base66.tgz", read_signed_list(data, key.public()))


def test_a_file_that_is_not_listed_is_missing_from_the_list(
    signed: tuple[Path, bytes, SignifySecretKey],
) -> None:
    folder, data, key = signed
    (folder / "site66.tgz").write_bytes(b"")
    with pytest.raises(MissingFromListError, match=r"SHA256\.sig: does not list site66\.tgz"):
        verify_file(folder / "site66.tgz", read_signed_list(data, key.public()))


def test_a_file_that_does_not_exist_is_said_so(
    signed: tuple[Path, bytes, SignifySecretKey],
) -> None:
    folder, data, key = signed
    checksums = read_signed_list(data, key.public())
    with pytest.raises(FileError, match="no such file"):
        verify_file(folder / "gone", checksums, "base66.tgz")


def test_the_signature_is_checked_before_the_lines_are_read(
    signed: tuple[Path, bytes, SignifySecretKey],
) -> None:
    _, data, key = signed
    with pytest.raises(BadSignatureError):
        read_signed_list(data + b"garbage\n", key.public())


@pytest.mark.media
def test_the_genuine_list_of_7_6_lists_two_files_twice() -> None:
    if not (folder := os.environ.get("OBSDIMG_MEDIA")):
        pytest.skip("OBSDIMG_MEDIA is not set: no genuine media")
    media = Path(folder)
    public = SignifyPublicKey.parse((media / "keys/openbsd-76-base.pub").read_bytes())
    found = read_signed_list((media / "SHA256-76-amd64.sig").read_bytes(), public)
    assert len(found) == 23
    verified = verify_file(media / "pxeboot-76-amd64", found, "pxeboot")
    assert verified.sha256.startswith("54d62e93")
