"""Several servers in one file: `[servers.NAME]` tables over what they have in common.

A server is the shared tables with its own laid over them: tables are merged, lists replaced, but
arrays of tables whose entries have a `name` (peers, interfaces) are merged entry by entry.  Where
a server's tunnel has a network of its own, shared peers keep their place in it: 10.0.0.3/24 is
10.7.0.3 in 10.7.0.0/24.  Values here are as TOML gives them; load.py checks what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

from obsdimg.config.errors import ConfigError

Table = Mapping[str, Any]

SERVERS = "servers"
NEXT = "next"
"""A server's one key beside the settings: the server that its clients' traffic leaves by."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,26}[a-z0-9])?")
_SHARED_IPV4 = "10.0.0.1/24"  # TunnelSettings.ipv4
_MOST = 1000


def server_names(table: Table, where: str) -> tuple[str, ...]:
    """The servers of the file, in its order; empty: it is about one.  Raises ConfigError."""
    if SERVERS not in table:
        return ()
    servers = table[SERVERS]
    if not isinstance(servers, dict) or not all(isinstance(t, dict) for t in servers.values()):
        raise ConfigError(f"{where}: servers: must be tables", "one [servers.NAME] each")
    if not 1 <= len(servers) <= _MOST:
        raise ConfigError(f"{where}: servers: {len(servers)} are not between 1 and {_MOST}")
    for name in servers:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: servers.{name[:40]!r}: is no name for a server",
                "up to 28 of a-z, 0-9 and - (like ams-1)",
            )
    return tuple(servers)


def choose_server(table: Table, name: str | None, where: str) -> str | None:
    """The server meant by `name`; None where the file is about one.  Raises ConfigError."""
    names = server_names(table, where)
    if not names:
        if name is None:
            return None
        raise ConfigError(
            f"{where}: there is no server {name}: it has no [servers.NAME] tables",
            "leave the name out",
        )
    if name is None:
        raise ConfigError(
            f"{where}: which server? {_listed(names)}",
            "name it (--server NAME), or --all where a command takes several",
        )
    if name not in names:
        raise ConfigError(f"{where}: there is no server {name}", f"there is: {_listed(names)}")
    return name


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def server_table(table: Table, name: str) -> dict[str, Any]:
    """The settings of one server, as if it had a file of its own."""
    own = {key: value for key, value in table[SERVERS][name].items() if key != NEXT}
    shared = {key: value for key, value in table.items() if key != SERVERS}
    # What is a server's own cannot be shared.
    host = shared.get("host")
    if isinstance(host, dict):
        shared["host"] = {**host, "name": name}
    else:
        shared.setdefault("host", {"name": name})
    merged = _merged(_renumbered(shared, own), own)
    assert isinstance(merged, dict)
    return merged


def next_server(table: Table, name: str, where: str) -> str | None:
    """The server behind `name` (`next`).  Raises ConfigError, also where they form a ring."""
    found = _next(table, name, where)
    seen, at = [name], found
    while at is not None:
        if at in seen:
            ring = " -> ".join([*seen, at])
            raise ConfigError(
                f"{where}: servers.{name}.next: {ring}: the traffic would never leave",
                "the last one has no next",
            )
        seen.append(at)
        at = _next(table, at, where)
    return found


def _next(table: Table, name: str, where: str) -> str | None:
    value = table[SERVERS][name].get(NEXT)
    if value is None:
        return None
    if not isinstance(value, str) or value not in table[SERVERS] or value == name:
        others = _listed(tuple(n for n in table[SERVERS] if n != name))
        raise ConfigError(
            f"{where}: servers.{name}.next: is not another server of this file",
            f"there is: {others or 'none'}",
        )
    return value


def previous_servers(table: Table, name: str, where: str) -> tuple[str, ...]:
    """The servers whose `next` is `name`, in the file's order."""
    return tuple(n for n in table[SERVERS] if _next(table, n, where) == name)


def refuse_twins(table: Table, where: str) -> None:
    """Two servers cannot be at one place.  Raises ConfigError."""
    seen: dict[tuple[str, str], str] = {}
    for name in table[SERVERS]:
        for key, value in _places(server_table(table, name)):
            other = seen.setdefault((key, value.lower()), name)
            if other != name:
                raise ConfigError(
                    f"{where}: servers.{name}: {key} {value} is that of {other}, too",
                    f"give {key} in [servers.{name}], not in the shared tables",
                )


def _places(server: Table) -> list[tuple[str, str]]:
    """What no two servers can share: names, addresses, and where clients call."""
    found = []
    tunnel, network, host = (server.get(t) for t in ("tunnel", "network", "host"))
    if isinstance(host, dict) and isinstance(host.get("name"), str):
        found.append(("host.name", host["name"]))
    if isinstance(tunnel, dict) and isinstance(tunnel.get("endpoint"), str):
        found.append(("tunnel.endpoint", f"{tunnel['endpoint']}:{tunnel.get('port', 53)}"))
    if isinstance(network, dict):
        for key in ("ipv4", "ipv6"):
            value = network.get(key)
            if isinstance(value, str) and "/" in value:
                found.append((f"network.{key}", value))
    return found


def _merged(shared: Any, own: Any) -> Any:
    if isinstance(shared, dict) and isinstance(own, dict):
        both = {k: _merged(shared[k], v) if k in shared else v for k, v in own.items()}
        return {**shared, **both}
    if _named(shared) and _named(own):
        mine = {entry["name"]: entry for entry in own}
        known = {entry["name"] for entry in shared}
        return [
            *(_merged(entry, mine.get(entry["name"], {})) for entry in shared),
            *(entry for entry in own if entry["name"] not in known),
        ]
    return own


def _named(value: Any) -> bool:
    """Whether it is an array of tables that are told apart by their names."""
    if not isinstance(value, list) or not value:
        return False
    names = [e.get("name") if isinstance(e, dict) else None for e in value]
    return all(isinstance(n, str) for n in names) and len(set(names)) == len(names)


def _renumbered(shared: dict[str, Any], own: Table) -> dict[str, Any]:
    """The shared tables, peers at their place in the server's own network."""
    tunnel, mine = shared.get("tunnel"), own.get("tunnel")
    if not isinstance(tunnel, dict) or not isinstance(mine, dict):
        return shared
    peers = tunnel.get("peers")
    if not isinstance(peers, list) or not _named(peers):
        return shared
    for key, usual in (("ipv4", _SHARED_IPV4), ("ipv6", None)):
        before, after = tunnel.get(key, usual), mine.get(key)
        if isinstance(before, str) and isinstance(after, str):
            peers = [_moved(peer, key, before, after) for peer in peers]
    return {**shared, "tunnel": {**tunnel, "peers": peers}}


def _moved(peer: dict[str, Any], key: str, before: str, after: str) -> dict[str, Any]:
    """The peer with its address in another network; as it is, if that does not work."""
    try:
        address = ip_address(peer[key])
        old, new = ip_interface(before).network, ip_interface(after).network
        place = int(address) - int(old.network_address)
        if address not in old or place >= new.num_addresses:
            return peer
        return {**peer, key: str(new.network_address + place)}
    except (KeyError, ValueError, TypeError):
        return peer
