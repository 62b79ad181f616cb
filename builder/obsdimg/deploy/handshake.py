"""Waiting for a server by calling it: the proof of a deployment, not a status field."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from obsdimg.deploy.provider import DeployError
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.probe import Target
from obsdimg.tunnel.report import ProbeResult, Role


def first_caller(clients: Sequence[TunnelClient]) -> TunnelClient | None:
    """The first client whose private key is here; None: there is none, or the server's key is
    not known (tunnel.keys = "first-boot", and nobody told it yet)."""
    for client in clients:
        if client.private is not None and client.server is not None and client.inside:
            return client
    return None


def span(seconds: float) -> str:
    """`90 s` or `15 minutes`."""
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


class Waiting:
    """Waits with a limit; `enough` may end a wait early (the operator's word)."""

    def __init__(
        self, caller: TunnelClient, address: str, sleep: Callable[[float], None] = time.sleep
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
            result = self._call(max(1.0, min(left, 6.0)))
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
            if self._call(2.0).handshake.seconds is None:
                return True
            self._sleep(pause)
        return False

    def _call(self, seconds: float) -> ProbeResult:
        """Try for `seconds` to get a handshake and an answer through the tunnel."""
        return self._caller.call(
            Endpoint(self._address, self._caller.port),
            [Target(self._caller.inside[0], Role.SERVER)],
            count=1,
            interval=0.1,
            timeout=seconds,
        )
