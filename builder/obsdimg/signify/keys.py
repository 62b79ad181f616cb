"""signify keys and signatures as values: parsing and writing their two-line files.

A file is `untrusted comment: ...`, newline, one line of base64, newline.  The base64 holds
`Ed`, an 8-byte key number and either a 32-byte Ed25519 public key (42 bytes in all), a 64-byte
signature (74 bytes), or for a secret key (104 bytes): `Ed`, `BK`, bcrypt_pbkdf rounds (u32, big
endian; 0: not protected), 16 bytes salt, 8 bytes checksum (the start of SHA-512 of the 64 key
bytes), 8 bytes key number and the 64 key bytes (seed, public key) XORed with the derived bytes.
Source: OpenBSD usr.bin/signify/signify.c and signify(1), 5.5 to 7.x; checked against Debian's
signify-openbsd 31 in both directions.

This module is stricter than signify: canonical base64, LF line ends, nothing after the second
line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import struct
from dataclasses import dataclass, field

import bcrypt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from obsdimg.signify.errors import (
    MalformedKeyError,
    MalformedSignatureError,
    PassphraseNeededError,
    TruncatedError,
    VerificationError,
    WrongPassphraseError,
)

COMMENT_PREFIX = "untrusted comment: "
COMMENT_MAX = 1024
"""signify's COMMENTMAXLEN: the whole comment line, prefix included, is shorter than this."""

DEFAULT_ROUNDS = 42
"""bcrypt_pbkdf rounds of signify -G."""

MAX_ROUNDS = 100_000
"""A key file that asks for more is refused: at about 3 ms a round that is five minutes."""

_ALGORITHM = b"Ed"
_KDF = b"BK"
_PUBLIC_SIZE = 42
_SIGNATURE_SIZE = 74
_SECRET_SIZE = 104


@dataclass(frozen=True)
class SignifyPublicKey:
    """An Ed25519 public key with its key number (8 bytes, arbitrary) and comment."""

    comment: str
    number: bytes
    key: bytes

    @classmethod
    def parse(cls, text: str | bytes, where: str = "public key") -> SignifyPublicKey:
        """The key of a `.pub` file.  Raises MalformedKeyError or Truncated; `where` names it."""
        comment, blob = _parse_file(text, where, MalformedKeyError)
        blob = _sized(blob, _PUBLIC_SIZE, where, "public key", MalformedKeyError)
        return cls(comment, blob[2:10], blob[10:])

    @property
    def text(self) -> str:
        """The `.pub` file: two lines."""
        return _format_file(self.comment, _ALGORITHM + self.number + self.key)

    @property
    def base64(self) -> str:
        """The second line of the `.pub` file, as OpenBSD's release pages print it."""
        return base64.b64encode(_ALGORITHM + self.number + self.key).decode()

    def __str__(self) -> str:
        return f"{self.comment} ({self.number.hex()})"


@dataclass(frozen=True)
class Signature:
    """An Ed25519 signature (64 bytes) with the number of the key that made it."""

    comment: str
    number: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str | bytes, where: str = "signature") -> Signature:
        """A detached `.sig` file.  Raises MalformedSignatureError or Truncated."""
        comment, blob = _parse_file(text, where, MalformedSignatureError)
        blob = _sized(blob, _SIGNATURE_SIZE, where, "signature", MalformedSignatureError)
        return cls(comment, blob[2:10], blob[10:])

    @property
    def text(self) -> str:
        """The `.sig` file: two lines."""
        return _format_file(self.comment, _ALGORITHM + self.number + self.signature)


@dataclass(frozen=True)
class SignifySecretKey:
    """An Ed25519 secret key: the 32-byte seed, never shown by repr, and its key number."""

    comment: str
    number: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, comment: str = "signify") -> SignifySecretKey:
        """A new key.  As with `signify -G -c COMMENT`, its file says `COMMENT secret key`."""
        check_comment(f"{comment} secret key")
        return cls(f"{comment} secret key", os.urandom(8), os.urandom(32))

    @classmethod
    def parse(
        cls, text: str | bytes, passphrase: str | None = None, where: str = "secret key"
    ) -> SignifySecretKey:
        """The key of a `.sec` file, opened with `passphrase` if it is protected.

        Raises MalformedKeyError, TruncatedError, PassphraseNeededError or WrongPassphraseError.
        """
        comment, blob = _parse_file(text, where, MalformedKeyError)
        blob = _sized(blob, _SECRET_SIZE, where, "secret key", MalformedKeyError)
        kdf, rounds, salt, checksum, number, sealed = struct.unpack(">2sI16s8s8s64s", blob[2:])
        if kdf != _KDF:
            raise MalformedKeyError(f"{where}: its key derivation is not bcrypt_pbkdf (BK)")
        if rounds > MAX_ROUNDS:
            raise MalformedKeyError(
                f"{where}: asks for {rounds} rounds; at most {MAX_ROUNDS} are run"
            )
        if rounds and not passphrase:
            raise PassphraseNeededError(
                f"{where}: the secret key is protected by a passphrase", "give its passphrase"
            )
        key = _xor(sealed, _derive(passphrase if rounds else None, salt, rounds))
        if hashlib.sha512(key).digest()[:8] != checksum:
            if rounds:
                raise WrongPassphraseError(f"{where}: the passphrase does not open the secret key")
            raise MalformedKeyError(f"{where}: damaged, its checksum does not fit")
        secret = cls(comment, number, key[:32])
        if secret._public_bytes() != key[32:]:
            raise MalformedKeyError(f"{where}: damaged, its public half does not belong to it")
        return secret

    def text(self, passphrase: str | None = None, rounds: int = DEFAULT_ROUNDS) -> str:
        """The `.sec` file; with `passphrase`, protected by `rounds` of bcrypt_pbkdf."""
        key = self.seed + self._public_bytes()
        salt = os.urandom(16)
        rounds = rounds if passphrase else 0
        checksum = hashlib.sha512(key).digest()[:8]
        sealed = _xor(key, _derive(passphrase, salt, rounds))
        packed = struct.pack(">2sI16s8s8s64s", _KDF, rounds, salt, checksum, self.number, sealed)
        return _format_file(self.comment, _ALGORITHM + packed)

    def public(self, comment: str | None = None) -> SignifyPublicKey:
        """The public half; its comment is `comment`, or this key's with `public` for `secret`."""
        if comment is None:
            comment = self.comment.removesuffix("secret key") + "public key"
            if not self.comment.endswith("secret key"):
                comment = f"{self.comment} public key"
        check_comment(comment)
        return SignifyPublicKey(comment, self.number, self._public_bytes())

    def sign(self, message: bytes, comment: str | None = None) -> Signature:
        """A signature of `message`.

        `comment` is what signify calls a hint, e.g. `verify with openbsd-66-base.pub`;
        without it the signature says `signature from` this key's comment, as signify does.
        """
        comment = f"signature from {self.comment}" if comment is None else comment
        check_comment(comment)
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return Signature(comment, self.number, private.sign(message))

    def _public_bytes(self) -> bytes:
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return private.public_key().public_bytes_raw()


def check_comment(comment: str) -> None:
    """Refuse a comment that signify could not read back.  Raises MalformedKeyError."""
    if not comment.isprintable() or len((COMMENT_PREFIX + comment).encode()) >= COMMENT_MAX:
        raise MalformedKeyError(
            "the comment of a key or signature must be one printable line"
            f" of less than {COMMENT_MAX - len(COMMENT_PREFIX)} bytes"
        )


def split_armor(data: bytes, where: str, error: type[VerificationError]) -> tuple[str, bytes, int]:
    """Comment, decoded base64 line, and the offset (bytes) of what follows the second line.

    Raises `error` where the form is wrong, TruncatedError where a line is missing.
    """
    first = data.find(b"\n", 0, COMMENT_MAX)
    if not data.startswith(COMMENT_PREFIX.encode()):
        if COMMENT_PREFIX.encode().startswith(data):
            raise TruncatedError(f"{where}: empty or cut off in its first line")
        raise error(f"{where}: does not start with `{COMMENT_PREFIX.strip()}`")
    if first < 0:
        if len(data) >= COMMENT_MAX:
            raise error(f"{where}: its first line is longer than {COMMENT_MAX} bytes")
        raise TruncatedError(f"{where}: cut off in its first line")
    try:
        comment = data[len(COMMENT_PREFIX) : first].decode()
    except UnicodeDecodeError as cause:
        raise error(f"{where}: its comment is not UTF-8") from cause
    second = data.find(b"\n", first + 1, first + 1 + COMMENT_MAX)
    if second < 0:
        if len(data) - first > COMMENT_MAX:
            raise error(f"{where}: its second line is too long for base64 of a key or signature")
        raise TruncatedError(f"{where}: cut off in its second line (no newline)")
    line = data[first + 1 : second]
    try:
        blob = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise error(f"{where}: its second line is not base64") from cause
    if base64.b64encode(blob) != line:
        raise error(f"{where}: its second line is not canonical base64")
    return comment, blob, second + 1


def _parse_file(text: str | bytes, where: str, error: type[VerificationError]) -> tuple[str, bytes]:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    comment, blob, end = split_armor(data, where, error)
    if end != len(data):
        raise error(f"{where}: something follows the second line")
    return comment, blob


def _sized(blob: bytes, size: int, where: str, what: str, error: type[VerificationError]) -> bytes:
    if not blob.startswith(_ALGORITHM[: len(blob)]):
        raise error(f"{where}: its algorithm is not Ed25519 (`Ed`)")
    if len(blob) < size:
        raise TruncatedError(f"{where}: {len(blob)} bytes where a {what} has {size}")
    if len(blob) > size:
        raise error(f"{where}: {len(blob)} bytes where a {what} has {size}")
    return blob


def parse_signature_blob(blob: bytes, comment: str, where: str) -> Signature:
    """The 74 decoded bytes of a signature line.  Raises MalformedSignatureError or Truncated."""
    blob = _sized(blob, _SIGNATURE_SIZE, where, "signature", MalformedSignatureError)
    return Signature(comment, blob[2:10], blob[10:])


def _format_file(comment: str, blob: bytes) -> str:
    return f"{COMMENT_PREFIX}{comment}\n{base64.b64encode(blob).decode()}\n"


def _derive(passphrase: str | None, salt: bytes, rounds: int) -> bytes:
    if not passphrase:
        return bytes(64)
    return bcrypt.kdf(passphrase.encode(), salt, 64, rounds, ignore_few_rounds=True)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
