"""The answering side of WireGuard's handshake, for tests of the calling side.

Source: WireGuard paper, sections 5.4.2 to 5.4.4 and 5.4.7; names as in obsdimg.tunnel.noise.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from obsdimg.tunnel.errors import HandshakeError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.messages import CookieReply, Initiation, Response
from obsdimg.tunnel.noise import (
    _INITIAL_CHAIN,
    _INITIAL_HASH,
    LABEL_COOKIE,
    TransportKeys,
    _mac2,
    _mix,
    has_mac1,
    random_index,
    with_mac1,
)
from obsdimg.tunnel.primitives import XNONCE_BYTES, blake2s, hchacha20, kdf, seal, unseal


@dataclass(frozen=True)
class OpenedInitiation:
    """A client's initiation that the responder could read: who it is, and when it says it is."""

    message: Initiation
    static: WgPublicKey
    timestamp: bytes
    """TAI64N, 12 bytes; must be later than the last of the same client."""
    chain: bytes
    digest: bytes

    def __repr__(self) -> str:
        return f"OpenedInitiation({self.static!r})"


def open_initiation(static: WgPrivateKey, message: Initiation) -> OpenedInitiation:
    """Read an initiation as the responder with `static`; the client is not yet known to be
    allowed.  Raises HandshakeError: mac1 or a tag does not fit (another server's key).
    """
    mine = static.public()
    if not has_mac1(message, mine):
        raise HandshakeError("the initiation's mac1 is not for this server")
    theirs = WgPublicKey(message.ephemeral)
    digest = blake2s(_INITIAL_HASH, mine.raw)
    (chain,) = kdf(1, _INITIAL_CHAIN, theirs.raw)
    digest = blake2s(digest, theirs.raw)
    chain, key = kdf(2, chain, static.exchange(theirs))
    client = WgPublicKey(unseal(key, 0, message.static, digest))
    digest = blake2s(digest, message.static)
    chain, key = kdf(2, chain, static.exchange(client))
    timestamp = unseal(key, 0, message.timestamp, digest)
    return OpenedInitiation(message, client, timestamp, chain, blake2s(digest, message.timestamp))


def respond(
    opened: OpenedInitiation, preshared: PresharedKey | None
) -> tuple[Response, TransportKeys]:
    """The responder's answer and its keys.  Raises HandshakeError for a low-order ephemeral."""
    ephemeral = WgPrivateKey.generate()
    public = ephemeral.public().raw
    index = random_index()
    (chain,) = kdf(1, opened.chain, public)
    digest = blake2s(opened.digest, public)
    (chain,) = kdf(1, chain, ephemeral.exchange(WgPublicKey(opened.message.ephemeral)))
    (chain,) = kdf(1, chain, ephemeral.exchange(opened.static))
    chain, blend, key = kdf(3, chain, _mix(preshared))
    empty = seal(key, 0, b"", blake2s(digest, blend))
    receive, send = kdf(2, chain, b"")
    response = with_mac1(Response(index, opened.message.sender, public, empty), opened.static)
    return response, TransportKeys(send, receive, index, opened.message.sender)


def has_mac2(message: Initiation | Response, cookie: bytes) -> bool:
    """Whether the sender had `cookie`, that is, receives at its address."""
    return hmac.compare_digest(message.mac2, _mac2(message, cookie))


def make_cookie_reply(
    message: Initiation | Response, cookie: bytes, responder: WgPublicKey
) -> CookieReply:
    """The reply of a responder under load to `message`; `cookie`: 16 bytes."""
    nonce = os.urandom(XNONCE_BYTES)
    key = blake2s(LABEL_COOKIE, responder.raw)
    return CookieReply(message.sender, nonce, xseal(key, nonce, cookie, message.mac1))


def xseal(key: bytes, nonce: bytes, plain: bytes, extra: bytes) -> bytes:
    """What `xunseal` opens: encrypted with a random `nonce` of 24 bytes."""
    inner = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return inner.encrypt(bytes(4) + nonce[16:], plain, extra)
