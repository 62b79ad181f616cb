"""Signed gzip archives, judged by the real signify -z."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.core.errors import ObsdimgError
from obsdimg.signify.archive import BLOCK, UnsignedArchiveError, verify_archive
from obsdimg.signify.errors import (
    HashMismatchError,
    MalformedSignatureError,
    TruncatedError,
    WrongKeyError,
)
from obsdimg.signify.message import SignifySecretKey, sign_embedded
from support.package_maker import SIGNIFY, sign_archive, signed, signed_by_signify

needs_signify = pytest.mark.skipif(SIGNIFY is None, reason="signify-openbsd is not installed")
KEY = SignifySecretKey("stand-in secret key", b"\1" * 8, b"\2" * 32)
PLAIN = gzip.compress(os.urandom(200_000), mtime=0)
SIGNED = signed(PLAIN, KEY)


def real_verify(data: bytes, folder: Path) -> bytes | None:
    """What the real signify lets through, or None if it refuses."""
    assert SIGNIFY
    (folder / "k.pub").write_text(KEY.public().text)
    found = subprocess.run(
        [SIGNIFY, "-Vzp", "k.pub"], cwd=folder, input=data, capture_output=True, timeout=60
    )
    return found.stdout if found.returncode == 0 else None


def test_our_signature_verifies_and_says_who_and_when() -> None:
    found = verify_archive(SIGNED, KEY.public())
    assert found.signed_on == "2019-10-09T12:00:00Z"
    assert found.signer == "/etc/signify/openbsd-66-pkg.sec"
    assert gzip.decompress(found.data) == gzip.decompress(PLAIN)


SIZES = [1, 18, BLOCK - 1, BLOCK + 1, 3 * BLOCK + 7]
"""Bytes after the header.  signify signs a whole number of blocks in a way that it refuses to
verify (it looks for the hash of one more, empty, block): see the test of its own."""


def archive(size: int) -> bytes:
    """A gzip header and `size` bytes; signify never looks at what is compressed."""
    return PLAIN[:10] + os.urandom(size)


@needs_signify
@pytest.mark.parametrize("size", SIZES)
def test_what_signify_signs_verifies(tmp_path: Path, size: int) -> None:
    verify_archive(signed_by_signify(archive(size), tmp_path, KEY), KEY.public())


@needs_signify
@pytest.mark.parametrize("size", SIZES)
def test_signify_accepts_what_we_sign(tmp_path: Path, size: int) -> None:
    ours = signed(archive(size), KEY)
    assert real_verify(ours, tmp_path) == ours


@needs_signify
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_whole_blocks_verify_here_although_signify_refuses_its_own(
    tmp_path: Path, blocks: int
) -> None:
    theirs = signed_by_signify(archive(blocks * BLOCK), tmp_path, KEY)
    verify_archive(theirs, KEY.public())
    assert signed(archive(blocks * BLOCK), KEY)
    assert real_verify(theirs, tmp_path) is None


@needs_signify
def test_we_sign_as_signify_does_byte_for_byte(tmp_path: Path) -> None:
    assert SIGNIFY
    (tmp_path / "pkg.sec").write_text(KEY.text())
    (tmp_path / "in.tgz").write_bytes(PLAIN)
    words = [SIGNIFY, "-Sznspkg.sec", "-m", "in.tgz", "-x", "out.tgz"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60, capture_output=True)
    theirs = (tmp_path / "out.tgz").read_bytes()
    ours = sign_archive(PLAIN, KEY, "1970-01-01T00:00:00Z", "pkg.sec")
    # The untrusted comments differ: signify names the public key's file.
    head, tail = theirs.split(b"\n", 1)
    assert head.endswith(b"verify with pkg.pub")
    assert ours.split(b"\n", 1)[1] == tail


def test_another_key_is_told_apart() -> None:
    with pytest.raises(WrongKeyError):
        verify_archive(SIGNED, SignifySecretKey.generate("other").public())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_changed_byte_verifies(at: int, flip: int) -> None:
    data = bytearray(SIGNED)
    data[at] ^= flip
    try:
        verify_archive(bytes(data), KEY.public())
    except ObsdimgError:
        return
    comment = SIGNED.index(b"untrusted"), SIGNED.index(b"\n")
    assert at == 8 or comment[0] <= at < comment[1], "only the hint and the untrusted comment"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SIGNED) - 1))
def test_no_cut_archive_verifies(size: int) -> None:
    with pytest.raises(ObsdimgError):
        verify_archive(SIGNED[:size], KEY.public())


def test_an_appended_byte_does_not_verify() -> None:
    with pytest.raises(HashMismatchError):
        verify_archive(SIGNED + b"\0", KEY.public())


@needs_signify
def test_signify_and_we_agree_on_damage(tmp_path: Path) -> None:
    for at in (12, 60, 200, 400, 600, len(SIGNED) - BLOCK, len(SIGNED) - 1):
        bad = SIGNED[:at] + bytes([SIGNED[at] ^ 1]) + SIGNED[at + 1 :]
        theirs = real_verify(bad, tmp_path)
        try:
            verify_archive(bad, KEY.public())
        except ObsdimgError:
            assert theirs is None
        else:
            assert theirs is not None


def _with_message(message: bytes) -> bytes:
    header = SIGNED[:10]
    return header + sign_embedded(message, KEY) + b"\0" + PLAIN[10:]


GOOD = b"algorithm=SHA512/256\nblocksize=65536\n\n"
BAD = [
    (b"", TruncatedError, "empty"),
    (b"\x1f\x8b", TruncatedError, "cut off in its header"),
    (PLAIN, UnsignedArchiveError, "an unsigned gzip archive"),
    (b"PK\3\4" + bytes(100), UnsignedArchiveError, "not a gzip archive"),
    (SIGNED[:3] + b"\x18" + SIGNED[4:], MalformedSignatureError, "header"),
    (SIGNED[:4] + b"\1" + SIGNED[5:], MalformedSignatureError, "header"),
    (_with_message(b"just words"), MalformedSignatureError, "not as `signify -z` does"),
    (_with_message(GOOD + b"zz\n"), MalformedSignatureError, "not as `signify -z` does"),
    (_with_message(b"algorithm=MD5\nblocksize=1\n\n"), MalformedSignatureError, "something other"),
    (_with_message(b"blocksize=1\n\n"), MalformedSignatureError, "something other"),
    (
        _with_message(b"algorithm=SHA512/256\nblocksize=0\n\n"),
        MalformedSignatureError,
        "block size",
    ),
    (_with_message(b"algorithm=SHA512/256\n\n"), MalformedSignatureError, "block size"),
    (_with_message(GOOD), HashMismatchError, "its signature covers 0"),
    (_with_message(GOOD + b"0" * 64 + b"\n"), HashMismatchError, "covers 1"),
    (_with_message(GOOD + (b"0" * 64 + b"\n") * 4), HashMismatchError, "block 1 of 4"),
    (_with_message(GOOD + (b"0" * 64 + b"\n") * 9), TruncatedError, "block 4 of 9"),
]


@pytest.mark.parametrize(("data", "error", "words"), BAD)
def test_a_bad_archive_says_what_is_wrong(
    data: bytes, error: type[ObsdimgError], words: str
) -> None:
    with pytest.raises(error) as caught:
        verify_archive(data, KEY.public(), "x.tgz")
    assert caught.value.message.startswith("x.tgz: ")
    assert words in caught.value.message
