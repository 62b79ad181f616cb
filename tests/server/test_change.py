"""What differs between a server and its project, and the commands that make it the same."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.project.folder import Project
from obsdimg.server.change import Change, ChangeError, change_archive, plan_change
from obsdimg.server.kept import _KEPT, _KEY_FILES, KeptFiles, digest, kept_files
from obsdimg.server.wgfiles import read_wg_file
from obsdimg.site.table import site_table
from obsdimg.tunnel.keys import WgPrivateKey

CONFIG = """\
[release]
version = "{version}"
[access]
root_keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[tunnel]
dns = ["9.9.9.9"]
endpoint = "vpn.example.net"
{tunnel}
[[tunnel.peers]]
name = "operator"
ipv4 = "10.0.0.2"
{peer}
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
{more}
"""


class Desk:
    """A project that can be written anew, and the server's files as they were first."""

    def __init__(self, folder: Path, version: str, tunnel: str = "") -> None:
        self.path, self.version = folder / "obsdimg.toml", version
        self.write(tunnel)
        self.first = dict(self.kept().files)

    def write(self, tunnel: str = "", peer: str = "", more: str = "") -> None:
        self.path.write_text(
            CONFIG.format(version=self.version, tunnel=tunnel, peer=peer, more=more)
        )

    def kept(self) -> KeptFiles:
        project = Project.open(self.path)
        return kept_files(project, project.keys())

    def change(
        self,
        actual: dict[str, bytes] | None = None,
        applied: dict[str, str] | None = None,
        running: tuple[str, ...] = (),
    ) -> Change:
        there = {path: entry.data for path, entry in self.first.items()}
        keys = Project.open(self.path).keys()
        names = {own.public.text(): name for name, own in keys.peers.items()}
        return plan_change(self.kept(), {**there, **(actual or {})}, names, applied or {}, running)

    def public(self, name: str) -> str:
        return Project.open(self.path).keys().peers[name].public.text()


@pytest.fixture(params=["6.6", "7.7"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk(tmp_path, request.param)


TABLET = '[[tunnel.peers]]\nname = "tablet"\nipv4 = "10.0.0.4"'


def test_nothing_to_do_is_nothing(desk: Desk) -> None:
    change = desk.change()
    assert change.empty
    assert change.lines == ()
    assert change.forward == ()


def test_a_new_peer_is_named_and_its_rules_are_shown(desk: Desk) -> None:
    desk.write(more=TABLET)
    change = desk.change()
    assert change.lines[0] == "+ peer tablet: 10.0.0.4/32"
    assert "+# tablet" in change.lines
    assert any(line.startswith("+pass in on $tunnel") for line in change.lines)
    assert not any(line.startswith("-") and not line.startswith("---") for line in change.lines)
    if desk.version == "7.7":
        (line,) = change.forward
        assert line.startswith(f"ifconfig wg0 wgpeer {desk.public('tablet')} wgpsk ")
        assert line.endswith(" wgaip 10.0.0.4/32")
        assert change.back == (f"ifconfig wg0 -wgpeer {desk.public('tablet')}",)


def test_new_keys_are_a_change_and_no_other_peer_is_touched(desk: Desk) -> None:
    old = desk.public("phone")
    secrets = desk.path.parent / "secrets"
    (secrets / "phone.key").unlink()
    (secrets / "phone.psk").unlink()
    change = desk.change()
    assert change.lines == ("~ peer phone: new keys",)
    if desk.version == "7.7":
        assert change.forward[0] == f"ifconfig wg0 -wgpeer {old}"
        assert len(change.forward) == 2
        assert desk.public("operator") not in " ".join(change.forward)


def test_a_new_preshared_key_and_a_new_address_are_told(desk: Desk) -> None:
    (desk.path.parent / "secrets" / "phone.psk").unlink()
    assert desk.change().lines == ("~ peer phone: new pre-shared key",)
    desk.write(peer="", more="")
    text = desk.path.read_text().replace("10.0.0.3", "10.0.0.9")
    desk.path.write_text(text)
    assert "~ peer phone: 10.0.0.3/32 -> 10.0.0.9/32" in desk.change().lines


def test_a_peer_that_is_gone_is_removed(desk: Desk) -> None:
    old = desk.public("phone")
    desk.path.write_text(desk.path.read_text().split('[[tunnel.peers]]\nname = "phone"')[0])
    change = desk.change()
    assert change.lines[0] == "- peer phone"
    if desk.version == "7.7":
        assert change.forward == (f"ifconfig wg0 -wgpeer {old}",)


def test_a_peer_that_runs_and_stands_in_no_file_is_removed(desk: Desk) -> None:
    stranger = WgPrivateKey.generate().public().text()
    running = (desk.public("operator"), desk.public("phone"), stranger)
    change = desk.change(running=running)
    assert change.lines == (f"- peer unknown-{stranger[:8]}: runs, and stands in no file",)
    if desk.version == "7.7":
        assert change.forward == (f"ifconfig wg0 -wgpeer {stranger}",)


def test_a_port_is_changed_without_touching_peers(desk: Desk) -> None:
    desk.write(tunnel="port = 443")
    change = desk.change()
    assert change.lines[0] == "~ port of WireGuard: 53 -> 443"
    if desk.version == "7.7":
        assert change.forward == ("ifconfig wg0 wgport 443",)
        assert change.back == ("ifconfig wg0 wgport 53",)


def test_what_a_hand_changed_is_named(desk: Desk) -> None:
    first = {path: digest(entry.data) for path, entry in desk.first.items()}
    change = desk.change({"/etc/pf.conf": b"pass\n"}, first)
    assert change.by_hand == ("/etc/pf.conf",)
    assert "-pass" in change.lines
    desk.write(more=TABLET)
    assert desk.change({}, first).by_hand == ()


@pytest.mark.parametrize("keys", ["build", "first-boot"])
def test_every_kept_file_is_compared_but_one_whose_key_the_server_made(
    tmp_path: Path, keys: str
) -> None:
    """obsdimg-tunnel names the mark of such a key, and is no file with a key."""
    kept = Desk(tmp_path, "7.7", f'keys = "{keys}"').kept()
    left_out = {"/etc/hostname.wg0"} if keys == "first-boot" else set()
    assert kept.files.keys() - kept.hashes().keys() == left_out
    assert "/usr/local/sbin/obsdimg-tunnel" in kept.hashes()


def test_another_server_key_is_not_for_a_running_server(desk: Desk) -> None:
    text = WgPrivateKey.generate().reveal() + "\n"
    (desk.path.parent / "secrets" / "server.key").write_text(text)
    with pytest.raises(ChangeError, match="own key is another one"):
        desk.change()


def test_a_server_that_made_its_own_key_keeps_it(tmp_path: Path) -> None:
    for version in ("6.6", "7.7"):
        folder = tmp_path / version
        folder.mkdir()
        desk = Desk(folder, version, 'keys = "first-boot"')
        key_file = desk.kept().key_files[0]
        own = WgPrivateKey.generate().reveal().encode()
        there = {key_file: desk.first[key_file].data.replace(b"@SERVER-KEY@", own)}
        assert desk.change(there).empty
        desk.write('keys = "first-boot"', more=TABLET)
        change = desk.change(there)
        assert "+ peer tablet: 10.0.0.4/32" in change.lines
        assert own in change.files[key_file].data
        assert own in change_archive(change, desk.kept(), 60)
        assert b"@SERVER-KEY@" not in change_archive(change, desk.kept(), 60)
        with pytest.raises(ChangeError, match="own key is not in it"):
            desk.change({key_file: b""})


def test_the_difference_and_the_value_show_no_secret(desk: Desk) -> None:
    before = [p.read_text().strip() for p in (desk.path.parent / "secrets").iterdir()]
    for name in ("phone.key", "phone.psk"):
        (desk.path.parent / "secrets" / name).unlink()
    desk.write(tunnel="port = 443", more=TABLET)
    change = desk.change()
    after = [p.read_text().strip() for p in (desk.path.parent / "secrets").iterdir()]
    shown = "\n".join(change.lines) + repr(change) + repr(desk.kept())
    for secret in {*before, *after}:
        assert secret not in shown


def test_an_empty_or_broken_key_file_there_is_a_difference_not_a_crash(desk: Desk) -> None:
    key_file = desk.kept().key_files[0]
    for data in (b"", b"\xff\xfe\x00", b"[Peer]\n= = =\nwgpeer\n"):
        change = desk.change({key_file: data})
        assert "+ peer phone: 10.0.0.3/32" in change.lines


def test_the_archive_holds_what_is_written_and_scripts_that_a_shell_takes(
    desk: Desk, tmp_path: Path
) -> None:
    desk.write(more=TABLET)
    change = desk.change()
    data = change_archive(change, desk.kept(), 60)
    assert data == change_archive(change, desk.kept(), 60)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert all(info.mode == (0o700 if info.isdir() else 0o600) for info in archive)
        archive.extractall(tmp_path / "out", filter="data")
    listed = dict(
        reversed(line.split(" ", 1))  # type: ignore[misc]
        for line in (tmp_path / "out/files").read_text().splitlines()
    )
    assert listed["/etc/pf.conf"] == "600"
    assert listed[desk.kept().key_files[0]] == ("600" if desk.version == "6.6" else "640")
    for script in (tmp_path / "out").glob("*.sh"):
        subprocess.run(["mksh", "-n", str(script)], check=True)


def test_a_hand_made_file_is_read_as_far_as_it_makes_sense() -> None:
    conf = read_wg_file(
        "[interface]\nprivatekey=K # c\nLISTENPORT = 53\n[PEER]\nPublicKey = P\n"
        "AllowedIPs = 10.0.0.2/32\nallowedips = 10.0.0.9/32,fd00::2/128\n",
        "wireguard-go",
    )
    assert (conf.private, conf.port) == ("K", 53)
    assert conf.peers["P"].allowed == ("10.0.0.2/32", "10.0.0.9/32", "fd00::2/128")
    wg = read_wg_file("wgport 1 wgkey K\nwgpeer P wgaip a wgpsk S wgaip b\nup\n# c\n", "wg")
    assert (wg.private, wg.port, wg.rest) == ("K", 1, ("up",))
    assert (wg.peers["P"].preshared, wg.peers["P"].allowed) == ("S", ("a", "b"))


def test_every_kept_path_is_one_that_lands_on_a_server() -> None:
    paths = {row.path for row in site_table().files}
    assert {*_KEPT, *_KEY_FILES} <= paths
    sealed = {row.path for row in site_table().files if row.secret}
    assert sealed == set(_KEY_FILES)
    assert replace(Change((), (), (), {})).empty


@pytest.mark.parametrize("more", [True, False], ids=["added", "taken away"])
def test_a_network_behind_a_peer_is_routed_at_once(desk: Desk, more: bool) -> None:
    behind = 'networks = ["192.168.40.0/24"]'
    add = "/sbin/route -qn add -inet 192.168.40.0/24 10.0.0.1"
    delete = "{ /sbin/route -qn delete -inet 192.168.40.0/24 10.0.0.1 >/dev/null 2>&1; true; }"
    if not more:
        desk.write(peer=behind)
        desk.first = dict(desk.kept().files)
    desk.write(peer=behind if more else "")
    change = desk.change()
    assert change.lines[0].startswith("~ peer operator: 10.0.0.2/32")
    assert (change.forward[0], change.back[-1]) == ((add, delete) if more else (delete, add))
    assert change.at_restart == ()


def test_a_route_beside_another_address_waits_for_the_restart(desk: Desk) -> None:
    desk.write(tunnel='ipv4 = "10.0.0.200/24"', peer='networks = ["192.168.40.0/24"]')
    interface = "/etc/hostname.tun0" if desk.version == "6.6" else "/etc/hostname.wg0"
    assert interface in desk.change().at_restart
