"""Streams through a real wireguard-go to a real kernel's TCP, in network namespaces."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from obsdimg.tunnel import carrier as carrier_module
from obsdimg.tunnel import session as session_module
from obsdimg.tunnel.client import REKEY_TIMEOUT_SECONDS, Identity
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey
from obsdimg.tunnel.stream import StreamError, Tunnel, TunnelDownError
from obsdimg.tunnel.tcp import TcpError, TcpRefusedError
from support.stream_server import PORT, Relay, Spoil, StreamServer
from support.wg_netns import (
    CLIENT4,
    CLIENT6,
    OUTSIDE4,
    SERVER4,
    SERVER6,
    WgWorld,
    in_namespace,
    run,
    wg_world,
)

__all__ = ["wg_world"]
pytestmark = [pytest.mark.netns]

ENOUGH_MBIT = 20.0


def identity(world: WgWorld) -> Identity:
    return Identity(world.client_key, world.server_key.public(), world.preshared)


@contextmanager
def tunnel(world: WgWorld, endpoint: Endpoint | None = None) -> Iterator[Tunnel]:
    with in_namespace(world.client):
        made = Tunnel.open(
            endpoint or world.endpoint, identity(world), [CLIENT4, CLIENT6], timeout=10
        )
    with made:
        yield made


def read_all(stream: socket.socket) -> bytes:
    stream.settimeout(120)
    parts = []
    while part := stream.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def upload(stream: socket.socket, data: bytes, kind: bytes = b"d") -> str:
    """Send `data`, end our half, and give back what the server counted."""
    stream.settimeout(120)
    stream.sendall(kind + data)
    stream.shutdown(socket.SHUT_WR)
    return read_all(stream).decode()


def expected(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def download(made: Tunnel, size: int) -> bytes:
    with made.connect(SERVER4, PORT) as stream:
        stream.sendall(b"s%16d" % size)
        return read_all(stream)


def pattern(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def test_streams_of_both_families_echo_and_end(wg_world: WgWorld) -> None:
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        for address in (SERVER4, SERVER6):
            with made.connect(address, PORT) as stream:
                stream.sendall(b"ehello")
                assert stream.recv(100) == b"hello"
                stream.shutdown(socket.SHUT_WR)
                assert read_all(stream) == b""
        assert "198.51.100.1:53" in made.address
        states = run("ip", "netns", "exec", wg_world.server, "ss", "-tnH", check=False)
        assert "ESTAB" not in states


def test_a_hundred_megabits_are_not_promised_but_twenty_are(wg_world: WgWorld) -> None:
    size = 12_000_000
    data = os.urandom(size)
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        start = time.monotonic()
        assert download(made, size) == pattern(size)
        down = size * 8e-6 / (time.monotonic() - start)
        start = time.monotonic()
        with made.connect(SERVER4, PORT) as stream:
            assert upload(stream, data) == expected(data)
        up = size * 8e-6 / (time.monotonic() - start)
    print(f"down {down:.0f} Mbit/s, up {up:.0f} Mbit/s")
    assert min(down, up) >= ENOUGH_MBIT


@pytest.mark.parametrize(
    "spoil",
    [
        Spoil(loss=0.02),
        Spoil(reorder=0.3, late=0.01),
        Spoil(duplicate=0.2),
        Spoil(loss=0.05, reorder=0.1, duplicate=0.1),
    ],
    ids=["loss", "reordering", "doubling", "all"],
)
def test_everything_arrives_over_a_bad_network(wg_world: WgWorld, spoil: Spoil) -> None:
    data = os.urandom(1_500_000)
    with StreamServer(wg_world.server):
        with in_namespace(wg_world.client):
            relay = Relay(wg_world.endpoint, spoil)
        with relay, tunnel(wg_world, relay.endpoint) as made:
            assert download(made, len(data)) == pattern(len(data))
            with made.connect(SERVER4, PORT) as stream:
                assert upload(stream, data) == expected(data)
        assert relay.passed > 2 * len(data) / 1420
        assert not spoil.loss or relay.lost > 10


def test_several_streams_share_a_tunnel_and_a_slow_reader_stops_no_other(
    wg_world: WgWorld,
) -> None:
    data = os.urandom(3_000_000)
    answers: dict[int, str] = {}
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        slow = made.connect(SERVER4, PORT)
        slow.sendall(b"s%16d" % 5_000_000)

        def one(number: int) -> None:
            with made.connect(SERVER4, PORT) as stream:
                answers[number] = upload(stream, data, b"h" if number else b"d")

        threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert answers == dict.fromkeys(range(3), expected(data))
        assert read_all(slow) == pattern(5_000_000)
        slow.close()


def test_a_closed_port_a_reset_and_a_filter_are_told_apart(wg_world: WgWorld) -> None:
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        with pytest.raises(TcpRefusedError, match=r"10\.0\.0\.1:7001: the connection was refused"):
            made.connect(SERVER4, 7001)
        with made.connect(SERVER4, PORT) as stream:
            stream.sendall(b"x")
            assert stream.recv(10) == b""
        rules = "table inet f { chain i { type filter hook input priority 0; tcp dport %d %s; }; }"
        wg_world.nft(rules % (PORT, "reject with icmp type admin-prohibited"))
        with pytest.raises(TcpRefusedError, match="prohibited by a filter"):
            made.connect(SERVER4, PORT)
        wg_world.nft(rules % (PORT, "drop"))
        start = time.monotonic()
        with pytest.raises(TcpError, match="no answer through the tunnel") as caught:
            made.connect(SERVER4, PORT, timeout=1.5)
        assert 1.4 < time.monotonic() - start < 4
        assert caught.value.hint is not None


def test_a_local_reader_that_goes_away_resets_the_connection(wg_world: WgWorld) -> None:
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        stream = made.connect(SERVER4, PORT)
        stream.sendall(b"s%16d" % 50_000_000)
        stream.recv(1000)
        stream.close()
        deadline = time.monotonic() + 10
        while "ESTAB" in run("ip", "netns", "exec", wg_world.server, "ss", "-tnH"):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_closing_the_tunnel_ends_its_streams(wg_world: WgWorld) -> None:
    with StreamServer(wg_world.server):
        with tunnel(wg_world) as made:
            stream = made.connect(SERVER4, PORT)
            stream.sendall(b"e1")
            assert stream.recv(1) == b"1"
        assert stream.recv(1) == b""
        stream.close()
        with pytest.raises(StreamError, match="closed"):
            made.connect(SERVER4, PORT)
        time.sleep(0.2)
        assert "ESTAB" not in run("ip", "netns", "exec", wg_world.server, "ss", "-tnH")


def test_sessions_are_renewed_while_a_stream_flows(
    wg_world: WgWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after 120 seconds, here after one."""
    monkeypatch.setattr(session_module, "REKEY_AFTER_SECONDS", 1)
    monkeypatch.setattr(carrier_module, "REKEY_AFTER_SECONDS", 1)
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        with made.connect(SERVER4, PORT) as stream:
            stream.sendall(b"e")
            stream.settimeout(10)
            end = time.monotonic() + 5
            longest = 0.0
            while time.monotonic() < end:
                start = time.monotonic()
                block = os.urandom(20_000)
                stream.sendall(block)
                got = b""
                while len(got) < len(block):
                    got += stream.recv(65536)
                assert got == block
                longest = max(longest, time.monotonic() - start)
        assert 4 <= made.carrier.handshakes <= 8
        assert longest < 1


@pytest.mark.slow(reason="a session is taken for dead after 15 seconds of silence")
def test_a_stream_outlives_a_restart_of_the_server_s_wireguard(wg_world: WgWorld) -> None:
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        with made.connect(SERVER4, PORT) as stream:
            stream.settimeout(60)
            stream.sendall(b"e1")
            assert stream.recv(1) == b"1"
            wg_world.restart()
            stream.sendall(b"2")
            assert stream.recv(1) == b"2"
        assert made.carrier.handshakes == 2


def test_a_new_stream_finds_out_that_the_server_has_forgotten_the_session(
    wg_world: WgWorld,
) -> None:
    """Sooner than silence tells: ssh waits for it, and gives up."""
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        assert download(made, 1000) == pattern(1000)
        time.sleep(REKEY_TIMEOUT_SECONDS)  # a session that is quite new is not doubted
        wg_world.configure()
        with made.connect(SERVER4, PORT, timeout=carrier_module.SILENCE_SECONDS - 2) as stream:
            stream.sendall(b"s%16d" % 1000)
            assert read_all(stream) == pattern(1000)
        assert made.carrier.handshakes == 2


def test_a_server_that_does_not_know_us_is_an_error_with_a_remedy(wg_world: WgWorld) -> None:
    with in_namespace(wg_world.client):
        with pytest.raises(TunnelDownError, match="no answer to"):
            Tunnel.open(
                wg_world.endpoint,
                Identity(WgPrivateKey.generate(), wg_world.server_key.public()),
                [CLIENT4],
                timeout=1.5,
            )
        with pytest.raises(TunnelDownError, match="another pre-shared key"):
            Tunnel.open(
                wg_world.endpoint,
                Identity(
                    wg_world.client_key, wg_world.server_key.public(), PresharedKey.generate()
                ),
                [CLIENT4],
                timeout=5,
            )


def test_an_address_that_is_not_ours_to_call_is_refused(wg_world: WgWorld) -> None:
    with in_namespace(wg_world.client):
        made = Tunnel.open(
            wg_world.endpoint,
            identity(wg_world),
            [CLIENT4],
            allows=lambda address: address == SERVER4 or address.version == 6,
            timeout=5,
        )
    with made:
        with pytest.raises(StreamError, match="AllowedIPs"):
            made.connect(OUTSIDE4, 22)
        with pytest.raises(StreamError, match="no IPv6 address"):
            made.connect(SERVER6, 22)


def test_a_stream_may_lead_beyond_the_server(wg_world: WgWorld) -> None:
    with (
        StreamServer(wg_world.outside),
        tunnel(wg_world) as made,
        made.connect(IPv4Address(OUTSIDE4), PORT) as stream,
    ):
        stream.sendall(b"eout")
        assert stream.recv(3) == b"out"


def test_splice_copies_between_descriptors_and_gives_them_back(wg_world: WgWorld) -> None:
    """As ssh uses it: two pipes."""
    data = os.urandom(2_000_000)
    to_us, from_them = os.pipe()
    to_them, from_us = os.pipe()
    out: list[bytes] = []

    def feed() -> None:
        with os.fdopen(from_them, "wb") as stream:
            stream.write(b"e" + data)

    def drain() -> None:
        with os.fdopen(to_them, "rb") as stream:
            out.append(stream.read())

    threads = [threading.Thread(target=feed), threading.Thread(target=drain)]
    with StreamServer(wg_world.server), tunnel(wg_world) as made:
        for thread in threads:
            thread.start()
        made.splice(SERVER4, PORT, to_us, from_us)
        for thread in threads:
            thread.join(20)
    assert out == [data]
    assert os.get_blocking(to_us)
    os.close(to_us)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(from_us)
