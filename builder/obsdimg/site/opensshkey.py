"""A random secret in the form of an OpenSSH private key, so that guessing its passphrase costs
bcrypt_pbkdf, as on the disk.

The file is an ordinary `openssh-key-v1` key (PROTOCOL.key in usr.bin/ssh): Ed25519, no comment,
`aes256-ctr`, `bcrypt`; ssh-keygen(1) of every release since 6.5 opens it.  The secret is the 32
bytes of the key's seed.  Unencrypted, the seed stands at byte SEED_AT of the decoded file, since
everything before it has a fixed length.

Written here and not by the cryptography package, whose salt and check number are random: the same
project gives the same bytes.
"""

from __future__ import annotations

import base64
import struct
import textwrap

MAGIC = b"openssh-key-v1\0"
SEED_AT = 161
"""Offset of the seed in the decoded, unencrypted file: magic 15, none 8, none 8, options 4,
count 4, public key 4 + 51, length 4, check 8, type 4 + 11, public key 4 + 32, length 4."""
_TYPE = b"ssh-ed25519"
_BLOCK = 16
MAX_ROUNDS = 1 << 20


def derived_key(passphrase: bytes, salt: bytes, rounds: int) -> bytes:
    """What a key file is encrypted with: AES-256's key and the counter, 48 bytes.

    `salt`: 16 bytes; `rounds` of bcrypt_pbkdf, each as dear as two of a disk's.
    """
    import bcrypt

    return bcrypt.kdf(passphrase, salt, 48, rounds, ignore_few_rounds=True)


def encrypted_key(seed: bytes, derived: bytes, salt: bytes, check: bytes, rounds: int) -> bytes:
    """The key file for `seed` (32 bytes), encrypted with `derived`, which is the derived_key of a
    passphrase, `salt` and `rounds`; `check`: 4 bytes, which stand twice in the encrypted part.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    private = check + check + _string(_TYPE) + _string(public) + _string(seed + public)
    private += _string(b"")
    private += bytes(range(1, 1 + -len(private) % _BLOCK))
    options = _string(salt) + struct.pack(">I", rounds)
    blob = (
        MAGIC
        + _string(b"aes256-ctr")
        + _string(b"bcrypt")
        + _string(options)
        + struct.pack(">I", 1)
        + _string(_string(_TYPE) + _string(public))
        + _string(_ctr(derived, private))
    )
    lines = "\n".join(textwrap.wrap(base64.b64encode(blob).decode(), 70))
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return f"{begin}\n{lines}\n{end}\n".encode()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _ctr(derived: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(derived[:32]), modes.CTR(derived[32:])).encryptor()
    return cipher.update(data) + cipher.finalize()
