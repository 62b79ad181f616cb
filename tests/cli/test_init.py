"""`obsdimg init`: the settings that were given, the newest release, and nothing half made."""

from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.config import load
from obsdimg.releases.support import newest

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@here"


def test_without_options_it_is_the_newest_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "vpn")]) == 0
    config = load(tmp_path / "vpn" / "obsdimg.toml")
    assert config.release.version == newest().version
    assert f'version = "{newest().version}"' in (tmp_path / "vpn/obsdimg.toml").read_text()
    said = capsys.readouterr()
    assert "no patches" not in said.err
    assert "still to be set in obsdimg.toml: access.admin.keys" in said.err
    assert "tunnel.endpoint" in said.err


def test_what_is_given_stands_in_the_file_and_check_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "id.pub").write_text(KEY + "\n")
    words = ["--endpoint", "vpn.example.org", "--ssh-key", str(tmp_path / "id.pub")]
    words += ["--peer", "laptop", "--peer", "phone", "--private", "172.16.1.3/24@vio1"]
    assert main(["init", str(tmp_path / "vpn"), *words, "--console", "com0"]) == 0
    assert capsys.readouterr().err.endswith("vpn && obsdimg check\n")
    config = load(tmp_path / "vpn" / "obsdimg.toml")
    assert config.access.admin is not None and config.access.admin.keys == [KEY]
    assert [p.name for p in config.tunnel.peers] == ["laptop", "phone"]
    assert str(config.tunnel.peers[0].reach[0]) == "172.16.1.0/24"
    assert not config.tunnel.peers[1].reach
    monkeypatch.chdir(tmp_path / "vpn")
    assert main(["check"]) == 0
    assert "boot loader asks for the disk's passphrase there, too" in capsys.readouterr().err


def test_the_recipe_and_an_old_release_say_that_they_get_no_patches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "a"), "--recipe"]) == 0
    assert "OpenBSD 6.6 gets no patches since 2020-10-18" in capsys.readouterr().err
    config = load(tmp_path / "a" / "obsdimg.toml")
    assert config.release.version == "6.6"
    assert [p.name for p in config.tunnel.peers] == ["laptop", "phone"]
    assert config.network.interfaces[0].name == "vio1"
    assert main(["check", "-c", str(tmp_path / "a/obsdimg.toml")]) == 0
    assert "gets no patches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--release", "5.5"], "not a release"),
        (["--private", "172.16.1.0@vio1"], "is not an IPv4 address with prefix"),
        (["--private", "172.16.1.3/24"], "not ADDR/LEN@IF"),
        (["--peer", "no good"], "peers"),
        (["--ssh-key", "/nonexistent.pub"], "nonexistent"),
        (["--endpoint", "http://x"], "endpoint"),
    ],
)
def test_a_mistake_is_one_error_and_makes_nothing(
    tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "vpn"), *words]) == (2 if "ADDR/LEN" in says else 1)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "vpn").exists()


def test_a_private_key_is_not_taken_for_a_public_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "id").write_text("-----BEGIN OPENSSH " + "PRIVATE KEY-----\nx\n")
    assert main(["init", str(tmp_path / "vpn"), "--ssh-key", str(tmp_path / "id")]) == 1
    assert "is no public ssh key" in capsys.readouterr().err
