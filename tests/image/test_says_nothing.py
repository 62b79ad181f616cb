"""A finished ISO says nothing of whom the server is for: every name, key, network and port that the
settings hold is searched for in it, in every form, whatever packs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from obsdimg import standin
from obsdimg.cli.main import main
from obsdimg.image.secret_search import search
from obsdimg.site.clients import client_path
from obsdimg.tunnel.wgconf import parse as wgconf

HASH = "$2b$08$" + "q" * 53
ROOT_HASH = "$2b$09$" + "z" * 53
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
HOP = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="
CONFIG = f"""
[release]
version = "6.6"
[host]
name = "vpn"
[access]
root_password = "{ROOT_HASH}"
[access.admin]
name = "adaquirk"
full_name = "Quorra Quillfeather"
password = "{HASH}"
keys = ["ssh-ed25519 {KEY} quillkey@quirkhost"]
[[network.interfaces]]
name = "vio1"
ipv4 = "172.29.77.3/24"
[tunnel]
endpoint = "quirkserver.example.net"
port = 51987
ipv4 = "10.123.45.1/24"
[tunnel.upstream]
endpoint = "hopquirk.example.net"
port = 51976
public_key = "{HOP}"
ipv4 = "10.98.76.2/24"
[[tunnel.peers]]
name = "zebrapeer"
ipv4 = "10.123.45.7"
reach = ["172.29.77.0/24"]
[packages]
carry = false
"""
SAID = {
    name: name.encode()
    for name in (
        *("adaquirk", "Quorra Quillfeather", HASH, ROOT_HASH, KEY, "quillkey@quirkhost"),
        *("172.29.77", "10.123.45", "10.98.76", "port 51987", "port 51976"),
        *("hopquirk", "quirkserver"),
        *(HOP, "zebrapeer", "quirkfile", "what the overlay holds"),
    )
}


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("medium") / "install66.iso"
    standin.build_iso(path)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OBSDIMG_PASSPHRASE_FILE", raising=False)
    folder = tmp_path / "project"
    assert main(["init", str(folder), "-q"]) == 0
    (folder / "obsdimg.toml").write_text(CONFIG)
    (folder / "overlay/etc").mkdir(parents=True)
    (folder / "overlay/etc/quirkfile").write_text("what the overlay holds\n")
    (folder / "phrase").write_text("correct horse battery staple\n")
    (folder / "phrase").chmod(0o600)
    return folder


def build(project: Path, medium: Path, *, phrase: bool = True) -> Path:
    words = ["build", "-c", str(project / "obsdimg.toml"), "--iso", str(medium), "--unverified"]
    words += ["--passphrase-file", str(project / "phrase"), "--weak-passphrase"] if phrase else []
    assert main([*words, "--offline"]) == 0
    (iso,) = (project / "images").glob("*.iso")
    return iso


def found_in(iso: Path, values: dict[str, bytes]) -> set[str]:
    return {finding.secret for finding in search(iso, values).findings}


def site_set(manifest: Path) -> set[str]:
    entries = json.loads(manifest.read_text())["site_set"]
    return {entry["path"] for entry in entries if entry["kind"] != "dir"}


def test_nothing_that_the_settings_say_of_people_and_networks_is_in_the_iso(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    iso = build(project, medium)
    peer = wgconf(client_path(project / "clients", "zebrapeer").read_text(), "zebrapeer")
    keys = {"server's": peer.peers[0].public_key.text(), "peer's": peer.private_key.public().text()}
    values = SAID | {name: text.encode() for name, text in keys.items()}
    values |= {"host": b"System hostname = vpn"}
    assert found_in(iso, values) == {"host"}, "the search finds what is there"
    assert site_set(Path(f"{iso}.json")) == {"/install.site", "/obsdimg.sealed"}
    # What inspect says of it, and that it searches for the same.
    capsys.readouterr()
    assert main(["inspect", str(iso), "--secrets", str(project), "-q"]) == 0
    shown = capsys.readouterr().out
    said = shown.partition("Whoever has this ISO reads:\n")[2].partition("Checks:")[0]
    assert "  System hostname = vpn\n" in said
    assert "bytes are sealed" in said
    assert "Setup a user" not in said
    assert not [name for name in SAID if name in shown.replace(str(project), "")]


def test_first_boot_keys_without_a_passphrase_say_what_they_show(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("[tunnel]\n", '[tunnel]\nkeys = "first-boot"\n')
    (project / "obsdimg.toml").write_text(text)
    iso = build(project, medium, phrase=False)
    assert "nothing is sealed" in capsys.readouterr().err
    # The clients' own endpoint never gets to the server.
    assert found_in(iso, SAID) == set(SAID) - {"quirkserver"}
    assert "/etc/pf.conf" in site_set(Path(f"{iso}.json"))
    assert main(["inspect", str(iso), "-q"]) == 0
    assert "NOT SEALED, " in capsys.readouterr().out
    # The response file names nobody all the same.
    answers = (iso.with_name(iso.stem + ".install.conf")).read_text()
    assert not [name for name in SAID if name in answers]
    # A passphrase at build time seals it.
    sealed = build(project, medium)
    assert "nothing is sealed" not in capsys.readouterr().err
    assert site_set(Path(f"{sealed}.json")) == {"/install.site", "/obsdimg.sealed"}
