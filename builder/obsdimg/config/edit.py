"""Editing obsdimg.toml for the user: peers come and go, comments and order stay."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array

from obsdimg.config import Config, ConfigError, parse
from obsdimg.config.document import inline, toml
from obsdimg.config.load import parse_table
from obsdimg.config.model import TunnelSettings
from obsdimg.config.servers import server_names
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file, write_file


class ConfigEditError(ObsdimgError):
    """The change asked for cannot be made."""


def add_peer(path: Path, values: dict[str, Any]) -> Config:
    """Append a peer, of all servers where there are several.

    The file is written only if the result is valid.  Raises ConfigError, or ConfigEditError where
    the file's form is beyond this function.
    """
    before, document = _read(path)
    names = [p.name for p in before.tunnel.peers]
    tunnel = document.get("tunnel")
    if isinstance(tunnel, Mapping) and "peers" in tunnel:
        peers = tunnel["peers"]
        table: Any = tomlkit.table() if isinstance(peers, AoT) else tomlkit.inline_table()
        table.update(values)
        if isinstance(peers, Array) and "\n" in peers.as_string():
            peers.add_line(table, indent="    ", comment=None)
        else:
            peers.append(table)
        text = tomlkit.dumps(document)
    else:
        text = _with_first(read_file(path, "configuration").decode(), values)
    return _store(path, text, before, [*names, values["name"]])


def _with_first(text: str, values: dict[str, Any]) -> str:
    """`text` with a list of one peer: where settings have whole names among these, else as a
    table at the end."""
    lines = text.splitlines(keepends=True)
    heading = next((n for n, line in enumerate(lines) if line.lstrip().startswith("[")), None)
    dotted = any(line.startswith("tunnel.") for line in lines[:heading])
    if heading is None or dotted:
        own = f"tunnel.peers = [\n    {inline(values)},\n]\n"
        at = len(lines) if heading is None else heading
        before = "".join(lines[:at])
        end = "" if not before or before.endswith("\n") else "\n"
        return before + end + own + "".join(lines[at:])
    table = "".join(f"{key} = {toml(value)}\n" for key, value in values.items())
    return text.rstrip("\n") + f"\n\n[[tunnel.peers]]\n{table}"


def remove_peer(path: Path, name: str) -> Config:
    """Remove the peer called `name`.  Raises ConfigEditError."""
    before, document = _read(path)
    peers = document.get("tunnel", {}).get("peers", [])
    for index, peer in enumerate(peers):
        if isinstance(peer, Mapping) and peer.get("name") == name:
            del peers[index]
            if not peers and isinstance(peers, AoT):
                del document["tunnel"]["peers"]
            names = [p.name for p in before.tunnel.peers if p.name != name]
            text = tomlkit.dumps(document)
            _require_gone(text.encode(), path, name)
            return _store(path, text, before, names)
    raise ConfigEditError(f"there is no client {name}", "obsdimg client list")


def set_release(path: Path, version: str, server: str | None = None) -> None:
    """Write `release.version`; of `server` alone, where there are several.

    The file is written only if it then says so and nothing else.  Raises ConfigError,
    ConfigEditError.
    """
    data = read_file(path, "configuration")
    before = parse(data, str(path), path.parent, server)
    try:
        document: Any = tomlkit.parse(data)
    except TOMLKitError as error:
        raise ConfigEditError(f"{path}: cannot be edited: {error}", "edit it by hand") from error
    place = document if server is None else document["servers"][server]
    if "release" not in place:
        place.add("release", tomlkit.table())
    table = place["release"]
    old = table.get("version")
    value = tomlkit.string(version)
    if old is not None and hasattr(old, "trivia"):
        value.trivia.comment_ws, value.trivia.comment = old.trivia.comment_ws, old.trivia.comment
        value.trivia.trail = old.trivia.trail
    table["version"] = value
    text = tomlkit.dumps(document).encode()
    wanted = before.release.model_copy(update={"version": version})
    try:
        after = parse(text, str(path), path.parent, server)
        good = after == before.model_copy(update={"release": wanted})
        for other in server_names(parse_table(data, str(path)), str(path)):
            if other != server:
                was = parse(data, str(path), path.parent, other)
                good = good and parse(text, str(path), path.parent, other) == was
    except ConfigError:
        good = False
    if not good:
        raise ConfigEditError(
            f"{path}: release.version is written in a form that obsdimg cannot edit",
            f'set it to "{version}" by hand',
        )
    write_file(path, text, path.stat().st_mode & 0o777)


def _require_gone(data: bytes, path: Path, name: str) -> None:
    """Raise ConfigEditError where a server has a peer of that name in a table of its own: it would
    stay there, with new keys."""
    for server in server_names(parse_table(data, str(path)), str(path)):
        config = parse(data, str(path), path.parent, server)
        if any(peer.name == name for peer in config.tunnel.peers):
            raise ConfigEditError(
                f"{path}: {name} also stands in the peers of [servers.{server}.tunnel]",
                "remove it there by hand first; nothing was changed",
            )


def shared_config(path: Path) -> Config:
    """What `add_peer` adds to: the configuration, or what several servers have in common.

    Raises ConfigError, FileError.
    """
    return _read(path)[0]


def free_addresses(config: Config, servers: Sequence[Config] = ()) -> dict[str, str]:
    """The next free address of the tunnel in each family it has, by key of the peer's table.

    `servers`: each one's own settings, where there are several.  A shared peer has the same place
    in each one's network (config/servers.py), so that place must be free there, too.
    """
    found: dict[str, str] = {}
    for key, own in (("ipv4", config.tunnel.ipv4), ("ipv6", config.tunnel.ipv6)):
        if own is None:
            continue
        taken = {own.ip, *(getattr(p, key) for p in config.tunnel.peers)}
        for server in servers:
            there = getattr(server.tunnel, key)
            if there is not None:
                used = (there.ip, *(getattr(p, key) for p in server.tunnel.peers))
                first = int(there.network.network_address)
                taken |= {own.network.network_address + (int(a) - first) for a in used if a}
        free = next((a for a in _hosts(own.network) if a not in taken), None)
        if free is None:
            raise ConfigEditError(f"tunnel.{key}: no address is free in {own.network}")
        found[key] = str(free)
    return found


def _hosts(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Any:
    return network.hosts()


def _read(path: Path) -> tuple[Config, Any]:
    data = read_file(path, "configuration")
    config = _shared(data, path)
    try:
        return config, tomlkit.parse(data)
    except TOMLKitError as error:
        raise ConfigEditError(f"{path}: cannot be edited: {error}", "edit it by hand") from error


def _shared(data: bytes, path: Path) -> Config:
    """The configuration; of several servers what they have in common, each of them checked."""
    table = parse_table(data, str(path))
    servers = server_names(table, str(path))
    if not servers:
        return parse(data, str(path), path.parent)
    for server in servers:
        parse(data, str(path), path.parent, server)
    tunnel = table.get("tunnel", {})
    if not isinstance(tunnel, dict):
        raise ConfigError(f"{path}: tunnel: is no table", "write [tunnel] and its settings below")
    shared = {key: value for key, value in tunnel.items() if key != "upstream"}
    try:
        return Config.model_construct(tunnel=TunnelSettings.model_validate(shared))
    except ValidationError as error:
        # pydantic's own words repeat the value, which may be a key.
        place = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise ConfigError(f"{path}: tunnel.{place}: is no value for this setting") from None


def _store(path: Path, text: str, before: Config, names: list[str]) -> Config:
    """Write `text` if its peers are those called `names`, in that order, and nothing else differs
    from `before`."""
    try:
        config = _shared(text.encode(), path)
        same = _but_peers(config) == _but_peers(before)
    except ConfigError:
        if [p.name for p in before.tunnel.peers] == names[:-1]:
            raise  # the new one's own fault
        same = False
    if not same or [p.name for p in config.tunnel.peers] != names:
        raise ConfigEditError(
            f"{path}: the clients are written in a form that obsdimg cannot edit",
            "edit it by hand, or use one [[tunnel.peers]] table each",
        )
    write_file(path, text.encode(), path.stat().st_mode & 0o777)
    return config


def _but_peers(config: Config) -> Config:
    return config.model_copy(update={"tunnel": config.tunnel.model_copy(update={"peers": []})})
