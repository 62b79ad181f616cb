"""The probe against a server on loopback that can be told to misbehave."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import cast

import pytest

from obsdimg.tunnel import client as client_module
from obsdimg.tunnel import probe as probe_module
from obsdimg.tunnel.client import Identity
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import ProbeError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.link import Link, Received
from obsdimg.tunnel.messages import Initiation, parse
from obsdimg.tunnel.probe import Target, probe
from obsdimg.tunnel.report import ProbeResult, ProbeVerdict, Role
from support.responder import Faults, Responder, ResponderCore, ResponderPeer
from support.wg_keys import generate_pair

SERVER4, SERVER6 = IPv4Address("10.0.0.1"), IPv6Address("fd00:53::1")
CLIENT4, CLIENT6 = IPv4Address("10.0.0.2"), IPv6Address("fd00:53::2")
OUTSIDE4, OUTSIDE6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
TARGETS = (
    Target(SERVER4, Role.SERVER),
    Target(SERVER6, Role.SERVER),
    Target(OUTSIDE4, Role.OUTSIDE),
    Target(OUTSIDE6, Role.OUTSIDE),
)


@dataclass
class World:
    """A server's and a client's keys, and the server's faults."""

    server: WgPrivateKey
    client: WgPrivateKey
    preshared: PresharedKey
    faults: Faults

    def core(self) -> ResponderCore:
        peer = ResponderPeer(self.client.public(), self.preshared)
        return ResponderCore(self.server, (SERVER4, SERVER6), (peer,), self.faults)

    def probe(
        self,
        endpoint: Endpoint,
        *,
        server: WgPublicKey | None = None,
        client: WgPrivateKey | None = None,
        preshared: PresharedKey | None = None,
        targets: tuple[Target, ...] = TARGETS,
        count: int = 2,
        interval: float = 0.02,
        timeout: float = 3.0,
    ) -> ProbeResult:
        return probe(
            endpoint,
            server or self.server.public(),
            client or self.client,
            preshared or self.preshared,
            (CLIENT4, CLIENT6),
            targets,
            count=count,
            interval=interval,
            timeout=timeout,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(client_module, "RETRY_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(client_module, "REKEY_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(probe_module, "REPLY_SECONDS", 0.3)
    return World(
        WgPrivateKey.generate(), WgPrivateKey.generate(), PresharedKey.generate(), Faults()
    )


def test_a_healthy_server_answers_on_every_address(world: World) -> None:
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint, count=5)
    assert result.verdict is ProbeVerdict.WORKS
    assert result.works
    assert result.handshake.attempts == 1
    assert result.handshake.seconds is not None
    assert 0 < result.handshake.seconds < 1
    assert [t.received for t in result.targets] == [5, 5, 5, 5]
    assert all(0 < rtt < 1000 for t in result.targets for rtt in t.rtts_ms)
    assert server.core.stats.keepalives == 1


def test_the_result_is_json_without_keys(world: World) -> None:
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint)
    text = json.dumps(result.as_dict())
    assert json.loads(text)["targets"][0]["received"] == 2
    for key in (world.server.reveal(), world.client.reveal(), world.preshared.reveal()):
        assert key[:10] not in text + repr(result)


def test_a_server_on_ipv6_is_reached(world: World) -> None:
    try:
        responder = Responder(world.core(), "::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with responder as server:
        result = world.probe(server.endpoint)
    assert result.works
    assert result.handshake.address == f"[::1]:{server.endpoint.port}"


def test_a_name_with_two_addresses_falls_back_to_the_one_that_answers(world: World) -> None:
    with Responder(world.core()) as server:
        result = world.probe(Endpoint("localhost", server.endpoint.port))
    assert result.works
    assert result.handshake.address == str(server.endpoint)


def test_lost_initiations_are_retried_with_later_timestamps(world: World) -> None:
    world.faults.drop_initiations = 2
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint)
        again = world.probe(server.endpoint)
    assert result.works
    assert result.handshake.attempts == 3
    assert again.works  # the server drops timestamps that do not increase
    assert server.core.stats.handshakes == 2


def test_a_cookie_is_used_for_the_next_attempt(world: World) -> None:
    world.faults.cookies = True
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint)
    assert result.works
    assert (result.handshake.attempts, result.handshake.cookies) == (2, 1)


@pytest.mark.parametrize(
    ("faults", "verdict", "says"),
    [
        (Faults(cookies_only=True), ProbeVerdict.UNDER_LOAD, "cookies only"),
        (Faults(drop_initiations=10**6), ProbeVerdict.NO_ANSWER, "no answer to"),
        (
            Faults(server_silent=True, forwards=False),
            ProbeVerdict.NO_REPLY,
            "nothing in the tunnel",
        ),
        (
            Faults(server_silent=True),
            ProbeVerdict.SERVER_SILENT,
            "10.0.0.1 and fd00:53::1 does not",
        ),
        (
            Faults(forwards=False),
            ProbeVerdict.NO_FORWARDING,
            "nothing from 192.0.2.1 and 2001:db8::1",
        ),
        (Faults(corrupt=True), ProbeVerdict.NO_REPLY, "nothing in the tunnel answers"),
    ],
    ids=lambda value: value.value if isinstance(value, ProbeVerdict) else "",
)
def test_each_fault_has_its_verdict(
    world: World, faults: Faults, verdict: ProbeVerdict, says: str
) -> None:
    world.faults = faults
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint, timeout=1.0)
    assert result.verdict is verdict
    assert says in result.message
    assert result.hint
    assert not result.works


@pytest.mark.parametrize(
    ("target", "reject", "reason"),
    [
        (OUTSIDE4, (3, 13), "prohibited by a filter (from 10.0.0.1)"),
        (OUTSIDE4, (11, 0), "time exceeded (from 10.0.0.1)"),
        (OUTSIDE6, (1, 0), "no route (from fd00:53::1)"),
    ],
)
def test_an_icmp_error_is_told_apart_from_silence(
    world: World,
    target: IPv4Address | IPv6Address,
    reject: tuple[int, int],
    reason: str,
) -> None:
    world.faults.reject = reject
    targets = (*TARGETS[:2], Target(target, Role.OUTSIDE))
    with Responder(world.core()) as server:
        start = time.monotonic()
        result = world.probe(server.endpoint, targets=targets, timeout=20)
    assert result.verdict is ProbeVerdict.REJECTED
    assert reason in result.message
    assert result.targets[2].error == reason
    assert time.monotonic() - start < 10  # nothing is waited for that was refused


def test_a_wrong_preshared_key_is_told_quickly(world: World) -> None:
    with Responder(world.core()) as server:
        start = time.monotonic()
        result = world.probe(server.endpoint, preshared=PresharedKey.generate(), timeout=20)
    assert result.verdict is ProbeVerdict.WRONG_PRESHARED_KEY
    assert result.handshake.unreadable == 2
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("which", ["server", "client"])
def test_a_wrong_key_is_silence(world: World, which: str) -> None:
    private, public = generate_pair()
    with Responder(world.core()) as server:
        if which == "server":
            result = world.probe(server.endpoint, server=public, timeout=0.7)
        else:
            result = world.probe(server.endpoint, client=private, timeout=0.7)
    assert result.verdict is ProbeVerdict.NO_ANSWER
    assert result.handshake.attempts >= 3
    assert server.core.stats.handshakes == 0


def test_a_closed_port_is_told_apart(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    result = world.probe(Endpoint("127.0.0.1", port), timeout=0.5)
    assert result.verdict is ProbeVerdict.PORT_CLOSED


def test_a_server_that_starts_late_is_found(world: World) -> None:
    import threading

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    core = world.core()
    started: list[Responder] = []

    def start() -> None:
        responder = Responder(core, port=port)
        responder.__enter__()
        started.append(responder)

    timer = threading.Timer(0.5, start)
    timer.start()
    try:
        result = world.probe(Endpoint("127.0.0.1", port), timeout=5)
    finally:
        timer.join()
        started[0].__exit__(None, None, None)
    assert result.works
    assert result.handshake.refused >= 1


def test_a_name_that_does_not_exist_is_a_verdict(world: World) -> None:
    result = world.probe(Endpoint("no-such-host.invalid", 51820), timeout=10)
    assert result.verdict is ProbeVerdict.UNRESOLVED
    assert "no-such-host.invalid" in result.message


def test_loss_is_counted_and_does_not_fail(world: World) -> None:
    world.faults.lose_every = 2
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint, targets=TARGETS[:1], count=10)
    assert result.works
    assert result.targets[0].received == 5
    assert result.targets[0].loss == 0.5


def test_duplicates_are_counted_and_replays_are_not(world: World) -> None:
    world.faults.duplicate = True
    world.faults.replay = True
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint, targets=TARGETS[:1], count=4)
    assert result.targets[0].received == 4
    assert result.targets[0].duplicates >= 3  # the last may come after the end
    assert result.handshake.strange >= 6


def test_a_server_that_restarts_during_the_pings_is_called_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "SILENCE_SECONDS", 0.2)
    world.faults.forget_after = 3
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint, targets=TARGETS[:1], count=20, interval=0.05)
    assert result.works
    assert server.core.stats.handshakes == 2
    assert 10 <= result.targets[0].received < 20


def test_an_old_session_is_renewed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from obsdimg.tunnel import session as session_module

    monkeypatch.setattr(session_module, "REKEY_AFTER_SECONDS", 0.1)
    with Responder(world.core()) as server:
        result = world.probe(server.endpoint, targets=TARGETS[:1], count=10, interval=0.05)
    assert result.works
    assert server.core.stats.handshakes >= 3
    assert result.targets[0].received >= 9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 0}, "count of 0"),
        ({"count": 70000}, "count of 70000"),
        ({"interval": 0.0}, "interval"),
        ({"timeout": -1.0}, "time limit"),
        ({"timeout": float("nan")}, "time limit"),
        ({"targets": ()}, "no address to ping"),
        ({"server": WgPublicKey(bytes(32))}, "low order"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    world: World, change: dict[str, object], says: str
) -> None:
    with pytest.raises(ProbeError, match=says):
        world.probe(Endpoint("127.0.0.1", 9), **change)  # type: ignore[arg-type]


def test_a_target_without_a_source_address_is_refused(world: World) -> None:
    with pytest.raises(ProbeError, match="no IPv6 address"):
        probe(
            Endpoint("127.0.0.1", 9),
            world.server.public(),
            world.client,
            None,
            (CLIENT4,),
            TARGETS,
        )


def test_a_client_may_only_use_its_own_address(world: World) -> None:
    core = ResponderCore(
        world.server,
        (SERVER4,),
        (ResponderPeer(world.client.public(), world.preshared, (IPv4Network("10.0.0.9/32"),)),),
    )
    with Responder(core) as server:
        result = world.probe(server.endpoint, targets=TARGETS[:1])
    assert result.verdict is ProbeVerdict.NO_REPLY


class _Forgetful(ResponderCore):
    """Offers a session and keeps it not: the first of its handshakes is in vain."""

    def handle(self, datagram: bytes, source: tuple[str, int]) -> list[bytes]:
        answers = super().handle(datagram, source)
        if answers and self.stats.handshakes == 1:
            self._sessions.clear()
        return answers


@pytest.mark.parametrize("lost", [0, 1])
def test_a_session_that_a_busy_server_did_not_keep_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Only after more than one call: a server that answers the first and then nothing is told."""
    monkeypatch.setattr(client_module, "RETRY_SECONDS", (0.05, 0.05))
    world.faults.drop_initiations = lost
    peer = ResponderPeer(world.client.public(), world.preshared)
    core = _Forgetful(world.server, (SERVER4, SERVER6), (peer,), world.faults)
    with Responder(core) as server:
        result = world.probe(server.endpoint)
    assert result.verdict is (ProbeVerdict.WORKS if lost else ProbeVerdict.NO_REPLY), result
    assert result.handshake.attempts == (3 if lost else 1)


def test_the_answer_to_an_earlier_call_makes_no_session(world: World) -> None:
    """The server has forgotten what it offered then: it keeps what it offered last."""
    core, sent = world.core(), []

    class Slow:
        addresses = (("127.0.0.1", 9),)

        def __init__(self) -> None:
            self.answers: list[bytes] = []

        def usable(self) -> list[int]:
            return [0]

        def send(self, which: int, datagram: bytes) -> None:
            sent.append(datagram)
            self.answers += core.handle(datagram, ("127.0.0.1", 9))

        def receive(self, until: float) -> Received | None:
            if len(sent) < 2 or not self.answers:
                return None
            return Received(0, self.answers.pop(0))

    identity = Identity(world.client, world.server.public(), world.preshared)
    caller = client_module.Caller(cast(Link, Slow()), identity)
    session = caller.handshake(time.monotonic() + 60)
    assert session is not None
    latest = parse(sent[1])
    assert isinstance(latest, Initiation)
    assert session.local == latest.sender
    assert caller.log.strange == 1
