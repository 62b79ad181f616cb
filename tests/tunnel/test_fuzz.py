"""Random, truncated, changed and replayed datagrams: 10,000 for each side, no exception."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import MessageError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey
from obsdimg.tunnel.messages import Initiation, Response, parse
from obsdimg.tunnel.noise import Clock, InitiatorHandshake, with_mac1
from obsdimg.tunnel.packets import Echo, build
from obsdimg.tunnel.probe import Target, probe
from obsdimg.tunnel.report import ProbeVerdict, Role
from obsdimg.tunnel.session import Session
from support.responder import ResponderCore, ResponderPeer

SERVER4, CLIENT4 = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
SOURCE = ("192.0.2.1", 1234)
COUNT = 10_000


def damaged(chance: random.Random, good: list[bytes]) -> Iterator[bytes]:
    """Endless datagrams made from `good` ones: none of them a good one as it was."""
    while True:
        base = bytearray(chance.choice(good))
        kind = chance.randrange(6)
        if kind == 0:
            yield chance.randbytes(chance.randrange(0, 300))
        elif kind == 1:
            yield bytes(base[: chance.randrange(len(base))])
        elif kind == 2:
            base[chance.randrange(len(base))] ^= 1 << chance.randrange(8)
            yield bytes(base)
        elif kind == 3:
            yield bytes(base) + chance.randbytes(chance.randrange(1, 50))
        elif kind == 4:
            size = chance.choice([32, 48, 64, 92, 148])
            yield bytes([chance.randrange(1, 5), 0, 0, 0]) + chance.randbytes(size - 4)
        else:
            base[0] = chance.randrange(256)
            at = chance.randrange(len(base))
            base[at:] = chance.randbytes(len(base) - at)
            yield bytes(base)


def keys() -> tuple[WgPrivateKey, WgPrivateKey, PresharedKey, ResponderCore]:
    server, client, preshared = (
        WgPrivateKey.generate(),
        WgPrivateKey.generate(),
        PresharedKey.generate(),
    )
    core = ResponderCore(server, (SERVER4,), (ResponderPeer(client.public(), preshared),))
    return server, client, preshared, core


def test_the_responder_takes_10000_bad_datagrams_and_still_works() -> None:
    server, client, preshared, core = keys()
    clock = Clock()

    def call() -> Session:
        handshake = InitiatorHandshake(client, server.public(), preshared, clock.stamp())
        initiation = handshake.initiation.pack()
        (answer,) = core.handle(initiation, SOURCE)
        response = parse(answer)
        assert isinstance(response, Response)
        sent.append(initiation)
        return Session(handshake.finish(response), 0.0)

    sent: list[bytes] = []
    session = call()
    for number in range(20):
        ping = session.wrap(build(Echo(CLIENT4, SERVER4, 1, number, b"x" * number)))
        assert len(core.handle(ping, SOURCE)) == 1
        sent.append(ping)
    chance = random.Random(1)
    source = damaged(chance, sent)
    before = core.stats.packets
    answers = 0
    for number in range(COUNT):
        # every tenth is a faithful replay
        datagram = chance.choice(sent) if number % 10 == 0 else next(source)
        answers += len(core.handle(datagram, SOURCE))
    # A changed mac2 changes nothing, but the timestamp was used already.
    assert answers == 0
    assert core.stats.packets == before
    assert core.stats.dropped == COUNT
    again = call()
    assert core.handle(again.wrap(build(Echo(CLIENT4, SERVER4, 1, 0, b""))), SOURCE)


def test_a_valid_mac1_does_not_make_the_rest_dangerous() -> None:
    """What a stranger who knows the server's public key can send."""
    server, _, _, core = keys()
    chance = random.Random(2)
    for _ in range(2000):
        forged = Initiation(
            chance.getrandbits(32),
            chance.choice([bytes(32), chance.randbytes(32)]),
            chance.randbytes(48),
            chance.randbytes(28),
        )
        assert core.handle(with_mac1(forged, server.public()).pack(), SOURCE) == []


def test_random_packets_inside_a_session_do_no_harm() -> None:
    """What a client with good keys can send: sealed nonsense."""
    server, client, preshared, core = keys()
    handshake = InitiatorHandshake(client, server.public(), preshared, Clock().stamp())
    response = parse(core.handle(handshake.initiation.pack(), SOURCE)[0])
    assert isinstance(response, Response)
    session = Session(handshake.finish(response), 0.0)
    chance = random.Random(3)
    good = build(Echo(CLIENT4, SERVER4, 1, 1, b"payload"))
    source = damaged(chance, [good])
    for _ in range(COUNT):
        for answer in core.handle(session.wrap(next(source)), SOURCE):
            assert len(answer) >= 32


class HostileServer(threading.Thread):
    """Answers as it should, but only after `noise` bad datagrams made from good ones."""

    def __init__(self, core: ResponderCore, noise: int) -> None:
        super().__init__(daemon=True)
        self.core, self.noise, self.sent = core, noise, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.stop = threading.Event()
        self.endpoint = Endpoint("127.0.0.1", self.socket.getsockname()[1])

    def run(self) -> None:
        chance = random.Random(4)
        good: list[bytes] = []
        while not self.stop.is_set():
            try:
                datagram, source = self.socket.recvfrom(65536)
            except OSError:
                continue
            answers = self.core.handle(datagram, source)
            good += [datagram, *answers]
            noise = damaged(chance, good)
            for number in range(self.noise):
                self.socket.sendto(next(noise), source)
                if number % 100 == 99:
                    self.stop.wait(0.01)  # the probe's socket holds some 200 KB
                self.sent += 1
            for answer in answers:
                self.socket.sendto(answer, source)


def test_the_probe_works_through_10000_bad_datagrams() -> None:
    server, client, preshared, core = keys()
    hostile = HostileServer(core, 500)
    hostile.start()
    try:
        result = probe(
            hostile.endpoint,
            server.public(),
            client,
            preshared,
            (CLIENT4,),
            (Target(SERVER4, Role.SERVER),),
            count=20,
            interval=0.1,
            timeout=10,
        )
    finally:
        hostile.stop.set()
        hostile.join(5)
        hostile.socket.close()
    assert result.verdict is ProbeVerdict.WORKS
    assert result.targets[0].received >= 15
    assert hostile.sent >= COUNT
    assert result.handshake.strange > COUNT / 2


@pytest.mark.parametrize("size", range(160))
def test_every_size_of_every_type_is_a_message_or_an_error(size: int) -> None:
    for kind in range(6):
        datagram = (bytes([kind, 0, 0, 0]) + bytes(200))[:size]
        try:
            message = parse(datagram)
        except MessageError:
            continue
        assert message.pack() == datagram
