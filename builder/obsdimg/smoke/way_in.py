"""The way to the guest's ssh: QEMU's forwarded port, or the tunnel where only that leads there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from obsdimg.core.errors import ObsdimgError
from obsdimg.smoke.plan import SmokePlan
from obsdimg.smoke.qemu import Forward
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import TunnelError
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.keys import WgPublicKey
from obsdimg.tunnel.proxy import local_port
from obsdimg.tunnel.stream import Tunnel

SSH_PORT = 22


class NoWayInError(ObsdimgError):
    """No client of the plan reaches the guest's ssh."""


@contextmanager
def ssh_port(
    plan: SmokePlan, ports: Mapping[Forward, int], server_key: str | None, timeout: float
) -> Iterator[int]:
    """A TCP port of 127.0.0.1 that leads to the guest's ssh while the context lasts.

    `ports`: QEMU's forwarded ones; `server_key`: the server's public key where only its
    console has told it; `timeout`: seconds for the handshake and for the connection.
    Raises NoWayInError with what each client met.
    """
    if plan.ssh_open or not plan.peers:
        yield ports[Forward("tcp", SSH_PORT)]
        return
    udp = {f.guest_port: port for f, port in ports.items() if f.protocol == "udp"}
    with ExitStack() as stack:
        yield _through_tunnel(stack, plan.peers, udp, server_key, timeout)


def _through_tunnel(
    stack: ExitStack,
    peers: Sequence[TunnelClient],
    udp: Mapping[int, int],
    server_key: str | None,
    timeout: float,
) -> int:
    """As the first client whose connection is accepted."""
    shown = WgPublicKey.parse(server_key, "console") if server_key else None
    met = []
    for peer in peers:
        client = peer if peer.server else replace(peer, server=shown)
        if client.server is None or not client.inside or client.port not in udp:
            met.append(f"{peer.name}: its server's key, address or port is not known")
            continue
        host = client.inside[0]
        try:
            tunnel = Tunnel.of(
                client, endpoint=Endpoint("127.0.0.1", udp[client.port]), timeout=timeout
            )
        except TunnelError as error:
            met.append(f"{peer.name}: {error.message}")
            continue
        stack.callback(tunnel.close)
        try:
            tunnel.connect(host, SSH_PORT, timeout=timeout).close()
        except TunnelError as error:
            met.append(f"{peer.name}: {error.message}")
            tunnel.close()
            continue
        return stack.enter_context(local_port(tunnel, host, SSH_PORT))
    raise NoWayInError(
        f"no client reaches ssh through the tunnel: {'; '.join(met)}",
        "is there a client with ssh = true, and does sshd run?",
    )
