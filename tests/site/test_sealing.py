"""Sealed files: the same form as `openssl enc`, the same bytes for the same input, nothing told."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.core.entry import Entry
from obsdimg.core.secret import Secret
from obsdimg.site.sealing import (
    SealingError,
    open_sealed,
    pack,
    seal,
    unpack,
)

KEY = bytes(range(32))
FILES = [
    Entry("/etc/wireguard/server.conf", b"[Interface]\nPrivateKey = x\n", 0o600),
    Entry("/root/note", b"\0\xff", 0o640),
]
FEW = 1000
PASS = Secret(r"it's 100% $HOME \n horse")

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def plain(entries: Iterable[Entry]) -> list[tuple[str, bytes, int]]:
    """Path, content and mode of each."""
    return [(entry.path, entry.data, entry.mode) for entry in entries]


def enc(data: bytes, passphrase: Secret, iterations: int, *flags: str) -> bytes:
    """`openssl enc` with the options that install.site uses; passphrase by a pipe."""
    import os

    reader, writer = os.pipe()
    os.write(writer, passphrase.reveal().encode() + b"\n")
    os.close(writer)
    words = ["openssl", "enc", *flags, "-aes-256-cbc", "-md", "sha256", "-pbkdf2"]
    words += ["-iter", str(iterations), "-pass", f"fd:{reader}"]
    done = subprocess.run(
        words,
        input=data,
        capture_output=True,
        pass_fds=(reader,),
        check=True,
    )
    os.close(reader)
    return done.stdout


@openssl
@pytest.mark.parametrize("iterations", [1, FEW, 600_000])
def test_openssl_opens_what_we_seal(iterations: int) -> None:
    sealed = seal(FILES, PASS, salt_key=KEY, iterations=iterations)
    assert plain(unpack(enc(sealed, PASS, iterations, "-d"))) == plain(FILES)


@openssl
def test_we_open_what_openssl_seals() -> None:
    sealed = enc(pack(FILES), PASS, FEW, "-salt")
    assert plain(open_sealed(sealed, PASS, iterations=FEW)) == plain(FILES)


@openssl
def test_openssl_with_the_same_salt_gives_the_same_bytes() -> None:
    sealed = seal(FILES, PASS, salt_key=KEY, iterations=FEW)
    again = enc(pack(FILES), PASS, FEW, "-S", sealed[8:16].hex())
    assert again in (sealed, sealed[16:])  # OpenSSL 3 leaves the header out when given -S


def test_the_same_input_gives_the_same_bytes() -> None:
    assert seal(FILES, PASS, salt_key=KEY, iterations=FEW) == seal(
        reversed(FILES), PASS, salt_key=KEY, iterations=FEW
    )


def test_a_salt_is_never_used_for_two_contents_passphrases_or_projects() -> None:
    other = [FILES[0], Entry("/root/note", b"\0\xfe", 0o640)]
    salts = [
        seal(FILES, PASS, salt_key=KEY, iterations=FEW)[8:16],
        seal(other, PASS, salt_key=KEY, iterations=FEW)[8:16],
        seal(FILES, Secret("another one"), salt_key=KEY, iterations=FEW)[8:16],
        seal(FILES, PASS, salt_key=bytes(32), iterations=FEW)[8:16],
        seal(FILES, PASS, salt_key=KEY, iterations=FEW + 1)[8:16],
    ]
    assert len(set(salts)) == len(salts)


def test_the_length_tells_only_the_bucket() -> None:
    lengths = {
        len(seal([Entry("/a", bytes(n))], PASS, salt_key=KEY, iterations=1))
        for n in (0, 1, 400, 1000, 4000)
    }
    assert len(lengths) == 1


def test_another_passphrase_never_opens() -> None:
    sealed = seal(FILES, PASS, salt_key=KEY, iterations=1)
    for i in range(600):  # one in 256 gets past the padding of CBC
        with pytest.raises(SealingError, match="does not open"):
            open_sealed(sealed, Secret(f"wrong passphrase {i}"), iterations=1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(seal(FILES, PASS, salt_key=KEY, iterations=1))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealingError):
        open_sealed(bytes(sealed), PASS, iterations=1)


@given(
    st.dictionaries(st.from_regex(r"(/[a-z]{1,8}){1,4}", fullmatch=True), st.binary(), max_size=4)
)
def test_what_is_packed_comes_out_again(files: dict[str, bytes]) -> None:
    packed = pack(Entry(path, data) for path, data in files.items())
    assert {entry.path: entry.data for entry in unpack(packed)} == files
    assert len(packed) % 16384 == 0
    assert packed[17:81].decode() == hashlib.sha256(packed[512:]).hexdigest()


@pytest.mark.parametrize("path", ["etc/key", "/", "/a//b", "/../etc/passwd", "/a/", "/a b", "/a'b"])
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(SealingError, match="not a plain absolute path"):
        pack([Entry(path)])


@pytest.mark.parametrize("junk", [b"", b"Salted__", b"Salted__" + bytes(25), b"x" * 64])
def test_junk_is_not_a_sealed_file(junk: bytes) -> None:
    with pytest.raises(SealingError, match="not a sealed file"):
        open_sealed(junk, PASS)


def test_a_short_salt_key_and_strange_rounds_are_refused() -> None:
    with pytest.raises(SealingError, match="too few"):
        seal(FILES, PASS, salt_key=b"short")
    with pytest.raises(SealingError, match="rounds"):
        seal(FILES, PASS, salt_key=KEY, iterations=0)


def test_nothing_of_a_sealed_file_is_in_its_repr() -> None:
    assert "PrivateKey" not in repr(Entry("/a", b"PrivateKey = x"))
