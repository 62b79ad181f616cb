"""Seal files with a passphrase, so that `openssl enc` of OpenBSD 6.6 opens them.

The sealed form is exactly that of `openssl enc -aes-256-cbc -pbkdf2 -iter N -md sha256`
(enc(1) of LibreSSL 3.0 and OpenSSL 3): `Salted__`, 8 bytes of salt, then AES-256-CBC with
PKCS#7 padding; key (32 bytes) and IV (16 bytes) are PBKDF2-HMAC-SHA256 of the passphrase.

CBC authenticates nothing, so the plain text carries its own check, and is padded so that its
length says little:

    offset 0    one block of 512 bytes: `obsdimg-sealed-1 HEX LENGTH\\n`, then blanks and `\\n`;
                HEX is the SHA-256 of all that follows, LENGTH its size in bytes
    offset 512  a ustar archive (numeric owners), filled with zeros to a multiple of 16 KiB

The check tells a wrong passphrase from a right one and notices damage.  It is no signature:
who can change the ISO can change the installer too; that is what the signed sets are for.
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

ITERATIONS = 600_000
"""Rounds of PBKDF2 for a new file.  Two blocks of output are derived (48 bytes), so the server
does 1.2 million HMACs once: about a second on a processor of today, some tens of seconds in an
emulator.  The attacker does half of that for each guess; `passphrase.report` says what it buys.
"""

MAGIC = b"Salted__"
HEADER = "obsdimg-sealed-1"
BLOCK = 512
BUCKET = 16 * 1024
MAX_ITERATIONS = 100_000_000


class SealingError(ObsdimgError):
    """Files cannot be sealed, or a sealed file cannot be opened; never shows their content."""


def seal(
    files: Iterable[Entry],
    passphrase: Secret,
    *,
    salt_key: bytes,
    iterations: int = ITERATIONS,
) -> bytes:
    """`files` sealed with `passphrase`.

    The same input gives the same bytes: the salt is an HMAC-SHA256, keyed with `salt_key`, of
    passphrase, iterations and content.  A salt so made differs whenever the content does, and
    tells nothing: without `salt_key` (at least 16 bytes, a secret of the project that is not
    on the ISO) it can neither be computed nor be used to test a passphrase faster than PBKDF2
    allows, which a hash of passphrase and content alone could be.

    Raises SealingError for a path that is not absolute and plain, or a short `salt_key`.
    """
    if len(salt_key) < 16:
        raise SealingError(f"salt key: {len(salt_key)} bytes are too few", "use 16 or more")
    plain = pack(files)
    secret = passphrase.reveal().encode("ascii")
    seed = b"obsdimg-salt-1\0%d\0%d\0%b" % (iterations, len(secret), secret) + plain
    salt = hmac.digest(salt_key, seed, "sha256")[:8]
    return MAGIC + salt + _encrypt(plain, secret, salt, iterations)


def open_sealed(sealed: bytes, passphrase: Secret, *, iterations: int = ITERATIONS) -> list[Entry]:
    """What `seal` sealed, as install.site would open it.

    Raises SealingError: not a sealed file, or `passphrase` does not open it.
    """
    if sealed[:8] != MAGIC or len(sealed) < 32 or len(sealed) % 16:
        raise SealingError("not a sealed file", "it should begin with Salted__")
    secret = passphrase.reveal().encode("ascii")
    plain = _decrypt(sealed[16:], secret, sealed[8:16], iterations)
    if plain is None:
        raise SealingError("the passphrase does not open the sealed file")
    return unpack(plain)


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


def _key_and_iv(secret: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise SealingError(f"{iterations} rounds of PBKDF2", f"use 1 to {MAX_ITERATIONS}")
    derived = hashlib.pbkdf2_hmac("sha256", secret, salt, iterations, 48)
    return derived[:32], derived[32:]


def _encrypt(plain: bytes, secret: bytes, salt: bytes, iterations: int) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, iv = _key_and_iv(secret, salt, iterations)
    fill = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plain + bytes([fill]) * fill) + encryptor.finalize()


def _decrypt(data: bytes, secret: bytes, salt: bytes, iterations: int) -> bytes | None:
    """The plain text, or None where the PKCS#7 padding is wrong."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, iv = _key_and_iv(secret, salt, iterations)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    plain = decryptor.update(data) + decryptor.finalize()
    fill = plain[-1]
    if not 1 <= fill <= 16 or plain[-fill:] != bytes([fill]) * fill:
        return None
    return plain[:-fill]
