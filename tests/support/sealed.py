"""Opening sealed files, as install.site does: what the tests need and obsdimg does not."""

from __future__ import annotations

import base64
import hmac
import io
import struct
import tarfile

from obsdimg.core.entry import Entry
from obsdimg.core.secret import Secret
from obsdimg.site import opensshkey as key
from obsdimg.site.sealing import (
    MAGIC,
    SealingError,
    joined,
    key_and_iv,
    mac_of,
    under_secret,
)


def open_sealed(sealed: bytes, passphrase: Secret) -> list[Entry]:
    """What `seal` sealed, as install.site would open it.

    Raises SealingError: not a sealed file, or `passphrase` does not open it.
    """
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(sealed), mode="r:") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream is not None and member.name in ("key", "mac", "data"):
                    parts[member.name] = stream.read()
    except tarfile.TarError:
        parts = {}
    if len(parts) != 3 or parts["data"][:8] != MAGIC or len(parts["data"]) % 16:
        raise SealingError("not a sealed file", "it should hold key, mac and data")
    if joined(parts["key"], parts["mac"], parts["data"]) != sealed:
        raise SealingError("the sealed file was changed")
    secret = seed_of(parts["key"], passphrase.reveal().encode("ascii"))
    if secret is None:
        raise SealingError("the passphrase does not open the sealed file")
    under = under_secret(secret)
    if not hmac.compare_digest(
        parts["mac"], f"{mac_of(under, parts['key'], parts['data'])}\n".encode()
    ):
        raise SealingError("the sealed file was changed")
    plain = _decrypt(parts["data"][16:], under, parts["data"][8:16])
    if plain is None:
        raise SealingError("the sealed file was changed")
    return unpack(plain)


def unpack(body: bytes) -> list[Entry]:
    """The reverse of `pack`, files only."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                entry = Entry(f"/{member.name}", stream.read(), member.mode, "sealed", secret=True)
                found.append(entry)
    return found


def seed_of(data: bytes, passphrase: bytes) -> bytes | None:
    """The seed in the key file `data`, or None where `passphrase` does not open it or it is none.

    What is not of the one form that `encrypted_key` writes is refused without a computation.
    """
    lines = data[:4096].split(b"\n")
    try:
        blob = base64.b64decode(b"".join(lines[1:-2]), validate=True)
        head = key.MAGIC + key._string(b"aes256-ctr") + key._string(b"bcrypt")
        if not blob.startswith(head):
            return None
        rest = blob[len(head) :]
        salt, (rounds,) = rest[8:24], struct.unpack(">I", rest[24:28])
        sealed = rest[28 + 4 + 4 + 51 + 4 :]
        if not 1 <= rounds <= key.MAX_ROUNDS or len(sealed) % key._BLOCK or len(sealed) > 512:
            return None
    except (ValueError, struct.error):
        return None
    private = key._ctr(key.derived_key(passphrase, salt, rounds), sealed)
    if not hmac.compare_digest(private[:4], private[4:8]) or private[12:23] != key._TYPE:
        return None
    return private[63:95]


def _decrypt(data: bytes, under: str, salt: bytes) -> bytes | None:
    """The plain text, or None where the PKCS#7 padding is wrong."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, iv = key_and_iv(under, salt)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    plain = decryptor.update(data) + decryptor.finalize()
    fill = plain[-1]
    if not 1 <= fill <= 16 or plain[-fill:] != bytes([fill]) * fill:
        return None
    return plain[:-fill]
