"""One TCP connection over a bad network, in virtual time; bytes arrive whole or not at all."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.tunnel.segments import ACK, FIN, RST, SYN, Complaint, TcpSegment
from obsdimg.tunnel.tcp import (
    KEEPALIVE_IDLE,
    RECEIVE_BYTES,
    SILENCE,
    Ends,
    TcpConnection,
    TcpError,
    TcpRefusedError,
    TcpState,
)
from support.tcp_network import CLIENT, SERVER, Faults, Network

BAD = Faults(loss=0.05, reorder=0.2, duplicate=0.05, damage=0.01)


def data(size: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(size)


def exchange(network: Network, up: bytes, down: bytes, limit: float = 600) -> None:
    """Send both ways to the end and compare."""
    network.sides[True].to_send, network.sides[False].to_send = up, down
    network.run(limit)
    assert network.client.error is None
    assert network.server is not None
    assert network.server.error is None
    assert network.done()
    assert bytes(network.sides[False].got) == up
    assert bytes(network.sides[True].got) == down


def test_both_directions_arrive_and_close_on_a_good_network() -> None:
    network = Network(1)
    exchange(network, data(200_000), data(300_000))
    assert network.now - 1000 < 2
    assert network.client.state is TcpState.TIME_WAIT
    network.run(5, lambda: network.client.state is TcpState.CLOSED)
    assert network.client.state is TcpState.CLOSED
    assert network.client.error is None


@pytest.mark.parametrize("seed", range(12))
def test_everything_arrives_through_loss_reordering_doubling_and_damage(seed: int) -> None:
    exchange(Network(seed, BAD), data(150_000, seed), data(150_000, seed + 1))


@pytest.mark.parametrize("seed", range(4))
def test_everything_arrives_where_a_third_is_lost(seed: int) -> None:
    exchange(Network(seed, Faults(loss=0.33)), data(20_000), data(20_000), limit=4000)


@pytest.mark.parametrize(("sack", "scale"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("seed", range(3))
def test_a_peer_without_the_newer_options_will_do(seed: int, sack: bool, scale: bool) -> None:
    network = Network(seed, BAD, sack=sack, scale=scale, server_segment=536)
    exchange(network, data(60_000), data(60_000), limit=2000)
    assert max(len(segment.data) for segment in network.seen) <= 1380
    ups = [s for s in network.seen if s.destination_port == 22]
    assert max(len(segment.data) for segment in ups) == 536


@pytest.mark.parametrize("before", [0, 1, 1000, 70_000])
def test_sequence_numbers_pass_zero(before: int) -> None:
    network = Network(
        3, BAD, client_first=2**32 - 1 - before, server_first=(2**32 - before) % 2**32
    )
    exchange(network, data(150_000), data(150_000))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    # Seven tries within SILENCE, each lost with 28 %: one in ten thousand gives up.
    st.floats(0, 0.15),
    st.floats(0, 0.5),
    st.floats(0, 0.3),
    st.integers(0, 30_000),
    st.integers(0, 30_000),
    st.sampled_from([0.0001, 0.02, 0.2]),
)
def test_any_network_that_lets_something_through_will_do(
    seed: int, loss: float, reorder: float, duplicate: float, up: int, down: int, delay: float
) -> None:
    faults = Faults(loss, reorder, duplicate, 0.0, delay, delay * 4)
    exchange(Network(seed, faults), data(up), data(down), limit=5000)


def test_a_server_that_forgot_a_finished_connection_is_no_failure() -> None:
    """Only the acknowledgement of our FIN is missing, and nobody is left to send it."""
    network = Network(1, client_first=0)
    network.filter = lambda to_server, segment: (
        to_server or not (segment.flags & RST or segment.ack == 2)
    )
    network.sides[False].to_send = data(100)
    network.run(SILENCE * 2, lambda: network.client.state is TcpState.CLOSED)
    assert network.client.state is TcpState.CLOSED
    assert network.client.error is None
    assert bytes(network.sides[True].got) == data(100)


def test_a_loss_is_mended_without_waiting_for_the_time_out() -> None:
    """One segment in the middle of a long flow: the flow does not stop."""
    network = Network(1, Faults(delay=0.05))
    lost: list[int] = []

    def once(to_server: bool, segment: TcpSegment) -> bool:
        if to_server and len(segment.data) == 1380 and not lost and network.segments > 60:
            lost.append(segment.seq)
            return False
        return True

    network.filter = once
    exchange(network, data(400_000), b"")
    assert lost
    first, second = (
        when
        for when, segment in zip(network.times, network.seen, strict=True)
        if segment.data and segment.seq == lost[0]
    )
    assert second - first < 0.11  # a round trip, and hardly more
    assert len([s for s in network.seen if len(s.data) == 1380]) == 400_000 // 1380 + 1


def test_reordering_alone_sends_little_twice() -> None:
    network = Network(1, Faults(reorder=0.3, delay=0.02, late=0.004))
    exchange(network, data(1_000_000), b"")
    sent = sum(len(segment.data) for segment in network.seen)
    assert sent < 1_100_000


def test_a_retransmission_that_is_lost_too_is_sent_again() -> None:
    network = Network(1, Faults(delay=0.05))
    drops: list[int] = []

    def thrice(to_server: bool, segment: TcpSegment) -> bool:
        wanted = not drops or segment.seq == drops[0]
        if to_server and len(segment.data) == 1380 and wanted and len(drops) < 3:
            drops.append(segment.seq)
            return False
        return True

    network.filter = thrice
    exchange(network, data(100_000), b"")
    assert len(drops) == 3


def test_the_window_of_a_reader_that_stops_is_kept_and_opened_again() -> None:
    network = Network(2)
    side = network.sides[True]
    side.reads = lambda now: 0 if now < 1060 else 1 << 29
    network.sides[False].to_send = data(3 * RECEIVE_BYTES)
    network.run(55)
    assert network.server is not None
    assert len(network.client.reading) <= RECEIVE_BYTES + 64
    assert len(network.client.reading) > RECEIVE_BYTES - 3000
    network.run(100)
    assert bytes(side.got) == data(3 * RECEIVE_BYTES)
    assert network.done()


def test_a_closed_window_is_probed_even_if_its_opening_is_lost() -> None:
    network = Network(2)
    network.sides[False].reads = lambda now: 0 if now < 1010 else 1 << 29
    network.sides[True].to_send = data(2 * RECEIVE_BYTES)
    network.filter = lambda to_server, segment: to_server or not 1009.9 < network.now < 1011
    network.run(200)
    assert bytes(network.sides[False].got) == data(2 * RECEIVE_BYTES)
    assert network.done()


def test_our_half_may_end_first_and_the_answer_still_comes() -> None:
    network = Network(1)
    network.sides[False].finish = False
    network.sides[True].to_send = b"question"
    network.run(3)
    assert network.server is not None
    assert network.server.reading.finished
    assert not network.done()
    network.sides[False].finish = True
    network.sides[False].to_send = data(50_000)
    network.run(10)
    assert bytes(network.sides[True].got) == data(50_000)
    assert network.done()


def test_a_port_where_nobody_listens_is_refused() -> None:
    network = Network(1, listens=False)
    network.run(5)
    assert isinstance(network.client.error, TcpRefusedError)
    assert "10.0.0.1:22" in network.client.error.message
    assert network.now - 1000 < 0.1


def test_a_lost_syn_is_sent_again_and_again() -> None:
    network = Network(1)
    network.filter = lambda to_server, segment: network.now > 1006
    exchange(network, b"x", b"y")
    syns = [s for s in network.seen if s.flags & SYN and not s.flags & ACK]
    assert 3 <= len(syns) <= 4


def test_an_acknowledgement_lost_after_the_handshake_is_made_up_for() -> None:
    """The server repeats its SYN-ACK; we answer although we are past that."""
    network = Network(1)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(1)
    assert network.server is not None
    before = len(network.seen)
    network.client.accept(network.server.syn_ack, network.now)
    network.run(1)
    assert network.seen[before].flags == ACK
    assert network.client.open


@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_reset_at_the_right_number_ends_it_and_another_does_not(flags: int) -> None:
    network = Network(1, server_first=100)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(1)

    def reset(seq: int) -> TcpSegment:
        ack = (network.client._first + 1) & 0xFFFFFFFF
        return TcpSegment(22, 50000, seq, ack, flags, 0)

    for seq in (99, 102, 5000, 101 + RECEIVE_BYTES * 2):
        network.client.accept(reset(seq), network.now)
        assert network.client.open
    # In the window, yet not the next number: answered, since it may be forged (RFC 5961).
    assert any(s.flags == ACK for s in network.client.outgoing(network.now))
    network.client.accept(reset(101), network.now)
    assert network.client.state is TcpState.CLOSED
    assert isinstance(network.client.error, TcpError)
    assert "reset" in network.client.error.message


def test_giving_up_sends_a_reset() -> None:
    network = Network(1)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(1)
    network.client.abort()
    network.run(1)
    assert network.server is not None
    assert network.server.state is TcpState.CLOSED
    assert network.server.error is not None


def test_a_forged_syn_in_the_window_changes_nothing() -> None:
    network = Network(1, server_first=100)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(1)
    network.client.accept(TcpSegment(22, 50000, 150, 0, SYN, 1000), network.now)
    assert network.client.open
    (answer,) = network.client.outgoing(network.now)
    assert (answer.flags, answer.ack) == (ACK, 101)


def test_an_acknowledgement_of_what_was_never_sent_is_not_believed() -> None:
    network = Network(1, server_first=100)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(1)
    far = (network.client._first + 5000) & 0xFFFFFFFF
    network.client.accept(TcpSegment(22, 50000, 101, far, ACK, 1000, b"poison"), network.now)
    assert len(network.client.reading) == 0
    assert network.client.flight is not None
    assert network.client.flight.una == 1


def test_an_idle_connection_is_kept_alive_by_probes() -> None:
    network = Network(1)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(3600)
    assert network.client.open
    assert network.server is not None
    assert network.server.open
    assert 3600 / KEEPALIVE_IDLE / 2 < network.segments < 3600 / KEEPALIVE_IDLE * 6


@pytest.mark.parametrize("busy", [True, False])
def test_a_peer_that_is_gone_is_noticed(busy: bool) -> None:
    network = Network(1)
    network.sides[True].finish = network.sides[False].finish = False
    network.run(1)
    network.filter = lambda to_server, segment: False
    if busy:
        network.sides[True].to_send = b"anybody?"
    network.run(3600, lambda: network.client.state is TcpState.CLOSED)
    assert network.client.error is not None
    assert "no sign" in network.client.error.message
    assert network.now - 1001 < SILENCE + KEEPALIVE_IDLE


def complaint(network: Network, **changes: object) -> Complaint:
    values: dict[str, object] = {
        "reporter": SERVER,
        "destination": SERVER,
        "source_port": 50000,
        "destination_port": 22,
        "seq": network.client._first,
        "reason": "prohibited by a filter",
        "hard": True,
    }
    return Complaint(**{**values, **changes})  # type: ignore[arg-type]


def test_icmp_ends_an_attempt_but_no_open_connection() -> None:
    network = Network(1)
    network.filter = lambda to_server, segment: False
    network.run(0.5)
    network.client.complain(complaint(network, seq=network.client._first + 1))
    network.client.complain(complaint(network, hard=False))
    assert network.client.state is TcpState.SYN_SENT
    network.client.complain(complaint(network))
    assert isinstance(network.client.error, TcpRefusedError)
    assert "prohibited by a filter" in network.client.error.message

    other = Network(1)
    other.sides[True].finish = other.sides[False].finish = False
    other.run(1)
    other.client.complain(complaint(other))
    assert other.client.open


def test_segments_that_are_too_big_are_made_smaller_when_a_router_says_so() -> None:
    network = Network(1)

    def narrow(to_server: bool, segment: TcpSegment) -> bool:
        if to_server and len(segment.data) > 1000:
            network.client.complain(complaint(network, hard=False, mtu=1040))
            return False
        return True

    network.filter = narrow
    exchange(network, data(100_000), b"")
    assert max(len(s.data) for s in network.seen[20:]) <= 1000


def test_segments_that_vanish_because_they_are_big_are_made_smaller() -> None:
    network = Network(1)
    network.filter = lambda to_server, segment: not to_server or len(segment.data) <= 1200
    exchange(network, data(100_000), b"", limit=60)


def test_no_window_and_no_buffer_grows_beyond_its_limit_whatever_comes() -> None:
    """A peer that ignores our window, and sends everything as far from the gap as it can."""
    chance = random.Random(5)
    connection = TcpConnection(Ends(CLIENT, 1, SERVER, 2), segment=1380, now=0.0, first=9)
    connection.outgoing(0.0)
    connection.accept(TcpSegment(2, 1, 0, 10, SYN | ACK, 1000, mss=1380, scale=7), 0.0)
    for number in range(3000):
        seq = chance.randrange(2, 4 * RECEIVE_BYTES)
        body = chance.randbytes(1380)
        connection.accept(TcpSegment(2, 1, seq, 10, ACK, 1000, body), 0.001 * number)
    held = sum(len(piece) for _, piece in connection.reading._early)
    assert held <= RECEIVE_BYTES
    assert len(connection.reading) == 0


@pytest.mark.parametrize("seed", range(20))
def test_random_segments_never_raise(seed: int) -> None:
    chance = random.Random(seed)
    network = Network(seed)
    network.sides[True].to_send = data(30_000)
    network.run(0.05)
    client = network.client
    flight = client.flight
    assert flight is not None
    for _ in range(400):
        base_seq = client._their_first + client.reading.next
        base_ack = client._first + flight.una
        segment = TcpSegment(
            22,
            50000,
            (base_seq + chance.choice([0, 0, 1, -1, chance.randrange(-9999, 9999)])) & 0xFFFFFFFF,
            (base_ack + chance.choice([0, 0, 1380, chance.randrange(-9999, 99999)])) & 0xFFFFFFFF,
            chance.choice([ACK, ACK, ACK | FIN, SYN | ACK, SYN, 0, FIN]),
            chance.choice([0, 1, 1000, 65535]),
            chance.randbytes(chance.choice([0, 0, 1, 500, 1380])),
            sack=tuple(
                (chance.getrandbits(32), chance.getrandbits(32))
                if chance.random() < 0.5
                else ((base_ack + 1380) & 0xFFFFFFFF, (base_ack + 2760) & 0xFFFFFFFF)
                for _ in range(chance.randrange(4))
            ),
        )
        network.now += chance.choice([0.0, 0.001, 0.3])
        client.accept(segment, network.now)
        client.tick(network.now)
        client.outgoing(network.now)
        assert flight._pipe >= 0
        assert flight._lost == sum(record.lost for record in flight._records)
        assert flight._sacked == sum(record.sacked for record in flight._records)
        flying = [r.size for r in flight._records if not r.lost and not r.sacked]
        assert flight._pipe == sum(flying)


def test_the_ends_are_written_as_people_write_them() -> None:
    from ipaddress import IPv6Address

    assert str(Ends(CLIENT, 1, SERVER, 22)) == "10.0.0.1:22"
    six = IPv6Address("fd00::1")
    assert str(Ends(six, 1, six, 22)) == "[fd00::1]:22"
    assert IPv4Address("10.0.0.1") == SERVER
