"""Several servers in one file: what each of them is, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from obsdimg.config import parse
from obsdimg.config.edit import add_peer, free_addresses, remove_peer, shared_config
from obsdimg.config.load import ConfigError
from obsdimg.project.folder import MissingKeyError, Project
from obsdimg.releases.release import load_release
from obsdimg.site.clients import ClientError, clients_conf, find_peer, plan_client, plan_clients
from obsdimg.site.plan import Materials, plan_site
from obsdimg.tunnel.wgconf import parse as parse_conf
from support.site_fixtures import content

TEXT = """\
# Three of them.
[release]
version = "6.6"
[host]
timezone = "Europe/Paris"
[[network.interfaces]]
name = "vio1"
ipv4 = "172.16.1.3/24"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
mtu = 1280

[servers.ams]
next = "fra"
[servers.ams.tunnel]
endpoint = "ams.example.net"
ipv4 = "10.1.0.1/24"
[[servers.ams.tunnel.peers]]
name = "phone"
keepalive = 0
[[servers.ams.tunnel.peers]]
name = "guest"
ipv4 = "10.1.0.9"

[servers.fra]
host = { name = "frankfurt", timezone = "Europe/Berlin" }
network = { interfaces = [{ name = "vio1", ipv4 = "172.17.1.3/24" }] }
[servers.fra.tunnel]
endpoint = "fra.example.net"
ipv4 = "10.2.0.1/16"

[servers.zrh.tunnel]
endpoint = "zrh.example.net"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "obsdimg.toml").write_text(TEXT)
    return tmp_path / "obsdimg.toml"


def peers(server: str, text: str = TEXT) -> dict[str, str]:
    return {p.name: str(p.ipv4) for p in parse(text.encode(), server=server).tunnel.peers}


def test_a_server_is_the_shared_tables_with_its_own_over_them() -> None:
    ams, fra, zrh = (parse(TEXT.encode(), server=name) for name in ("ams", "fra", "zrh"))
    assert [c.host.name for c in (ams, fra, zrh)] == ["ams", "frankfurt", "zrh"]
    assert [c.host.timezone for c in (ams, fra)] == ["Europe/Paris", "Europe/Berlin"]
    assert {c.release.version for c in (ams, fra, zrh)} == {"6.6"}
    assert str(fra.network.interfaces[0].ipv4) == "172.17.1.3/24"
    assert len(fra.network.interfaces) == 1


def test_shared_peers_keep_their_place_in_another_network() -> None:
    assert peers("zrh") == {"laptop": "10.0.0.2", "phone": "10.0.0.3"}
    assert peers("ams") == {"laptop": "10.1.0.2", "phone": "10.1.0.3", "guest": "10.1.0.9"}
    assert peers("fra")["phone"] == "10.2.0.3"
    phone = find_peer(parse(TEXT.encode(), server="ams"), "phone")
    assert (phone.keepalive, phone.mtu) == (0, 1280), "entries of one name are merged"


def test_ipv6_moves_too_and_what_finds_no_place_is_refused_with_the_servers_name() -> None:
    text = TEXT.replace(
        'name = "laptop"\nipv4 = "10.0.0.2"',
        'name = "laptop"\nipv4 = "10.0.0.2"\nipv6 = "fd00:1::2"',
    ).replace("mtu = 1280", 'mtu = 1280\nipv6 = "fd00:1::3"')
    shared = text.replace(
        "[[network.interfaces]]", '[tunnel]\nipv6 = "fd00:1::1/64"\n[[network.interfaces]]'
    )
    own = shared.replace('ipv4 = "10.2.0.1/16"', 'ipv4 = "10.2.0.1/16"\nipv6 = "fd00:2::1/64"')
    found = {p.name: str(p.ipv6) for p in parse(own.encode(), server="fra").tunnel.peers}
    assert found == {"laptop": "fd00:2::2", "phone": "fd00:2::3", "hop-ams": "None"}
    small = TEXT.replace("10.1.0.1/24", "10.1.0.1/30")
    with pytest.raises(ConfigError) as caught:
        parse(small.encode(), server="ams")
    assert "obsdimg.toml [servers.ams]: tunnel.peers[" in caught.value.message


REFUSED = [
    (("next = \"fra\"", 'next = "par"'), "servers.ams.next: is not another server of this file"),
    (("next = \"fra\"", 'next = "ams"'), "servers.ams.next: is not another server of this file"),
    (("[servers.zrh.tunnel]", '[servers.fra2]\nnext = "ams"\n[servers.zrh.tunnel]'), None),
    (
        ("host = { name", 'next = "ams"\nhost = { name'),
        "servers.ams.next: ams -> fra -> ams: the traffic would never leave",
    ),
    (("[servers.zrh.tunnel]", "[servers.Z_rh.tunnel]"), "is no name for a server"),
    (("[servers.zrh.tunnel]", "[servers.zrh.tunel]"), "[servers.ams]"),
    (('"zrh.example.net"', '"FRA.example.net"'), "FRA.example.net:53 is that of fra, too"),
    (('name = "frankfurt"', 'name = "zrh"'), "host.name zrh is that of fra, too"),
    (('endpoint = "fra.example.net"\n', ""), "server fra has no tunnel.endpoint"),
    (('ipv4 = "10.1.0.1/24"', 'ipv4 = "10.2.7.1/24"'), "overlaps tunnel.ipv4 10.2.7.1/24"),
    (("[release]", '[tunnel]\nkeys = "first-boot"\n[release]'), "a hop needs keys that are known"),
    (("[servers.ams]\n", "[servers]\nold = 3\n[servers.ams]\n"), "servers: must be tables"),
    (
        ("[servers.ams.tunnel]\n", '[servers.ams.tunnel.upstream]\nendpoint = "h.example"\n'
         'public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="\nipv4 = "10.9.0.2/24"\n'
         "[servers.ams.tunnel]\n"),
        "tunnel.upstream: next = fra is one already",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "problem"), REFUSED, ids=[str(r[1]) for r in REFUSED])
def test_what_cannot_be_is_refused_by_name(change: tuple[str, str], problem: str | None) -> None:
    assert TEXT.count(change[0]) == 1
    text = TEXT.replace(*change)
    if problem is None:
        assert "hop-ams" in peers("fra", text)
        return
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), server="ams")
        parse(text.encode(), server="zrh")
    if "tunel" in change[1]:
        assert caught.value.message == "obsdimg.toml [servers.zrh]: tunel: there is no such setting"
    else:
        assert problem in caught.value.message


def test_a_name_is_needed_and_must_be_one_of_them() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TEXT.encode())
    assert "which server? ams, fra, zrh" in caught.value.message
    with pytest.raises(ConfigError) as caught:
        parse(TEXT.encode(), server="par")
    assert "there is no server par" in caught.value.message
    with pytest.raises(ConfigError) as caught:
        parse(b'[release]\nversion = "6.6"\n', server="ams")
    assert "it has no [servers.NAME] tables" in caught.value.message


def test_each_server_has_its_own_keys_and_a_client_one_key_pair(path: Path) -> None:
    made = {name: Project.open(path, name) for name in ("ams", "fra", "zrh")}
    keys = {name: project.keys() for name, project in made.items()}
    publics = {k.server_public for k in keys.values()}
    assert len(publics) == 3
    assert len({k.seal for k in keys.values()}) == 3
    assert len({k.image.public().base64 for k in keys.values()}) == 3
    assert len({k.peers["laptop"].public for k in keys.values()}) == 1
    psks = {(k.peers["laptop"].preshared or pytest.fail()).reveal() for k in keys.values()}
    assert len(psks) == 3
    assert made["fra"].images == path.parent / "servers/fra/images"
    assert made["fra"].overlay == path.parent / "overlay", "what the file names is beside it"
    for folder in path.parent.glob("servers/**/"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {p.name for p in (path.parent / "secrets").iterdir()} == {
        "laptop.key",
        "phone.key",
        "guest.key",
    }


@pytest.mark.parametrize("version", ["6.6", "7.5"])
def test_two_servers_as_hops_know_each_other_by_one_word(path: Path, version: str) -> None:
    path.write_text(TEXT.replace('"6.6"', f'"{version}"'))
    ams, fra = Project.open(path, "ams"), Project.open(path, "fra")
    with pytest.raises(MissingKeyError):
        ams.keys(make=False)
    here, there = ams.keys(), fra.keys()
    assert peers("fra")["hop-ams"] == "10.2.255.254"
    assert there.peers["hop-ams"].public == here.server_public
    release = load_release(version)
    first = plan_site(ams.config, release, here, Materials())
    second = plan_site(fra.config, release, there, Materials())
    psk = there.peers["hop-ams"].preshared
    assert psk is not None and there.server_public is not None
    if version == "6.6":
        out = parse_conf(content(first, "/etc/wireguard/upstream.conf"), "upstream.conf").peers[0]
        assert (out.public_key, out.preshared_key) == (there.server_public, psk)
        assert str(out.endpoint) == "fra.example.net:53"
        conf = parse_conf(content(second, "/etc/wireguard/server.conf"), "server.conf")
        (hop,) = [p for p in conf.peers if p.public_key == here.server_public]
        assert [str(n) for n in hop.allowed_ips] == ["10.2.255.254/32"]
        assert hop.preshared_key == psk
    else:
        lines = content(first, "/etc/hostname.wg1").splitlines()
        (out_line,) = [line for line in lines if line.startswith("wgpeer ")]
        assert f"wgpeer {there.server_public.text()} wgpsk {psk.reveal()} " in out_line
        assert "wgendpoint fra.example.net 53" in out_line
        assert (
            f"wgpeer {here.server_public.text()} wgpsk {psk.reveal()} wgaip 10.2.255.254/32"
            in (content(second, "/etc/hostname.wg0"))
            if here.server_public
            else False
        )
    assert "nat-to 10.2.255.254" in content(first, "/etc/pf.conf")
    rules = content(second, "/etc/pf.conf")
    assert "from 10.2.255.254 to ! <inside> tag TO_INTERNET" in rules
    assert "from 10.2.255.254 to 10.2.0.1 port 22" not in rules
    assert psk.reveal() not in "".join(f.data.decode("latin-1") for f in first.files)


def test_a_hop_is_no_client_that_gets_a_file(path: Path) -> None:
    fra = Project.open(path, "fra")
    assert [c.name for c in plan_clients(fra.config, fra.keys())] == ["laptop", "phone"]
    with pytest.raises(ClientError):
        find_peer(fra.config, "hop-ams")


def test_two_hops_through_one_server_have_two_addresses() -> None:
    text = TEXT.replace("[servers.zrh.tunnel]", '[servers.zrh]\nnext = "fra"\n[servers.zrh.tunnel]')
    found = peers("fra", text)
    assert (found["hop-ams"], found["hop-zrh"]) == ("10.2.255.254", "10.2.255.253")


def test_one_file_for_several_servers_is_one_that_wg_reads(path: Path) -> None:
    made = []
    for number, name in enumerate(("ams", "fra", "zrh")):
        project = Project.open(path, name)
        peer = find_peer(project.config, "phone")
        peer = peer.model_copy(update={"internet": number == 0})
        made.append(plan_client(project.config, project.keys(), peer))
    conf = parse_conf(clients_conf(made).decode(), "phone.conf")
    assert [str(a) for a in conf.addresses] == ["10.1.0.3/32", "10.2.0.3/32", "10.0.0.3/32"]
    assert conf.mtu == 1280
    assert [str(p.endpoint) for p in conf.peers] == [
        f"{n}.example.net:53" for n in ("ams", "fra", "zrh")
    ]
    assert [[str(n) for n in p.allowed_ips] for p in conf.peers] == [
        ["0.0.0.0/0", "::/0"],
        ["10.2.0.0/16"],
        ["10.0.0.0/24"],
    ]
    assert len({p.preshared_key for p in conf.peers}) == 3


def test_one_file_is_refused_where_it_could_not_tell_the_servers_apart(path: Path) -> None:
    path.write_text(TEXT.replace('ipv4 = "10.2.0.1/16"', ""))
    made = []
    for name in ("fra", "zrh"):
        project = Project.open(path, name)
        made.append(plan_client(project.config, project.keys(), find_peer(project.config, "phone")))
    with pytest.raises(ClientError) as caught:
        clients_conf(made)
    assert "of zrh overlaps" in caught.value.message
    assert "of frankfurt" in caught.value.message


def test_clients_come_and_go_at_all_of_them(path: Path) -> None:
    assert free_addresses(shared_config(path)) == {"ipv4": "10.0.0.4"}
    add_peer(path, {"name": "tablet", "ipv4": "10.0.0.4"})
    assert [peers(n, path.read_text())["tablet"] for n in ("ams", "fra")] == [
        "10.1.0.4",
        "10.2.0.4",
    ]
    assert path.read_text().startswith("# Three of them.\n")
    remove_peer(path, "tablet")
    assert path.read_text() == TEXT
    before = path.read_text()
    with pytest.raises(ConfigError) as caught:
        add_peer(path, {"name": "tablet", "ipv4": "10.0.0.9"})
    assert "[servers.ams]" in caught.value.message, "guest has this place there"
    assert path.read_text() == before
