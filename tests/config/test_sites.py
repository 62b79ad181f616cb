"""Networks behind peers: what is refused, what is warned of, and what the client gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.config import Config, parse
from obsdimg.config.load import ConfigError
from obsdimg.config.rules import warnings
from obsdimg.releases.release import load_release
from obsdimg.site.clients import find_peer, plan_client
from obsdimg.site.plan import Materials, plan_site
from obsdimg.tunnel.wgconf import parse as parse_conf
from support.site_fixtures import content, keys_for

TEXT = """\
[network]
dns = ["9.9.9.9"]
[[network.interfaces]]
name = "vio1"
ipv4 = "172.16.1.3/24"
[[network.interfaces]]
name = "vio2"
[tunnel]
ipv6 = "fd00:66::1/64"
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "office"
ipv4 = "10.0.0.2"
ipv6 = "fd00:66::2"
internet = false
{office}
[[tunnel.peers]]
name = "branch"
ipv4 = "10.0.0.3"
ipv6 = "fd00:66::3"
internet = false
{branch}
"""
OFFICE = 'networks = ["192.168.40.0/24", "fd00:40::/64"]'


def text(office: str = OFFICE, branch: str = "") -> str:
    return TEXT.format(office=office, branch=branch)


def config(office: str = OFFICE, branch: str = "") -> Config:
    return parse(text(office, branch).encode())


REFUSED = [
    ('networks = ["0.0.0.0/0"]', "", "peers[0].networks: 0.0.0.0/0 is everything"),
    ('networks = ["10.0.0.128/25"]', "", "overlaps the tunnel 10.0.0.0/24"),
    ('networks = ["172.16.0.0/16"]', "", "overlaps network.interfaces[0].ipv4 172.16.1.3/24"),
    ('networks = ["9.9.9.0/24"]', "", "network.dns: 9.9.9.9 is in 9.9.9.0/24"),
    (
        'networks = ["192.168.40.0/24", "192.168.40.0/25"]',
        "",
        "192.168.40.0/25 overlaps 192.168.40.0/24 behind peer office",
    ),
    (
        OFFICE,
        'networks = ["192.168.0.0/16"]',
        "peers[1].networks: 192.168.0.0/16 overlaps 192.168.40.0/24 behind peer office",
    ),
    (OFFICE + '\nreach = ["192.168.40.0/25"]', "", "which is behind this very peer"),
    (OFFICE, 'reach = ["192.168.0.0/16"]', "holds 192.168.40.0/24 behind peer office, and more"),
    (OFFICE + '\nreached_from = ["172.16.2.0/24"]', "", "is in no network of network.interfaces"),
    ('reached_from = ["172.16.1.0/24"]', "", "only goes with networks"),
    (
        'networks = ["fd00:40::/64"]\nreached_from = ["172.16.1.0/24"]',
        "",
        "no network behind this peer is IPv4",
    ),
    (OFFICE + "\nmtu = 1500", "", "peers[0].mtu: 1500 is more than tunnel.mtu 1420"),
    (OFFICE + "\nmtu = 1279", "", "greater than or equal to 1280"),
]


@pytest.mark.parametrize(("office", "branch", "problem"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_cannot_work_is_refused_by_both_names(office: str, branch: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(office, branch)
    assert problem in caught.value.message


def test_a_tunnel_without_ipv6_has_no_ipv6_behind_it() -> None:
    only4 = text().replace('ipv6 = "fd00:66::1/64"\n', "").replace('ipv6 = "fd00:66::2"\n', "")
    with pytest.raises(ConfigError) as caught:
        parse(only4.replace('ipv6 = "fd00:66::3"\n', "").encode())
    assert "the tunnel has no ipv6 address" in caught.value.message


def test_a_network_that_homes_have_is_warned_of() -> None:
    assert not any("at home" in w for w in warnings(config()))
    found = [w for w in warnings(config('networks = ["192.168.1.0/25"]')) if "at home" in w]
    assert len(found) == 1
    assert found[0].startswith("peer office: 192.168.1.0/25 ")


def test_each_sites_file_has_who_may_call_it_and_whom_it_may_call() -> None:
    made = config(
        OFFICE + '\nreached_from = ["172.16.1.0/24"]',
        'networks = ["192.168.50.0/24"]\nreach = ["192.168.40.0/24"]',
    )
    keys = keys_for(made)
    allowed = {
        name: [str(n) for n in plan_client(made, keys, find_peer(made, name)).allowed]
        for name in ("office", "branch")
    }
    tunnel = ["10.0.0.0/24", "fd00:66::/64"]
    assert allowed["office"] == [*tunnel, "172.16.1.0/24", "192.168.50.0/24"]
    assert allowed["branch"] == [*tunnel, "192.168.40.0/24"]


@pytest.mark.parametrize("version", ["6.6", "7.5"])
def test_the_server_sends_the_network_to_its_peer_and_to_no_other(version: str) -> None:
    made = config()
    plan = plan_site(made, load_release(version), keys_for(made), Materials())
    key = next(iter(keys_for(made).peers.values())).public.text()
    if version == "6.6":
        conf = parse_conf(content(plan, "/etc/wireguard/server.conf"), "server.conf")
        allowed = {p.public_key.text(): [str(n) for n in p.allowed_ips] for p in conf.peers}
        routes = content(plan, "/etc/hostname.tun0")
    else:
        routes = content(plan, "/etc/hostname.wg0")
        peers = [line.split() for line in routes.splitlines() if line.startswith("wgpeer ")]
        allowed = {
            words[1]: [words[i + 1] for i, word in enumerate(words) if word == "wgaip"]
            for words in peers
        }
    assert allowed[key] == ["10.0.0.2/32", "fd00:66::2/128", "192.168.40.0/24", "fd00:40::/64"]
    assert sum("192.168.40.0/24" in nets for nets in allowed.values()) == 1
    assert "!/sbin/route -qn add -inet 192.168.40.0/24 10.0.0.1\n" in routes
    assert "!/sbin/route -qn add -inet6 fd00:40::/64 fd00:66::1\n" in routes
    assert "access-control: 192.168.40.0/24 allow" in content(plan, "/var/unbound/etc/unbound.conf")


def test_client_add_takes_them_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path / "obsdimg.toml")
    assert main(["init", str(tmp_path), "-q"]) == 0
    add = ["client", "-c", where, "add", "office", "--split", "-q"]
    assert main([*add, "--network", "10.0.0.0/25"]) == 1
    assert "overlaps the tunnel" in capsys.readouterr().err
    assert main([*add, "--network", "192.168.1.0/24", "--mtu", "1280"]) == 0
    assert "many routers at home" in capsys.readouterr().err
    assert "\nMTU = 1280\n" in (tmp_path / "clients/office.conf").read_text()
    assert main(["client", "-c", where]) == 0
    assert "behind it 192.168.1.0/24" in capsys.readouterr().out
    assert main(["client", "-c", where, "office", "--mtu", "1300"]) == 2
    assert "--mtu describes a new client" in capsys.readouterr().err
