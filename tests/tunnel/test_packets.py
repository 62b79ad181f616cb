"""ICMP packets: built as the RFCs say, and nothing that arrives can upset the reader."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.tunnel.errors import PacketError
from obsdimg.tunnel.packets import Echo, IcmpError, Other, build, checksum, parse
from support.icmp_errors import build_error

V4 = (IPv4Address("10.0.0.2"), IPv4Address("192.0.2.1"))
V6 = (IPv6Address("fd00::2"), IPv6Address("2001:db8::1"))

echoes = st.builds(
    lambda ends, ident, sequence, payload, reply: Echo(*ends, ident, sequence, payload, reply),
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
        st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.binary(max_size=100),
    st.booleans(),
)


def test_the_checksum_is_that_of_the_example_in_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@given(echoes, st.integers(0, 15))
def test_what_is_built_is_read_back_with_any_padding(echo: Echo, padding: int) -> None:
    assert parse(build(echo) + bytes(padding)) == echo


@given(echoes.filter(lambda echo: not echo.reply))
def test_an_answer_swaps_the_ends_and_keeps_the_rest(echo: Echo) -> None:
    answer = echo.answer()
    assert (answer.source, answer.destination) == (echo.destination, echo.source)
    assert answer.reply
    assert (answer.ident, answer.sequence, answer.payload) == (
        echo.ident,
        echo.sequence,
        echo.payload,
    )


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_a_changed_byte_of_the_message_is_noticed(
    ends: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
) -> None:
    packet = bytearray(build(Echo(*ends, 7, 1, b"payload")))
    packet[-1] ^= 1
    with pytest.raises(PacketError, match="ICMP checksum"):
        parse(bytes(packet))


def test_a_changed_ipv4_header_is_noticed() -> None:
    packet = bytearray(build(Echo(*V4, 7, 1, b"")))
    packet[8] ^= 1
    with pytest.raises(PacketError, match="header checksum"):
        parse(bytes(packet))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (bytes(20), "neither"),
        (b"\x50" * 40, "neither"),
        (b"\x45" * 10, "header"),
        (b"\x41" + bytes(40), "header of 4 bytes"),
        (b"\x60" + bytes(20), "IPv6 header"),
        (build(Echo(*V4, 1, 1, b"x"))[:-1], "IPv4 packet of 29 bytes in 28"),
        (build(Echo(*V6, 1, 1, b"x"))[:-1], "IPv6 packet of 49 bytes in 48"),
    ],
)
def test_what_is_no_packet_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PacketError, match=says):
        parse(data)


@given(st.binary(max_size=120), st.sampled_from([0x45, 0x46, 0x4F, 0x60, None]))
def test_random_bytes_are_a_packet_or_a_packet_error(data: bytes, first: int | None) -> None:
    if first is not None:
        data = bytes([first]) + data
    with contextlib.suppress(PacketError):
        parse(data)


@given(echoes, st.integers(0, 200), st.integers(0, 255))
def test_damaged_packets_are_a_packet_or_a_packet_error(echo: Echo, at: int, value: int) -> None:
    packet = bytearray(build_error(echo.destination, build(echo), 3, 1))
    packet[at % len(packet)] = value
    with contextlib.suppress(PacketError):
        parse(bytes(packet))


@pytest.mark.parametrize(
    ("ends", "kind", "code", "reason"),
    [
        (V4, 3, 1, "host unreachable"),
        (V4, 3, 13, "prohibited by a filter"),
        (V4, 3, 99, "unreachable, code 99"),
        (V4, 11, 0, "time exceeded"),
        (V6, 1, 0, "no route"),
        (V6, 2, 0, "packet too big"),
        (V6, 3, 0, "time exceeded"),
    ],
)
def test_an_error_says_why_and_which_request_it_is_about(
    ends: tuple[IPv4Address, IPv4Address], kind: int, code: int, reason: str
) -> None:
    request = Echo(*ends, 9, 4, b"payload")
    error = parse(build_error(ends[1], build(request), kind, code))
    assert isinstance(error, IcmpError)
    assert error.reason == reason
    assert error.destination == request.source
    assert error.about == request


def test_an_error_that_quotes_only_eight_bytes_still_names_the_request() -> None:
    request = Echo(*V4, 9, 4, b"payload" * 10)
    error = parse(_short(request))
    assert isinstance(error, IcmpError)
    assert error.about is not None
    assert (error.about.ident, error.about.sequence, error.about.payload) == (9, 4, b"")


def _short(request: Echo) -> bytes:
    """An error from a router that quotes the IP header and 8 bytes, as RFC 792 asks."""
    icmp = struct.pack(">BBHI", 3, 1, 0, 0) + build(request)[:28]
    icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0)
    head += V4[1].packed + V4[0].packed
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + icmp


def test_fragments_and_other_protocols_are_something_else() -> None:
    packet = bytearray(build(Echo(*V4, 1, 1, b"x" * 16)))
    packet[6:8] = b"\x20\x00"  # more fragments
    packet[10:12] = b"\0\0"
    packet[10:12] = struct.pack(">H", checksum(bytes(packet[:20])))
    assert isinstance(parse(bytes(packet)), Other)


def test_two_families_in_one_packet_are_refused() -> None:
    with pytest.raises(PacketError, match="different families"):
        build(Echo(V4[0], V6[1], 1, 1, b""))
