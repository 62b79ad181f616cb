"""`obsdimg probe`: call a server as one of its clients, and ping through the tunnel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from obsdimg.cli import values
from obsdimg.cli.options import WithConfig, argument, flag, option, repeated
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file
from obsdimg.project.folder import Project
from obsdimg.site.clients import UNKNOWN_ENDPOINT, still_missing
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.probe import Target, probe
from obsdimg.tunnel.report import ProbeResult, Role
from obsdimg.tunnel.wgconf import ClientConf, ConfPeer, load

DEFAULT_OUTSIDE: Final = "9.9.9.9"
"""A public resolver that answers pings; reached from the server, through the tunnel."""


class ProbeFailedError(ObsdimgError):
    """The tunnel does not work; message and hint are the verdict's."""


class ProbeUsageError(ObsdimgError):
    """It is not clear which client to probe with, or what."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    name: str | None = argument(
        metavar="NAME", nargs="?", help="the client: clients/NAME.conf (default: the only)"
    )
    conf: Path | None = option(
        "--conf", type=Path, metavar="FILE", help="a client's wg-quick configuration, instead"
    )
    endpoint: str | None = option(
        "--endpoint", metavar="HOST:PORT", help="call this instead of the configured endpoint"
    )
    server: tuple[Address, ...] = repeated(
        "--server",
        type=values.address,
        metavar="ADDR",
        help="the server's address in the tunnel (default: as configured; may be repeated)",
    )
    outside: tuple[Address | None, ...] = repeated(
        "--outside",
        type=values.address_or_none,
        metavar="ADDR",
        help=f"an address beyond the server (default: {DEFAULT_OUTSIDE} if the client's"
        " AllowedIPs have it; `none`: no such ping; may be repeated)",
    )
    count: int = option("--count", type=int, default=4, metavar="N", help="pings (default: 4)")
    interval: float = option(
        "--interval", type=float, default=0.5, metavar="S", help="seconds between (default: 0.5)"
    )
    size: int = option(
        "--size", type=int, default=56, metavar="BYTES", help="payload of a ping (default: 56)"
    )
    timeout: float = option(
        "--timeout",
        type=float,
        default=20.0,
        metavar="S",
        help="seconds during which the handshake is tried (default: 20)",
    )
    json: bool = flag("--json", help="the result as JSON")


def run(options: Options, ui: Ui) -> int:
    """0 when every address answered.  Raises ProbeFailedError with the verdict otherwise."""
    path, inside = _choose(options)
    _refuse_unfinished(path, options.endpoint is not None)
    conf = load(path)
    if path.stat().st_mode & 0o077:
        ui.warn(f"{path}: others may read this private key; chmod 600 {path}")
    peer = _server(conf, path, options.endpoint is not None)
    endpoint = Endpoint.parse(options.endpoint, "--endpoint") if options.endpoint else peer.endpoint
    assert endpoint is not None
    targets = _targets(conf, peer, options.server or inside, options.outside)
    with ui.progress().step(f"Calling {endpoint} as {path.stem}"):
        result = probe(
            endpoint,
            peer.public_key,
            conf.private_key,
            peer.preshared_key,
            [address.ip for address in conf.addresses],
            targets,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
            payload=options.size,
        )
    if options.json:
        ui.json({"client": path.stem, **result.as_dict()})
    else:
        _show(result, ui)
    if not result.works:
        raise ProbeFailedError(result.message, result.hint)
    return 0


def _show(result: ProbeResult, ui: Ui) -> None:
    log = result.handshake
    if log.seconds is not None:
        attempts = "1 attempt" if log.attempts == 1 else f"{log.attempts} attempts"
        ui.say(f"handshake: {log.seconds * 1000:.1f} ms with {log.address} ({attempts})")
    for target in result.targets:
        ui.say(target.line())
    if result.works:
        ui.say(result.message)
        for target in result.targets:
            if target.loss:
                ui.warn(f"{target.address}: {target.loss:.0%} of the pings were lost")


def _choose(options: Options) -> tuple[Path, list[Address]]:
    """The client's file, and the server's tunnel addresses if the project tells them."""
    if options.conf is not None:
        if options.name is not None:
            raise ProbeUsageError("NAME and --conf are both given", "give one of them")
        return options.conf.expanduser(), []
    if not options.config.exists():
        raise ProbeUsageError(
            f"{options.config}: there is no such configuration",
            "run it in the project's folder, or give -c FILE or --conf CLIENT.conf",
        )

    project = Project.open(options.config)
    names = [peer.name for peer in project.config.tunnel.peers]
    name = options.name
    if name is None:
        if len(names) != 1:
            raise ProbeUsageError("which client?", f"obsdimg probe {'|'.join(names) or 'NAME'}")
        name = names[0]
    path = project.clients / f"{name}.conf"
    if name not in names or not path.exists():
        known = ", ".join(names) or "none"
        raise ProbeUsageError(
            f"{path}: there is no such client configuration",
            f"clients of this project: {known}; `obsdimg build` writes their files",
        )
    tunnel = project.config.tunnel
    return path, [own.ip for own in (tunnel.ipv4, tunnel.ipv6) if own is not None]


def _refuse_unfinished(path: Path, has_endpoint: bool) -> None:
    """A file with a placeholder in it says what to do, not that some key is no key."""
    text = read_file(path, "client configuration").decode("utf-8", "replace")
    if has_endpoint:
        text = text.replace(UNKNOWN_ENDPOINT, "")
    if missing := still_missing(text):
        what, _, how = missing[0].partition(": ")
        raise ProbeUsageError(f"{path}: not complete yet, it lacks {what}", how)


def _server(conf: ClientConf, path: Path, has_endpoint: bool) -> ConfPeer:
    """The peer to call: the only one with an endpoint, or the only one."""
    peers = [peer for peer in conf.peers if peer.endpoint is not None]
    if has_endpoint and not peers:
        peers = list(conf.peers)
    if not peers:
        raise ProbeUsageError(f"{path}: its peer has no Endpoint", "give it by --endpoint")
    if len(peers) > 1:
        raise ProbeUsageError(f"{path}: it has {len(peers)} peers", "give a file with one server")
    return peers[0]


def _targets(
    conf: ClientConf,
    peer: ConfPeer,
    inside: Sequence[Address],
    outside: Sequence[Address | None] | None,
) -> list[Target]:
    """What to ping: of the families that the client has, and what it would send to the peer."""
    versions = {address.version for address in conf.addresses}
    if not inside:
        inside = _guess(conf, peer)
    targets = [Target(one, Role.SERVER) for one in inside if one.version in versions]
    if outside is None:
        usual = ip_address(DEFAULT_OUTSIDE)
        outside = [usual] if usual.version in versions and peer.allows(usual) else []
    for address in outside:
        if address is None:
            continue
        if not peer.allows(address):
            raise ProbeUsageError(
                f"{address} is not in this client's AllowedIPs",
                "a real client would not send it into the tunnel; choose another address",
            )
        targets.append(Target(address, Role.OUTSIDE))
    if not targets:
        raise ProbeUsageError(
            "there is nothing to ping", "give the server's address in the tunnel by --server"
        )
    return targets


def _guess(conf: ClientConf, peer: ConfPeer) -> list[Address]:
    """The first host of the client's own network: the usual place of the server."""
    guesses: list[Address] = []
    for own in conf.addresses:
        networks = [own.network, *(n for n in peer.allowed_ips if own.ip in n)]
        for network in networks:
            first = network.network_address + 1
            if 0 < network.prefixlen < network.max_prefixlen and first != own.ip:
                guesses.append(first)
                break
    return guesses
