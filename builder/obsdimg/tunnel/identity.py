"""A client of a tunnel: as whom it calls, whom, and what it sends there.

The one form in which probe, smoke and deploy know a client, whether it was planned from a
configuration or read from a wg-quick file (both in site/clients.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import ProbeError
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.wgconf import Interface, Network

if TYPE_CHECKING:
    from obsdimg.tunnel.probe import Target
    from obsdimg.tunnel.report import ProbeResult


@dataclass(frozen=True)
class TunnelClient:
    """One client and its server.  None stands for what is not known here or not yet."""

    name: str
    private: WgPrivateKey | None
    server: WgPublicKey | None
    preshared: PresharedKey | None
    addresses: tuple[Interface, ...]
    """Its own in the tunnel."""
    inside: tuple[Address, ...]
    """The server's in the tunnel, of the families that the client has."""
    allowed: tuple[Network, ...]
    """What it sends into the tunnel (AllowedIPs)."""
    host: str | None
    """Name or address under which the server is called."""
    port: int
    dns: tuple[Address, ...] = ()
    mtu: int | None = None
    """Bytes."""
    keepalive: int | None = None
    """Seconds; None: off."""
    reach: tuple[Network, ...] = ()
    """Private networks behind the server that the server lets it reach."""
    server_name: str = ""

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the server is called."""
        return None if self.host is None else Endpoint(self.host, self.port)

    def allows(self, address: Address) -> bool:
        """Whether it sends what is for `address` into the tunnel."""
        return any(address in network for network in self.allowed)

    def call(
        self,
        endpoint: Endpoint,
        targets: Sequence[Target],
        *,
        count: int,
        interval: float,
        timeout: float,
        payload: int = 56,
    ) -> ProbeResult:
        """Shake hands with the server at `endpoint` as this client and ping `targets`, as
        tunnel.probe does.  Raises ProbeError, also where a key is not known here."""
        from obsdimg.tunnel.probe import (
            probe,
        )  # a tenth of the imports of a build, which calls no one

        if self.private is None:
            raise ProbeError(f"client {self.name}: its private key is not here")
        if self.server is None:
            raise ProbeError(f"client {self.name}: the server's public key is not known")
        return probe(
            endpoint,
            self.server,
            self.private,
            self.preshared,
            [own.ip for own in self.addresses],
            targets,
            count=count,
            interval=interval,
            timeout=timeout,
            payload=payload,
        )


def usual_server(addresses: Sequence[Interface], allowed: Sequence[Network]) -> tuple[Address, ...]:
    """The server's addresses in the tunnel where nothing tells them: of each network that a
    client's own address is in, the first host."""
    found: list[Address] = []
    for own in addresses:
        for network in (own.network, *(n for n in allowed if own.ip in n)):
            first = network.network_address + 1
            if 0 < network.prefixlen < network.max_prefixlen and first != own.ip:
                found.append(first)
                break
    return tuple(found)
