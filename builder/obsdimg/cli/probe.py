"""`obsdimg probe`: call a server as one of its clients, and ping through the tunnel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from obsdimg.cli import values
from obsdimg.cli.options import WithConfig, argument, flag, option, repeated
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.config.hops import is_hop
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.site.clients import find_peer, plan_client, read_client, still_missing
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import EndpointError
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.probe import Target
from obsdimg.tunnel.report import ProbeResult, Role

DEFAULT_OUTSIDE: Final = "9.9.9.9"
"""A public resolver that answers pings; reached from the server, through the tunnel."""


class ProbeFailedError(ObsdimgError):
    """The tunnel does not work; message and hint are the verdict's."""


class ProbeChoiceError(ObsdimgError):
    """The client cannot be probed with, or not so."""


class ProbeUsageError(UsageError):
    """It is not clear which client to probe with, or what."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    name: str | None = argument(
        metavar="NAME",
        nargs="?",
        complete="client",
        help="the client of the project (default: the only one)",
    )
    conf: Path | None = option(
        "--conf", type=Path, metavar="FILE", help="a client's wg-quick configuration, instead"
    )
    endpoint: str | None = option(
        "--endpoint", metavar="HOST:PORT", help="call this instead of the configured endpoint"
    )
    server_address: tuple[Address, ...] = repeated(
        "--server-address",
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
    client = _choose(options)
    if options.conf is not None and options.conf.expanduser().stat().st_mode & 0o077:
        ui.warn(f"{options.conf}: others may read this private key; chmod 600 {options.conf}")
    if options.endpoint:
        try:
            endpoint = Endpoint.parse(options.endpoint, "--endpoint")
        except EndpointError as error:
            raise UsageError(error.message, error.hint) from None
        client = replace(client, host=endpoint.host, port=endpoint.port)
    for what, how in still_missing(client):
        raise ProbeChoiceError(f"client {client.name}: not complete yet, it lacks {what}", how)
    assert client.endpoint is not None
    targets = _targets(client, options.outside)
    with ui.progress().step(f"Calling {client.endpoint} as {client.name}"):
        result = client.call(
            client.endpoint,
            targets,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
            payload=options.size,
        )
    if options.json:
        ui.json({"client": client.name, **result.as_dict()})
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


def _choose(options: Options) -> TunnelClient:
    """The client of the project that is named, or the one in the file."""
    if options.conf is not None:
        if options.name is not None:
            raise ProbeUsageError("NAME and --conf are both given", "give one of them")
        return read_client(options.conf.expanduser(), options.server_address)
    if not options.config.exists():
        raise ProbeChoiceError(
            f"{options.config}: there is no such configuration",
            "run it in the project's folder, or give -c FILE or --conf CLIENT.conf",
        )
    project = open_project(options)
    names = [client.name for client in project.config.tunnel.peers if not is_hop(client)]
    if options.name is None and len(names) != 1:
        raise ProbeUsageError("which client?", f"obsdimg probe {'|'.join(names) or 'NAME'}")
    peer = find_peer(project.config, options.name or names[0])
    if peer.public_key is not None:
        raise ProbeChoiceError(
            f"client {peer.name} made its own key, which is not here",
            "give its own file, with the key in it, by --conf FILE",
        )
    client = plan_client(project.config, project.keys(make=False), peer)
    return replace(client, inside=options.server_address or client.inside)


def _targets(client: TunnelClient, outside: Sequence[Address | None]) -> list[Target]:
    """What to ping: of the families that the client has, and what it would send to the server."""
    versions = {address.version for address in client.addresses}
    targets = [Target(one, Role.SERVER) for one in client.inside if one.version in versions]
    if not outside:
        usual = ip_address(DEFAULT_OUTSIDE)
        outside = [usual] if usual.version in versions and client.allows(usual) else []
    for address in outside:
        if address is None:
            continue
        if not client.allows(address):
            raise ProbeUsageError(
                f"{address} is not in this client's AllowedIPs",
                "a real client would not send it into the tunnel; choose another address",
            )
        targets.append(Target(address, Role.OUTSIDE))
    if not targets:
        raise ProbeUsageError(
            "there is nothing to ping",
            "give the server's address in the tunnel by --server-address",
        )
    return targets
