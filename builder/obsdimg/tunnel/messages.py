"""WireGuard's four messages as bytes (paper, section 5.4.2 to 5.4.7).

All integers are little endian.  Byte 0 is the type, bytes 1 to 3 are zero.  Sizes in bytes:
initiation 148, response 92, cookie reply 64, transport 32 or more.
"""

from __future__ import annotations

import struct
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Final, Self

from obsdimg.tunnel.errors import MessageError
from obsdimg.tunnel.primitives import MAC_BYTES, TAG_BYTES

INITIATION_BYTES: Final = 148
RESPONSE_BYTES: Final = 92
COOKIE_REPLY_BYTES: Final = 64
TRANSPORT_HEADER_BYTES: Final = 16
TRANSPORT_MINIMUM_BYTES: Final = TRANSPORT_HEADER_BYTES + TAG_BYTES


class _Handshaking:
    """A message of fixed size: its fields are packed in the order in which they are declared."""

    TYPE: ClassVar[int]
    FORMAT: ClassVar[struct.Struct]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def pack(self) -> bytes:
        return self.FORMAT.pack(self.TYPE, *(getattr(self, one.name) for one in fields(self)))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        _, *found = cls.FORMAT.unpack(data)
        return cls(*found)


@dataclass(frozen=True)
class Initiation(_Handshaking):
    """Type 1, client to server: opens a handshake."""

    TYPE: ClassVar[int] = 1
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<B3xI32s48s28s16s16s")

    sender: int
    """The index by which the initiator knows this handshake (32 bits)."""
    ephemeral: bytes
    """The initiator's ephemeral public key, 32 bytes in clear."""
    static: bytes
    """Its static public key, sealed: 32 + 16 bytes."""
    timestamp: bytes
    """TAI64N, sealed: 12 + 16 bytes."""
    mac1: bytes = bytes(MAC_BYTES)
    mac2: bytes = bytes(MAC_BYTES)


@dataclass(frozen=True)
class Response(_Handshaking):
    """Type 2, server to client: completes the handshake."""

    TYPE: ClassVar[int] = 2
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<B3xII32s16s16s16s")

    sender: int
    """The index by which the responder knows the session."""
    receiver: int
    """The initiator's index, from the initiation."""
    ephemeral: bytes
    empty: bytes
    """The tag over nothing: 16 bytes that open only with every key right."""
    mac1: bytes = bytes(MAC_BYTES)
    mac2: bytes = bytes(MAC_BYTES)


@dataclass(frozen=True)
class CookieReply(_Handshaking):
    """Type 3, from a responder under load: proves your address, then try again."""

    TYPE: ClassVar[int] = 3
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<B3xI24s32s")

    receiver: int
    nonce: bytes
    """24 bytes for XChaCha20-Poly1305."""
    cookie: bytes
    """The cookie, sealed: 16 + 16 bytes."""


@dataclass(frozen=True)
class Transport:
    """Type 4, both ways: one padded IP packet, or nothing (a keepalive)."""

    TYPE: ClassVar[int] = 4
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<B3xIQ")

    receiver: int
    counter: int
    """The nonce, 64 bits; never twice under one key."""
    sealed: bytes
    """The packet, padded to a multiple of 16 bytes, and the tag of 16 bytes."""

    def pack(self) -> bytes:
        return self.FORMAT.pack(self.TYPE, self.receiver, self.counter) + self.sealed

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        _, receiver, counter = cls.FORMAT.unpack_from(data)
        return cls(receiver, counter, data[TRANSPORT_HEADER_BYTES:])


Message = Initiation | Response | CookieReply | Transport

_SIZES: Final[dict[int, tuple[type[Initiation] | type[Response] | type[CookieReply], int]]] = {
    Initiation.TYPE: (Initiation, INITIATION_BYTES),
    Response.TYPE: (Response, RESPONSE_BYTES),
    CookieReply.TYPE: (CookieReply, COOKIE_REPLY_BYTES),
}


def parse(datagram: bytes) -> Message:
    """The message in a UDP datagram; nothing in it is authenticated yet.

    Raises MessageError for an unknown type, reserved bytes that are not zero, or a size
    that does not fit the type.
    """
    size = len(datagram)
    if size < 4:
        raise MessageError(f"a datagram of {size} bytes is no WireGuard message")
    kind = datagram[0]
    if any(datagram[1:4]):
        raise MessageError(f"bytes 1 to 3 of a message of type {kind} are not zero")
    if kind == Transport.TYPE:
        if size < TRANSPORT_MINIMUM_BYTES:
            raise MessageError(f"a transport message of {size} bytes is truncated")
        return Transport.unpack(datagram)
    if kind not in _SIZES:
        raise MessageError(f"there is no message type {kind}")
    form, expected = _SIZES[kind]
    if size != expected:
        raise MessageError(f"a message of type {kind} has {expected} bytes, not {size}")
    return form.unpack(datagram)
