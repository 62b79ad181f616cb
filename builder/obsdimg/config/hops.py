"""Two servers of one file as hops: what `next` means in settings that both already know.

The first gets an upstream, the second a peer; their keys are in the project (project/folder.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface

from obsdimg.config.errors import ConfigError
from obsdimg.config.model import Config, PeerSettings, UpstreamSettings


class HopPeer(PeerSettings):
    """Another server of the file, whose clients' traffic comes here."""

    server: str


class HopUpstream(UpstreamSettings):
    """Another server of the file, by which clients' traffic leaves."""

    public_key: str = ""
    server: str


def hop_name(server: str) -> str:
    """The peer's name at the next server."""
    return f"hop-{server}"


def is_hop(peer: PeerSettings) -> bool:
    """Whether it is a server, not a device that gets a file."""
    return isinstance(peer, HopPeer)


def hop_addresses(config: Config, previous: Sequence[str], where: str) -> dict[str, IPv4Interface]:
    """The address in the tunnel of `config` that each server before it gets: from the top down.

    Raises ConfigError.
    """
    own = config.tunnel.ipv4
    if own is None:
        raise ConfigError(f"{where}: tunnel.ipv4: is missing: {previous[0]} comes through it")
    taken = {own.ip, *(peer.ipv4 for peer in config.tunnel.peers)}
    found: dict[str, IPv4Interface] = {}
    address = own.network.broadcast_address
    for name in previous:
        address -= 1
        while address in taken:
            address -= 1
        if address not in own.network or address == own.network.network_address:
            raise ConfigError(f"{where}: tunnel.ipv4: no address is free in {own.network}")
        found[name] = IPv4Interface(f"{address}/{own.network.prefixlen}")
    return found


def with_previous(config: Config, addresses: dict[str, IPv4Interface], where: str) -> Config:
    """`config` with a peer for each server before it."""
    if not addresses:
        return config
    _keys_made_here(config, where)
    hops = [
        HopPeer(name=hop_name(name), ipv4=address.ip, ssh=False, server=name)
        for name, address in addresses.items()
    ]
    return _with_tunnel(config, peers=[*config.tunnel.peers, *hops])


def with_next(
    config: Config, server: str, following: Config, address: IPv4Interface, where: str
) -> Config:
    """`config` with the upstream `server`, whose settings are `following`."""
    _keys_made_here(config, where)
    if config.tunnel.upstream is not None:
        raise ConfigError(f"{where}: tunnel.upstream: next = {server} is one already")
    endpoint = following.tunnel.endpoint
    if endpoint is None:
        raise ConfigError(
            f"{where}: next: server {server} has no tunnel.endpoint",
            f"set tunnel.endpoint in [servers.{server}]",
        )
    port = following.tunnel.port
    upstream = HopUpstream(endpoint=endpoint, port=port, ipv4=address, server=server)
    return _with_tunnel(config, upstream=upstream)


def _with_tunnel(config: Config, **values: object) -> Config:
    return config.model_copy(update={"tunnel": config.tunnel.model_copy(update=values)})


def _keys_made_here(config: Config, where: str) -> None:
    if config.tunnel.keys != "build":
        raise ConfigError(
            f'{where}: tunnel.keys = "first-boot": a hop needs keys that are known here',
            'use keys = "build" at both servers',
        )
