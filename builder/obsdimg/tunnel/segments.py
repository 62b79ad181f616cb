"""TCP segments as bytes inside IP packets, and what ICMP says about them.

Sources: RFC 9293 (TCP, section 3.1), RFC 7323 (window scale), RFC 2018 (selective
acknowledgement), RFC 792 and RFC 4443 (ICMP errors).  Sequence numbers here are the 32 bits
of the wire; see tcp.py for how they become offsets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from obsdimg.tunnel.errors import PacketError
from obsdimg.tunnel.ip import Address, IpPacket, checksum, pseudo_header, unwrap, with_checksum
from obsdimg.tunnel.ip import wrap as wrap_ip
from obsdimg.tunnel.packets import UNREACHABLE

TCP: Final = 6
TCP_HEADER_BYTES: Final = 20

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

MAXIMUM_SCALE: Final = 14
"""RFC 7323, section 2.3: a greater shift is read as this."""

_HEADER: Final = struct.Struct(">HHIIBBHHH")
_PORTS: Final = struct.Struct(">HHI")
_MSS, _SCALE, _SACK_PERMITTED, _SACK = 2, 3, 4, 5

Block = tuple[int, int]
"""A range of sequence numbers: the first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class TcpSegment:
    """One segment; ports and numbers as on the wire."""

    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    window: int
    """The field of 16 bits, before any scale."""
    data: bytes = b""
    mss: int | None = None
    """Option 2, bytes; in a SYN only."""
    scale: int | None = None
    """Option 3, bits to shift; in a SYN only."""
    sack_permitted: bool = False
    sack: tuple[Block, ...] = ()

    def options(self) -> bytes:
        """The options, padded to a multiple of 4 bytes by NOPs in front of each."""
        out = b""
        if self.mss is not None:
            out += struct.pack(">BBH", _MSS, 4, self.mss)
        if self.sack_permitted:
            out += bytes([1, 1, _SACK_PERMITTED, 2])
        if self.scale is not None:
            out += bytes([1, _SCALE, 3, self.scale])
        if self.sack:
            out += bytes([1, 1, _SACK, 2 + 8 * len(self.sack)])
            out += b"".join(struct.pack(">II", *block) for block in self.sack)
        return out

    def pack(self, source: Address, destination: Address) -> bytes:
        """The IP packet that carries this segment."""
        options = self.options() if self.mss is not None or self.sack else b""
        words = (TCP_HEADER_BYTES + len(options)) // 4
        head = _HEADER.pack(
            self.source_port,
            self.destination_port,
            self.seq,
            self.ack,
            words << 4,
            self.flags,
            self.window,
            0,
            0,
        )
        body = head + options + self.data
        pseudo = pseudo_header(source.packed + destination.packed, len(body), TCP)
        body = with_checksum(body, 16, checksum(pseudo + body))
        return wrap_ip(source, destination, TCP, body)


def parse(ip: IpPacket) -> TcpSegment:
    """The segment in `ip`.  Raises PacketError: truncated, or a wrong checksum.

    A damaged option ends the list of options; what stood before it is kept.
    """
    body = ip.body
    size = len(body)
    if size < TCP_HEADER_BYTES:
        raise PacketError(f"a TCP header in {size} bytes")
    source, destination, seq, ack, offset, flags, window, _, _ = _HEADER.unpack_from(body)
    start = (offset >> 4) * 4
    if not TCP_HEADER_BYTES <= start <= size:
        raise PacketError(f"a TCP header of {start} bytes in {size} bytes")
    ends = ip.source.packed + ip.destination.packed
    if checksum(pseudo_header(ends, size, TCP) + body) != 0:
        raise PacketError(f"wrong TCP checksum in a packet from {ip.source}")
    if start == TCP_HEADER_BYTES:
        return TcpSegment(source, destination, seq, ack, flags, window, body[start:])
    mss, scale, permitted, sack = _options(body[TCP_HEADER_BYTES:start])
    return TcpSegment(
        source,
        destination,
        seq,
        ack,
        flags,
        window,
        body[start:],
        mss if flags & SYN else None,
        scale if flags & SYN else None,
        permitted and bool(flags & SYN),
        sack,
    )


def _options(data: bytes) -> tuple[int | None, int | None, bool, tuple[Block, ...]]:
    """MSS, window scale, whether SACK is permitted, and the blocks of a SACK."""
    mss: int | None = None
    scale: int | None = None
    permitted = False
    sack: tuple[Block, ...] = ()
    at = 0
    while at < len(data) and (kind := data[at]) != 0:
        if kind == 1:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            break
        value = data[at + 2 : at + length]
        if kind == _MSS and length == 4:
            mss = int.from_bytes(value, "big")
        elif kind == _SCALE and length == 3:
            scale = min(value[0], MAXIMUM_SCALE)
        elif kind == _SACK_PERMITTED and length == 2:
            permitted = True
        elif kind == _SACK and length % 8 == 2:
            numbers = struct.unpack(f">{len(value) // 4}I", value)
            sack = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        at += length
    return mss, scale, permitted, sack


@dataclass(frozen=True, slots=True)
class Complaint:
    """An ICMP error about a segment of ours."""

    reporter: Address
    destination: Address
    source_port: int
    destination_port: int
    seq: int
    reason: str
    """In words, e.g. `prohibited by a filter`."""
    hard: bool
    """Nothing will come of trying again; while a connection is being opened, give up."""
    mtu: int | None = None
    """The next hop's MTU in bytes, where the packet was too big for it."""


def parse_complaint(ip: IpPacket) -> Complaint | None:
    """What an ICMP error in `ip` says about a TCP segment; None where it says nothing of that.

    The checksum is not looked at twice: the quoted numbers must fit a connection anyway, and
    the packet came through an authenticated tunnel.
    """
    body = ip.body
    if len(body) < 8 + 28:
        return None
    kind, code, word = body[0], body[1], int.from_bytes(body[4:8], "big")
    mtu: int | None = None
    if ip.source.version == 4 and ip.protocol == 1 and kind == 3:
        reason = UNREACHABLE[4].get(code, f"unreachable, code {code}")
        hard = code in (1, 2, 3, 9, 10, 13)
        mtu = word & 0xFFFF if code == 4 else None
    elif ip.source.version == 6 and ip.protocol == 58 and kind == 1:
        reason = UNREACHABLE[6].get(code, f"unreachable, code {code}")
        hard = True
    elif ip.source.version == 6 and ip.protocol == 58 and kind == 2:
        reason, hard, mtu = "packet too big", False, word
    else:
        return None
    try:
        quoted = unwrap(body[8:], quoted=True)
    except PacketError:
        return None
    if quoted.protocol != TCP or len(quoted.body) < _PORTS.size:
        return None
    source, destination, seq = _PORTS.unpack_from(quoted.body)
    return Complaint(ip.source, quoted.destination, source, destination, seq, reason, hard, mtu)
