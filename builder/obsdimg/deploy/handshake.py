"""Waiting for a server by calling it: the proof of a deployment, not a status field."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from obsdimg.config import Config
from obsdimg.deploy.provider import DeployError
from obsdimg.project.folder import ProjectKeys
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.probe import Target, probe
from obsdimg.tunnel.report import ProbeResult, Role


@dataclass(frozen=True)
class DeploymentCaller:
    """A client of this project with which a server is called."""

    name: str
    private: WgPrivateKey
    preshared: PresharedKey | None
    addresses: tuple[Address, ...]
    server: WgPublicKey
    target: Address
    """The server's address in the tunnel."""
    port: int

    def call(self, address: str, seconds: float) -> ProbeResult:
        """Try for `seconds` to get a handshake and an answer through the tunnel."""
        return probe(
            Endpoint(str(ip_address(address)), self.port),
            self.server,
            self.private,
            self.preshared,
            self.addresses,
            [Target(self.target, Role.SERVER)],
            count=1,
            interval=0.1,
            timeout=seconds,
        )


def choose_caller(config: Config, keys: ProjectKeys) -> DeploymentCaller | None:
    """The first client whose private key is here; None: there is none, or the server's key is
    not known (tunnel.keys = "first-boot", and nobody told it yet)."""
    inside = config.tunnel.ipv4 or config.tunnel.ipv6
    if keys.server_public is None or inside is None:
        return None
    for peer in config.tunnel.peers:
        own = keys.peers[peer.name]
        addresses = tuple(a for a in (peer.ipv4, peer.ipv6) if a is not None)
        if own.private is None or inside.version not in {a.version for a in addresses}:
            continue
        return DeploymentCaller(
            peer.name, own.private, own.preshared, addresses,
            keys.server_public, inside.ip, config.tunnel.port,
        )  # fmt: skip
    return None


def span(seconds: float) -> str:
    """`90 s` or `15 minutes`."""
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


class Waiting:
    """Waits with a limit; `enough` may end a wait early (the operator's word)."""

    def __init__(
        self, caller: DeploymentCaller, address: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._caller, self._address, self._sleep = caller, address, sleep

    def for_handshake(
        self, limit: float, pause: float, enough: Callable[[], bool] = lambda: False
    ) -> ProbeResult | None:
        """The result with a handshake; None where `enough` said so first.

        Raises DeployError after `limit` seconds, with what the last call found.
        """
        end = time.monotonic() + limit
        while True:
            if enough():
                return None
            left = end - time.monotonic()
            result = self._caller.call(self._address, max(1.0, min(left, 6.0)))
            if result.handshake.seconds is not None:
                return result
            if time.monotonic() >= end:
                raise DeployError(
                    f"no handshake within {span(limit)}: {result.message}",
                    "look at the console (obsdimg deploy status shows its address); the same"
                    " command goes on waiting",
                )
            self._sleep(min(pause, max(0.0, end - time.monotonic())))

    def for_silence(self, limit: float, pause: float) -> bool:
        """Whether the server stops answering within `limit` seconds: it restarts."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self._caller.call(self._address, 2.0).handshake.seconds is None:
                return True
            self._sleep(pause)
        return False
