"""Key pairs for tests, made when they run."""

from __future__ import annotations

from obsdimg.tunnel.keys import WgPrivateKey, WgPublicKey


def generate_pair() -> tuple[WgPrivateKey, WgPublicKey]:
    """A new private key and its public half."""
    private = WgPrivateKey.generate()
    return private, private.public()
