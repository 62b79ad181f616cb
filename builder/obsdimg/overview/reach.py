"""Who may reach what: the settings of the tunnel as a table of clients and targets.

Pure.  What pf really lets through is in /etc/pf.conf; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network

from obsdimg.config import Config
from obsdimg.site.tunnel import PlannedPeer, TunnelPlan


class TargetKind(Enum):
    """What a target is."""

    INTERNET = "internet"
    NETWORK = "network"
    SSH = "ssh"
    RESOLVER = "resolver"
    CLIENTS = "clients"


@dataclass(frozen=True)
class ReachTarget:
    """Something that a client may want to reach."""

    kind: TargetKind
    name: str
    detail: str = ""


@dataclass(frozen=True)
class ClientReach:
    """A client, and which of the targets it may reach, in the targets' order."""

    name: str
    addresses: tuple[str, ...]
    """Its own, and the networks behind it."""
    full_tunnel: bool
    allowed: tuple[bool, ...]


@dataclass(frozen=True)
class ReachTable:
    """The clients and the targets; `client.allowed[n]` belongs to `targets[n]`."""

    targets: tuple[ReachTarget, ...]
    clients: tuple[ClientReach, ...]

    def columns(self, *kinds: TargetKind) -> list[int]:
        """Positions of the targets of these kinds."""
        return [n for n, target in enumerate(self.targets) if target.kind in kinds]


def plan_reach(config: Config, tunnel: TunnelPlan) -> ReachTable:
    """The table, from the settings and the tunnel as it is planned."""
    networks = _networks(config)
    via = tunnel.upstream
    targets = [
        ReachTarget(
            TargetKind.INTERNET,
            "the internet",
            f"through {via.host}" if via else "under the server's address",
        ),
        *(ReachTarget(TargetKind.NETWORK, network, where) for network, where in networks),
        ReachTarget(TargetKind.SSH, "ssh", "the server's shell"),
    ]
    if tunnel.unbound:
        targets.append(ReachTarget(TargetKind.RESOLVER, "DNS", "unbound on the server"))
    if tunnel.clients_meet:
        targets.append(ReachTarget(TargetKind.CLIENTS, "other clients", "in the tunnel"))
    clients = tuple(_client(peer, targets, sshd=config.access.sshd) for peer in tunnel.peers)
    return ReachTable(tuple(targets), clients)


def _networks(config: Config) -> list[tuple[str, str]]:
    """Private networks that some client may reach, each with where it is."""
    found: dict[str, str] = {}
    for peer in config.tunnel.peers:
        for network in peer.reach:
            found.setdefault(str(network), _where(str(network), config))
    return sorted(found.items())


def _where(network: str, config: Config) -> str:
    wanted = ip_network(network)
    for peer in config.tunnel.peers:
        if any(net.version == wanted.version and net.overlaps(wanted) for net in peer.networks):
            return f"behind {peer.name}"
    for interface in config.network.interfaces:
        for address in (interface.ipv4, interface.ipv6):
            if not isinstance(address, str) and (
                address.version == wanted.version and address.network.overlaps(wanted)
            ):
                return f"behind {interface.name}"
    return "behind the server"


def _client(peer: PlannedPeer, targets: Sequence[ReachTarget], *, sshd: bool) -> ClientReach:
    reach = {net for address in peer.addresses for net in (*address.reach, *address.sites)}

    def may(target: ReachTarget) -> bool:
        if target.kind is TargetKind.INTERNET:
            return peer.internet
        if target.kind is TargetKind.NETWORK:
            return target.name in reach
        return sshd and peer.ssh if target.kind is TargetKind.SSH else True

    return ClientReach(
        name=peer.name,
        addresses=tuple(source for address in peer.addresses for source in address.sources),
        full_tunnel=peer.internet,
        allowed=tuple(may(target) for target in targets),
    )
