"""The server's key file as it is there: server.conf of wg(8), or hostname.wg0 of ifconfig(8).

Read leniently: a hand may have changed it.  Values are secrets and are never shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class WgPeerEntry:
    """A peer's pre-shared key ("": none) and networks, in the file's order."""

    preshared: str = field(default="", repr=False)
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class WgFile:
    """What a key file says; `rest` are the lines about the interface itself."""

    private: str = field(default="", repr=False)
    port: int | None = None
    peers: Mapping[str, WgPeerEntry] = field(default_factory=dict, repr=False)
    rest: tuple[str, ...] = ()


def read_wg_file(text: str, backend: str) -> WgFile:
    """The file's content; what cannot be understood is left out."""
    return _server_conf(text) if backend == "wireguard-go" else _hostname_if(text)


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _server_conf(text: str) -> WgFile:
    private, port = "", None
    peers: dict[str, WgPeerEntry] = {}
    current: dict[str, str] = {}

    def end_peer() -> None:
        if key := current.get("publickey"):
            words = current.get("allowedips", "").replace(",", " ").split()
            peers[key] = WgPeerEntry(current.get("presharedkey", ""), tuple(words))
        current.clear()

    section = ""
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("["):
            end_peer()
            section = line.strip("[]").strip().lower()
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        name = name.lower()
        if section == "peer" and name:
            joined = name == "allowedips" and name in current
            current[name] = f"{current[name]}, {value}" if joined else value
        elif name == "privatekey":
            private = value
        elif name == "listenport":
            port = _port(value)
    end_peer()
    return WgFile(private, port, peers)


def _hostname_if(text: str) -> WgFile:
    private, port = "", None
    peers: dict[str, WgPeerEntry] = {}
    rest: list[str] = []
    for raw in text.splitlines():
        words = raw.partition("#")[0].split()
        if not words:
            continue
        pairs = list(pairwise(words))
        if words[0] == "wgpeer" and len(words) > 1:
            preshared = next((value for name, value in pairs if name == "wgpsk"), "")
            allowed = tuple(value for name, value in pairs if name == "wgaip")
            peers[words[1]] = WgPeerEntry(preshared, allowed)
        elif words[0] in ("wgkey", "wgport"):
            private = next((value for name, value in pairs if name == "wgkey"), private)
            found = next((value for name, value in pairs if name == "wgport"), "")
            port = _port(found) if found else port
        else:
            rest.append(" ".join(words))
    return WgFile(private, port, peers, tuple(rest))
