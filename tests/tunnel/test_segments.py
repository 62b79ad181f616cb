"""TCP segments and ICMP errors as bytes; tests/tunnel/test_stream.py asks a real kernel."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.tunnel import packets
from obsdimg.tunnel.errors import PacketError
from obsdimg.tunnel.ip import IpPacket, checksum, unwrap, wrap
from obsdimg.tunnel.segments import (
    ACK,
    FIN,
    SYN,
    Complaint,
    TcpSegment,
    parse,
    parse_complaint,
)
from support.icmp_errors import build_error

FOUR = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1")
SIX = IPv6Address("fd00::2"), IPv6Address("fd00::1")
WORD = st.integers(0, 2**32 - 1)
PORT = st.integers(0, 65535)


@given(st.binary(max_size=300))
def test_the_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    """Word by word with the carry brought round, as section 4.1 there spells it."""
    padded = data + b"\0" * (len(data) % 2)
    total = 0
    for (word,) in struct.iter_unpack(">H", padded):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == ~total & 0xFFFF


@given(
    st.sampled_from([FOUR, SIX]),
    st.tuples(PORT, PORT, WORD, WORD, st.integers(0, 255), PORT),
    st.binary(max_size=1400),
    st.one_of(st.none(), st.integers(64, 9000)),
    st.lists(st.tuples(WORD, WORD), max_size=3),
)
def test_a_segment_is_read_as_it_was_written(
    ends: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
    numbers: tuple[int, int, int, int, int, int],
    data: bytes,
    mss: int | None,
    sack: list[tuple[int, int]],
) -> None:
    flags = numbers[4] & ~SYN if mss is None else numbers[4] | SYN
    segment = TcpSegment(
        *numbers[:4],
        flags,
        numbers[5],
        data,
        mss,
        None if mss is None else 7,
        mss is not None,
        () if mss is not None else tuple(sack),
    )
    packet = segment.pack(*ends)
    # What follows a packet is WireGuard's padding.
    assert parse(unwrap(packet + bytes(-len(packet) % 16))) == segment
    read = packets.parse(packet)
    assert isinstance(read, packets.Other)
    assert (read.source, read.destination, read.protocol) == (*ends, 6)


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_every_damaged_byte_of_the_segment_is_noticed(
    ends: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
) -> None:
    packet = TcpSegment(1, 2, 3, 4, ACK, 5, b"data", sack=((1, 2),)).pack(*ends)
    start = 20 if ends is FOUR else 40
    for at in range(start, len(packet)):
        spoiled = packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]
        with pytest.raises(PacketError):
            parse(unwrap(spoiled))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (bytes([2, 4, 5, 180, 0, 0, 0, 0]), (1460, None, False, ())),
        (bytes([1, 1, 1, 1, 1, 3, 3, 200]), (None, 14, False, ())),
        (bytes([4, 2, 0, 9]), (None, None, True, ())),
        (bytes([2, 4, 5, 180, 3, 0, 4, 2]), (1460, None, False, ())),  # a length of 0
        (bytes([3, 1, 7, 0]), (None, None, False, ())),  # a length of 1
        (bytes([1, 1, 5, 40]), (None, None, False, ())),  # longer than there is
        (bytes([1, 1, 1, 2]), (None, None, False, ())),  # no length at all
        (bytes([8, 10, *range(8), 1, 1]), (None, None, False, ())),  # timestamps
    ],
)
def test_options_are_read_as_far_as_they_make_sense(
    options: bytes, says: tuple[int | None, int | None, bool, tuple[object, ...]]
) -> None:
    head = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, (20 + len(options)) * 4, SYN, 5, 0, 0)
    body = head + options
    pseudo = FOUR[0].packed + FOUR[1].packed + struct.pack(">HH", 6, len(body))
    value = checksum(pseudo + body)
    body = body[:16] + struct.pack(">H", value) + body[18:]
    segment = parse(IpPacket(*FOUR, 6, True, body))
    assert (segment.mss, segment.scale, segment.sack_permitted, segment.sack) == says


@given(st.binary(max_size=80))
def test_any_bytes_are_a_segment_or_an_error(body: bytes) -> None:
    for ends in (FOUR, SIX):
        try:
            parse(IpPacket(*ends, 6, True, body))
        except PacketError:
            continue


@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_an_error(data: bytes) -> None:
    try:
        packet = unwrap(data)
    except PacketError:
        return
    parse_complaint(packet)


@pytest.mark.parametrize(
    ("ends", "kind", "code", "reason", "hard"),
    [
        (FOUR, 3, 13, "prohibited by a filter", True),
        (FOUR, 3, 0, "network unreachable", False),
        (FOUR, 3, 1, "host unreachable", True),
        (SIX, 1, 1, "prohibited by a filter", True),
        (SIX, 1, 4, "port unreachable", True),
        (FOUR, 3, 4, "packet too big", False),
        (SIX, 2, 0, "packet too big", False),
    ],
)
def test_icmp_errors_say_which_segment_and_why(
    ends: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
    kind: int,
    code: int,
    reason: str,
    hard: bool,
) -> None:
    sent = TcpSegment(50000, 22, 77, 0, SYN, 5, mss=1380).pack(*ends)
    error = build_error(ends[1], sent, kind, code)
    complaint = parse_complaint(unwrap(error))
    big = reason == "packet too big"
    expected = Complaint(ends[1], ends[1], 50000, 22, 77, reason, hard, 0 if big else None)
    assert complaint == expected


def test_icmp_about_something_else_is_nothing() -> None:
    ping = packets.build(packets.Echo(*FOUR, 1, 1, b"x" * 40))
    assert parse_complaint(unwrap(ping)) is None
    assert parse_complaint(unwrap(build_error(FOUR[1], ping, 3, 1))) is None
    sent = TcpSegment(1, 2, 3, 0, FIN, 5).pack(*FOUR)
    assert parse_complaint(unwrap(build_error(FOUR[1], sent, 11, 0))) is None
    short = build_error(FOUR[1], sent, 3, 1)[20:40]
    assert parse_complaint(IpPacket(FOUR[1], FOUR[0], 1, True, short)) is None


def test_addresses_of_two_families_and_too_much_are_refused() -> None:
    with pytest.raises(PacketError, match="families"):
        wrap(FOUR[0], SIX[1], 6, b"")
    with pytest.raises(PacketError, match="do not fit"):
        wrap(*FOUR, 6, bytes(65536))
