"""Peers come and go in obsdimg.toml, whatever form it was written in; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.config import load
from obsdimg.config.document import commented
from obsdimg.config.edit import (
    ConfigEditError,
    add_peer,
    free_addresses,
    remove_peer,
    set_release,
)

FORMS = {
    "tables": "[tunnel] # mine\n[[tunnel.peers]]\nname = 'laptop' # first\nipv4 = '10.0.0.2'\n",
    "inline": "[tunnel]\npeers = [ {name = 'laptop', ipv4 = '10.0.0.2'} ] # mine\n",
    "lines": "[tunnel]\npeers = [\n  {name = 'laptop', ipv4 = '10.0.0.2'}, # mine\n]\n",
    "dotted": "tunnel.port = 53\ntunnel.peers = [{name = 'laptop', ipv4 = '10.0.0.2'}] # mine\n",
    "all inline": "tunnel = {peers = [{name = 'laptop', ipv4 = '10.0.0.2'}]} # mine\n",
    "no header": "[[tunnel.peers]]\nname = 'laptop'\nipv4 = '10.0.0.2'\n# mine\n",
    "out of order": "[tunnel.upstream]\nendpoint = 'a.b'\nport = 9\nipv4 = '10.9.0.2/24'\n"
    "public_key = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='\n[host]\nname = 'x' # mine\n"
    "[[tunnel.peers]]\nname = 'laptop'\nipv4 = '10.0.0.2'\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_adding_a_peer_keeps_those_there_are_and_removing_it_gives_the_old_settings(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "obsdimg.toml"
    path.write_text(text)
    before = load(path)
    values = {"name": "tablet", **free_addresses(before), "reach": ["172.16.1.0/24"]}
    added = add_peer(path, values)
    assert [p.name for p in added.tunnel.peers] == ["laptop", "tablet"]
    assert load(path) == added
    assert "# mine" in path.read_text()
    assert remove_peer(path, "tablet") == before
    assert remove_peer(path, "laptop").tunnel.peers == []


@pytest.mark.parametrize("text", ["", "tunnel.port = 53\n", "[tunnel]\npeers = []\n"])
def test_the_first_peer_can_be_added_to_any_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "obsdimg.toml"
    path.write_text(text)
    assert [p.name for p in add_peer(path, {"name": "a", "ipv4": "10.0.0.2"}).tunnel.peers] == ["a"]


def test_a_peer_that_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "obsdimg.toml"
    path.write_text(FORMS["inline"])
    with pytest.raises(ConfigEditError, match="no client phone"):
        remove_peer(path, "phone")
    assert path.read_text() == FORMS["inline"]


def test_the_file_of_init_keeps_its_form(tmp_path: Path) -> None:
    path = tmp_path / "obsdimg.toml"
    peers = [{"name": "laptop", "ipv4": "10.0.0.2"}]
    path.write_text(commented({"tunnel": {"endpoint": "a.example", "peers": peers}}))
    before = path.read_text()
    add_peer(path, {"name": "tablet", "ipv4": "10.0.0.3"})
    row = '    { name = "laptop", ipv4 = "10.0.0.2" },\n'
    assert row + '    {name = "tablet", ipv4 = "10.0.0.3"},\n]' in path.read_text()
    remove_peer(path, "tablet")
    assert load(path).tunnel.peers and row in path.read_text()
    remove_peer(path, "laptop")
    assert [p.name for p in add_peer(path, peers[0]).tunnel.peers] == ["laptop"]
    assert abs(len(path.read_text().splitlines()) - len(before.splitlines())) <= 2


def test_the_first_peer_of_a_file_of_init_stands_where_it_can(tmp_path: Path) -> None:
    path = tmp_path / "obsdimg.toml"
    path.write_text(commented({"tunnel": {"endpoint": "a.example"}}) + "[host]\nname = 'x'\n")
    after = add_peer(path, {"name": "a", "ipv4": "10.0.0.2"})
    assert (after.host.name, after.tunnel.endpoint) == ("x", "a.example")


SERVER = """\
[access]
root_keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[tunnel]
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "operator"
ipv4 = "10.0.0.2"
"""
SERVERS = SERVER + '[servers.a]\ntunnel.endpoint = "a.example"\n[servers.b]\n'


@pytest.mark.parametrize(
    ("text", "server", "changed"),
    [
        (
            f'# top\n[release]\nversion = "7.7"   # as installed\nport = "amd64"\n{SERVER}',
            None,
            'version = "7.8"   # as installed',
        ),
        (f'release.version = "7.7" # x\n{SERVER}', None, 'release.version = "7.8" # x'),
        (f'release = {{ version = "7.7" }}\n{SERVER}', None, 'release = { version = "7.8" }'),
        (SERVER, None, 'version = "7.8"'),
        (SERVERS + '[servers.a.release]\nversion = "7.7"\n', "a", 'version = "7.8"'),
        ('[release]\nversion = "7.7"\n' + SERVERS, "a", 'version = "7.8"'),
    ],
)
def test_the_release_is_set_and_nothing_else(
    tmp_path: Path, text: str, server: str | None, changed: str
) -> None:
    path = tmp_path / "obsdimg.toml"
    path.write_text(text)
    path.chmod(0o640)
    set_release(path, "7.8", server)
    lines, before = path.read_text().splitlines(), text.splitlines()
    assert changed in lines
    assert path.stat().st_mode & 0o777 == 0o640
    gone = [line for line in before if line not in lines]
    assert all("7.7" in line for line in gone)
    assert load(path, server).release.version == "7.8"
    if server is not None:
        assert load(path, "b").release.version != "7.8"


def test_a_release_that_is_none_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "obsdimg.toml"
    path.write_text(SERVER)
    with pytest.raises(ConfigEditError, match=r"release\.version"):
        set_release(path, "seven")
    assert path.read_text() == SERVER
