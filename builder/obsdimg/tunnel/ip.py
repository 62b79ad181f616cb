"""IPv4 and IPv6 headers around a payload, and the Internet checksum.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 1071 (checksum).  All integers are big endian.
Options are skipped; fragments are marked, IPv6 extension headers count as the protocol.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from obsdimg.tunnel.errors import PacketError

Address = IPv4Address | IPv6Address

IPV4_HEADER_BYTES: Final = 20
IPV6_HEADER_BYTES: Final = 40
HOP_LIMIT: Final = 64

_V4: Final = struct.Struct(">BBHHHBBH")
_V6: Final = struct.Struct(">IHBB")


@dataclass(frozen=True, slots=True)
class IpPacket:
    """A packet's header, as far as it matters here, and what it carries."""

    source: Address
    destination: Address
    protocol: int
    """IPv6: the first next header."""
    whole: bool
    """False: a fragment."""
    body: bytes


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`, a zero byte added where its length is odd.

    2**16 leaves 1 when divided by 65535, so that one remainder is the end-around sum.
    """
    number = int.from_bytes(data, "big")
    if len(data) % 2:
        number <<= 8
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return ~total & 0xFFFF


def pseudo_header(ends: bytes, length: int, protocol: int) -> bytes:
    """What a TCP, UDP or ICMPv6 checksum covers besides its `length` bytes.

    `ends`: both addresses, source first (RFC 9293, section 3.1; RFC 8200, section 8.1).
    """
    if len(ends) == 8:
        return ends + struct.pack(">BBH", 0, protocol, length)
    return ends + struct.pack(">I3xB", length, protocol)


def with_checksum(data: bytes, at: int, value: int) -> bytes:
    """`data` with the 16-bit `value` at offset `at`."""
    return b"%b%b%b" % (data[:at], value.to_bytes(2, "big"), data[at + 2 :])


def wrap(
    source: Address, destination: Address, protocol: int, body: bytes, hop_limit: int = HOP_LIMIT
) -> bytes:
    """The packet that carries `body`.  Raises PacketError: two families, or no room."""
    if source.version != destination.version:
        raise PacketError(f"{source} and {destination} are of different families")
    if len(body) > 0xFFFF - IPV4_HEADER_BYTES:
        raise PacketError(f"{len(body)} bytes do not fit in a packet")
    ends = source.packed + destination.packed
    if source.version == 4:
        total = IPV4_HEADER_BYTES + len(body)
        head = _V4.pack(0x45, 0, total, 0, 0, hop_limit, protocol, 0) + ends
        return with_checksum(head, 10, checksum(head)) + body
    return _V6.pack(6 << 28, len(body), protocol, hop_limit) + ends + body


def unwrap(data: bytes, *, quoted: bool = False) -> IpPacket:
    """The packet at the start of `data`; what follows it is padding.

    A `quoted` packet (in an ICMP error) may be shorter than it says, and its checksum is
    not looked at.  Raises PacketError: not IP, truncated, or a wrong header checksum.
    """
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _ipv4(data, quoted)
    if version == 6:
        return _ipv6(data, quoted)
    raise PacketError("neither IPv4 nor IPv6" if data else "an empty packet")


def _ipv4(data: bytes, quoted: bool) -> IpPacket:
    size = (data[0] & 15) * 4
    if size < IPV4_HEADER_BYTES or len(data) < size:
        raise PacketError(f"an IPv4 header of {size} bytes in {len(data)} bytes")
    total, fragment, protocol = struct.unpack_from(">2xH2xHxB", data)
    if total < size or (total > len(data) and not quoted):
        raise PacketError(f"an IPv4 packet of {total} bytes in {len(data)} bytes")
    if not quoted and checksum(data[:size]) != 0:
        raise PacketError("wrong IPv4 header checksum")
    return IpPacket(
        IPv4Address(data[12:16]),
        IPv4Address(data[16:20]),
        protocol,
        fragment & 0x3FFF == 0,
        data[size:total],
    )


def _ipv6(data: bytes, quoted: bool) -> IpPacket:
    if len(data) < IPV6_HEADER_BYTES:
        raise PacketError(f"an IPv6 header in {len(data)} bytes")
    length, protocol = struct.unpack_from(">4xHB", data)
    end = IPV6_HEADER_BYTES + length
    if end > len(data) and not quoted:
        raise PacketError(f"an IPv6 packet of {end} bytes in {len(data)} bytes")
    return IpPacket(
        IPv6Address(data[8:24]),
        IPv6Address(data[24:40]),
        protocol,
        True,
        data[IPV6_HEADER_BYTES:end],
    )
