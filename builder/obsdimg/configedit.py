"""Editing obsdimg.toml for the user: peers come and go, comments and order stay."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

from obsdimg.config import Config, parse
from obsdimg.errors import ObsdimgError
from obsdimg.files import read_file, write_file


class ConfigEditError(ObsdimgError):
    """The change asked for cannot be made."""


def add_peer(path: Path, values: dict[str, Any]) -> Config:
    """Append a peer; the file is written only if the result is valid.  Raises ConfigError."""
    document = tomlkit.parse(read_file(path, "configuration").decode())
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    tunnel = document.setdefault("tunnel", tomlkit.table())
    peers = tunnel.get("peers")
    if not isinstance(peers, AoT):
        peers = tomlkit.aot()
        tunnel["peers"] = peers
    peers.append(table)
    return _store(path, tomlkit.dumps(document))


def remove_peer(path: Path, name: str) -> Config:
    """Remove the peer called `name`.  Raises ConfigEditError."""
    document = tomlkit.parse(read_file(path, "configuration").decode())
    peers = document.get("tunnel", {}).get("peers", [])
    for index, peer in enumerate(peers):
        if isinstance(peer, Table) and peer.get("name") == name:
            del peers[index]
            if not peers:
                del document["tunnel"]["peers"]
            return _store(path, tomlkit.dumps(document))
    raise ConfigEditError(f"there is no client {name}", "obsdimg client list")


def free_addresses(config: Config) -> dict[str, str]:
    """The next free address of the tunnel in each family it has, by key of the peer's table."""
    found: dict[str, str] = {}
    for key, own in (("ipv4", config.tunnel.ipv4), ("ipv6", config.tunnel.ipv6)):
        if own is None:
            continue
        taken = {own.ip, *(getattr(p, key) for p in config.tunnel.peers)}
        free = next((a for a in _hosts(own.network) if a not in taken), None)
        if free is None:
            raise ConfigEditError(f"tunnel.{key}: no address is free in {own.network}")
        found[key] = str(free)
    return found


def _hosts(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Any:
    return network.hosts()


def _store(path: Path, text: str) -> Config:
    config = parse(text.encode(), str(path))
    write_file(path, text.encode(), path.stat().st_mode & 0o777)
    return config
