"""Seal files with a passphrase, so that OpenBSD's base system opens them, from 6.6 on.

Guessing the passphrase must cost as much here as on the disk.  A random secret therefore lies in an
OpenSSH private key (opensshkey.py), which takes bcrypt_pbkdf to open; under that secret, which
nobody can guess, are the files.  The sealed file is a ustar archive of three, in this order:

    key     the OpenSSH private key file
    mac     64 hexadecimal digits and a newline: SHA-256 of M, the SHA-256 of `key`, that of `data`
            and M, where M is the SHA-256 of `K mac` and K that of the secret; all as hexadecimal
            text
    data    `openssl enc -aes-256-cbc -md sha256 -pbkdf2 -iter 1` of the plain text with K for its
            passphrase: `Salted__`, 8 bytes of salt, then AES-256-CBC with PKCS#7 padding

The plain text is a ustar archive (numeric owners), filled with zeros to a multiple of BUCKET, so
that its length says little.  It needs no check of its own: the MAC is over what it comes from.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from obsdimg.core.archive import tar
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.secret import Secret
from obsdimg.site.files import check_path
from obsdimg.site.opensshkey import MAX_ROUNDS, derived_key, encrypted_key

ROUNDS = 160
"""Rounds of bcrypt_pbkdf for a new file.  OpenSSH derives 48 bytes, which takes two blocks a round;
softraid derives 32, one block.  So these cost as much as 320 rounds on the disk: about a second
on a processor of today, which is what bioctl(8)'s `-r auto` aims at (measured: docs/trust.md).
"""
PUBLIC_ROUNDS = 4
"""For a passphrase that everybody knows, as that of `obsdimg demo`: there is nothing to guess."""


def rounds_for(disk_rounds: int | None) -> int:
    """Rounds that cost at least as much as `disk_rounds` on the disk (None: `auto`)."""
    return max(ROUNDS, -(-(disk_rounds or 0) // 2))


MAGIC = b"Salted__"
BUCKET = 64 * 1024
"""Bytes; without overlay and block lists a server's files fill one or two of these."""
LARGEST = 64 << 20
"""Bytes of content that may be sealed: while it is opened the root file system holds it twice."""


class SealingError(ObsdimgError):
    """Files cannot be sealed, or a sealed file cannot be opened; never shows their content."""


def seal(
    files: Iterable[Entry],
    passphrase: Secret,
    *,
    salt_key: bytes,
    rounds: int = ROUNDS,
    epoch: int = 0,
) -> bytes:
    """`files`, which are unpacked in this order, sealed with `passphrase`; each is dated `epoch`
    (seconds since 1970).

    The same input gives the same bytes: secret and salts are HMAC-SHA256, keyed with `salt_key` (at
    least 16 bytes, a secret of the project that is not on the ISO), of rounds and content, and so
    differ whenever these do.  The passphrase takes part only as what bcrypt makes of it: nobody
    tests one faster than bcrypt allows, not even with `salt_key` and the content at hand.

    Raises SealingError for a short `salt_key`, SiteSetError and TarPathError for a path that cannot
    be.
    """
    if len(salt_key) < 16:
        raise SealingError(f"salt key: {len(salt_key)} bytes are too few", "use 16 or more")
    if not 1 <= rounds <= MAX_ROUNDS:
        raise SealingError(f"{rounds} rounds of bcrypt", f"use 1 to {MAX_ROUNDS}")
    plain = pack(files, epoch)
    text = passphrase.reveal().encode("ascii")

    def made(what: bytes, from_passphrase: bytes = b"") -> bytes:
        about = b"obsdimg-sealed-4 %b\0%d\0%b" % (what, rounds, from_passphrase)
        return hmac.digest(salt_key, about + plain, "sha256")

    salt = made(b"salt")[:16]
    derived = derived_key(text, salt, rounds)
    secret = made(b"secret", derived)
    key = encrypted_key(secret, derived, salt, made(b"check", derived)[:4], rounds)
    under = under_secret(secret)
    data = _encrypt(plain, under, made(b"data", derived)[:8])
    return joined(key, f"{mac_of(under, key, data)}\n".encode(), data)


def joined(key: bytes, mac: bytes, data: bytes) -> bytes:
    parts = {"/key": key, "/mac": mac, "/data": data}
    return tar([Entry(path, content, 0o600) for path, content in parts.items()])


def under_secret(secret: bytes) -> str:
    """K: what `data` is encrypted under."""
    return hashlib.sha256(secret).hexdigest()


def mac_of(under: str, key: bytes, data: bytes) -> str:
    own, *both = (hashlib.sha256(x).hexdigest() for x in (f"{under} mac".encode(), key, data))
    return hashlib.sha256("".join((own, *both, own)).encode()).hexdigest()


def pack(files: Iterable[Entry], epoch: int = 0) -> bytes:
    """The plain text: an archive, padded.  Raises SiteSetError, TarPathError."""
    ordered = list(files)
    for entry in ordered:
        check_path(entry.path)
    body = tar(ordered, epoch)
    return body + bytes(-len(body) % BUCKET)


def key_and_iv(under: str, salt: bytes) -> tuple[bytes, bytes]:
    derived = hashlib.pbkdf2_hmac("sha256", under.encode(), salt, 1, 48)
    return derived[:32], derived[32:]


def _encrypt(plain: bytes, under: str, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, iv = key_and_iv(under, salt)
    fill = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return MAGIC + salt + encryptor.update(plain + bytes([fill]) * fill) + encryptor.finalize()
