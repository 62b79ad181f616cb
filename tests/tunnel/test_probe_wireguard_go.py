"""The probe against the real wireguard-go, with real forwarding and NAT behind it."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator

import pytest

from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.messages import INITIATION_BYTES
from obsdimg.tunnel.noise import Clock, InitiatorHandshake
from obsdimg.tunnel.probe import Target, probe
from obsdimg.tunnel.report import ProbeResult, ProbeVerdict, Role
from support.responder import Responder, ResponderCore, ResponderPeer
from support.wg_netns import (
    CLIENT4,
    CLIENT6,
    CLIENT_OUTER4,
    NAT,
    OUTSIDE4,
    OUTSIDE6,
    SERVER4,
    SERVER6,
    SERVER_OUTER4,
    WgWorld,
    WireguardGo,
    in_namespace,
    kernel_ping,
    why_not,
)

pytestmark = [pytest.mark.netns]

TARGETS = (
    Target(SERVER4, Role.SERVER),
    Target(SERVER6, Role.SERVER),
    Target(OUTSIDE4, Role.OUTSIDE),
    Target(OUTSIDE6, Role.OUTSIDE),
)


@pytest.fixture(scope="module")
def shared_world() -> Iterator[WgWorld]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with WgWorld() as made:
        yield made


@pytest.fixture
def world(shared_world: WgWorld) -> WgWorld:
    """The module's server, set back to health; a new server would take a second more."""
    shared_world.forwarding(True)
    shared_world.nft(NAT)
    shared_world.configure()
    return shared_world


def call(
    world: WgWorld,
    *,
    endpoint: Endpoint | None = None,
    server: WgPublicKey | None = None,
    client: WgPrivateKey | None = None,
    preshared: PresharedKey | None = None,
    targets: tuple[Target, ...] = TARGETS,
    count: int = 3,
    interval: float = 0.1,
    timeout: float = 20.0,
) -> ProbeResult:
    with in_namespace(world.client):
        return probe(
            endpoint or world.endpoint,
            server or world.server_key.public(),
            client or world.client_key,
            preshared or world.preshared,
            (CLIENT4, CLIENT6),
            targets,
            count=count,
            interval=interval,
            timeout=timeout,
        )


def test_a_healthy_server_answers_inside_and_through_nat(world: WgWorld) -> None:
    result = call(world)
    assert result.verdict is ProbeVerdict.WORKS, result
    assert [t.received for t in result.targets] == [3, 3, 3, 3]
    assert result.handshake.attempts == 1
    seen = world.peer_dump()
    assert abs(int(seen["handshake"]) - time.time()) < 10
    assert seen["endpoint"].startswith(f"{CLIENT_OUTER4}:")


def test_a_second_probe_needs_no_waiting(world: WgWorld) -> None:
    for _ in range(3):
        time.sleep(0.05)  # wireguard-go takes 50 initiations a second of one client
        result = call(world, count=1)
        assert result.works
        assert result.handshake.attempts == 1


def test_the_server_is_reached_over_ipv6(world: WgWorld) -> None:
    result = call(world, endpoint=world.endpoint6)
    assert result.works, result
    assert result.handshake.address == str(world.endpoint6)


def test_full_sized_packets_pass(world: WgWorld) -> None:
    with in_namespace(world.client):
        result = probe(
            world.endpoint,
            world.server_key.public(),
            world.client_key,
            world.preshared,
            (CLIENT4, CLIENT6),
            (Target(SERVER4, Role.SERVER), Target(OUTSIDE4, Role.OUTSIDE)),
            count=3,
            interval=0.05,
            payload=1392,
        )
    assert result.works, result


def test_a_wrong_preshared_key_is_told_and_the_server_keeps_its_counters_going(
    world: WgWorld,
) -> None:
    result = call(world, preshared=PresharedKey.generate())
    assert result.verdict is ProbeVerdict.WRONG_PRESHARED_KEY
    assert int(world.peer_dump()["tx"]) > 0


def test_a_peer_without_preshared_key_on_the_server_is_told(world: WgWorld) -> None:
    lines = world.server_conf().splitlines(keepends=True)
    world.configure("".join(line for line in lines if not line.startswith("Preshared")))
    assert call(world).verdict is ProbeVerdict.WRONG_PRESHARED_KEY


def test_an_unknown_client_meets_silence(world: WgWorld) -> None:
    result = call(world, client=WgPrivateKey.generate(), timeout=4)
    assert result.verdict is ProbeVerdict.NO_ANSWER
    assert result.handshake.attempts == 3
    assert "client key that the server does not know" in (result.hint or "")


def test_a_wrong_server_key_meets_silence(world: WgWorld) -> None:
    result = call(world, server=WgPrivateKey.generate().public(), timeout=4)
    assert result.verdict is ProbeVerdict.NO_ANSWER
    assert "wrong server key" in (result.hint or "").replace("\n", " ")


def test_a_closed_port_is_told(world: WgWorld) -> None:
    closed = Endpoint(str(SERVER_OUTER4), 4500)
    result = call(world, endpoint=closed, timeout=2)
    assert result.verdict is ProbeVerdict.PORT_CLOSED


def test_a_filtered_port_is_silence(world: WgWorld) -> None:
    world.nft(
        NAT + "table inet f { chain i { type filter hook input priority 0;"
        f' iifname "cli0" udp dport {world.port} drop; }}\n}}\n'
    )
    assert call(world, timeout=2).verdict is ProbeVerdict.NO_ANSWER


def test_an_address_without_a_route_is_told(world: WgWorld) -> None:
    result = call(world, endpoint=Endpoint("192.0.2.77", 53), timeout=3)
    assert result.verdict is ProbeVerdict.UNREACHABLE
    assert "unreachable" in result.message


def test_a_neighbour_that_does_not_exist_is_told(world: WgWorld) -> None:
    result = call(world, endpoint=Endpoint("198.51.100.77", 53), timeout=5)
    assert result.verdict is ProbeVerdict.UNREACHABLE
    assert "no route to host" in result.message


def test_forwarding_that_is_off_is_told(world: WgWorld) -> None:
    world.forwarding(False)
    result = call(world)
    assert result.verdict is ProbeVerdict.NO_FORWARDING
    assert [t.received for t in result.targets] == [3, 3, 0, 0]


def test_a_missing_nat_rule_is_told(world: WgWorld) -> None:
    world.nft("")
    result = call(world)
    assert result.verdict is ProbeVerdict.NO_FORWARDING


def test_a_firewall_that_rejects_is_told_apart(world: WgWorld) -> None:
    world.nft(
        NAT + "table inet f { chain fw { type filter hook forward priority 0;"
        ' iifname "wg0" reject with icmpx admin-prohibited;\n}\n}\n'
    )
    result = call(world)
    assert result.verdict is ProbeVerdict.REJECTED
    assert "prohibited by a filter (from 10.0.0.1)" in result.message
    assert "prohibited by a filter (from fd00:53::1)" in result.message


def test_an_address_outside_that_does_not_exist_is_told(world: WgWorld) -> None:
    from ipaddress import IPv4Address

    nowhere = Target(IPv4Address("192.0.2.200"), Role.OUTSIDE)
    result = call(world, targets=(TARGETS[0], nowhere))
    assert result.verdict is ProbeVerdict.REJECTED
    assert "network unreachable (from 10.0.0.1)" in result.message


def test_a_server_that_drops_pings_to_itself_is_told_apart(world: WgWorld) -> None:
    world.nft(
        NAT + "table inet f { chain i { type filter hook input priority 0;"
        ' iifname "wg0" drop;\n}\n}\n'
    )
    assert call(world).verdict is ProbeVerdict.SERVER_SILENT


def test_a_server_without_its_tunnel_address_is_no_reply(world: WgWorld) -> None:
    world.ip(world.server, "address", "flush", "dev", "wg0")
    world.forwarding(False)
    assert call(world).verdict is ProbeVerdict.NO_REPLY


def test_a_restarted_server_takes_the_next_probe_at_once(world: WgWorld) -> None:
    assert call(world, count=1).works
    world.restart()
    result = call(world, count=1)
    assert result.works, result


def test_a_server_under_load_gives_a_cookie_that_the_probe_uses(world: WgWorld) -> None:
    # More valid-looking initiations than its workers can open: wireguard-go then asks for
    # cookies for a second.  Judged by its own log as well as by ours.
    stranger = WgPrivateKey.generate()
    clock = Clock()
    flood = [
        InitiatorHandshake(
            stranger, world.server_key.public(), None, clock.stamp()
        ).initiation.pack()
        for _ in range(50)
    ]
    with in_namespace(world.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((str(SERVER_OUTER4), world.port))
        for tries in range(5):
            for number in range(6000):
                sender.send(flood[number % len(flood)])
            result = call(world, targets=TARGETS[:1], count=1)
            if result.handshake.cookies:
                break
            assert tries < 4, "wireguard-go never came under load"
    assert result.works, result
    assert result.handshake.cookies >= 1
    assert result.handshake.attempts >= 2


def test_the_probe_works_right_after_10000_bad_datagrams_to_the_server(world: WgWorld) -> None:
    chance = random.Random(8)
    good = InitiatorHandshake(
        world.client_key, world.server_key.public(), world.preshared, Clock().stamp()
    ).initiation.pack()
    with in_namespace(world.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((str(SERVER_OUTER4), world.port))
        for number in range(10_000):
            changed = bytearray(good)
            changed[chance.randrange(INITIATION_BYTES)] ^= 1 << chance.randrange(8)
            kinds = (
                good[: chance.randrange(1, INITIATION_BYTES)],
                bytes(changed),
                chance.randbytes(148),
            )
            sender.send(kinds[number % 3])
    assert call(world, count=1).works


def test_wireguard_go_as_initiator_works_with_our_responder(world: WgWorld) -> None:
    """The other way round: its handshake, its pings, our answers; judged by Linux and wg."""
    server, client = WgPrivateKey.generate(), WgPrivateKey.generate()
    preshared = PresharedKey.generate()
    core = ResponderCore(server, (SERVER4, SERVER6), (ResponderPeer(client.public(), preshared),))
    with in_namespace(world.outside):
        responder = Responder(core, "127.0.0.1")
    with responder, WireguardGo(world.outside, "wg1") as daemon:
        conf = (
            f"[Interface]\nPrivateKey = {client.reveal()}\n"
            f"[Peer]\nPublicKey = {server.public()}\nPresharedKey = {preshared.reveal()}\n"
            f"AllowedIPs = 10.0.0.0/24, fd00:53::/64, 192.0.2.0/24\n"
            f"Endpoint = {responder.endpoint}\nPersistentKeepalive = 1\n"
        )
        daemon.wg("setconf", "wg1", "/dev/stdin", given=conf)
        world.ip(world.outside, "address", "add", f"{CLIENT4}/24", "dev", "wg1")
        world.ip(world.outside, "-6", "address", "add", f"{CLIENT6}/64", "dev", "wg1", "nodad")
        world.ip(world.outside, "link", "set", "wg1", "up")
        world.ip(world.outside, "route", "add", "192.0.2.0/24", "dev", "wg1")
        with in_namespace(world.outside):
            for target in (str(SERVER4), str(SERVER6), "192.0.2.1"):
                for size in (0, 1, 56, 1372):
                    assert kernel_ping(target, size), (target, size)
        handshake = daemon.wg("show", "wg1", "latest-handshakes").split()[1]
        assert abs(int(handshake) - time.time()) < 30
    assert core.stats.handshakes == 1
    assert core.stats.packets >= 12


def test_wireguard_go_as_initiator_obeys_our_cookie(world: WgWorld) -> None:
    from support.responder import Faults

    server, client = WgPrivateKey.generate(), WgPrivateKey.generate()
    core = ResponderCore(
        server, (SERVER4,), (ResponderPeer(client.public()),), Faults(cookies=True)
    )
    with in_namespace(world.outside):
        responder = Responder(core, "127.0.0.1")
    with responder, WireguardGo(world.outside, "wg2") as daemon:
        conf = (
            f"[Interface]\nPrivateKey = {client.reveal()}\n"
            f"[Peer]\nPublicKey = {server.public()}\nAllowedIPs = 10.0.0.0/24\n"
            f"Endpoint = {responder.endpoint}\nPersistentKeepalive = 1\n"
        )
        daemon.wg("setconf", "wg2", "/dev/stdin", given=conf)
        world.ip(world.outside, "link", "set", "wg2", "up")
        limit = time.monotonic() + 20
        while core.stats.handshakes == 0:
            assert time.monotonic() < limit, daemon.logged()[-800:]
            time.sleep(0.1)
    assert core.stats.initiations >= 2
