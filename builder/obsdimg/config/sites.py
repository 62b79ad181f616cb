"""Rules for networks behind peers (site to site): each has one place where its packets go.

WireGuard sends a packet to the peer whose AllowedIPs fit it best, the routing table to the
interface; both are made from the same lists, which therefore must not overlap.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from obsdimg.config.conflict import Conflict
from obsdimg.config.model import Config, InterfaceSettings, NetworkSettings, PeerSettings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_COMMON: tuple[Network, ...] = tuple(
    ipaddress.ip_network(f"192.168.{n}.0/24") for n in (0, 1, 2, 8, 50, 68, 86, 100, 178)
)
"""What routers for homes come with, by the makers' manuals."""


def behind_peers(c: Config) -> Iterator[Conflict]:
    """What is wrong with networks, reach and reached_from of the peers."""
    seen: list[tuple[Network, str]] = []
    for index, peer in enumerate(c.tunnel.peers):
        at = f"tunnel.peers[{index}]"
        for net in peer.networks:
            yield from _network(c, f"{at}.networks", net)
            for other, owner in seen:
                if overlap(net, other):
                    yield Conflict(
                        f"{at}.networks",
                        f"{net} overlaps {other} behind {owner}",
                        "a network is behind one peer; name its parts",
                    )
            seen.append((net, f"peer {peer.name}"))
    for index, peer in enumerate(c.tunnel.peers):
        yield from _reach(c, f"tunnel.peers[{index}].reach", peer)
        yield from _reached_from(c, f"tunnel.peers[{index}].reached_from", peer)


def overlap(one: Network, other: Network) -> bool:
    """Whether they share an address."""
    return one.version == other.version and one.overlaps(other)


def within(one: Network, other: Network) -> bool:
    """Whether every address of `one` is in `other`."""
    return overlap(one, other) and one.prefixlen >= other.prefixlen


def common_networks(c: Config) -> Iterator[str]:
    """A warning for each network that a client's own one at home or in a hotel may overlap."""
    for peer in c.tunnel.peers:
        for net in (*peer.reach, *peer.networks):
            if any(overlap(net, common) for common in _COMMON):
                yield (
                    f"peer {peer.name}: {net} is what many routers at home have: a client in such"
                    " a network takes addresses there for its neighbours, not for the tunnel"
                )


def _network(c: Config, key: str, net: Network) -> Iterator[Conflict]:
    """A network behind a peer against all that the server itself knows."""
    if net.prefixlen == 0:
        yield Conflict(key, f"{net} is everything", "name the networks at that place")
        return
    own = c.tunnel.ipv4 if net.version == 4 else c.tunnel.ipv6
    if own is None:
        yield Conflict(key, f"{net}: the tunnel has no ipv{net.version} address")
    elif overlap(net, own.network):
        yield Conflict(
            key, f"{net} overlaps the tunnel {own.network}", "give one of them other addresses"
        )
    upstream = c.tunnel.upstream
    if upstream is not None and overlap(net, upstream.ipv4.network):
        yield Conflict(key, f"{net} overlaps tunnel.upstream.ipv4 {upstream.ipv4}")
    outside: tuple[NetworkSettings | InterfaceSettings, ...] = (c.network, *c.network.interfaces)
    for number, outer in enumerate(outside):
        there = outer.ipv4 if net.version == 4 else outer.ipv6
        name = "network" if number == 0 else f"network.interfaces[{number - 1}]"
        if not isinstance(there, str) and overlap(net, there.network):
            yield Conflict(key, f"{net} overlaps {name}.ipv{net.version} {there}")
    for resolver in c.network.dns:
        if resolver in net:
            yield Conflict(
                "network.dns", f"{resolver} is in {net} behind a peer: the server asks outside"
            )


def _reach(c: Config, key: str, peer: PeerSettings) -> Iterator[Conflict]:
    for net in peer.reach:
        for behind in peer.networks:
            if overlap(net, behind):
                yield Conflict(key, f"{net} overlaps {behind}, which is behind this very peer")
        for other in c.tunnel.peers:
            for behind in other.networks:
                if other is not peer and overlap(net, behind) and not within(net, behind):
                    yield Conflict(
                        key,
                        f"{net} holds {behind} behind peer {other.name}, and more",
                        f"name {behind} and the rest apart",
                    )


def _reached_from(c: Config, key: str, peer: PeerSettings) -> Iterator[Conflict]:
    if peer.reached_from and not peer.networks:
        yield Conflict(key, "only goes with networks", "say what is behind this peer")
    for net in peer.reached_from:
        if interface_of(c, net) is None:
            yield Conflict(
                key,
                f"{net} is in no network of network.interfaces",
                "an interface needs a fixed address for it, like 172.16.1.3/24",
            )
        elif not any(net.version == behind.version for behind in peer.networks):
            yield Conflict(key, f"{net}: no network behind this peer is IPv{net.version}")


def interface_of(c: Config, net: Network) -> int | None:
    """Which of network.interfaces (from 0) `net` is at; None: at none of them."""
    for index, interface in enumerate(c.network.interfaces):
        own = interface.ipv4 if net.version == 4 else interface.ipv6
        if not isinstance(own, str) and within(net, own.network):
            return index
    return None
