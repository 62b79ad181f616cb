"""What a server says about itself: the output of siteXX/remote/status.sh as typed values.

The server may be a liar or half broken: every section may be missing, and nothing that it
says is longer than REPORT_BYTES.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from obsdimg.core.errors import ObsdimgError, printable

REPORT_BYTES: Final = 1 << 20
PEERS: Final = 4096


class StateError(ObsdimgError):
    """What came back is no report."""


@dataclass(frozen=True)
class PeerState:
    """A peer as the server's WireGuard has it; bytes as the server counts them."""

    public_key: str
    endpoint: str | None = None
    handshake: int | None = None
    """Seconds ago; None: never, since WireGuard was started."""
    received: int = 0
    sent: int = 0
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskUse:
    """One line of df(1); KiB."""

    device: str
    mounted: str
    size: int
    used: int

    @property
    def part(self) -> float:
        return self.used / self.size if self.size else 0.0


@dataclass(frozen=True)
class FileState:
    """A file's SHA-256 and mode (octal digits); None: it is not there."""

    sha256: str | None
    mode: str | None


@dataclass(frozen=True)
class ServerState:
    """Everything a report says; None where it says nothing."""

    clock: int | None = None
    """The server's, seconds since 1970."""
    booted: int | None = None
    release: str | None = None
    running: str | None = None
    """What the running kernel calls itself, e.g. `OpenBSD 7.7 (GENERIC) #3: `."""
    installed: str | None = None
    """What /bsd calls itself."""
    load: str | None = None
    port: int | None = None
    peers: tuple[PeerState, ...] | None = None
    pf_enabled: bool | None = None
    pf_states: int | None = None
    pf_limit: int | None = None
    disks: tuple[DiskUse, ...] = ()
    failed: tuple[str, ...] = ()
    upkeep: tuple[str, ...] = ()
    encrypted: bool | None = None
    volume: str | None = None
    """bioctl's word for the encrypted volume: Online, Degraded …"""
    boot_area: str | None = None
    files: Mapping[str, FileState] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None
    """Patches that the mirror has; None: it was not asked, or did not answer."""
    packages: tuple[str, ...] | None = None
    """Packages with a newer version; None as for `missing`."""


def parse_state(report: bytes) -> ServerState:
    """The state in what status.sh wrote.  Raises StateError where it is not its output."""
    text = report[:REPORT_BYTES].decode("utf-8", "replace")
    sections = sections_of(text)
    if "time" not in sections or "end" not in sections:
        raise StateError(
            "the server's report is cut off or not one at all",
            f"it begins: {printable(text[:80])}" if text.strip() else "nothing came back",
        )
    clock = number_in(first_of(sections, "time"))
    lines = sections.get
    port, peers = _wireguard(lines("wireguard", []), clock)
    info = "\n".join(lines("pf", []))
    raid = "\n".join(lines("softraid", []))
    crypto = re.search(r"^softraid0 \d+ (\w+) .* CRYPTO", raid, re.M)
    return ServerState(
        clock=clock,
        booted=number_in(first_of(sections, "boot")),
        release=first_of(sections, "release"),
        running=first_of(sections, "running"),
        installed=first_of(sections, "installed"),
        load=first_of(sections, "load"),
        port=port,
        peers=peers,
        pf_enabled=info.startswith("Status: Enabled") if info else None,
        pf_states=_found(r"current entries +(\d+)", info),
        pf_limit=_found(r"^states +hard limit +(\d+)", "\n".join(lines("limits", []))),
        disks=_disks(lines("disks", [])),
        failed=tuple(lines("failed", [])),
        upkeep=tuple(lines("upkeep", [])),
        encrypted=crypto is not None,
        volume=crypto[1] if crypto else None,
        boot_area=first_of(sections, "bootarea"),
        files=_files(lines("files", [])),
        patches=tuple(lines("patches", [])),
        missing=_known(sections.get("missing")),
        packages=_updates(sections.get("packages")),
    )


def sections_of(text: str) -> dict[str, list[str]]:
    """The lines of each `@@name`, without empty ones."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("@@"):
            current = sections.setdefault(line[2:], [])
        elif current is not None and line.strip():
            current.append(printable(line.replace("\t", " ")).strip())
    return sections


def first_of(sections: Mapping[str, Sequence[str]], name: str) -> str | None:
    lines = sections.get(name)
    return lines[0] if lines else None


def number_in(text: str | None) -> int | None:
    good = text is not None and text.isascii() and text.isdigit() and len(text) < 19
    return int(text) if good and text is not None else None


def _found(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text, re.M)
    return number_in(match[1]) if match else None


def _known(lines: Sequence[str] | None) -> tuple[str, ...] | None:
    """The lines of a question to the mirror, if it was answered."""
    if not lines or lines[-1] != "@ known":
        return None
    return tuple(lines[:-1])


def _updates(lines: Sequence[str] | None) -> tuple[str, ...] | None:
    """`NAME-1.0->1.1` of pkg_add -un, once each, if it came to an end."""
    known = _known(lines)
    if known is None:
        return None
    words = [word.rstrip(":") for line in known for word in line.split() if "->" in word]
    return tuple(dict.fromkeys(words))


def _wireguard(
    lines: Sequence[str], clock: int | None
) -> tuple[int | None, tuple[PeerState, ...] | None]:
    """The port and the peers, from `wg show` or from ifconfig(8)."""
    if any(line.startswith("= ") for line in lines):
        return _wg_show(lines, clock)
    port = _found(r"^wgport (\d+)$", "\n".join(lines))
    peers: list[dict[str, str]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "wgpeer":
            peers.append({"key": rest})
        elif peers and word in ("wgendpoint", "tx:", "last"):
            peers[-1][word] = rest
        elif peers and word == "wgaip":
            peers[-1]["wgaip"] = f"{peers[-1].get('wgaip', '')} {rest}".strip()
    if not lines:
        return None, None
    return port, tuple(_ifconfig_peer(peer) for peer in peers[:PEERS])


def _ifconfig_peer(peer: Mapping[str, str]) -> PeerState:
    host, _, port = peer.get("wgendpoint", "").rpartition(" ")
    traffic = re.match(r"(\d+), rx: (\d+)", peer.get("tx:", ""))
    ago = re.match(r"handshake: (-?\d+) seconds ago", peer.get("last", ""))
    return PeerState(
        peer["key"],
        (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") if host else None,
        max(int(ago[1]), 0) if ago else None,
        int(traffic[2]) if traffic else 0,
        int(traffic[1]) if traffic else 0,
        tuple(peer.get("wgaip", "").split()),
    )


def _wg_show(
    lines: Sequence[str], clock: int | None
) -> tuple[int | None, tuple[PeerState, ...] | None]:
    tables: dict[str, list[list[str]]] = {}
    for line in lines:
        if line.startswith("= "):
            current = tables.setdefault(line[2:], [])
        else:
            current.append(line.split())
    port = tables.get("listen-port") or [[""]]
    if not tables.get("listen-port"):
        return None, None
    by_key: dict[str, dict[str, list[str]]] = {}
    for name in ("latest-handshakes", "endpoints", "transfer", "allowed-ips"):
        for words in tables.get(name, [])[:PEERS]:
            by_key.setdefault(words[0], {})[name] = words[1:]
    return number_in(port[0][0]), tuple(_shown_peer(k, v, clock) for k, v in by_key.items())


def _shown_peer(key: str, said: Mapping[str, list[str]], clock: int | None) -> PeerState:
    stamp = number_in((said.get("latest-handshakes") or [""])[0]) or 0
    endpoint = (said.get("endpoints") or ["(none)"])[0]
    traffic = [number_in(word) or 0 for word in said.get("transfer", [])]
    return PeerState(
        key,
        None if endpoint == "(none)" else endpoint,
        max((clock or stamp) - stamp, 0) if stamp else None,
        traffic[0] if len(traffic) == 2 else 0,
        traffic[1] if len(traffic) == 2 else 0,
        tuple(word for word in said.get("allowed-ips", []) if word != "(none)"),
    )


def _disks(lines: Sequence[str]) -> tuple[DiskUse, ...]:
    found = []
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[0].startswith("/dev/"):
            size, used = number_in(words[1]), number_in(words[2])
            if size is not None and used is not None:
                found.append(DiskUse(words[0], words[5], size, used))
    return tuple(found)


def _files(lines: Sequence[str]) -> dict[str, FileState]:
    found = {}
    for line in lines:
        words = line.split(" ", 2)
        if len(words) == 3:
            there = re.fullmatch(r"[0-9a-f]{64}", words[0]) is not None
            found[words[2]] = FileState(words[0] if there else None, words[1] if there else None)
    return found
