"""The tunnel as the templates need it: every address spelt out, derived once from the settings.

Pure.  wireguard-go listens on the wildcard address, so it cannot share port 53 with unbound
(seen on a real 6.6: the daemon then has its key and no peers); where they would meet, the
daemon takes 51820 and pf leads 53 there.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from obsdimg.config import Config, PeerSettings
from obsdimg.config.model import UpstreamSettings
from obsdimg.config.sites import interface_of, within
from obsdimg.project.folder import HopKeys, PeerKeys, ProjectKeys

FREE_PORT = 51820
SERVER_KEY_MARK = "@SERVER-KEY@"
"""Stands for the private key in files of a server that makes its own at first boot."""

_TCP_IP4 = 40  # bytes of IPv4 and TCP headers without options
_TCP_IP6 = 60


@dataclass(frozen=True)
class Address:
    """The server's address in the tunnel, in the words of ifconfig and pf."""

    family: str
    ip: str
    prefix: int
    netmask: str
    broadcast: str
    network: str
    icmp: str
    echo: str


@dataclass(frozen=True)
class PeerAddress:
    """A peer's address, with what pf lets it reach in that family."""

    family: str
    ip: str
    server: str
    network: str
    reach: tuple[str, ...]
    """Networks behind the server."""
    sites: tuple[str, ...] = ()
    """Networks behind other peers."""
    networks: tuple[str, ...] = ()
    """Networks behind this peer, which have its rights but for ssh."""
    reached_from: tuple[tuple[int, str], ...] = ()
    """Networks behind the server that may open connections to those: interface, from 1, and net."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Whom packets that this peer sends may be from."""
        return (self.ip, *self.networks)


@dataclass(frozen=True)
class Route:
    """A network behind a peer, as route(8) is told; `gateway` is the server's own address."""

    family: str
    network: str
    gateway: str


@dataclass(frozen=True)
class PlannedPeer:
    """A peer as the server sees it; `preshared_key` is text only where it gets sealed."""

    name: str
    public_key: str
    preshared_key: str
    internet: bool
    ssh: bool
    addresses: tuple[PeerAddress, ...]
    allowed: tuple[str, ...]
    mtu: int | None = None
    """Bytes, where it is less than the tunnel's."""

    @property
    def mss(self) -> dict[str, int]:
        """The largest TCP segment on the way to it, bytes, by family; empty: the tunnel's."""
        if self.mtu is None:
            return {}
        return {"inet": self.mtu - _TCP_IP4, "inet6": self.mtu - _TCP_IP6}


@dataclass(frozen=True)
class PlannedUpstream:
    """The next server of a multi-hop."""

    interface: str
    host: str
    port: int
    endpoint: str
    public_key: str
    preshared_key: str
    """"" where it is not a server of this project."""
    ip: str
    prefix: int
    netmask: str
    broadcast: str
    network: str


@dataclass(frozen=True)
class TunnelDaemon:
    """One end of a tunnel: for people what it does, its rc.d service, interface and key file."""

    what: str
    service: str
    interface: str
    config: str
    port: int | None
    """The UDP port that its key file must name; None where it takes any."""


@dataclass(frozen=True)
class TunnelPlan:
    """All that the files of the server say about the tunnel."""

    backend: str
    interface: str
    listen_port: int
    redirected_ports: tuple[int, ...]
    addresses: tuple[Address, ...]
    mtu: int
    unbound: bool
    audit: bool
    clients_meet: bool
    first_boot_key: bool
    peers: tuple[PlannedPeer, ...]
    upstream: PlannedUpstream | None

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(a.family for a in self.addresses)

    @property
    def ipv4(self) -> bool:
        return "inet" in self.families

    @property
    def ipv6(self) -> bool:
        return "inet6" in self.families

    @property
    def routes(self) -> tuple[Route, ...]:
        """Where the networks behind peers are."""
        return tuple(
            Route(address.family, network, address.server)
            for peer in self.peers
            for address in peer.addresses
            for network in address.networks
        )

    @property
    def sites_reached(self) -> bool:
        """Whether anything may be opened to a network behind a peer."""
        return any(a.sites or a.reached_from for peer in self.peers for a in peer.addresses)

    @property
    def mss4(self) -> int:
        """The largest TCP segment that fits into a packet of the tunnel, bytes."""
        return self.mtu - _TCP_IP4

    @property
    def mss6(self) -> int:
        return self.mtu - _TCP_IP6

    @property
    def daemons(self) -> dict[str, TunnelDaemon]:
        """The rc.d services, by the name that siteXX/files.toml uses."""
        userland = self.backend == "wireguard-go"
        conf = "/etc/wireguard/server.conf" if userland else f"/etc/hostname.{self.interface}"
        found = {
            "tunnel": TunnelDaemon(
                "the tunnel", "obsdimg_wg", self.interface, conf, self.listen_port
            )
        }
        if self.upstream:
            to = self.upstream.interface
            conf = "/etc/wireguard/upstream.conf" if userland else f"/etc/hostname.{to}"
            found["next-server"] = TunnelDaemon("the next server", "obsdimg_wg_up", to, conf, None)
        return found

    @property
    def service(self) -> str:
        """The rc.d services as rc.conf(8) names them in pkg_scripts: what is first starts first."""
        return " ".join(reversed([daemon.service for daemon in self.daemons.values()]))


def plan_tunnel(config: Config, keys: ProjectKeys, backend: str) -> TunnelPlan:
    """Derive the plan; `backend` is the release's: `wireguard-go` or `wg`."""
    tunnel = config.tunnel
    userland = backend == "wireguard-go"
    unbound = tunnel.dns == "unbound"
    ports = (tunnel.port, *tunnel.also_ports)
    listen = tunnel.port
    if unbound and listen == 53:
        listen = next((p for p in ports if p != 53), FREE_PORT)
    addresses = tuple(_address(a) for a in (tunnel.ipv4, tunnel.ipv6) if a is not None)
    return TunnelPlan(
        backend=backend,
        interface="tun0" if userland else "wg0",
        listen_port=listen,
        redirected_ports=tuple(p for p in ports if p != listen),
        addresses=addresses,
        mtu=tunnel.mtu,
        unbound=unbound,
        audit=tunnel.audit,
        clients_meet=tunnel.clients_meet,
        first_boot_key=tunnel.keys == "first-boot",
        peers=tuple(_peer(config, p, keys.peers[p.name], addresses) for p in tunnel.peers),
        upstream=_upstream(tunnel.upstream, keys.hop, "tun1" if userland else "wg1"),
    )


def _address(own: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> Address:
    four = own.version == 4
    return Address(
        family="inet" if four else "inet6",
        ip=str(own.ip),
        prefix=own.network.prefixlen,
        netmask=str(own.network.netmask),
        broadcast=str(own.network.broadcast_address),
        network=str(own.network),
        icmp="icmp" if four else "icmp6",
        echo="icmp-type echoreq" if four else "icmp6-type echoreq",
    )


def _peer(
    config: Config, peer: PeerSettings, keys: PeerKeys, server: tuple[Address, ...]
) -> PlannedPeer:
    behind = [net for other in config.tunnel.peers for net in other.networks]
    from_interface = [(interface_of(config, net), net) for net in peer.reached_from]
    addresses = []
    for own in server:
        ip = peer.ipv4 if own.family == "inet" else peer.ipv6
        if ip is None:
            continue
        version = ip.version
        reach = [n for n in peer.reach if n.version == version]
        sites = [n for n in reach if any(within(n, net) for net in behind)]
        addresses.append(
            PeerAddress(
                own.family,
                str(ip),
                own.ip,
                own.network,
                reach=tuple(str(n) for n in reach if n not in sites),
                sites=tuple(map(str, sites)),
                networks=tuple(str(n) for n in peer.networks if n.version == version),
                reached_from=tuple(
                    (index + 1, str(n))
                    for index, n in from_interface
                    if index is not None and n.version == version
                ),
            )
        )
    return PlannedPeer(
        name=peer.name,
        public_key=keys.public.text(),
        preshared_key=keys.preshared.reveal() if keys.preshared else "",
        internet=peer.internet,
        ssh=peer.ssh,
        addresses=tuple(addresses),
        allowed=(
            *(f"{a.ip}/{32 if a.family == 'inet' else 128}" for a in addresses),
            *(network for a in addresses for network in a.networks),
        ),
        mtu=peer.mtu if peer.mtu is not None and peer.mtu < config.tunnel.mtu else None,
    )


def _upstream(
    upstream: UpstreamSettings | None, hop: HopKeys | None, interface: str
) -> PlannedUpstream | None:
    if upstream is None:
        return None
    own = upstream.ipv4
    host = f"[{upstream.endpoint}]" if ":" in upstream.endpoint else upstream.endpoint
    return PlannedUpstream(
        interface=interface,
        host=upstream.endpoint,
        port=upstream.port,
        endpoint=f"{host}:{upstream.port}",
        public_key=upstream.public_key if hop is None else hop.public.text(),
        preshared_key="" if hop is None else hop.preshared.reveal(),
        ip=str(own.ip),
        prefix=own.network.prefixlen,
        netmask=str(own.network.netmask),
        broadcast=str(own.network.broadcast_address),
        network=str(own.network),
    )
