"""The generated pf.conf, judged packet by packet with a parser of its own."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from obsdimg.site.pf import ports_to
from support.pf_model import Packet, PfConf, PfError, World
from support.site_fixtures import RECIPE, content, planned

SERVER = "203.0.113.5"
WORLD = World(
    {
        "vio0": [f"{SERVER}/24"],
        "vio1": ["172.16.1.3/24"],
        "tun0": ["10.0.0.1/24"],
        "lo0": ["127.0.0.1/8"],
    },
    "vio0",
)
SIX = (
    RECIPE.replace(
        'endpoint = "vpn.example.net"', 'endpoint = "vpn.example.net"\nipv6 = "fd00:66::1/64"'
    )
    .replace('"10.0.0.2"', '"10.0.0.2"\nipv6 = "fd00:66::2"')
    .replace('"10.0.0.3"', '"10.0.0.3"\nipv6 = "fd00:66::3"')
)


def pf(text: str = RECIPE, world: World = WORLD, version: str = "6.6") -> PfConf:
    return PfConf(content(planned(text, version), "/etc/pf.conf"), world)


def test_the_parser_refuses_what_it_does_not_know() -> None:
    with pytest.raises(PfError):
        PfConf("pass in on egress divert-to 127.0.0.1 port 8000\n", WORLD)


INCOMING = [
    ("wireguard", Packet("in", "vio0", "198.51.100.9", SERVER, "udp", 51820), True),
    ("the public port", Packet("in", "vio0", "198.51.100.9", SERVER, "udp", 53), True),
    ("dns by tcp", Packet("in", "vio0", "198.51.100.9", SERVER, "tcp", 53), False),
    ("ssh from outside", Packet("in", "vio0", "198.51.100.9", SERVER, "tcp", 22), False),
    (
        "ping from outside",
        Packet("in", "vio0", "198.51.100.9", SERVER, "icmp", icmp="echoreq"),
        False,
    ),
    ("another udp port", Packet("in", "vio0", "198.51.100.9", SERVER, "udp", 123), False),
    ("spoofed tunnel address", Packet("in", "vio0", "10.0.0.2", SERVER, "udp", 51820), False),
    ("spoofed own address", Packet("in", "vio0", SERVER, SERVER, "udp", 51820), False),
    (
        "ssh from the private network",
        Packet("in", "vio1", "172.16.1.9", "172.16.1.3", "tcp", 22),
        False,
    ),
    ("ssh in the tunnel", Packet("in", "tun0", "10.0.0.2", "10.0.0.1", "tcp", 22), True),
    ("resolver in the tunnel", Packet("in", "tun0", "10.0.0.3", "10.0.0.1", "udp", 53), True),
    (
        "ping in the tunnel",
        Packet("in", "tun0", "10.0.0.3", "10.0.0.1", "icmp", icmp="echoreq"),
        True,
    ),
    (
        "http to the server in the tunnel",
        Packet("in", "tun0", "10.0.0.3", "10.0.0.1", "tcp", 80),
        False,
    ),
    ("a stranger in the tunnel", Packet("in", "tun0", "10.0.0.99", "192.0.2.1", "tcp", 443), False),
    (
        "ssh to the public address from inside",
        Packet("in", "tun0", "10.0.0.3", "172.16.1.3", "tcp", 22),
        False,
    ),
]


@pytest.mark.parametrize(
    ("packet", "passes"), [i[1:] for i in INCOMING], ids=[i[0] for i in INCOMING]
)
def test_what_reaches_the_server(packet: Packet, passes: bool) -> None:
    assert pf().decide(packet).passed is passes


def test_the_public_port_leads_to_the_daemon_where_unbound_has_53() -> None:
    verdict = pf().decide(Packet("in", "vio0", "198.51.100.9", SERVER, "udp", 53))
    assert verdict.options["rdr-to"] == "(egress:0)"
    assert verdict.options["target_port"] == "51820"


def test_without_unbound_the_daemon_has_53_itself() -> None:
    rules = pf(RECIPE.replace("[tunnel]\n", '[tunnel]\ndns = "none"\n'))
    verdict = rules.decide(Packet("in", "vio0", "198.51.100.9", SERVER, "udp", 53))
    assert verdict.passed
    assert "rdr-to" not in verdict.options
    assert not rules.decide(Packet("in", "tun0", "10.0.0.3", "10.0.0.1", "udp", 53)).passed


OUTGOING = [
    ("dns", Packet("out", "vio0", SERVER, "9.9.9.9", "udp", 53), True),
    ("ntp", Packet("out", "vio0", SERVER, "192.0.2.1", "udp", 123), True),
    ("https", Packet("out", "vio0", SERVER, "192.0.2.1", "tcp", 443), True),
    ("dhcp", Packet("out", "vio0", SERVER, "203.0.113.1", "udp", 67, 68), True),
    ("smtp", Packet("out", "vio0", SERVER, "192.0.2.1", "tcp", 25), False),
    ("ssh", Packet("out", "vio0", SERVER, "192.0.2.1", "tcp", 22), False),
    ("irc by udp", Packet("out", "vio0", SERVER, "192.0.2.1", "udp", 6667), False),
    (
        "into the private network",
        Packet("out", "vio1", "172.16.1.3", "172.16.1.9", "tcp", 80),
        False,
    ),
    ("to a client", Packet("out", "tun0", "10.0.0.1", "10.0.0.2", "tcp", 80), False),
]


@pytest.mark.parametrize(
    ("packet", "passes"), [o[1:] for o in OUTGOING], ids=[o[0] for o in OUTGOING]
)
def test_what_the_server_may_send(packet: Packet, passes: bool) -> None:
    assert pf().decide(packet).passed is passes


def test_a_full_tunnel_leads_to_the_internet_under_the_servers_address() -> None:
    first, second = pf().route(Packet("in", "tun0", "10.0.0.3", "192.0.2.7", "tcp", 443), "vio0")
    assert first.tag == "TO_INTERNET"
    assert second is not None
    assert second.passed
    assert second.options["nat-to"] == "(egress:0)"


@pytest.mark.parametrize(("proto", "port"), [("udp", 53), ("tcp", 443), ("udp", 123), ("tcp", 25)])
def test_traffic_of_clients_never_leaves_under_their_own_address(proto: str, port: int) -> None:
    rules = pf()
    packet = Packet("out", "vio0", "10.0.0.3", "192.0.2.7", proto, port)
    assert not rules.decide(packet).passed
    assert "nat-to" in rules.decide(replace(packet, tag="TO_INTERNET")).options


def test_only_the_laptop_reaches_the_private_network() -> None:
    for source, passes in (("10.0.0.2", True), ("10.0.0.3", False)):
        first, second = pf().route(Packet("in", "tun0", source, "172.16.1.9", "tcp", 80), "vio1")
        assert first.passed is passes
        if second is not None:
            assert second.passed
            assert second.options["nat-to"] == "(vio1:0)"


def test_clients_meet_only_if_the_settings_say_so() -> None:
    packet = Packet("in", "tun0", "10.0.0.2", "10.0.0.3", "tcp", 80)
    assert not pf().decide(packet).passed
    open_rules = pf(RECIPE.replace("[tunnel]\n", "[tunnel]\nclients_meet = true\n"))
    first, second = open_rules.route(packet, "tun0")
    assert first.passed
    assert second is not None
    assert second.passed


def test_a_split_tunnel_peer_does_not_reach_the_internet() -> None:
    rules = pf(RECIPE.replace('name = "phone"', 'name = "phone"\ninternet = false'))
    assert not rules.decide(Packet("in", "tun0", "10.0.0.3", "192.0.2.7", "tcp", 443)).passed
    assert rules.decide(Packet("in", "tun0", "10.0.0.2", "192.0.2.7", "tcp", 443)).passed


def test_a_peer_may_be_kept_from_ssh() -> None:
    rules = pf(RECIPE.replace('name = "phone"', 'name = "phone"\nssh = false'))
    assert not rules.decide(Packet("in", "tun0", "10.0.0.3", "10.0.0.1", "tcp", 22)).passed
    assert rules.decide(Packet("in", "tun0", "10.0.0.2", "10.0.0.1", "tcp", 22)).passed


def test_without_any_peer_ssh_is_open_since_nobody_could_get_in_otherwise() -> None:
    alone = RECIPE.split("[[tunnel.peers]]")[0]
    verdict = pf(alone).decide(Packet("in", "vio0", "198.51.100.9", SERVER, "tcp", 22))
    assert verdict.passed
    assert "max-src-conn-rate" in verdict.options["state"]


@pytest.mark.parametrize(
    ("setting", "table"), [("ssh_window_minutes", "window"), ("rescue_minutes", "rescue")]
)
def test_what_opens_ssh_for_a_while_is_a_table_that_starts_empty(setting: str, table: str) -> None:
    """Not an anchor: `overload` there fills the anchor's own table, which nothing blocks."""
    rules = pf(RECIPE + f"[access]\n{setting} = 30\n")
    call = Packet("in", "vio0", "198.51.100.9", SERVER, "tcp", 22)
    assert not rules.decide(call).passed
    assert rules.anchors == []
    rules.tables[table].append(ip_network("0.0.0.0/0"))
    opened = rules.decide(call)
    assert opened.passed
    assert "overload <intruders> flush global" in opened.options["state"]
    inside = Packet("in", "vio0", "198.51.100.9", "172.16.1.1", "tcp", 22)
    assert not rules.decide(inside).passed


@pytest.mark.parametrize(
    "access", ['ssh_from = "anywhere"', "ssh_window_minutes = 30", "rescue_minutes = 30"]
)
def test_who_connects_too_often_loses_ssh_and_not_the_tunnel(access: str) -> None:
    """It may be the administrator's own address, or his neighbour's behind the same NAT."""
    rules = pf(RECIPE + f"[access]\n{access}\n")
    for table in {"window", "rescue"} & rules.tables.keys():
        rules.tables[table].append(ip_network("0.0.0.0/0"))
    call = Packet("in", "vio0", "198.51.100.9", SERVER, "tcp", 22)
    tunnel = Packet("in", "vio0", "198.51.100.9", SERVER, "udp", 51820)
    assert rules.decide(call).passed
    rules.tables["intruders"].append(ip_network("198.51.100.9"))
    assert not rules.decide(call).passed
    assert rules.decide(replace(call, src="198.51.100.10")).passed
    assert rules.decide(tunnel).passed


WORLD6 = World(
    {
        **WORLD.addresses,
        "tun0": ["10.0.0.1/24", "fd00:66::1/64"],
        "vio0": [f"{SERVER}/24", "2001:db8::5/64"],
    },
    "vio0",
)
STATIC6 = 'ipv6 = "2001:db8::5/64"\ngateway6 = "2001:db8::1"'


def six(network: str) -> str:
    """SIX with these settings in [network]."""
    return SIX.replace("[[network.interfaces]]", f"[network]\n{network}\n[[network.interfaces]]")


def test_ipv6_inside_the_tunnel_is_judged_by_the_same_rules() -> None:
    rules = pf(six(STATIC6), WORLD6)
    assert rules.decide(Packet("in", "tun0", "fd00:66::3", "fd00:66::1", "tcp", 22)).passed
    assert not rules.decide(Packet("in", "tun0", "fd00:66::3", "fd00:77::1", "tcp", 22)).passed
    assert rules.decide(
        Packet("in", "vio0", "fe80::1", "2001:db8::5", "icmp6", icmp="neighbrsol")
    ).passed
    assert not rules.decide(
        Packet("in", "vio0", "2001:db8:9::1", "2001:db8::5", "icmp6", icmp="echoreq")
    ).passed


@pytest.mark.parametrize(
    ("network", "address"),
    [(STATIC6, "2001:db8::5"), ('ipv6 = "autoconf"', "<outside6>")],
    ids=["static", "autoconf"],
)
def test_ipv6_leaves_under_a_global_address_and_not_under_egress_0_the_link_local_one(
    network: str, address: str
) -> None:
    packet = Packet("in", "tun0", "fd00:66::3", "2001:db8:9::1", "tcp", 443)
    first, second = pf(six(network), WORLD6).route(packet, "vio0")
    assert first.passed
    assert second is not None
    assert second.options["nat-to"] == address
    planned_files = set(planned(six(network)).sealed)
    assert ("/usr/local/sbin/obsdimg-outside6" in planned_files) is (address == "<outside6>")


def test_without_ipv6_outside_clients_ipv6_goes_nowhere() -> None:
    world = World({**WORLD6.addresses, "vio0": WORLD.addresses["vio0"]}, "vio0")
    packet = Packet("in", "tun0", "fd00:66::3", "2001:db8:9::1", "tcp", 443)
    _, second = pf(SIX, world).route(packet, "vio0")
    assert second is not None
    assert not second.passed


UPSTREAM = (
    RECIPE
    + """
[tunnel.upstream]
endpoint = "hop.example.net"
public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="
ipv4 = "10.9.0.2/24"
"""
)


def test_multi_hop_traffic_leaves_by_the_next_server_only() -> None:
    world = World({**WORLD.addresses, "tun1": ["10.9.0.2/24"]}, "vio0")
    rules = pf(UPSTREAM, world)
    first, by_hop = rules.route(Packet("in", "tun0", "10.0.0.3", "192.0.2.7", "tcp", 8080), "tun1")
    assert first.options["rtable"] == "1"
    assert by_hop is not None
    assert by_hop.options["nat-to"] == "10.9.0.2"
    for port in (8080, 443):
        packet = Packet("in", "tun0", "10.0.0.3", "192.0.2.7", "tcp", port)
        _, direct = rules.route(packet, "vio0")
        assert direct is not None
        assert not direct.passed


def test_packets_are_cut_to_what_fits_the_tunnel() -> None:
    scrubs = pf().scrubs
    assert "match on tun0 inet proto tcp scrub (max-mss 1380)" in scrubs
    assert "match in all scrub (no-df random-id)" in scrubs


EVERY_ADDRESS = ["10.0.0.1", "fd00:66::1", SERVER, "2001:db8::5", "172.16.1.3", "127.0.0.1"]


@pytest.mark.parametrize("address", EVERY_ADDRESS)
@pytest.mark.parametrize("meet", ["false", "true"])
def test_from_the_tunnel_to_the_server_itself_only_what_is_named_passes(
    address: str, meet: str
) -> None:
    text = six(STATIC6).replace("[tunnel]\n", f"[tunnel]\nclients_meet = {meet}\n")
    rules = pf(text.replace('name = "phone"', 'name = "phone"\nssh = false'), WORLD6)
    source = "fd00:66::3" if ":" in address else "10.0.0.3"
    inside = address in ("10.0.0.1", "fd00:66::1")
    for port in (22, 80, 443, 53):
        packet = Packet("in", "tun0", source, address, "tcp", port)
        assert rules.decide(packet).passed is (inside and port == 53), (address, port)
    laptop = Packet("in", "tun0", source[:-1] + "2", address, "tcp", 22)
    assert rules.decide(laptop).passed is inside


def test_ssh_false_holds_for_the_private_address_of_a_peer_that_reaches_that_network() -> None:
    rules = pf(RECIPE.replace('name = "laptop"', 'name = "laptop"\nssh = false'))
    for address in ("172.16.1.3", SERVER, "10.0.0.1"):
        assert not rules.decide(Packet("in", "tun0", "10.0.0.2", address, "tcp", 22)).passed
    assert rules.decide(Packet("in", "tun0", "10.0.0.2", "172.16.1.9", "tcp", 22)).passed


def test_the_tunnels_own_port_makes_no_states_and_those_of_other_ports_have_a_share() -> None:
    rules = pf(six(STATIC6).replace("[tunnel]\n", "[tunnel]\nalso_ports = [443]\n"), WORLD6)
    for source, own in (("198.51.100.9", SERVER), ("2001:db8:9::1", "2001:db8::5")):
        direct = rules.decide(Packet("in", "vio0", source, own, "udp", 443))
        assert direct.passed
        assert direct.options == {"no_state": "no state"}
        back = rules.decide(Packet("out", "vio0", own, source, "udp", 40000, 443))
        assert back.options == {"no_state": "no state"}
        led = rules.decide(Packet("in", "vio0", source, own, "udp", 53))
        assert "max 20000, udp.first 5" in led.options["state"]
        assert led.options["target_port"] == "443"


@pytest.mark.parametrize("network", [STATIC6, 'ipv6 = "autoconf"'], ids=["static", "autoconf"])
@pytest.mark.parametrize("dns", ['"unbound"', '"none"'])
@pytest.mark.parametrize("ports", [(53, []), (53, [443, 51820]), (443, [53])], ids=str)
def test_every_port_of_the_settings_reaches_the_daemon_over_both_families(
    network: str, dns: str, ports: tuple[int, list[int]]
) -> None:
    port, also = ports
    text = six(network).replace(
        "[tunnel]\n", f"[tunnel]\ndns = {dns}\nport = {port}\nalso_ports = {also}\n"
    )
    daemon = planned(text).tunnel.listen_port
    rules = pf(text, WORLD6)
    rules.tables.setdefault("outside6", []).append(ip_network("2001:db8::5"))
    for source, own in (("198.51.100.9", SERVER), ("2001:db8:9::1", "2001:db8::5")):
        for public in (port, *also):
            verdict = rules.decide(Packet("in", "vio0", source, own, "udp", public))
            assert verdict.passed, (own, public)
            assert int(verdict.options.get("target_port", public)) == daemon
    # What `check` reads of the file says the same as the model that decides on packets.
    assert ports_to(content(planned(text), "/etc/pf.conf"), daemon) == {
        (family, public) for family in ("inet", "inet6") for public in {port, *also, daemon}
    }


def test_without_ipv6_outside_the_ports_lead_to_the_daemon_over_ipv4_only() -> None:
    rules = content(planned(RECIPE), "/etc/pf.conf")
    assert ports_to(rules, 51820) == {("inet", 53), ("inet", 51820)}
    assert ports_to(rules, 53) == set()
    shut = rules.replace("pass in on egress inet proto udp to (egress) port 51820", "# ")
    assert shut != rules
    assert ports_to(shut, 51820) == set()


def test_from_6_8_the_same_rules_hold_on_wg0() -> None:
    world = World({k.replace("tun0", "wg0"): v for k, v in WORLD.addresses.items()}, "vio0")
    rules = pf(version="6.8", world=world)
    assert rules.decide(Packet("in", "wg0", "10.0.0.2", "10.0.0.1", "tcp", 22)).passed
    assert not rules.decide(Packet("in", "vio0", "198.51.100.9", SERVER, "tcp", 22)).passed


SITES = RECIPE.replace(
    '[[tunnel.peers]]\nname = "phone"',
    """[[tunnel.peers]]
name = "office"
ipv4 = "10.0.0.4"
internet = false
networks = ["192.168.40.0/24"]
reach = ["172.16.1.0/24"]
reached_from = ["172.16.1.0/25"]
[[tunnel.peers]]
name = "phone\"""",
).replace('["172.16.1.0/24"]', '["172.16.1.0/24", "192.168.40.0/25"]', 1)
"""RECIPE with a router that has a network behind it, which the laptop reaches in part."""

AT_A_SITE = [
    ("the laptop to the half it may reach", "tun0", "10.0.0.2", "192.168.40.9", "tun0", True),
    ("the laptop to the other half", "tun0", "10.0.0.2", "192.168.40.200", "tun0", False),
    ("the phone to the site", "tun0", "10.0.0.3", "192.168.40.9", "tun0", False),
    ("the site to the private network", "tun0", "192.168.40.9", "172.16.1.9", "vio1", True),
    ("the router itself to it", "tun0", "10.0.0.4", "172.16.1.9", "vio1", True),
    ("the private network to the site", "vio1", "172.16.1.9", "192.168.40.9", "tun0", True),
    ("its other half to the site", "vio1", "172.16.1.200", "192.168.40.9", "tun0", False),
    ("the site to a client", "tun0", "192.168.40.9", "10.0.0.2", "tun0", False),
    ("the site to the internet", "tun0", "192.168.40.9", "192.0.2.7", "vio0", False),
    ("somebody outside as the site", "vio0", "192.168.40.9", "172.16.1.9", "vio1", False),
]


@pytest.mark.parametrize(
    ("here", "source", "target", "out", "passes"),
    [row[1:] for row in AT_A_SITE],
    ids=[row[0] for row in AT_A_SITE],
)
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_who_reaches_whom_where_a_network_is_behind_a_peer(
    here: str, source: str, target: str, out: str, passes: bool, proto: str
) -> None:
    first, second = pf(SITES).route(Packet("in", here, source, target, proto, 443), out)
    assert (first.passed and second is not None and second.passed) is passes
    if passes and second is not None:
        assert ("nat-to" in second.options) is (out == "vio1"), "a site sees who calls"


def test_a_site_has_the_resolver_and_pings_and_no_ssh() -> None:
    rules = pf(SITES)
    site = "192.168.40.9"
    assert rules.decide(Packet("in", "tun0", site, "10.0.0.1", "udp", 53)).passed
    assert rules.decide(Packet("in", "tun0", site, "10.0.0.1", "icmp", icmp="echoreq")).passed
    assert rules.decide(Packet("out", "tun0", "10.0.0.1", site, "icmp", icmp="echoreq")).passed
    for port in (22, 80):
        assert not rules.decide(Packet("in", "tun0", site, "10.0.0.1", "tcp", port)).passed
    assert not rules.decide(Packet("in", "tun0", site, "172.16.1.3", "tcp", 22)).passed


def test_a_site_behind_a_full_tunnel_goes_out_under_the_servers_address() -> None:
    rules = pf(SITES.replace("internet = false\n", ""))
    _, out = rules.route(Packet("in", "tun0", "192.168.40.9", "192.0.2.7", "tcp", 443), "vio0")
    assert out is not None
    assert out.options["nat-to"] == "(egress:0)"


@pytest.mark.parametrize("version", ["6.6", "7.5"])
def test_a_clients_own_mtu_limits_its_tcp_both_ways_and_only_its(version: str) -> None:
    text = SITES.replace('name = "office"', 'name = "office"\nmtu = 1280')
    world = World({**WORLD.addresses, "wg0": WORLD.addresses["tun0"]}, "vio0")
    found = pf(text, world, version).scrubs
    scrubs = [line for line in found if "max-mss 1240" in line]
    assert all(' label "office" scrub ' in line for line in scrubs), "see docs/openbsd.md"
    ways = [line.split(" tcp ")[1].split(" label")[0] for line in scrubs]
    assert ways == ["from 10.0.0.4", "to 10.0.0.4", "from 192.168.40.0/24", "to 192.168.40.0/24"]
    assert "max-mss 1240" not in content(planned(SITES, version), "/etc/pf.conf")
    whole = content(planned(text, version), "/etc/pf.conf")
    assert whole.index("max-mss 1380") < whole.index("max-mss 1240"), "the last match counts"
