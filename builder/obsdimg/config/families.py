"""Addresses of a family that the server, or its tunnel, does not have: nothing would get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from obsdimg.config.conflict import Conflict
from obsdimg.config.model import Config

_Address = IPv4Address | IPv6Address


def families(c: Config) -> Iterator[Conflict]:
    """Endpoints and resolvers that are addresses, held to the families there are."""
    outside = {4: c.network.ipv4 != "none", 6: c.network.ipv6 != "none"}
    inside = {4: c.tunnel.ipv4 is not None, 6: c.tunnel.ipv6 is not None}
    yield from _endpoint("tunnel.endpoint", c.tunnel.endpoint, outside, "no client would reach it")
    if (upstream := c.tunnel.upstream) is not None:
        why = "it would not reach that server"
        yield from _endpoint("tunnel.upstream.endpoint", upstream.endpoint, outside, why)
    yield from _resolvers("network.dns", c.network.dns, outside, "network", "the server")
    if not isinstance(c.tunnel.dns, str):
        yield from _resolvers("tunnel.dns", c.tunnel.dns, inside, "tunnel", "the tunnel")
    for index, peer in enumerate(c.tunnel.peers):
        at = f"tunnel.peers[{index}].dns"
        yield from _resolvers(at, peer.dns, inside, "tunnel", "the tunnel")


def _endpoint(key: str, host: str | None, there: dict[int, bool], why: str) -> Iterator[Conflict]:
    try:
        address = ip_address(host or "")
    except ValueError:  # a name: what it means is seen when it is used
        return
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        yield Conflict(
            key, f"{address} is no address that others reach", "a public address, or a name"
        )
    elif not there[address.version]:
        v = address.version
        hint = f"set network.ipv{v}, or give a name or an IPv{10 - v} address here"
        yield Conflict(
            key,
            f"{address} is IPv{v}, and the server has none (network.ipv{v} = none): {why}",
            hint,
        )


def _resolvers(
    key: str, given: Sequence[_Address], there: dict[int, bool], section: str, who: str
) -> Iterator[Conflict]:
    """One that is reached is enough: the others are asked in vain, and the next one then."""
    if given and not any(there[address.version] for address in given):
        v = given[0].version
        yield Conflict(
            key,
            f"{given[0]} is IPv{v}, and {who} has none ({section}.ipv{v}): it is never reached",
            f"name a resolver with an IPv{10 - v} address",
        )
