"""ICMP errors, which a network on the way sends and obsdimg only reads."""

from __future__ import annotations

import struct

from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.packets import HOP_LIMIT, _wrap, parse


def build_error(source: Address, refused: bytes, kind: int, code: int) -> bytes:
    """An ICMP error of type `kind` from `source` about the packet `refused`, to its sender.

    Quotes as much of `refused` as 512 bytes hold.
    """
    message = struct.pack(">BBHI", kind, code, 0, 0) + refused[:512]
    return _wrap(source, parse(refused).source, message, HOP_LIMIT)
