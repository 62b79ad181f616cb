"""A client's configuration as wg(8) and wg-quick(8) read it: text to typed values.

Stricter than the real tools where they would guess: no setting stands twice that may
stand once, no unknown setting.  Errors name file, line and setting, and repeat no value,
since any line may hold a key that was pasted into the wrong place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Final, TypeVar

from obsdimg.core.files import read_file
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import ConfError, EndpointError, KeyTextError
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

T = TypeVar("T")


@dataclass(frozen=True)
class ConfPeer:
    """A `[Peer]`: the server, as the client knows it."""

    public_key: WgPublicKey
    preshared_key: PresharedKey | None = None
    allowed_ips: tuple[Network, ...] = ()
    endpoint: Endpoint | None = None
    keepalive: int | None = None
    """Seconds, 1 to 65535; None: off."""

    def allows(self, address: Address) -> bool:
        """Whether the client sends what is for `address` to this peer."""
        return any(address in network for network in self.allowed_ips)


@dataclass(frozen=True)
class ClientConf:
    """A whole file: its `[Interface]`, and a peer or more."""

    private_key: WgPrivateKey
    peers: tuple[ConfPeer, ...]
    addresses: tuple[Interface, ...] = ()
    """The client's own, each with the prefix length of the network on the interface."""
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    """Search domains; they stand in `DNS`, too."""
    mtu: int | None = None
    """Bytes."""


_ONCE: Final = {
    "interface": {
        "privatekey": "PrivateKey",
        "listenport": "ListenPort",
        "fwmark": "FwMark",
        "mtu": "MTU",
        "table": "Table",
        "saveconfig": "SaveConfig",
    },
    "peer": {
        "publickey": "PublicKey",
        "presharedkey": "PresharedKey",
        "endpoint": "Endpoint",
        "persistentkeepalive": "PersistentKeepalive",
    },
}
_OFTEN: Final = {
    "interface": {
        "address": "Address",
        "dns": "DNS",
        "preup": "PreUp",
        "postup": "PostUp",
        "predown": "PreDown",
        "postdown": "PostDown",
    },
    "peer": {"allowedips": "AllowedIPs"},
}


@dataclass(frozen=True)
class _Line:
    """One setting: its value, and `FILE: line N: NAME` for errors."""

    value: str
    place: str


@dataclass(frozen=True)
class _Section:
    kind: str
    place: str
    once: dict[str, _Line]
    often: dict[str, list[_Line]]


def load(path: Path) -> ClientConf:
    """The configuration in the file at `path`.  Raises FileError and ConfError."""
    return parse(decode(read_file(path, "client configuration"), str(path)), str(path))


def decode(data: bytes, name: str) -> str:
    """The text of a file called `name`, for `parse`.  Raises ConfError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfError(
            f"{name}: line {line}: not text (UTF-8)", "give a wg-quick configuration"
        ) from error


def parse(text: str, name: str) -> ClientConf:
    """The configuration in `text`; `name` begins the error messages.  Raises ConfError."""
    sections = _sections(text, name)
    interfaces = [section for section in sections if section.kind == "interface"]
    if len(interfaces) != 1:
        place = interfaces[1].place if interfaces else name
        many = "a second [Interface]" if interfaces else "there is no [Interface]"
        raise ConfError(f"{place}: {many}", "a client configuration has exactly one")
    peers = tuple(_peer(section) for section in sections if section.kind == "peer")
    if not peers:
        raise ConfError(f"{name}: there is no [Peer]", "a client needs its server as a peer")
    if len({peer.public_key for peer in peers}) != len(peers):
        raise ConfError(f"{name}: two peers have the same PublicKey", "merge their AllowedIPs")
    return _client(interfaces[0], peers)


def _sections(text: str, name: str) -> list[_Section]:
    sections: list[_Section] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        place = f"{name}: line {number}"
        if not line:
            continue
        if line.startswith("["):
            kind = line.lower().removeprefix("[").removesuffix("]").strip()
            if kind not in _ONCE or not line.endswith("]"):
                raise ConfError(f"{place}: unknown section", "known are [Interface] and [Peer]")
            sections.append(_Section(kind, place, {}, {}))
            continue
        if not sections:
            raise ConfError(f"{place}: a setting before the first section", "begin by [Interface]")
        _setting(sections[-1], line, place)
    return sections


def _setting(section: _Section, line: str, place: str) -> None:
    """Put `NAME = VALUE` into its section."""
    word, equals, value = (part.strip() for part in line.partition("="))
    once, often = _ONCE[section.kind], _OFTEN[section.kind]
    key = word.lower()
    if not equals or (key not in once and key not in often):
        known = ", ".join([*once.values(), *often.values()])
        raise ConfError(f"{place}: no setting of [{section.kind.title()}]", f"known are {known}")
    shown = once.get(key) or often[key]
    if not value and key != "allowedips":
        raise ConfError(f"{place}: {shown} has no value", f"{shown} = … is expected")
    entry = _Line(value, f"{place}: {shown}")
    if key in often:
        section.often.setdefault(key, []).append(entry)
    elif key in section.once:
        raise ConfError(f"{place}: {shown} stands here for the second time", "remove one of them")
    else:
        section.once[key] = entry


def _client(section: _Section, peers: tuple[ConfPeer, ...]) -> ClientConf:
    private = section.once.get("privatekey")
    if private is None:
        raise ConfError(f"{section.place}: [Interface] has no PrivateKey", "add the client's key")
    dns: list[Address] = []
    search: list[str] = []
    for entry in section.often.get("dns", []):
        for word in entry.value.replace(",", " ").split():
            try:
                dns.append(ip_address(word))
            except ValueError as error:
                if ":" in word or word.replace(".", "").isdigit():
                    raise ConfError(f"{entry.place}: an address is wrong") from error
                search.append(word)
    mtu = section.once.get("mtu")
    if (port := section.once.get("listenport")) is not None:
        _number(port, 0, 65535)
    return ClientConf(
        _key(private, WgPrivateKey.parse),
        peers,
        _list(section, "address", ip_interface, "an address such as 10.0.0.2/32"),
        tuple(dns),
        tuple(search),
        None if mtu is None else _number(mtu, 576, 65535),
    )


def _peer(section: _Section) -> ConfPeer:
    public = section.once.get("publickey")
    if public is None:
        raise ConfError(f"{section.place}: [Peer] has no PublicKey", "add the server's key")
    preshared = section.once.get("presharedkey")
    endpoint = section.once.get("endpoint")
    keepalive = section.once.get("persistentkeepalive")
    seconds = 0
    if keepalive is not None and keepalive.value.lower() != "off":
        seconds = _number(keepalive, 0, 65535)
    return ConfPeer(
        _key(public, WgPublicKey.parse),
        None if preshared is None else _key(preshared, PresharedKey.parse),
        _list(section, "allowedips", _network, "a network such as 10.0.0.0/24"),
        None if endpoint is None else _endpoint(endpoint),
        seconds or None,
    )


def _key(entry: _Line, parse_key: Callable[[str, str], T]) -> T:
    try:
        return parse_key(entry.value, entry.place)
    except KeyTextError as error:
        raise ConfError(error.message, error.hint) from error


def _network(text: str) -> Network:
    return ip_network(text, strict=False)


def _list(section: _Section, name: str, convert: Callable[[str], T], what: str) -> tuple[T, ...]:
    """The comma-separated values of every line `name`."""
    found: list[T] = []
    for entry in section.often.get(name, []):
        for word in entry.value.split(","):
            if not word.strip() and name == "allowedips" and not entry.value:
                continue
            try:
                found.append(convert(word.strip()))
            except ValueError as error:
                raise ConfError(
                    f"{entry.place}: not {what}", "separate several by commas"
                ) from error
    return tuple(found)


def _number(entry: _Line, low: int, high: int) -> int:
    text = entry.value
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
    if not low <= value <= high:
        raise ConfError(f"{entry.place}: not a number from {low} to {high}")
    return value


def _endpoint(entry: _Line) -> Endpoint:
    try:
        return Endpoint.parse(entry.value)
    except EndpointError as error:
        # Its message repeats the value.
        raise ConfError(f"{entry.place}: not HOST:PORT", error.hint) from None
