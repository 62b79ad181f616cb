"""Projects with fixed, worthless keys, so that what is generated from them can be compared."""

from __future__ import annotations

import hashlib

from obsdimg.config import Config, parse
from obsdimg.project.folder import PeerKeys, ProjectKeys
from obsdimg.releases.release import load_release
from obsdimg.signify.message import SignifySecretKey
from obsdimg.site.plan import Materials, SitePlan, plan_site
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey

RECIPE = """
[host]
name = "vpn"
timezone = "Europe/Paris"
[access.admin]
name = "admin"
keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA two@example",
]
[[network.interfaces]]
name = "vio1"
ipv4 = "172.16.1.3/24"
[tunnel]
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
reach = ["172.16.1.0/24"]
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
"""

UPSTREAM = """
[tunnel.upstream]
endpoint = "hop.example.net"
public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="
ipv4 = "10.9.0.2/24"
"""
"""A next server, to be put behind RECIPE."""


def secret(name: str) -> bytes:
    """32 bytes that are always the same for a name."""
    return hashlib.sha256(name.encode()).digest()


def keys_for(config: Config) -> ProjectKeys:
    """Keys derived from the names of things."""
    own = config.tunnel.keys == "build"
    server = WgPrivateKey(secret("server")) if own else None
    peers = {}
    for peer in config.tunnel.peers:
        private = WgPrivateKey(secret(peer.name))
        psk = PresharedKey(secret(peer.name + " psk")) if own else None
        peers[peer.name] = PeerKeys(private.public(), private, psk)
    public = server.public() if server else None
    return ProjectKeys(SignifySecretKey.generate("test"), secret("seal"), server, public, peers)


def planned(
    text: str = RECIPE, version: str = "6.6", materials: Materials | None = None
) -> SitePlan:
    config = parse(text.encode())
    return plan_site(config, load_release(version), keys_for(config), materials or Materials())


def content(plan: SitePlan, path: str) -> str:
    """The text of one file of the site set, sealed or not."""
    for entry in plan.files:
        if entry.path == path:
            return entry.data.decode()
    return plan.sealed[path].data.decode()
