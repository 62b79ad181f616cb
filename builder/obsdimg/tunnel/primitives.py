"""The symmetric functions that WireGuard is made of (paper, section 5.4).

BLAKE2s (RFC 7693), HMAC (RFC 2104), HKDF (RFC 5869), ChaCha20-Poly1305 (RFC 8439), and
XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose HChaCha20 is written out here since
`cryptography` does not have it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from obsdimg.tunnel.errors import HandshakeError

HASH_BYTES: Final = 32
MAC_BYTES: Final = 16
TAG_BYTES: Final = 16
XNONCE_BYTES: Final = 24

_SIGMA: Final = struct.unpack("<4I", b"expand 32-byte k")
_QUARTERS: Final = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def blake2s(*parts: bytes) -> bytes:
    """HASH: BLAKE2s of the parts one after another, 32 bytes."""
    state = hashlib.blake2s(digest_size=HASH_BYTES)
    for part in parts:
        state.update(part)
    return state.digest()


def mac(key: bytes, data: bytes) -> bytes:
    """MAC: BLAKE2s keyed with `key` (at most 32 bytes), 16 bytes."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def kdf(count: int, key: bytes, data: bytes) -> tuple[bytes, ...]:
    """KDF1, KDF2 or KDF3: `count` outputs of 32 bytes by HKDF with HMAC-BLAKE2s."""
    secret = hmac.new(key, data, hashlib.blake2s).digest()
    outputs: list[bytes] = []
    last = b""
    for number in range(1, count + 1):
        last = hmac.new(secret, last + bytes([number]), hashlib.blake2s).digest()
        outputs.append(last)
    return tuple(outputs)


def seal(key: bytes, counter: int, plain: bytes, extra: bytes) -> bytes:
    """AEAD: `plain` encrypted, with the 16-byte tag at its end.

    The nonce is 4 zero bytes and `counter` as 8 bytes, little endian.
    """
    return ChaCha20Poly1305(key).encrypt(struct.pack("<4xQ", counter), plain, extra)


def unseal(key: bytes, counter: int, sealed: bytes, extra: bytes) -> bytes:
    """The plain text of `seal`.  Raises HandshakeError where the tag does not fit."""
    try:
        return ChaCha20Poly1305(key).decrypt(struct.pack("<4xQ", counter), sealed, extra)
    except InvalidTag as error:
        raise HandshakeError("the authentication tag does not fit") from error


def xunseal(key: bytes, nonce: bytes, sealed: bytes, extra: bytes) -> bytes:
    """XAEAD: as `unseal`, with the random `nonce` of 24 bytes in place of a counter.

    Raises HandshakeError where the tag does not fit.
    """
    inner = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    try:
        return inner.decrypt(bytes(4) + nonce[16:], sealed, extra)
    except InvalidTag as error:
        raise HandshakeError("the authentication tag does not fit") from error


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """A 32-byte subkey from `key` (32 bytes) and `nonce` (16 bytes).

    The ChaCha20 permutation without the final addition; its first and last rows
    (draft-irtf-cfrg-xchacha-03, section 2.2).
    """
    x = [*_SIGMA, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[a] = (x[a] + x[b]) & 0xFFFFFFFF
            x[d] = _rotate(x[d] ^ x[a], 16)
            x[c] = (x[c] + x[d]) & 0xFFFFFFFF
            x[b] = _rotate(x[b] ^ x[c], 12)
            x[a] = (x[a] + x[b]) & 0xFFFFFFFF
            x[d] = _rotate(x[d] ^ x[a], 8)
            x[c] = (x[c] + x[d]) & 0xFFFFFFFF
            x[b] = _rotate(x[b] ^ x[c], 7)
    return struct.pack("<8I", *x[:4], *x[12:])


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & 0xFFFFFFFF
