"""ICMP echo inside IPv4 and IPv6 packets: built and read as bytes.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 792 (ICMP), RFC 4443 (ICMPv6), RFC 1071
(checksum).  All integers are big endian.  IPv4 options are skipped; fragments and IPv6
extension headers are read as "something else".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from obsdimg.tunnel.errors import PacketError
from obsdimg.tunnel.ip import (
    HOP_LIMIT,
    Address,
    IpPacket,
    checksum,
    pseudo_header,
    unwrap,
    with_checksum,
    wrap,
)

ICMP_HEADER_BYTES: Final = 8
ICMP: Final = 1
ICMPV6: Final = 58

ECHO_REQUEST: Final = {4: 8, 6: 128}
ECHO_REPLY: Final = {4: 0, 6: 129}

_ERRORS: Final[dict[int, dict[int, str]]] = {
    4: {3: "unreachable", 5: "redirected", 11: "time exceeded", 12: "parameter problem"},
    6: {1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem"},
}
UNREACHABLE: Final[dict[int, dict[int, str]]] = {
    4: {
        0: "network unreachable",
        1: "host unreachable",
        2: "protocol unreachable",
        3: "port unreachable",
        4: "packet too big",
        9: "network prohibited",
        10: "host prohibited",
        13: "prohibited by a filter",
    },
    6: {
        0: "no route",
        1: "prohibited by a filter",
        2: "beyond the scope of the source address",
        3: "address unreachable",
        4: "port unreachable",
        5: "source address refused",
        6: "route rejected",
    },
}


@dataclass(frozen=True)
class Echo:
    """An echo request or reply."""

    source: Address
    destination: Address
    ident: int
    """16 bits that name the sender's series."""
    sequence: int
    """16 bits, counted up."""
    payload: bytes
    reply: bool = False

    def answer(self) -> Echo:
        """The reply to this request."""
        return Echo(
            self.destination, self.source, self.ident, self.sequence, self.payload, reply=True
        )


@dataclass(frozen=True)
class IcmpError:
    """An ICMP error message, and which echo request it is about (if it is about one)."""

    source: Address
    destination: Address
    reason: str
    """In words, e.g. `host unreachable`."""
    about: Echo | None
    """The quoted request; its payload may be cut short."""


@dataclass(frozen=True)
class Other:
    """Any other packet: TCP, UDP, neighbour discovery, fragments."""

    source: Address
    destination: Address
    protocol: int


Packet = Echo | IcmpError | Other


def build(echo: Echo, hop_limit: int = HOP_LIMIT) -> bytes:
    """The IP packet of `echo`.  Raises PacketError for addresses of two families or no room."""
    version = echo.source.version
    if version != echo.destination.version:
        raise PacketError(f"{echo.source} and {echo.destination} are of different families")
    if len(echo.payload) > 65000:
        raise PacketError(f"a payload of {len(echo.payload)} bytes does not fit in a packet")
    kind = (ECHO_REPLY if echo.reply else ECHO_REQUEST)[version]
    return _wrap(
        echo.source,
        echo.destination,
        struct.pack(">BBHHH", kind, 0, 0, echo.ident, echo.sequence) + echo.payload,
        hop_limit,
    )


def _wrap(source: Address, destination: Address, icmp: bytes, hop_limit: int) -> bytes:
    """An ICMP message, whose checksum field (bytes 2 and 3) is zero, as an IP packet."""
    if source.version == 4:
        return wrap(source, destination, ICMP, with_checksum(icmp, 2, checksum(icmp)), hop_limit)
    pseudo = pseudo_header(source.packed + destination.packed, len(icmp), ICMPV6)
    icmp = with_checksum(icmp, 2, checksum(pseudo + icmp))
    return wrap(source, destination, ICMPV6, icmp, hop_limit)


def parse(data: bytes) -> Packet:
    """The packet at the start of `data`; what follows it is padding.

    Raises PacketError: not IP, truncated, or a checksum is wrong.
    """
    ip = unwrap(data)
    version = ip.source.version
    if ip.protocol != (ICMP if version == 4 else ICMPV6) or not ip.whole:
        return Other(ip.source, ip.destination, ip.protocol)
    body = ip.body
    if len(body) < ICMP_HEADER_BYTES:
        raise PacketError(f"an ICMP message of {len(body)} bytes is truncated")
    ends = ip.source.packed + ip.destination.packed
    if checksum(body if version == 4 else pseudo_header(ends, len(body), ICMPV6) + body) != 0:
        raise PacketError(f"wrong ICMP checksum in a packet from {ip.source}")
    kind, code = body[0], body[1]
    if kind in (ECHO_REQUEST[version], ECHO_REPLY[version]):
        return _echo(ip)
    if kind in _ERRORS[version]:
        reason = _ERRORS[version][kind]
        if reason == "unreachable":
            reason = UNREACHABLE[version].get(code, f"unreachable, code {code}")
        return IcmpError(ip.source, ip.destination, reason, _quoted(body[ICMP_HEADER_BYTES:]))
    return Other(ip.source, ip.destination, ip.protocol)


def _echo(ip: IpPacket) -> Echo:
    kind, ident, sequence = struct.unpack_from(">B3xHH", ip.body)
    return Echo(
        ip.source,
        ip.destination,
        ident,
        sequence,
        ip.body[ICMP_HEADER_BYTES:],
        reply=kind == ECHO_REPLY[ip.source.version],
    )


def _quoted(data: bytes) -> Echo | None:
    """The echo request that an ICMP error quotes, cut short as it may be."""
    try:
        ip = unwrap(data, quoted=True)
    except PacketError:
        return None
    version = ip.source.version
    if ip.protocol != (ICMP if version == 4 else ICMPV6) or len(ip.body) < ICMP_HEADER_BYTES:
        return None
    return _echo(ip) if ip.body[0] == ECHO_REQUEST[version] else None
