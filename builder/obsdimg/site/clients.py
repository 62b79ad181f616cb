"""The clients' configurations: one file a peer, as the official apps and wg-quick(8) read it."""

from __future__ import annotations

from obsdimg.config import Config, PeerSettings
from obsdimg.core.errors import ObsdimgError
from obsdimg.project.folder import ProjectKeys

OWN_KEY = "PUT-YOUR-PRIVATE-KEY-HERE"
UNKNOWN_SERVER = "SHOWN-ON-THE-SERVERS-CONSOLE"
UNKNOWN_ENDPOINT = "SET-tunnel.endpoint"


class ClientError(ObsdimgError):
    """There is no such client, or its configuration is not complete yet."""


_TO_DO = {
    OWN_KEY: "the client's own private key: put it into PrivateKey on the client itself",
    UNKNOWN_SERVER: "the server's key, which it shows on its console at first boot:"
    " obsdimg client --server-key KEY",
    UNKNOWN_ENDPOINT: "the server's address: set tunnel.endpoint in obsdimg.toml",
}


def still_missing(text: str) -> list[str]:
    """What a client's configuration still lacks, and how it gets there; one line each."""
    return [what for mark, what in _TO_DO.items() if mark in text]


def find_peer(config: Config, name: str) -> PeerSettings:
    """The peer called `name`.  Raises ClientError, naming those there are."""
    for peer in config.tunnel.peers:
        if peer.name == name:
            return peer
    names = ", ".join(p.name for p in config.tunnel.peers) or "none"
    raise ClientError(f"there is no client {name}", f"in the configuration: {names}")


def client_conf(config: Config, keys: ProjectKeys, peer: PeerSettings) -> bytes:
    """The text for `peer`.

    A client that made its own key finds a line to fill in, as does one whose server makes
    its key at first boot.
    """
    tunnel, own = config.tunnel, keys.peers[peer.name]
    addresses = [f"{a}/{a.max_prefixlen}" for a in (peer.ipv4, peer.ipv6) if a is not None]
    private = own.private.reveal() if own.private else OWN_KEY
    server = keys.server_public.text() if keys.server_public else UNKNOWN_SERVER
    lines = [
        f"# {peer.name}: client of {config.host.name}",
        "[Interface]",
        f"PrivateKey = {private}",
        f"Address = {', '.join(addresses)}",
    ]
    if resolvers := client_dns(config, peer):
        lines.append(f"DNS = {', '.join(resolvers)}")
    lines += [f"MTU = {tunnel.mtu}", "", "[Peer]", f"PublicKey = {server}"]
    if own.preshared:
        lines.append(f"PresharedKey = {own.preshared.reveal()}")
    lines += [
        f"AllowedIPs = {', '.join(allowed_ips(config, peer))}",
        f"Endpoint = {endpoint(config)}",
    ]
    if peer.keepalive:
        lines.append(f"PersistentKeepalive = {peer.keepalive}")
    return ("\n".join(lines) + "\n").encode()


def endpoint(config: Config) -> str:
    """HOST:PORT of the server as clients see it, IPv6 addresses in brackets."""
    host = config.tunnel.endpoint or UNKNOWN_ENDPOINT
    return f"[{host}]:{config.tunnel.port}" if ":" in host else f"{host}:{config.tunnel.port}"


def client_dns(config: Config, peer: PeerSettings) -> list[str]:
    """The resolvers of a client: its own, else the tunnel's; unbound is at the server."""
    if peer.dns:
        return [str(a) for a in peer.dns]
    tunnel = config.tunnel
    if tunnel.dns == "unbound":
        return [str(a.ip) for a in (tunnel.ipv4, tunnel.ipv6) if a is not None]
    return [] if tunnel.dns == "none" else [str(a) for a in tunnel.dns]


def allowed_ips(config: Config, peer: PeerSettings) -> list[str]:
    """What the client sends into the tunnel: everything, or the tunnel and what it may reach."""
    tunnel = config.tunnel
    if peer.internet:
        # Everything in both families, so that no IPv6 leaves beside an IPv4-only tunnel; the
        # private networks it may reach are part of it.
        return ["0.0.0.0/0", "::/0"]
    own = [str(a.network) for a in (tunnel.ipv4, tunnel.ipv6) if a is not None]
    return [*own, *(str(n) for n in peer.reach)]
