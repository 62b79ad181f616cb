"""Signed gzip archives (`signify -z`): OpenBSD's packages carry their signature inside.

The gzip header's comment (RFC 1952, FCOMMENT) holds an embedded signature over lines `date=`,
`key=`, `algorithm=SHA512/256`, `blocksize=65536`, an empty line, and one SHA-512/256 (64 hex
digits) for each block of the bytes after the header (usr.bin/signify/zsig.c; checked against
Debian's signify-openbsd 31).  The ten fixed header bytes are not signed: they must be the ones
that signify writes, except for the hint on the compression level.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes

from obsdimg.signify.errors import HashMismatchError, MalformedSignatureError, TruncatedError
from obsdimg.signify.message import (
    SignifyPublicKey,
    verify_embedded,
)

BLOCK = 65536
"""Bytes in a block, as signify signs."""

_FCOMMENT = 0x10
_HEADER = bytes([0x1F, 0x8B, 8, _FCOMMENT, 0, 0, 0, 0, 0, 3])
_LARGEST_COMMENT = 16 << 20
_LINE = re.compile(rb"(date|key|algorithm|blocksize)=([!-~ ]*)\n")
_HASHES = re.compile(rb"(?:[0-9a-f]{64}\n)*")


class UnsignedArchiveError(MalformedSignatureError):
    """A gzip archive, or something else, without a signature in it."""


@dataclass(frozen=True)
class VerifiedArchive:
    """A signed gzip archive, whole, whose every block was checked with `key`.

    `signed_on` is the signer's date (`2019-10-09T12:00:00Z`), `signer` the name of the secret key
    as the signer wrote it; both are covered by the signature.
    """

    data: bytes = field(repr=False)
    key: SignifyPublicKey
    signed_on: str
    signer: str


def verify_archive(data: bytes, key: SignifyPublicKey, where: str = "archive") -> VerifiedArchive:
    """`data`, if it is a gzip archive signed by `key` and no byte of it was changed.

    Raises UnsignedArchiveError, MalformedSignatureError, TruncatedError, WrongKeyError,
    BadSignatureError or HashMismatchError.
    """
    end = _comment_end(data, where)
    message = verify_embedded(data[len(_HEADER) : end], key, where).data
    fields, blocks = _split(message, where)
    size = int(fields["blocksize"])
    body = memoryview(data)[end + 1 :]
    found = -(-len(body) // size)
    if found < len(blocks):
        raise TruncatedError(f"{where}: ends in block {found} of {len(blocks)}")
    if found > len(blocks):
        raise HashMismatchError(f"{where}: has {found} blocks, its signature covers {len(blocks)}")
    for number, expected in enumerate(blocks):
        if _sha512_256(body[number * size : (number + 1) * size]) != expected:
            raise HashMismatchError(
                f"{where}: block {number + 1} of {len(blocks)} is not the one that was signed",
                "the file was changed, damaged or cut short: fetch it again",
            )
    return VerifiedArchive(data, key, fields.get("date", ""), fields.get("key", ""))


def _comment_end(data: bytes, where: str) -> int:
    """Offset of the zero byte that ends the comment."""
    if not data.startswith(_HEADER[:3]):
        if _HEADER.startswith(data[: len(_HEADER)]):
            raise TruncatedError(f"{where}: empty or cut off in its header")
        raise UnsignedArchiveError(f"{where}: not a gzip archive")
    if len(data) < len(_HEADER):
        raise TruncatedError(f"{where}: cut off in its header")
    if not data[3] & _FCOMMENT:
        raise UnsignedArchiveError(f"{where}: an unsigned gzip archive")
    if data[3:8] != _HEADER[3:8] or data[8] not in (0, 2, 4) or data[9] != _HEADER[9]:
        raise MalformedSignatureError(
            f"{where}: its gzip header is not the one that signify writes"
        )
    end = data.find(b"\0", len(_HEADER), len(_HEADER) + _LARGEST_COMMENT)
    if end < 0:
        if len(data) >= len(_HEADER) + _LARGEST_COMMENT:
            raise MalformedSignatureError(f"{where}: the comment in its header has no end")
        raise TruncatedError(f"{where}: cut off in its signature")
    return end


def _split(message: bytes, where: str) -> tuple[dict[str, str], list[bytes]]:
    """The named lines and the block hashes (64 hex digits each) of a verified message."""
    fields: dict[str, str] = {}
    at = 0
    while match := _LINE.match(message, at):
        fields[match[1].decode()] = match[2].decode()
        at = match.end()
    lines = message[at + 1 :]
    if message[at : at + 1] != b"\n" or not _HASHES.fullmatch(lines):
        raise MalformedSignatureError(f"{where}: signed, but not as `signify -z` does")
    if fields.get("algorithm") != "SHA512/256":
        raise MalformedSignatureError(f"{where}: hashed with something other than SHA512/256")
    size = fields.get("blocksize", "")
    if not size.isdigit() or not 0 < int(size) <= 1 << 30:
        raise MalformedSignatureError(f"{where}: its block size is not a number of bytes")
    return fields, lines.split()


def _sha512_256(block: bytes | memoryview) -> bytes:
    digest = hashes.Hash(hashes.SHA512_256())
    digest.update(bytes(block))
    return digest.finalize().hex().encode()
