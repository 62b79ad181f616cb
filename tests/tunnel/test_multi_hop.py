"""Multi-hop by real wireguard-go servers: what clients send leaves at the second, or not at all.

Four namespaces, joined by `internet`, where the address outside lives, too:

    client 198.51.100.2 --- hop1 203.0.113.1 --- internet (198.18.0.9) --- hop2 192.0.2.1

Hop 1 runs our generated server.conf on tun0 and upstream.conf on tun1.  OpenBSD's pf and
rtable 1 cannot run here; Linux's policy routing and nftables stand in for them, rule by rule
(`RULES`).  So this proves the two configurations, the addressing, and that the scheme (own
table with one default route, a block on the way round it) fails closed; it does not prove
that pf does what its rules say.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.site.clients import plan_client, write_client
from obsdimg.site.plan import Materials, plan_site
from obsdimg.tunnel.keys import WgPrivateKey
from support.wg_netns import WireguardGo, in_namespace, make_namespace, run, why_not

pytestmark = [pytest.mark.netns]

OUTSIDE = "198.18.0.9"
PROJECT = """\
[release]
version = "6.6"
[access.admin]
name = "admin"
keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[tunnel]
dns = ["9.9.9.9"]
endpoint = "198.51.100.1"
[tunnel.upstream]
endpoint = "192.0.2.1"
public_key = "@HOP2@"
ipv4 = "10.9.0.2/24"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
"""

RULES = """\
table ip pf {
  chain forward {
    type filter hook forward priority 0;
    # block out quick on egress tagged TO_INTERNET
    iifname "tun0" oifname "out0" drop
  }
  chain out {
    type nat hook postrouting priority srcnat;
    # pass out on tun1 inet tagged TO_INTERNET nat-to 10.9.0.2
    iifname "tun0" oifname "tun1" snat to 10.9.0.2
  }
}
"""
NAT = """\
table ip pf {
  chain out {
    type nat hook postrouting priority srcnat;
    iifname "wg0" oifname "out0" masquerade
  }
}
"""
COUNT = f"""\
table ip count {{
  chain input {{
    type filter hook input priority 0;
    ip daddr {OUTSIDE} iifname "hop1" counter comment "leaked"
    ip daddr {OUTSIDE} iifname "hop2" counter comment "by hop 2"
  }}
}}
"""


class TwoHops:
    """The namespaces, the three daemons, and the project of hop 1."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        tag = f"obsd2h{os.getpid() % 100000}x{os.urandom(2).hex()}"
        self.client, self.hop1, self.hop2, self.internet = (f"{tag}{x}" for x in "c12i")
        self.stack, self.folder = stack, folder
        self.hop2_key = WgPrivateKey.generate()
        for name in (self.client, self.hop1, self.hop2, self.internet):
            make_namespace(stack, name)
            self.ip(name, "link", "set", "lo", "up")
            for setting in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"):
                self.sh(name, "sysctl", "-qw", setting)
            self.sh(name, "sysctl", "-qw", "net.ipv4.conf.default.rp_filter=0")
        self.wire(self.client, "out0", "198.51.100.2/24", self.hop1, "cli0", "198.51.100.1/24")
        self.wire(self.hop1, "out0", "203.0.113.1/24", self.internet, "hop1", "203.0.113.9/24")
        self.wire(self.hop2, "out0", "192.0.2.1/24", self.internet, "hop2", "192.0.2.9/24")
        self.ip(self.internet, "address", "add", f"{OUTSIDE}/32", "dev", "lo")
        self.ip(self.hop1, "route", "add", "default", "via", "203.0.113.9")
        self.ip(self.hop2, "route", "add", "default", "via", "192.0.2.9")
        self.nft(self.internet, COUNT)
        self.project = self.make_project()
        self.second = stack.enter_context(WireguardGo(self.hop2, "wg0"))
        self.first = stack.enter_context(WireguardGo(self.hop1, "tun0"))
        self.link = stack.enter_context(WireguardGo(self.hop1, "tun1"))
        self.configure_hop2()
        self.configure_hop1()

    def ip(self, namespace: str, *words: str) -> None:
        run("ip", "-n", namespace, *words)

    def sh(self, namespace: str, *words: str, given: str = "") -> str:
        return run("ip", "netns", "exec", namespace, *words, given=given)

    def nft(self, namespace: str, rules: str) -> None:
        self.sh(namespace, "nft", "-f", "-", given="flush ruleset\n" + rules)

    def wire(self, a: str, device_a: str, own_a: str, b: str, device_b: str, own_b: str) -> None:
        self.ip(a, "link", "add", device_a, "type", "veth", "peer", device_b, "netns", b)
        for namespace, device, own in ((a, device_a, own_a), (b, device_b, own_b)):
            self.ip(namespace, "address", "add", own, "dev", device)
            self.ip(namespace, "link", "set", device, "up")

    def make_project(self) -> Project:
        path = self.folder / "obsdimg.toml"
        path.write_text(PROJECT.replace("@HOP2@", self.hop2_key.public().text()))
        project = Project.open(path)
        self.keys = project.keys()
        project.clients.mkdir(mode=0o700)
        peer = project.config.tunnel.peers[0]
        write_client(project.clients, plan_client(project.config, self.keys, peer))
        plan = plan_site(project.config, load_release("6.6"), self.keys, Materials())
        self.sealed = {path: file.data.decode() for path, file in plan.sealed.items()}
        return project

    def configure_hop1(self) -> None:
        """What hostname.tun0, hostname.tun1, the rc.d scripts and pf.conf do."""
        for daemon, name, own in (
            (self.first, "server", "10.0.0.1/24"),
            (self.link, "upstream", "10.9.0.2/24"),
        ):
            conf = self.sealed[f"/etc/wireguard/{name}.conf"]
            daemon.wg("setconf", daemon.name, "/dev/stdin", given=conf)
            self.ip(self.hop1, "address", "replace", own, "dev", daemon.name)
            self.ip(self.hop1, "link", "set", daemon.name, "up")
        # route -T 1 add -inet default 10.9.0.2; pass in on tun0 to ! <inside> rtable 1
        self.ip(self.hop1, "route", "replace", "default", "dev", "tun1", "table", "101")
        rule = ("rule", "add", "iif", "tun0")
        self.ip(self.hop1, *rule, "to", "10.0.0.0/8", "priority", "100", "lookup", "main")
        self.ip(self.hop1, *rule, "priority", "101", "lookup", "101")
        self.nft(self.hop1, RULES)

    def configure_hop2(self) -> None:
        server = self.keys.server_public
        assert server is not None
        conf = (
            f"[Interface]\nPrivateKey = {self.hop2_key.reveal()}\nListenPort = 51820\n"
            f"[Peer]\nPublicKey = {server}\nAllowedIPs = 10.9.0.2/32\n"
        )
        self.second.wg("setconf", "wg0", "/dev/stdin", given=conf)
        self.ip(self.hop2, "address", "replace", "10.9.0.1/24", "dev", "wg0")
        self.ip(self.hop2, "link", "set", "wg0", "up")
        self.nft(self.hop2, NAT)

    def arrived(self) -> dict[str, int]:
        """Packets that reached the address outside so far, by the way they took."""
        found = json.loads(self.sh(self.internet, "nft", "-j", "list", "ruleset"))
        rules = [entry["rule"] for entry in found["nftables"] if "rule" in entry]
        return {
            rule["comment"]: next(e["counter"]["packets"] for e in rule["expr"] if "counter" in e)
            for rule in rules
        }

    def probe(self, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
        """The verdict and the losses that `obsdimg probe` sees from the client."""
        words = f"probe laptop -c {self.project.config_path} --outside {OUTSIDE} --json"
        with in_namespace(self.client):
            main([*words.split(), "--count", "6", "--timeout", "20"])
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def hops(tmp_path: Path) -> Iterator[TwoHops]:
    if reason := why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield TwoHops(tmp_path, stack)


Capture = pytest.CaptureFixture[str]


def test_the_clients_traffic_leaves_at_the_second_hop(hops: TwoHops, capsys: Capture) -> None:
    assert hops.probe(capsys)["verdict"] == "works"
    arrived = hops.arrived()
    assert arrived["by hop 2"] > 0
    assert arrived["leaked"] == 0


def test_with_the_second_hop_down_it_goes_nowhere_and_comes_back_with_it(
    hops: TwoHops, capsys: Capture
) -> None:
    hops.probe(capsys)
    before = hops.arrived()
    hops.second.stop()
    found = hops.probe(capsys)
    assert found["verdict"] == "no-forwarding"
    assert hops.arrived() == before, "neither way"
    hops.second.start()
    hops.configure_hop2()
    limit = time.monotonic() + 60  # WireGuard itself needs about 16 s to notice
    while (verdict := hops.probe(capsys)["verdict"]) != "works" and time.monotonic() < limit:
        pass
    assert verdict == "works"
    assert hops.arrived()["leaked"] == 0


def test_with_the_link_to_the_second_hop_gone_it_goes_nowhere(
    hops: TwoHops, capsys: Capture
) -> None:
    hops.probe(capsys)
    before = hops.arrived()
    # On Linux the interface goes with its daemon, so the table is empty and the next rule
    # leads to the internet: only the block is left.  (On OpenBSD tun1 stays: "Host is down".)
    hops.link.stop()
    assert hops.probe(capsys)["verdict"] == "no-forwarding"
    assert hops.arrived() == before


def test_this_test_can_see_a_leak(hops: TwoHops, capsys: Capture) -> None:
    hops.link.stop()
    hops.nft(hops.hop1, "")
    hops.probe(capsys)
    assert hops.arrived()["leaked"] > 0
