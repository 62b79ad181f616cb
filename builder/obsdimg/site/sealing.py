"""Seal files with a passphrase, so that OpenBSD's base system opens them, from 6.6 on.

Guessing the passphrase must cost as much here as on the disk.  A random secret therefore lies in an
OpenSSH private key (opensshkey.py), which takes bcrypt_pbkdf to open; under that secret, which
nobody can guess, are the files.  The sealed file is a ustar archive of three:

    key     the OpenSSH private key file
    mac     64 hexadecimal digits and a newline: SHA-256 of M, the SHA-256 of `key`, that of `data`
            and M, where M is the SHA-256 of `K mac` and K that of the secret; all as hexadecimal
            text
    data    `openssl enc -aes-256-cbc -md sha256 -pbkdf2 -iter 1` of the plain text with K for its
            passphrase: `Salted__`, 8 bytes of salt, then AES-256-CBC with PKCS#7 padding

The plain text is padded so that its length says little, and carries a check of its own:

    offset 0    one block of 512 bytes: `obsdimg-sealed-2 HEX LENGTH\\n`, then blanks and `\\n`;
                HEX is the SHA-256 of all that follows, LENGTH its size in bytes
    offset 512  a ustar archive (numeric owners), filled with zeros to a multiple of 16 KiB
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import tarfile
from collections.abc import Iterable

from obsdimg.core.archive import tar
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.secret import Secret
from obsdimg.site.opensshkey import MAX_ROUNDS, encrypted_key, seed_of

ROUNDS = 320
"""Rounds of bcrypt_pbkdf for a new file: about a second on a processor of today, as bioctl(8)'s
`-r auto` aims at for the disk (measured: docs/trust.md).  With more rounds on the disk, more here.
"""

MAGIC = b"Salted__"
HEADER = "obsdimg-sealed-2"
BLOCK = 512
BUCKET = 16 * 1024


class SealingError(ObsdimgError):
    """Files cannot be sealed, or a sealed file cannot be opened; never shows their content."""


def seal(
    files: Iterable[Entry], passphrase: Secret, *, salt_key: bytes, rounds: int = ROUNDS
) -> bytes:
    """`files` sealed with `passphrase`.

    The same input gives the same bytes: secret and salts are HMAC-SHA256, keyed with `salt_key`, of
    passphrase, rounds and content.  They differ whenever the content does, and tell nothing:
    without `salt_key` (at least 16 bytes, a secret of the project that is not on the ISO) they can
    neither be computed nor be used to test a passphrase faster than bcrypt allows.

    Raises SealingError for a path that is not absolute and plain, or a short `salt_key`.
    """
    if len(salt_key) < 16:
        raise SealingError(f"salt key: {len(salt_key)} bytes are too few", "use 16 or more")
    if not 1 <= rounds <= MAX_ROUNDS:
        raise SealingError(f"{rounds} rounds of bcrypt", f"use 1 to {MAX_ROUNDS}")
    plain = pack(files)
    text = passphrase.reveal().encode("ascii")
    about = b"%d\0%d\0%b" % (rounds, len(text), text) + plain

    def derived(what: bytes) -> bytes:
        return hmac.digest(salt_key, b"obsdimg-sealed-2 " + what + b"\0" + about, "sha256")

    secret = derived(b"secret")
    key = encrypted_key(secret, text, derived(b"salt")[:16], derived(b"check")[:4], rounds)
    under = _under(secret)
    data = _encrypt(plain, under, derived(b"data")[:8])
    return _joined(key, f"{_mac(under, key, data)}\n".encode(), data)


def _joined(key: bytes, mac: bytes, data: bytes) -> bytes:
    parts = {"/key": key, "/mac": mac, "/data": data}
    return tar([Entry(path, content, 0o600) for path, content in parts.items()])


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
    if _joined(parts["key"], parts["mac"], parts["data"]) != sealed:
        raise SealingError("the sealed file was changed")
    secret = seed_of(parts["key"], passphrase.reveal().encode("ascii"))
    if secret is None:
        raise SealingError("the passphrase does not open the sealed file")
    under = _under(secret)
    if not hmac.compare_digest(
        parts["mac"], f"{_mac(under, parts['key'], parts['data'])}\n".encode()
    ):
        raise SealingError("the sealed file was changed")
    plain = _decrypt(parts["data"][16:], under, parts["data"][8:16])
    if plain is None:
        raise SealingError("the sealed file was changed")
    return unpack(plain)


def _under(secret: bytes) -> str:
    """K: what `data` is encrypted under."""
    return hashlib.sha256(secret).hexdigest()


def _mac(under: str, key: bytes, data: bytes) -> str:
    own, *both = (hashlib.sha256(x).hexdigest() for x in (f"{under} mac".encode(), key, data))
    return hashlib.sha256("".join((own, *both, own)).encode()).hexdigest()


def pack(files: Iterable[Entry]) -> bytes:
    """The plain text: header block and padded archive, paths in order.  Raises SealingError."""
    ordered = sorted(files, key=lambda entry: entry.path)
    for path in (entry.path for entry in ordered):
        if not re.fullmatch(r"(/[A-Za-z0-9._+@-]+)+", path) or "/.." in path or "/./" in path:
            raise SealingError(f"{path}: not a plain absolute path", "e.g. /etc/wireguard/key")
    body = tar(ordered)
    body += bytes(-(len(body) + BLOCK) % BUCKET)
    return _header(body) + body


def _header(body: bytes) -> bytes:
    line = f"{HEADER} {hashlib.sha256(body).hexdigest()} {len(body)}\n".encode()
    return line.ljust(BLOCK - 1) + b"\n"


def unpack(plain: bytes) -> list[Entry]:
    """The reverse of `pack`.  Raises SealingError when the check fails."""
    body = plain[BLOCK:]
    if not hmac.compare_digest(plain[:BLOCK], _header(body)):
        raise SealingError("the passphrase does not open the sealed file")
    found = []
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                entry = Entry(f"/{member.name}", stream.read(), member.mode, "sealed", secret=True)
                found.append(entry)
    return found


def _key_and_iv(under: str, salt: bytes) -> tuple[bytes, bytes]:
    derived = hashlib.pbkdf2_hmac("sha256", under.encode(), salt, 1, 48)
    return derived[:32], derived[32:]


def _encrypt(plain: bytes, under: str, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, iv = _key_and_iv(under, salt)
    fill = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return MAGIC + salt + encryptor.update(plain + bytes([fill]) * fill) + encryptor.finalize()


def _decrypt(data: bytes, under: str, salt: bytes) -> bytes | None:
    """The plain text, or None where the PKCS#7 padding is wrong."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, iv = _key_and_iv(under, salt)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    plain = decryptor.update(data) + decryptor.finalize()
    fill = plain[-1]
    if not 1 <= fill <= 16 or plain[-fill:] != bytes([fill]) * fill:
        return None
    return plain[:-fill]
