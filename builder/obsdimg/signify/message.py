"""signify: sign and verify, embedded (`-e`) and detached.

An embedded signature is a signature file followed by the message verbatim; it covers
everything after the second newline (OpenBSD usr.bin/signify/signify.c, `verifyembedded`).
What was verified has a type of its own: only the functions here make a VerifiedMessage.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from obsdimg.signify.errors import BadSignatureError, MalformedSignatureError, WrongKeyError
from obsdimg.signify.keys import (
    Signature,
    SignifyPublicKey,
    SignifySecretKey,
    parse_signature_blob,
    split_armor,
)

__all__ = [
    "Signature",
    "SignifyPublicKey",
    "SignifySecretKey",
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
    key: SignifyPublicKey


def verify_detached(
    message: bytes, signature: Signature, key: SignifyPublicKey, where: str = "signature"
) -> VerifiedMessage:
    """`message`, if `signature` of it was made by `key`.

    Raises WrongKeyError where the key numbers differ, BadSignatureError where the signature does
    not fit.
    """
    if signature.number != key.number:
        raise WrongKeyError(
            f"{where}: signed by key number {signature.number.hex()} ({signature.comment}),"
            f" not by {key}",
            "use the public key that belongs to this signature",
        )
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature.signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(
            f"{where}: the signature does not verify with {key}",
            "the file was changed or damaged: fetch it again, from another mirror",
        ) from error
    return VerifiedMessage(message, key)


def split_embedded(data: bytes, where: str = "signed file") -> tuple[Signature, bytes]:
    """Signature and (unverified) message of an embedded signature file.

    Raises MalformedSignatureError or TruncatedError.
    """
    comment, blob, end = split_armor(data, where, MalformedSignatureError)
    return parse_signature_blob(blob, comment, where), data[end:]


def verify_embedded(
    data: bytes, key: SignifyPublicKey, where: str = "signed file"
) -> VerifiedMessage:
    """The message of an embedded signature file, if `key` signed it.

    Raises MalformedSignatureError, TruncatedError, WrongKeyError or BadSignatureError.
    """
    signature, message = split_embedded(data, where)
    return verify_detached(message, signature, key, where)


def sign_embedded(message: bytes, key: SignifySecretKey, comment: str | None = None) -> bytes:
    """`message` with its signature before it, as `signify -Se` writes it."""
    return key.sign(message, comment).text.encode() + message
