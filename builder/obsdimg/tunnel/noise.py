"""The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, the calling side, without any I/O.

Source: WireGuard paper, sections 5.4.2 (initiation), 5.4.3 (response), 5.4.4 (MACs),
5.4.5 (transport keys) and 5.4.7 (cookies).  Names follow the paper: C is the chaining key,
H the running hash.
"""

from __future__ import annotations

import hmac
import os
import struct
import time
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from obsdimg.tunnel.errors import HandshakeError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.messages import CookieReply, Initiation, Response
from obsdimg.tunnel.primitives import (
    HASH_BYTES,
    MAC_BYTES,
    blake2s,
    kdf,
    mac,
    seal,
    unseal,
    xunseal,
)

CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

M = TypeVar("M", Initiation, Response)

TAI64_EPOCH: Final = (1 << 62) + 10
"""Label of the second 1970-01-01 00:00:00; leap seconds since are not counted, as elsewhere."""

_INITIAL_CHAIN: Final = blake2s(CONSTRUCTION)
_INITIAL_HASH: Final = blake2s(_INITIAL_CHAIN, IDENTIFIER)
_NO_PRESHARED_KEY: Final = bytes(HASH_BYTES)


@dataclass(frozen=True, repr=False)
class TransportKeys:
    """What a completed handshake leaves: two keys and two indices.  `repr` shows no key."""

    send: bytes
    receive: bytes
    local: int
    remote: int

    def __repr__(self) -> str:
        return f"TransportKeys(local={self.local:#010x}, remote={self.remote:#010x})"


def tai64n(nanoseconds: int) -> bytes:
    """12 bytes, big endian, that sort as the time does; `nanoseconds` since 1970 (UTC)."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return struct.pack(">QI", TAI64_EPOCH + seconds, rest)


class UnreadableResponseError(HandshakeError):
    """A response meant for us whose tag does not fit: the pre-shared keys differ."""


class Clock:
    """TAI64N stamps that only ever increase, even where the system's clock steps back.

    A responder drops an initiation that is not later than the last one it took from the
    same peer (paper, section 5.1).
    """

    def __init__(self) -> None:
        self._last = 0

    def stamp(self) -> bytes:
        self._last = max(time.time_ns(), self._last + 1)
        return tai64n(self._last)


def random_index() -> int:
    """A session index: 32 random bits."""
    return int.from_bytes(os.urandom(4), "little")


class InitiatorHandshake:
    """One attempt of a client.  `initiation` is the datagram's content, without mac2.

    A second attempt is a second object: neither ephemeral key nor timestamp is used twice.
    """

    def __init__(
        self,
        static: WgPrivateKey,
        responder: WgPublicKey,
        preshared: PresharedKey | None,
        timestamp: bytes,
    ) -> None:
        """Raises HandshakeError where `responder` is a point of low order."""
        self._static = static
        self._preshared = preshared
        self._ephemeral = WgPrivateKey.generate()
        self.index: Final = random_index()

        public = self._ephemeral.public().raw
        digest = blake2s(_INITIAL_HASH, responder.raw)
        (chain,) = kdf(1, _INITIAL_CHAIN, public)
        digest = blake2s(digest, public)
        chain, key = kdf(2, chain, self._ephemeral.exchange(responder))
        sealed_static = seal(key, 0, static.public().raw, digest)
        digest = blake2s(digest, sealed_static)
        chain, key = kdf(2, chain, static.exchange(responder))
        sealed_time = seal(key, 0, timestamp, digest)
        self._chain = chain
        self._hash = blake2s(digest, sealed_time)
        self.initiation: Final = with_mac1(
            Initiation(self.index, public, sealed_static, sealed_time), responder
        )

    def finish(self, response: Response) -> TransportKeys:
        """The session's keys.

        Raises HandshakeError: not for this handshake, mac1 wrong (no answer to us at all),
        or the tag wrong.  Where mac1 fits and the tag does not, the pre-shared keys differ
        (nothing else can: without the right static keys the responder stays silent).
        """
        if response.receiver != self.index:
            raise HandshakeError("the response is for another handshake")
        if not has_mac1(response, self._static.public()):
            raise HandshakeError("the response's mac1 is not for this client")
        theirs = WgPublicKey(response.ephemeral)
        (chain,) = kdf(1, self._chain, theirs.raw)
        digest = blake2s(self._hash, theirs.raw)
        (chain,) = kdf(1, chain, self._ephemeral.exchange(theirs))
        (chain,) = kdf(1, chain, self._static.exchange(theirs))
        chain, blend, key = kdf(3, chain, _mix(self._preshared))
        digest = blake2s(digest, blend)
        try:
            unseal(key, 0, response.empty, digest)
        except HandshakeError as error:
            raise UnreadableResponseError("the response does not open") from error
        send, receive = kdf(2, chain, b"")
        return TransportKeys(send, receive, self.index, response.sender)


def with_mac1(message: M, receiver: WgPublicKey) -> M:
    """The message with the mac1 that `receiver` expects, and no mac2."""
    return replace(message, mac1=_mac1(message, receiver), mac2=bytes(MAC_BYTES))


def has_mac1(message: Initiation | Response, receiver: WgPublicKey) -> bool:
    """Whether the sender knew the receiver's public key."""
    return hmac.compare_digest(message.mac1, _mac1(message, receiver))


def with_mac2(message: M, cookie: bytes) -> M:
    """The message with its mac2; `cookie`: 16 bytes from `open_cookie`, good for 120 s."""
    return replace(message, mac2=_mac2(message, cookie))


def open_cookie(reply: CookieReply, mac1: bytes, responder: WgPublicKey) -> bytes:
    """The 16-byte cookie in `reply` to a message with `mac1`.  Raises HandshakeError."""
    return xunseal(blake2s(LABEL_COOKIE, responder.raw), reply.nonce, reply.cookie, mac1)


def _mac1(message: Initiation | Response, receiver: WgPublicKey) -> bytes:
    return mac(blake2s(LABEL_MAC1, receiver.raw), message.pack()[: -2 * MAC_BYTES])


def _mac2(message: Initiation | Response, cookie: bytes) -> bytes:
    return mac(cookie, message.pack()[:-MAC_BYTES])


def _mix(preshared: PresharedKey | None) -> bytes:
    return _NO_PRESHARED_KEY if preshared is None else preshared.mix()
