"""The handshake: both sides agree exactly when every key is right."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.tunnel.errors import HandshakeError, MessageError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.messages import CookieReply, Initiation, Response, Transport, parse
from obsdimg.tunnel.noise import (
    Clock,
    InitiatorHandshake,
    UnreadableResponseError,
    open_cookie,
    tai64n,
    with_mac2,
)
from obsdimg.tunnel.session import WINDOW, ReplayWindow, Session
from support.responder_handshake import has_mac2, make_cookie_reply, open_initiation, respond
from support.wg_keys import generate_pair

CLIENT, CLIENT_PUBLIC = generate_pair()
SERVER, SERVER_PUBLIC = generate_pair()
PSK = PresharedKey.generate()


def attempt(preshared: PresharedKey | None = PSK) -> InitiatorHandshake:
    return InitiatorHandshake(CLIENT, SERVER_PUBLIC, preshared, Clock().stamp())


def initiation_of(handshake: InitiatorHandshake) -> Initiation:
    message = parse(handshake.initiation.pack())
    assert isinstance(message, Initiation)
    return message


def sessions(preshared: PresharedKey | None = PSK) -> tuple[Session, Session]:
    handshake = attempt(preshared)
    response, theirs = respond(open_initiation(SERVER, initiation_of(handshake)), preshared)
    return Session(handshake.finish(response), 0.0), Session(theirs, 0.0)


def transport(datagram: bytes) -> Transport:
    message = parse(datagram)
    assert isinstance(message, Transport)
    return message


@pytest.mark.parametrize("preshared", [None, PSK], ids=["without psk", "with psk"])
def test_both_sides_reach_the_same_keys(preshared: PresharedKey | None) -> None:
    client, server = sessions(preshared)
    for size in (0, 1, 15, 16, 17, 1420):
        packet = os.urandom(size)
        got = server.unwrap(transport(client.wrap(packet)))
        assert got[:size] == packet
        assert len(got) % 16 == 0
        assert client.unwrap(transport(server.wrap(packet)))[:size] == packet


def test_messages_have_the_sizes_of_the_paper() -> None:
    handshake = attempt()
    message = initiation_of(handshake)
    response, _ = respond(open_initiation(SERVER, message), PSK)
    reply = make_cookie_reply(message, bytes(16), SERVER_PUBLIC)
    client, _ = sessions()
    sizes = [len(m.pack()) for m in (message, response, reply)]
    assert [*sizes, len(client.wrap(b""))] == [148, 92, 64, 32]


def test_the_responder_learns_who_calls_and_when() -> None:
    stamp = Clock().stamp()
    handshake = InitiatorHandshake(CLIENT, SERVER_PUBLIC, None, stamp)
    opened = open_initiation(SERVER, initiation_of(handshake))
    assert opened.static == CLIENT_PUBLIC
    assert opened.timestamp == stamp


def test_another_server_cannot_read_the_initiation() -> None:
    other = WgPrivateKey.generate()
    message = initiation_of(attempt())
    with pytest.raises(HandshakeError, match="mac1"):
        open_initiation(other, message)


@pytest.mark.parametrize("theirs", [None, PresharedKey.generate()])
def test_a_different_preshared_key_is_told_apart(theirs: PresharedKey | None) -> None:
    handshake = attempt(PSK)
    response, _ = respond(open_initiation(SERVER, initiation_of(handshake)), theirs)
    with pytest.raises(UnreadableResponseError):
        handshake.finish(response)


@given(st.integers(0, 147), st.integers(1, 255))
def test_no_changed_byte_of_an_initiation_goes_unnoticed(at: int, flip: int) -> None:
    data = bytearray(attempt().initiation.pack())
    data[at] ^= flip
    try:
        message = parse(bytes(data))
    except MessageError:
        return
    assert isinstance(message, Initiation)
    if at >= 132:  # mac2 is judged only by a responder under load
        return
    with pytest.raises(HandshakeError):
        open_initiation(SERVER, message)


@given(st.integers(0, 91), st.integers(1, 255))
def test_no_changed_byte_of_a_response_goes_unnoticed(at: int, flip: int) -> None:
    handshake = attempt()
    response, _ = respond(open_initiation(SERVER, initiation_of(handshake)), PSK)
    data = bytearray(response.pack())
    data[at] ^= flip
    try:
        message = parse(bytes(data))
    except MessageError:
        return
    assert isinstance(message, Response)
    if at >= 76:
        return
    with pytest.raises(HandshakeError) as caught:
        handshake.finish(message)
    # Damage is not mistaken for a wrong pre-shared key: mac1 covers everything before it.
    assert not isinstance(caught.value, UnreadableResponseError)


def test_a_low_order_point_in_a_response_is_refused_without_a_traceback() -> None:
    handshake = attempt()
    response, _ = respond(open_initiation(SERVER, initiation_of(handshake)), PSK)
    from obsdimg.tunnel.noise import with_mac1

    with pytest.raises(HandshakeError, match="low order"):
        handshake.finish(with_mac1(replace(response, ephemeral=bytes(32)), CLIENT_PUBLIC))
    with pytest.raises(HandshakeError, match="low order"):
        InitiatorHandshake(CLIENT, WgPublicKey(bytes(32)), None, Clock().stamp())


def test_a_cookie_makes_the_next_initiation_carry_mac2() -> None:
    message = initiation_of(attempt())
    cookie = os.urandom(16)
    reply = parse(make_cookie_reply(message, cookie, SERVER_PUBLIC).pack())
    assert isinstance(reply, CookieReply)
    assert reply.receiver == message.sender
    assert open_cookie(reply, message.mac1, SERVER_PUBLIC) == cookie
    again = with_mac2(initiation_of(attempt()), cookie)
    assert has_mac2(again, cookie)
    assert not has_mac2(again, os.urandom(16))
    assert open_initiation(SERVER, again).static == CLIENT_PUBLIC


def test_a_cookie_for_another_message_or_server_does_not_open() -> None:
    message = initiation_of(attempt())
    reply = make_cookie_reply(message, bytes(16), SERVER_PUBLIC)
    with pytest.raises(HandshakeError):
        open_cookie(reply, bytes(16), SERVER_PUBLIC)
    with pytest.raises(HandshakeError):
        open_cookie(reply, message.mac1, CLIENT_PUBLIC)


def test_stamps_increase_even_if_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5_000_000_000, 4_000_000_000, 4_000_000_000, 6_000_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    clock = Clock()
    stamps = [clock.stamp() for _ in range(4)]
    assert stamps == sorted(set(stamps))


def test_tai64n_labels_the_first_second_of_1970() -> None:
    assert tai64n(0).hex() == "400000000000000a00000000"
    assert tai64n(1_500_000_007).hex() == "400000000000000b1dcd6507"


def test_a_replayed_datagram_is_refused() -> None:
    client, server = sessions()
    first, second = client.wrap(b"a" * 16), client.wrap(b"b" * 16)
    assert server.unwrap(transport(second))
    assert server.unwrap(transport(first))
    for datagram in (first, second):
        with pytest.raises(MessageError, match="seen before"):
            server.unwrap(transport(datagram))


def test_a_forged_counter_does_not_move_the_window() -> None:
    client, server = sessions()
    good = transport(client.wrap(b"a" * 16))
    with pytest.raises(MessageError, match="does not open"):
        server.unwrap(replace(good, counter=10_000))
    assert server.unwrap(good) == b"a" * 16


def test_a_message_for_another_session_is_refused() -> None:
    client, _ = sessions()
    _, other = sessions()
    with pytest.raises(MessageError, match="another session"):
        other.unwrap(transport(client.wrap(b"")))


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=300))
def test_the_replay_window_is_a_set_with_a_horizon(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for counter in counters:
        newest = max(seen, default=-1)
        expected = counter not in seen and counter > newest - WINDOW
        assert window.fresh(counter) == expected
        if expected:
            window.note(counter)
            seen.add(counter)


def test_a_session_asks_for_a_successor_before_it_expires() -> None:
    client, _ = sessions()
    assert not client.wants_rekey(119.9)
    assert client.wants_rekey(120.0)
    assert not client.expired(179.9)
    assert client.expired(180.0)


def test_no_object_of_a_handshake_shows_a_key() -> None:
    handshake = attempt()
    _, keys = respond(open_initiation(SERVER, initiation_of(handshake)), PSK)
    shown = repr(keys) + repr(Session(keys, 0.0)) + repr(handshake)
    assert keys.send.hex()[:8] not in shown
    assert repr(keys.send)[2:10] not in shown
