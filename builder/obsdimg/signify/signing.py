"""Re-signing: a new SHA256 and SHA256.sig for the sets of a remastered ISO.

The installer verifies SHA256.sig with /etc/signify/openbsd-XX-base.pub of its ramdisk, then every
set by its line in the list (install.sub of 6.6 to 7.8).  With this project's key there, it
verifies the site set too, and the response file needs no waiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from obsdimg.signify.message import SignifyPublicKey, SignifySecretKey, sign_embedded
from obsdimg.signify.sha256list import render


@dataclass(frozen=True)
class SignedList:
    """The two files for the folder of the sets: the list, and the list with its signature."""

    sha256: bytes
    sha256_sig: bytes


def sign_list(hashes: Mapping[str, str], key: SignifySecretKey, version: str) -> SignedList:
    """SHA256 and SHA256.sig for `hashes` (file name to 64 hex digits), for release `version`.

    Deterministic: Ed25519 needs no random numbers.  Raises MalformedList for a bad name or hash.
    """
    data = render(hashes)
    comment = f"verify with openbsd-{version.replace('.', '')}-base.pub"
    return SignedList(data, sign_embedded(data, key, comment))


def ramdisk_key(key: SignifySecretKey, version: str) -> SignifyPublicKey:
    """The public half for the ramdisk's /etc/signify/openbsd-XX-base.pub.

    Its comment is honest and as long as the genuine one (`openbsd 6.6 base public key`), so that
    the file has the same 104 bytes.
    """
    return key.public(f"obsdimg {version} base public key")
