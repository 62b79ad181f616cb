"""WireGuard's three kinds of key, as `wg genkey`, `wg pubkey` and `wg genpsk` write them.

Each is 32 bytes; as text, 44 characters of standard base64 (RFC 4648, section 4) with one
`=` at the end.  Curve and clamping: RFC 7748, section 5.  The two secret kinds never show
their bytes by `repr`, `str`, format or JSON; `reveal` is the one way to the text.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import Final, Self, final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from obsdimg.tunnel.errors import HandshakeError, KeyTextError

KEY_BYTES: Final = 32
KEY_CHARACTERS: Final = 44


def decode_key(text: str, place: str) -> bytes:
    """The 32 bytes of a key's base64; blanks around it are ignored, as `wg` does.

    `place` begins the error message (`secrets/laptop.key`, `line 7: PublicKey`).  Strict as
    wireguard-tools (encoding.c, key_from_base64): no other length, no stray bits in the
    last character.  Raises KeyTextError, which never repeats `text`.
    """
    stripped = text.strip()
    if not stripped:
        raise KeyTextError(f"{place}: the key is empty", "44 characters of base64 are expected")
    try:
        raw = base64.b64decode(stripped, validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyTextError(
            f"{place}: the key is not base64",
            f"a key has {KEY_CHARACTERS} characters, the last is '='; this has {len(stripped)}",
        ) from error
    if len(raw) != KEY_BYTES:
        raise KeyTextError(
            f"{place}: the key has {len(raw)} bytes, not {KEY_BYTES}",
            "was it copied whole?  The key of an `ssh-keygen` or `signify` pair does not fit",
        )
    if encode_key(raw) != stripped:
        raise KeyTextError(
            f"{place}: the last character before '=' cannot end a key",
            "one character was mistyped; copy the key again",
        )
    return raw


def encode_key(raw: bytes) -> str:
    """32 bytes as the 44 characters that `wg` prints."""
    return base64.b64encode(raw).decode("ascii")


def clamp(raw: bytes) -> bytes:
    """32 bytes as an X25519 scalar (RFC 7748, section 5: clear bits 0 to 2 and 255, set 254)."""
    return bytes([raw[0] & 0xF8]) + raw[1:31] + bytes([(raw[31] & 0x7F) | 0x40])


@final
class WgPublicKey:
    """The public half of a pair; not a secret.  Hashable, ordered by nothing."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        """`raw`: 32 bytes.  A low-order point is accepted here and refused by `parse`."""
        if len(raw) != KEY_BYTES:
            raise KeyTextError(f"a public key has {KEY_BYTES} bytes, not {len(raw)}")
        self.raw: Final = bytes(raw)

    @classmethod
    def parse(cls, text: str, place: str = "public key") -> Self:
        """The key that `text` spells.

        Raises KeyTextError for what is not a key, the all-zero key, and the other points of
        low order (RFC 7748, section 6.1), with which every handshake has the same secret.
        """
        raw = decode_key(text, place)
        if not any(raw):
            raise KeyTextError(
                f"{place}: the public key is all zero", "give the output of `wg pubkey`"
            )
        key = cls(raw)
        if key.is_low_order():
            raise KeyTextError(
                f"{place}: the public key is a point of low order, which keeps nothing secret",
                "give the output of `wg pubkey`",
            )
        return key

    def is_low_order(self) -> bool:
        """Whether every X25519 exchange with this point gives zero.

        A clamped scalar is a multiple of the cofactor 8, so that one exchange with any
        scalar tells (cryptography refuses an all-zero result).
        """
        scalar = X25519PrivateKey.from_private_bytes(clamp(b"\x01" * KEY_BYTES))
        try:
            scalar.exchange(X25519PublicKey.from_public_bytes(self.raw))
        except ValueError:
            return True
        return False

    def text(self) -> str:
        """The 44 characters that `wg pubkey` prints."""
        return encode_key(self.raw)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"PublicKey({self.text()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WgPublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class _Secret:
    """32 bytes that do not show: not by repr, str, format, nor by JSON's `default=str`."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise KeyTextError(f"a key has {KEY_BYTES} bytes, not {len(raw)}")
        self._raw: Final = bytes(raw)

    def reveal(self) -> str:
        """The key's 44 characters, for a file of mode 0600 or the standard input of `wg`."""
        return encode_key(self._raw)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._raw))

    def __reduce__(self) -> str:
        raise TypeError(f"a {type(self).__name__} is not pickled")


@final
class WgPrivateKey(_Secret):
    """The private half of a pair: a clamped X25519 scalar."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's random source, clamped as `wg genkey` does."""
        return cls(clamp(secrets.token_bytes(KEY_BYTES)))

    @classmethod
    def parse(cls, text: str, place: str = "private key") -> Self:
        """The key that `text` spells, clamped (which does not change its public key).

        Raises KeyTextError; all zero is refused, since `wg` takes it for "no key".
        """
        raw = decode_key(text, place)
        if not any(raw):
            raise KeyTextError(f"{place}: the private key is all zero", "make one with `wg genkey`")
        return cls(clamp(raw))

    def public(self) -> WgPublicKey:
        """The public half, as `wg pubkey` computes it."""
        key = X25519PrivateKey.from_private_bytes(self._raw).public_key()
        return WgPublicKey(key.public_bytes_raw())

    def exchange(self, public: WgPublicKey) -> bytes:
        """The 32 bytes that both sides share.  Raises HandshakeError for a low-order point."""
        scalar = X25519PrivateKey.from_private_bytes(self._raw)
        try:
            return scalar.exchange(X25519PublicKey.from_public_bytes(public.raw))
        except ValueError as error:
            raise HandshakeError("the peer's key is a point of low order") from error


@final
class PresharedKey(_Secret):
    """The symmetric key that a server and one peer may share; any 32 bytes but zero."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's random source, as `wg genpsk`."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str, place: str = "pre-shared key") -> Self:
        """The key that `text` spells.  Raises KeyTextError; all zero means "none" to `wg`."""
        raw = decode_key(text, place)
        if not any(raw):
            raise KeyTextError(
                f"{place}: the pre-shared key is all zero, which `wg` takes for none",
                "make one with `wg genpsk`, or leave it out",
            )
        return cls(raw)

    def mix(self) -> bytes:
        """The 32 bytes that the handshake mixes in."""
        return self._raw
