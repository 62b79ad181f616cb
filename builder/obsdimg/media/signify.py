"""signify: sign and verify, embedded (`-e`) and detached.

An embedded signature is a signature file followed by the message verbatim; it covers
everything after the second newline (OpenBSD usr.bin/signify/signify.c, `verifyembedded`).
What was verified has a type of its own: only the functions here make a VerifiedMessage.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from obsdimg.media.signify_keys import (
    PublicKey,
    SecretKey,
    Signature,
    parse_signature_blob,
    split_armor,
)
from obsdimg.media.verification import BadSignature, MalformedSignature, WrongKey

__all__ = [
    "PublicKey",
    "SecretKey",
    "Signature",
    "VerifiedMessage",
    "sign_embedded",
    "split_embedded",
    "verify_detached",
    "verify_embedded",
]


@dataclass(frozen=True)
class VerifiedMessage:
    """Bytes whose signature was checked, and the key that it was checked with."""

    data: bytes
    key: PublicKey


def verify_detached(
    message: bytes, signature: Signature, key: PublicKey, where: str = "signature"
) -> VerifiedMessage:
    """`message`, if `signature` of it was made by `key`.

    Raises WrongKey where the key numbers differ, BadSignature where the signature does not fit.
    """
    if signature.number != key.number:
        raise WrongKey(
            f"{where}: signed by key number {signature.number.hex()} ({signature.comment}),"
            f" not by {key}",
            "use the public key that belongs to this signature",
        )
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature.signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(
            f"{where}: the signature does not verify with {key}",
            "the file was changed or damaged: fetch it again, from another mirror",
        ) from error
    return VerifiedMessage(message, key)


def split_embedded(data: bytes, where: str = "signed file") -> tuple[Signature, bytes]:
    """Signature and (unverified) message of an embedded signature file.

    Raises MalformedSignature or Truncated.
    """
    comment, blob, end = split_armor(data, where, MalformedSignature)
    return parse_signature_blob(blob, comment, where), data[end:]


def verify_embedded(data: bytes, key: PublicKey, where: str = "signed file") -> VerifiedMessage:
    """The message of an embedded signature file, if `key` signed it.

    Raises MalformedSignature, Truncated, WrongKey or BadSignature.
    """
    signature, message = split_embedded(data, where)
    return verify_detached(message, signature, key, where)


def sign_embedded(message: bytes, key: SecretKey, comment: str | None = None) -> bytes:
    """`message` with its signature before it, as `signify -Se` writes it."""
    return key.sign(message, comment).text.encode() + message
