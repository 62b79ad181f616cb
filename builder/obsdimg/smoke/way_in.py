"""The way to the guest's ssh: QEMU's forwarded port, or the tunnel where only that leads there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from obsdimg.core.errors import ObsdimgError
from obsdimg.smoke.plan import SmokePeer, SmokePlan
from obsdimg.smoke.qemu import Forward
from obsdimg.tunnel.client import Identity
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import TunnelError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
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
    peers: Sequence[SmokePeer],
    udp: Mapping[int, int],
    server_key: str | None,
    timeout: float,
) -> int:
    """As the first client whose connection is accepted."""
    met = []
    for peer in peers:
        key = peer.server_public_key or server_key
        if key is None or not peer.ping or peer.server_port not in udp:
            met.append(f"{peer.name}: its server's key, address or port is not known")
            continue
        host = ipaddress.ip_address(peer.ping[0])
        try:
            tunnel = peer_tunnel(
                replace(peer, server_public_key=key), udp[peer.server_port], timeout
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


def peer_tunnel(peer: SmokePeer, port: int, timeout: float) -> Tunnel:
    """The tunnel of `peer` to the server behind UDP 127.0.0.1:`port`.  Raises TunnelError."""
    place = f"peer {peer.name}"
    assert peer.server_public_key is not None
    preshared = peer.preshared_key
    return Tunnel.open(
        Endpoint("127.0.0.1", port),
        Identity(
            WgPrivateKey.parse(peer.private_key.reveal(), place),
            WgPublicKey.parse(peer.server_public_key, place),
            PresharedKey.parse(preshared.reveal(), place) if preshared else None,
        ),
        [ipaddress.ip_interface(address).ip for address in peer.addresses],
        timeout=timeout,
    )
