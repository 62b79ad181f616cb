"""Sealed files: ssh-keygen and openssl open them; the same bytes for the same input."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.core.entry import Entry
from obsdimg.core.secret import Secret
from obsdimg.site.files import SiteSetError
from obsdimg.site.opensshkey import SEED_AT
from obsdimg.site.sealing import SealingError, pack, seal
from support.sealed import open_sealed, unpack

KEY = bytes(range(32))
FILES = [
    Entry("/etc/wireguard/server.conf", b"[Interface]\nPrivateKey = x\n", 0o600),
    Entry("/root/note", b"\0\xff", 0o640),
]
FEW = 4
PASS = Secret(r"it's 100% $HOME \n horse")

ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)
openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def plain(entries: Iterable[Entry]) -> list[tuple[str, bytes, int]]:
    """Path, content and mode of each."""
    return [(entry.path, entry.data, entry.mode) for entry in entries]


def parts(sealed: bytes) -> dict[str, bytes]:
    """What lies in a sealed file, by name."""
    with tarfile.open(fileobj=io.BytesIO(sealed)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


@ssh_keygen
@openssl
def test_ssh_keygen_and_openssl_open_what_we_seal(tmp_path: Path) -> None:
    found = parts(seal(FILES, PASS, salt_key=KEY, rounds=FEW))
    key = tmp_path / "key"
    key.write_bytes(found["key"])
    key.chmod(0o600)
    words = ["ssh-keygen", "-q", "-p", "-f", str(key), "-N", ""]
    wrong = subprocess.run([*words, "-P", "another one"], capture_output=True)
    assert wrong.returncode != 0
    subprocess.run([*words, "-P", PASS.reveal()], check=True, capture_output=True)
    lines = key.read_text().splitlines()[1:-1]
    seed = base64.b64decode("".join(lines))[SEED_AT : SEED_AT + 32]
    under = hashlib.sha256(seed).hexdigest()
    done = subprocess.run(
        ["openssl", "enc", "-d", "-aes-256-cbc", "-md", "sha256", "-pbkdf2", "-iter", "1",
         "-pass", "stdin"],
        input=under.encode() + b"\n" + found["data"], capture_output=True, check=True,
    )  # fmt: skip
    assert plain(unpack(done.stdout)) == plain(FILES)
    assert plain(open_sealed(seal(FILES, PASS, salt_key=KEY, rounds=FEW), PASS)) == plain(FILES)


@ssh_keygen
def test_the_key_says_how_many_rounds_it_takes() -> None:
    blob = base64.b64decode("".join(parts(seal(FILES, PASS, salt_key=KEY, rounds=77))["key"]
        .decode().splitlines()[1:-1]))  # fmt: skip
    at = blob.index(b"bcrypt") + 6 + 4 + 4 + 16
    assert int.from_bytes(blob[at : at + 4], "big") == 77


def test_the_same_input_gives_the_same_bytes() -> None:
    assert len({seal(FILES, PASS, salt_key=KEY, rounds=FEW) for _ in range(2)}) == 1


def test_files_keep_their_order_and_folders_and_links_their_kind() -> None:
    entries = [Entry("/z", mode=0o700, kind="dir"), Entry("/z/l", kind="link", target="../a b")]
    packed = pack([*entries, Entry("/a b", b"x", 0o640)], 1_570_838_400)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = [(m.name, m.type, m.mode, m.linkname, m.mtime) for m in archive]
    assert found == [
        ("z", tarfile.DIRTYPE, 0o700, "", 1_570_838_400),
        ("z/l", tarfile.SYMTYPE, 0o644, "../a b", 1_570_838_400),
        ("a b", tarfile.REGTYPE, 0o640, "", 1_570_838_400),
    ]


def test_what_is_random_differs_with_content_passphrase_project_and_rounds() -> None:
    other = [FILES[0], Entry("/root/note", b"\0\xfe", 0o640)]
    several = [
        parts(seal(FILES, PASS, salt_key=KEY, rounds=FEW)),
        parts(seal(other, PASS, salt_key=KEY, rounds=FEW)),
        parts(seal(FILES, Secret("another one"), salt_key=KEY, rounds=FEW)),
        parts(seal(FILES, PASS, salt_key=bytes(32), rounds=FEW)),
        parts(seal(FILES, PASS, salt_key=KEY, rounds=FEW + 1)),
    ]
    for name, start, end in (("data", 8, 16), ("key", 120, 200)):
        assert len({one[name][start:end] for one in several}) == len(several)


def test_only_what_bcrypt_makes_of_it_depends_on_the_passphrase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has the project's folder and the ISO, but not the passphrase, gets no cheaper test."""
    calls = []

    def same(passphrase: bytes, salt: bytes, size: int, rounds: int, **_: bool) -> bytes:
        calls.append((passphrase, salt))
        return bytes(range(size))

    monkeypatch.setattr(bcrypt, "kdf", same)
    words = (PASS, Secret("another one"), Secret("x" * 100))
    assert len({seal(FILES, word, salt_key=KEY, rounds=FEW) for word in words}) == 1
    assert [word.encode() for word in (w.reveal() for w in words)] == [p for p, _ in calls]
    assert len({salt for _, salt in calls}) == 1


def test_the_length_tells_only_the_bucket() -> None:
    lengths = {
        len(seal([Entry("/a", bytes(n))], PASS, salt_key=KEY, rounds=1))
        for n in (0, 1, 400, 1000, 40000)
    }
    assert len(lengths) == 1


def test_another_passphrase_never_opens() -> None:
    sealed = seal(FILES, PASS, salt_key=KEY, rounds=1)
    for i in range(100):
        with pytest.raises(SealingError, match="does not open"):
            open_sealed(sealed, Secret(f"wrong passphrase {i}"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(seal(FILES, PASS, salt_key=KEY, rounds=1))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealingError):
        open_sealed(bytes(sealed), PASS)


@given(
    st.dictionaries(st.from_regex(r"(/[a-z]{1,8}){1,4}", fullmatch=True), st.binary(), max_size=4)
)
def test_what_is_packed_comes_out_again(files: dict[str, bytes]) -> None:
    packed = pack(Entry(path, data) for path, data in files.items())
    assert {entry.path: entry.data for entry in unpack(packed)} == files
    assert len(packed) % 65536 == 0


@pytest.mark.parametrize("path", ["etc/key", "/", "/a//b", "/../etc/passwd", "/a/"])
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(SiteSetError, match="not a plain absolute path"):
        pack([Entry(path)])


@pytest.mark.parametrize("junk", [b"", b"Salted__", b"Salted__" + bytes(25), b"x" * 64])
def test_junk_is_not_a_sealed_file(junk: bytes) -> None:
    with pytest.raises(SealingError, match="not a sealed file"):
        open_sealed(junk, PASS)


def test_a_short_salt_key_and_strange_rounds_are_refused() -> None:
    with pytest.raises(SealingError, match="too few"):
        seal(FILES, PASS, salt_key=b"short")
    with pytest.raises(SealingError, match="rounds"):
        seal(FILES, PASS, salt_key=KEY, rounds=0)


def test_nothing_of_a_sealed_file_is_in_its_repr() -> None:
    assert "PrivateKey" not in repr(Entry("/a", b"PrivateKey = x"))
