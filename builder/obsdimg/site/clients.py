"""The clients: planned from the configuration, and their files, clients/NAME.conf.

A file is as the official apps and wg-quick(8) read it.  What is not known yet has a mark in its
place: the key of a client that made its own, of a server that makes its own at the first boot,
an endpoint that is not configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

from obsdimg.config import Config, PeerSettings
from obsdimg.config.hops import is_hop
from obsdimg.config.sites import overlap, within
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, read_file, write_file
from obsdimg.project.folder import ProjectKeys
from obsdimg.tunnel.identity import TunnelClient, usual_server
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import WgPrivateKey
from obsdimg.tunnel.wgconf import Network, decode, parse

OWN_KEY = "PUT-YOUR-PRIVATE-KEY-HERE"
UNKNOWN_SERVER = "SHOWN-ON-THE-SERVERS-CONSOLE"
UNKNOWN_ENDPOINT = "SET-tunnel.endpoint"

DEFAULT_PORT = 53
"""The recipe's; of a file that names no endpoint."""

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class ClientError(ObsdimgError):
    """There is no such client, or its configuration is not complete yet."""


def find_peer(config: Config, name: str) -> PeerSettings:
    """The peer called `name`.  Raises ClientError, naming those there are."""
    peers = [peer for peer in config.tunnel.peers if not is_hop(peer)]
    for peer in peers:
        if peer.name == name:
            return peer
    names = ", ".join(p.name for p in peers) or "none"
    raise ClientError(f"there is no client {name}", f"in the configuration: {names}")


def plan_client(config: Config, keys: ProjectKeys, peer: PeerSettings) -> TunnelClient:
    """Everything that `peer` needs to know of the tunnel, and the project of `peer`."""
    tunnel, own = config.tunnel, keys.peers[peer.name]
    given = [a for a in (peer.ipv4, peer.ipv6) if a is not None]
    versions = {a.version for a in given}
    server = [a for a in (tunnel.ipv4, tunnel.ipv6) if a is not None]
    networks: tuple[Network, ...] = tuple(a.network for a in server)
    return TunnelClient(
        name=peer.name,
        private=own.private,
        server=keys.server_public,
        preshared=own.preshared,
        addresses=tuple(ip_interface(f"{a}/{a.max_prefixlen}") for a in given),
        inside=tuple(a.ip for a in server if a.version in versions),
        # Everything in both families, so that no IPv6 leaves beside an IPv4-only tunnel; the
        # private networks it may reach are part of it.
        allowed=EVERYTHING if peer.internet else (*networks, *_beyond(config, peer)),
        host=tunnel.endpoint,
        port=tunnel.port,
        dns=_resolvers(config, peer),
        mtu=peer.mtu or tunnel.mtu,
        keepalive=peer.keepalive or None,
        reach=tuple(peer.reach),
        server_name=config.host.name,
    )


def _beyond(config: Config, peer: PeerSettings) -> list[Network]:
    """What a split tunnel leads to beside the tunnel's own network: where it may go, and who may
    come: a client drops what comes from an address that is not in its AllowedIPs."""
    found = [*peer.reach, *peer.reached_from]
    for other in config.tunnel.peers:
        if any(within(net, behind) for net in other.reach for behind in peer.networks):
            found += other.networks
    return list(dict.fromkeys(found))


def plan_clients(config: Config, keys: ProjectKeys) -> tuple[TunnelClient, ...]:
    """Every client of the configuration; another server that hops through this is none."""
    peers = [peer for peer in config.tunnel.peers if not is_hop(peer)]
    return tuple(plan_client(config, keys, peer) for peer in peers)


def client_conf(client: TunnelClient) -> bytes:
    """The text of its file."""
    return clients_conf([client])


def clients_conf(clients: Sequence[TunnelClient]) -> bytes:
    """One file for one client of several servers: what goes to none of the others goes to the
    first, whose resolvers it has.

    Raises ClientError where two servers' networks overlap: the file could not tell them apart.
    """
    first = clients[0]
    _refuse_overlap(clients)
    private = first.private.reveal() if first.private else OWN_KEY
    addresses = ", ".join(str(a) for client in clients for a in client.addresses)
    names = ", ".join(client.server_name for client in clients)
    lines = [
        f"# {first.name}: client of {names}",
        "[Interface]",
        f"PrivateKey = {private}",
        f"Address = {addresses}",
    ]
    if first.dns:
        lines.append(f"DNS = {', '.join(map(str, first.dns))}")
    if mtus := [client.mtu for client in clients if client.mtu]:
        lines.append(f"MTU = {min(mtus)}")
    for client in clients:
        lines.append("")
        if len(clients) > 1:
            lines.append(f"# {client.server_name}")
        lines += _peer_lines(client)
    return ("\n".join(lines) + "\n").encode()


def _peer_lines(client: TunnelClient) -> list[str]:
    """The server, as the client knows it."""
    server = client.server.text() if client.server else UNKNOWN_SERVER
    endpoint = client.endpoint or f"{UNKNOWN_ENDPOINT}:{client.port}"
    lines = ["[Peer]", f"PublicKey = {server}"]
    if client.preshared:
        lines.append(f"PresharedKey = {client.preshared.reveal()}")
    lines += [f"AllowedIPs = {', '.join(map(str, client.allowed))}", f"Endpoint = {endpoint}"]
    if client.keepalive:
        lines.append(f"PersistentKeepalive = {client.keepalive}")
    return lines


def _refuse_overlap(clients: Sequence[TunnelClient]) -> None:
    """Raises ClientError unless every network is at one server."""
    seen: list[tuple[Network, str]] = []
    for client in clients:
        own = (*_tunnel_networks(client), *client.reach)
        wide = [net for net in client.allowed if net.prefixlen > 0]
        for net in dict.fromkeys((*own, *wide)):
            for other, server in seen:
                if server != client.server_name and overlap(net, other):
                    raise ClientError(
                        f"{net} of {client.server_name} overlaps {other} of {server}: one file"
                        " cannot tell them apart",
                        f"give {client.server_name} another tunnel.ipv4 (in [servers.NAME.tunnel]),"
                        " or write a file for each",
                    )
            seen.append((net, client.server_name))


def _tunnel_networks(client: TunnelClient) -> list[Network]:
    """Its own addresses, and the servers', as networks."""
    own: list[Network] = [address.network for address in client.addresses]
    return [*own, *(ip_network(address) for address in client.inside)]


def client_path(folder: Path, name: str) -> Path:
    """Where the client's file is in the project's folder clients/."""
    return folder / f"{name}.conf"


def write_client(folder: Path, client: TunnelClient) -> Path:
    """Write its file into the project's folder clients/ (0600, folder 0700).  Raises FileError."""
    path = client_path(private_dir(folder), client.name)
    write_file(path, client_conf(client))
    return path


def read_client(
    path: Path, servers: Sequence[Address] = (), port: int | None = None
) -> TunnelClient:
    """The client in a wg-quick file, ours or another's, finished or not.

    `servers` are the server's addresses in the tunnel (default: the usual ones), `port` its port
    (default: the one in the file).  Raises ClientError, ConfError, FileError.
    """
    text = decode(read_file(path, "client configuration"), str(path))
    some = WgPrivateKey.generate()
    marks = {mark: mark in text for mark in (OWN_KEY, UNKNOWN_SERVER, UNKNOWN_ENDPOINT)}
    text = text.replace(OWN_KEY, some.reveal()).replace(UNKNOWN_SERVER, some.public().text())
    conf = parse(text, str(path))
    peers = [p for p in conf.peers if p.endpoint is not None] or list(conf.peers)
    if len(peers) > 1:
        raise ClientError(f"{path}: it has {len(peers)} peers", "give a file with one server")
    (peer,) = peers
    versions = {own.version for own in conf.addresses}
    inside = tuple(servers) or usual_server(conf.addresses, peer.allowed_ips)
    client = TunnelClient(
        name=path.stem,
        private=None if marks[OWN_KEY] else conf.private_key,
        server=None if marks[UNKNOWN_SERVER] else peer.public_key,
        preshared=peer.preshared_key,
        addresses=conf.addresses,
        inside=tuple(a for a in inside if a.version in versions),
        allowed=peer.allowed_ips,
        host=None,
        port=port or (peer.endpoint.port if peer.endpoint else DEFAULT_PORT),
        dns=conf.dns,
        mtu=conf.mtu,
        keepalive=peer.keepalive,
    )
    if peer.endpoint is None or marks[UNKNOWN_ENDPOINT]:
        return client
    return replace(client, host=peer.endpoint.host)


def still_missing(client: TunnelClient) -> list[tuple[str, str]]:
    """What its configuration still lacks, and how it gets there."""
    lacks = {
        ("the client's own private key", "put it into PrivateKey on the client itself"): (
            client.private
        ),
        (
            "the server's key, which it shows on its console at first boot",
            "obsdimg client --server-key KEY",
        ): client.server,
        ("the server's address", "set tunnel.endpoint in obsdimg.toml, or give --endpoint"): (
            client.host
        ),
    }
    return [what for what, known in lacks.items() if known is None]


def _resolvers(config: Config, peer: PeerSettings) -> tuple[Address, ...]:
    """The resolvers of a client: its own, else the tunnel's; unbound is at the server."""
    if peer.dns:
        return tuple(peer.dns)
    tunnel = config.tunnel
    if tunnel.dns == "unbound":
        return tuple(a.ip for a in (tunnel.ipv4, tunnel.ipv6) if a is not None)
    return () if tunnel.dns == "none" else tuple(tunnel.dns)
