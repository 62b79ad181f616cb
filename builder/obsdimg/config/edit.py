"""Editing obsdimg.toml for the user: peers come and go, comments and order stay."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from obsdimg.config import Config, parse
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file, write_file


class ConfigEditError(ObsdimgError):
    """The change asked for cannot be made."""


def add_peer(path: Path, values: dict[str, Any]) -> Config:
    """Append a peer; the file is written only if the result is valid.

    Raises ConfigError, or ConfigEditError where the file's form is beyond this function.
    """
    before, document = _read(path)
    tunnel = document.setdefault("tunnel", tomlkit.table())
    if "peers" not in tunnel:
        tunnel["peers"] = tomlkit.aot()
    peers = tunnel["peers"]
    table: Any = tomlkit.table() if isinstance(peers, AoT) else tomlkit.inline_table()
    table.update(values)
    peers.append(table)
    names = [p.name for p in before.tunnel.peers]
    return _store(path, tomlkit.dumps(document), [*names, values["name"]])


def remove_peer(path: Path, name: str) -> Config:
    """Remove the peer called `name`.  Raises ConfigEditError."""
    before, document = _read(path)
    peers = document.get("tunnel", {}).get("peers", [])
    for index, peer in enumerate(peers):
        if isinstance(peer, Mapping) and peer.get("name") == name:
            del peers[index]
            if not peers:
                del document["tunnel"]["peers"]
            names = [p.name for p in before.tunnel.peers if p.name != name]
            return _store(path, tomlkit.dumps(document), names)
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


def _read(path: Path) -> tuple[Config, Any]:
    data = read_file(path, "configuration")
    config = parse(data, str(path))
    try:
        return config, tomlkit.parse(data)
    except TOMLKitError as error:
        raise ConfigEditError(f"{path}: cannot be edited: {error}", "edit it by hand") from error


def _store(path: Path, text: str, names: list[str]) -> Config:
    """Write `text` if its peers are those called `names`, in that order."""
    config = parse(text.encode(), str(path))
    if [p.name for p in config.tunnel.peers] != names:
        raise ConfigEditError(
            f"{path}: the clients are written in a form that obsdimg cannot edit",
            "edit it by hand, or use one [[tunnel.peers]] table each",
        )
    write_file(path, text.encode(), path.stat().st_mode & 0o777)
    return config
