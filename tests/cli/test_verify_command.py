"""`obsdimg verify`: for people without signify; judged by signify where it is there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.signify.message import SignifySecretKey, sign_embedded
from obsdimg.signify.signing import sign_list
from support.package_maker import package, signed

SIGNIFY = shutil.which("signify-openbsd") or shutil.which("signify")
KEY = SignifySecretKey("stand-in secret key", b"\5" * 8, b"\6" * 32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.pub").write_text(KEY.public().text)
    (tmp_path / "other.pub").write_text(SignifySecretKey.generate("other").public().text)
    hashes = {}
    for name in ("base66.tgz", "bsd"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
        hashes[name] = hashlib.sha256(name.encode() * 1000).hexdigest()
    (tmp_path / "SHA256.sig").write_bytes(sign_list(hashes, KEY, "6.6").sha256_sig)
    return tmp_path


def verify(*words: str) -> int:
    return main(["verify", "--quiet", *words])


def test_a_list_verifies_its_files_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("--key", "k.pub", "SHA256.sig") == 0
    assert capsys.readouterr().out == "base66.tgz: ok\nbsd: ok\n"


def test_only_the_files_given_are_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bsd").unlink()
    assert verify("--key", "k.pub", "SHA256.sig", "base66.tgz") == 0
    assert capsys.readouterr().out == "base66.tgz: ok\n"


def test_a_changed_and_a_missing_file_are_both_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bsd").unlink()
    (folder / "base66.tgz").write_bytes(b"x")
    assert verify("--key", "k.pub", "SHA256.sig") == 1
    found = capsys.readouterr()
    assert "base66.tgz: its SHA-256 is" in found.out
    assert "bsd: cannot be read" in found.out
    assert "error: SHA256.sig: 2 of 2 files did not verify" in found.err


def test_a_file_that_is_not_listed_is_said_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("--key", "k.pub", "SHA256.sig", "k.pub") == 1
    assert "does not list k.pub" in capsys.readouterr().out


def test_a_wrong_key_and_a_bad_signature_are_told_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("--key", "other.pub", "SHA256.sig") == 1
    assert "signed by key number" in capsys.readouterr().err
    data = (folder / "SHA256.sig").read_bytes()
    (folder / "SHA256.sig").write_bytes(data[:-10] + b"0" + data[-9:])
    assert verify("--key", "k.pub", "SHA256.sig") == 1
    assert "the signature does not verify" in capsys.readouterr().err


def test_a_detached_signature_finds_its_file(folder: Path) -> None:
    (folder / "bsd.sig").write_text(KEY.sign((folder / "bsd").read_bytes()).text)
    assert verify("--key", "k.pub", "bsd.sig") == 0
    assert verify("--key", "k.pub", "bsd.sig", "bsd") == 0
    assert verify("--key", "k.pub", "bsd.sig", "base66.tgz") == 1


def test_an_embedded_message_that_is_no_list_verifies_alone(folder: Path) -> None:
    (folder / "m.sig").write_bytes(sign_embedded(b"hello\n", KEY))
    assert verify("--key", "k.pub", "m.sig") == 0
    assert verify("--key", "k.pub", "m.sig", "bsd") == 1


def test_signed_packages_verify(folder: Path) -> None:
    (folder / "a-1.tgz").write_bytes(signed(package("a-1"), KEY))
    assert verify("--key", "k.pub", "a-1.tgz") == 0
    (folder / "b-1.tgz").write_bytes(package("b-1"))
    assert verify("--key", "k.pub", "a-1.tgz", "b-1.tgz") == 1


def test_json_holds_key_and_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--key", "k.pub", "--json", "SHA256.sig") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["key"]["number"] == "05" * 8
    assert [f["result"] for f in found["files"]] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--key", "gone.pub", "SHA256.sig"), "gone.pub: cannot read the public key"),
        (("--key", "bsd", "SHA256.sig"), "does not start with `untrusted comment:`"),
        (("--key", "k.pub", "gone.sig"), "gone.sig: cannot read the signature"),
        (("--key", "k.pub", "bsd"), "bsd: does not start with `untrusted comment:`"),
        (("--key", "9.9-base", "SHA256.sig"), "'9.9' is not a release"),
        (("--key", "k.pub", "."), ".: cannot read the signature"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert verify(*words) == 1
    assert message in capsys.readouterr().err


@pytest.mark.media
@pytest.mark.parametrize("key", ["7.6-base", "keys/openbsd-76-base.pub"])
def test_the_genuine_list_of_7_6_verifies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    if not (media := os.environ.get("OBSDIMG_MEDIA")):
        pytest.skip("OBSDIMG_MEDIA is not set: no genuine media")
    monkeypatch.chdir(media)
    shutil.copy("pxeboot-76-amd64", tmp_path / "pxeboot")
    assert verify("--key", key, "SHA256-76-amd64.sig", str(tmp_path / "pxeboot")) == 0


@pytest.mark.skipif(SIGNIFY is None, reason="signify-openbsd is not installed")
def test_signify_c_says_the_same(folder: Path) -> None:
    def real() -> int:
        assert SIGNIFY
        words = [SIGNIFY, "-C", "-p", "k.pub", "-x", "SHA256.sig"]
        return subprocess.run(words, cwd=folder, capture_output=True, timeout=60).returncode

    assert real() == verify("--key", "k.pub", "SHA256.sig") == 0
    (folder / "bsd").write_bytes(b"changed")
    assert real() == verify("--key", "k.pub", "SHA256.sig") == 1
