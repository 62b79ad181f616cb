"""From a project, or single files, to what the smoke test needs to know (SmokePlan).

What the ISO itself says (release, encryption, guard) is read from the ISO; the clients and
what ssh should do come from the project, or from options where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file
from obsdimg.core.passphrase import Secret
from obsdimg.image.inspection import Inspection
from obsdimg.project.folder import Project
from obsdimg.site.clients import still_missing
from obsdimg.smoke.plan import EmulatedNetwork, Login, SmokePeer, SmokePlan
from obsdimg.tunnel.errors import ConfError
from obsdimg.tunnel.wgconf import ClientConf, load

DEFAULT_PORT = 53


class SmokePlanError(ObsdimgError):
    """It is not clear what is to be tested, or how."""


@dataclass(frozen=True)
class SmokeOptions:
    """What the command line says about the machine.  Sizes in bytes, memory in MiB."""

    disk_size: int
    memory_mib: int
    uefi: bool = False
    offline: bool = False
    board: str = "q35"
    login: Login | None = None


def release_of(found: Inspection) -> str:
    """The release of an ISO that obsdimg made, e.g. `6.6`.  Raises SmokePlanError."""
    if not found.boot_entries:
        raise SmokePlanError(f"{found.path}: cannot be booted: it has no boot entry")
    if not found.hook:
        raise SmokePlanError(
            f"{found.path}: was not made by obsdimg: its boot kernel has no encryption step",
            "give the ISO that `obsdimg build` wrote",
        )
    return found.directory.strip("/").split("/")[0] or "unknown"


def encryption_of(found: Inspection) -> str:
    """How the ISO encrypts: passphrase, embedded, none.  Raises SmokePlanError for keydisk."""
    how = found.hook.get("mode", "passphrase")
    if how == "keydisk":
        raise SmokePlanError(
            f"{found.path}: encrypts with a key disk, which the smoke test has none of",
            "test a build with encryption = passphrase; the key disk by hand",
        )
    return how


def project_clients(project: Project) -> tuple[list[Path], list[str]]:
    """The client files of a project that can be used, and why others cannot."""
    files, notes = [], []
    for peer in project.config.tunnel.peers:
        path = project.clients / f"{peer.name}.conf"
        if peer.public_key is not None:
            notes.append(f"client {peer.name}: made its own key, so it cannot be tried here")
        elif not path.exists():
            notes.append(f"client {peer.name}: {path} is missing; `obsdimg build` writes it")
        else:
            files.append(path)
    return files, notes


def peer_from_file(path: Path, servers: Sequence[str] = (), port: int | None = None) -> SmokePeer:
    """A client's wg-quick file as a peer of the test; `servers` are the server's addresses in
    the tunnel (default: the first host of the client's network), `port` its UDP port.

    Raises SmokePlanError, FileError, ConfError.
    """
    text = read_file(path, "client configuration").decode("utf-8", "replace")
    first_boot = any("first boot" in what for what in still_missing(text))
    conf = _load(path, text) if first_boot else load(path)
    with_endpoint = [p for p in conf.peers if p.endpoint is not None] or list(conf.peers)
    if len(with_endpoint) != 1:
        raise SmokePlanError(f"{path}: has {len(with_endpoint)} peers", "give one with one server")
    server = with_endpoint[0]
    addresses = [ip_address(a) for a in servers] or [
        network.network_address + 1
        for own in conf.addresses
        for network in [own.network, *(n for n in server.allowed_ips if own.ip in n)]
        if 0 < network.prefixlen < network.max_prefixlen
    ][:1]
    versions = {own.version for own in conf.addresses}
    inside = [str(a) for a in addresses if a.version in versions]
    if not inside:
        raise SmokePlanError(
            f"{path}: does not tell the server's address in the tunnel", "give --server-address"
        )
    gateway = ip_address(EmulatedNetwork().gateway)
    return SmokePeer(
        name=path.stem,
        private_key=Secret(conf.private_key.reveal()),
        server_public_key=None if first_boot else server.public_key.text(),
        preshared_key=Secret(server.preshared_key.reveal()) if server.preshared_key else None,
        addresses=tuple(str(own) for own in conf.addresses),
        server_port=port or (server.endpoint.port if server.endpoint else DEFAULT_PORT),
        ping=tuple(inside),
        internet=server.allows(gateway),
    )


def _load(path: Path, text: str) -> ClientConf:
    """A client's file whose server is not known yet: any valid key stands in its place."""
    from obsdimg.site.clients import UNKNOWN_SERVER
    from obsdimg.tunnel.keys import WgPrivateKey
    from obsdimg.tunnel.wgconf import parse

    try:
        known = text.replace(UNKNOWN_SERVER, WgPrivateKey.generate().public().text())
        return parse(known, str(path))
    except ConfError as error:
        raise SmokePlanError(error.message, error.hint) from error


def with_reach(peers: Sequence[SmokePeer], project: Project) -> list[SmokePeer]:
    """`peers` with the private networks that the configuration lets them reach."""
    reach = {p.name: tuple(map(str, p.reach)) for p in project.config.tunnel.peers}
    return [replace(peer, reach=reach.get(peer.name, ())) for peer in peers]


def network_of(project: Project | None) -> EmulatedNetwork:
    """The emulated network: the fixed address and gateway of the configuration, if any."""
    if project is None:
        return EmulatedNetwork()
    own = project.config.network
    if isinstance(own.ipv4, str) or own.gateway4 is None:
        return EmulatedNetwork()
    return EmulatedNetwork(str(own.ipv4.ip), own.ipv4.network.prefixlen, str(own.gateway4))


def private_networks(project: Project | None) -> tuple[EmulatedNetwork, ...]:
    """A network for each further card of the configuration, with a host that answers pings."""
    found = []
    for number, card in enumerate(project.config.network.interfaces if project else (), 1):
        own = card.ipv4
        if isinstance(own, str):
            found.append(EmulatedNetwork(f"10.66.{number}.15", 24, f"10.66.{number}.2"))
            continue
        host = next(a for a in own.network.hosts() if a != own.ip)
        found.append(EmulatedNetwork(str(own.ip), own.network.prefixlen, str(host)))
    return tuple(found)


def make_plan(
    found: Inspection,
    passphrase: Secret,
    sealing: Secret | None,
    peers: Sequence[SmokePeer],
    project: Project | None,
    wishes: SmokeOptions,
    *,
    ssh_open: bool | None = None,
) -> SmokePlan:
    """The plan for the ISO that `found` describes.  Raises SmokePlanError."""
    how = encryption_of(found)
    if ssh_open is None and project is not None:
        access = project.config.access
        ssh_open = access.sshd and (access.ssh_from == "anywhere" or access.ssh_window_minutes > 0)
    return SmokePlan(
        iso=found.path.resolve(),
        release=release_of(found),
        passphrase=passphrase,
        sealing_passphrase=sealing,
        peers=tuple(peers),
        encrypted=how != "none",
        unattended=how in ("embedded", "none"),
        disk_size=wishes.disk_size,
        memory_mib=wishes.memory_mib,
        uefi=wishes.uefi,
        ssh_open=bool(ssh_open),
        login=wishes.login,
        network=network_of(project),
        private_networks=private_networks(project),
        board=wishes.board,
        kdf_rounds=int(rounds) if (rounds := found.hook.get("rounds", "auto")).isdigit() else None,
        guarded=found.hook.get("overwrite") != "yes",
        halts=found.hook.get("after") == "halt",
        offline=wishes.offline,
    )
