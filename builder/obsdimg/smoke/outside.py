"""Looks at the running guest from outside: the tunnel, the TCP ports, ssh's greeting.

A forwarded TCP port always accepts on this host, whatever the guest does, so the answer is
read from the emulated network cable: QEMU writes the packets to a file, and a port is open
when the guest itself sent SYN and ACK.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.smoke.machine import VirtualMachine
from obsdimg.smoke.plan import EmulatedNetwork
from obsdimg.smoke.qemu import Forward
from obsdimg.smoke.result import SmokeCheck
from obsdimg.tunnel.endpoint import Endpoint, resolve
from obsdimg.tunnel.errors import EndpointError
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.probe import Target
from obsdimg.tunnel.report import ProbeResult, Role

Prober = Callable[[TunnelClient, int, Sequence[str], float], ProbeResult]
"""Calls the server as a peer: over a UDP port of this host, pinging addresses beyond the
server too, within so many seconds."""

SYN, ACK, RST = 0x02, 0x10, 0x04


NAME_SECONDS = 10.0  # this machine's name servers are waited for so long


def name_is_known(name: str) -> bool:
    """Whether this machine finds an address of `name`."""
    try:
        return bool(resolve(Endpoint(name, 443), NAME_SECONDS))
    except EndpointError:
        return False


class KeyMissingError(ObsdimgError):
    """The server's public key is not known."""


def probe_peer(
    peer: TunnelClient, port: int, outside: Sequence[str], timeout: float
) -> ProbeResult:
    """Handshake as `peer` with the server behind 127.0.0.1:`port`; ping its addresses, and
    what is `outside`, beyond the server.  Raises ObsdimgError for bad keys."""
    targets = [Target(address, Role.SERVER) for address in peer.inside]
    targets += [Target(ipaddress.ip_address(a), Role.OUTSIDE) for a in outside]
    if peer.server is None:
        raise KeyMissingError("the server has not shown its public key on the console")
    endpoint = Endpoint("127.0.0.1", port)
    return peer.call(endpoint, targets, count=3, interval=0.3, timeout=timeout)


def beyond(
    peer: TunnelClient, network: EmulatedNetwork, private: Sequence[EmulatedNetwork]
) -> list[str]:
    """What `peer` may ping beyond the server: the gateway, and a host of each private network
    that it may reach."""
    internet = peer.allows(ipaddress.ip_address(network.gateway))
    found = [network.gateway] if internet and network.gateway_is_internet else []
    for other in private:
        host = ipaddress.ip_address(other.gateway)
        if any(host in reach for reach in peer.reach):
            found.append(other.gateway)
    return found


def check_tunnel(
    peers: Sequence[TunnelClient],
    ports: dict[int, int],
    network: EmulatedNetwork,
    private: Sequence[EmulatedNetwork],
    prober: Prober,
    timeout: float,
) -> list[SmokeCheck]:
    """A check for every peer: handshake, pings to the server, ping through NAT."""
    checks = []
    for peer in peers:
        outside = beyond(peer, network, private)
        result = prober(peer, ports[peer.port], outside, timeout)
        lines = "; ".join(t.line() for t in result.targets)
        name = f"tunnel of {peer.name}: handshake, pings{', NAT' if outside else ''}"
        detail = lines if result.works else f"{result.message} {lines}".strip()
        checks.append(SmokeCheck.of(name, result.works, detail, "E66 14"))
        if result.works:
            checks += _refused(peer, ports[peer.port], private, prober, timeout)
    return checks


def _refused(
    peer: TunnelClient,
    port: int,
    private: Sequence[EmulatedNetwork],
    prober: Prober,
    timeout: float,
) -> list[SmokeCheck]:
    """A check for every private network that `peer` may not reach: its host must not answer."""
    checks = []
    for other in private:
        host = ipaddress.ip_address(other.gateway)
        if any(host in reach for reach in peer.reach):
            continue
        result = prober(peer, port, [other.gateway], timeout)
        answered = any(t.received for t in result.targets if t.address == host)
        # A tunnel that carries nothing at all would prove nothing.
        carries = any(t.received for t in result.targets if t.role is Role.SERVER)
        detail = "; ".join(t.line() for t in result.targets) or result.message
        name = f"{peer.name} does not reach {other.gateway}, which it may not"
        checks.append(SmokeCheck.of(name, carries and not answered, detail))
    return checks


# -- TCP ports


@contextlib.contextmanager
def capture(machine: VirtualMachine) -> Iterator[Path]:
    """While open, the first 128 bytes of every packet of the guest's card go to a file."""
    path = machine.folder / "packets"
    machine.qmp.execute(
        "object-add",
        {"qom-type": "filter-dump", "id": "dump", "netdev": "net", "file": str(path),
         "maxlen": 128},
    )  # fmt: skip
    try:
        yield path
    finally:
        machine.qmp.execute("object-del", {"id": "dump"})


def tcp_answers(pcap: bytes) -> dict[int, str]:
    """From packets of the guest: per TCP port of its own, `open` (it sent SYN and ACK) or
    `refused` (RST).  Ports that kept silent are missing.  Format: pcap 2.4, Ethernet."""
    answers: dict[int, str] = {}
    for source, flags in _tcp(pcap, target=False):
        if flags & (SYN | ACK) == (SYN | ACK):
            answers[source] = "open"
        elif flags & RST:
            answers.setdefault(source, "refused")
    return answers


def tcp_calls(pcap: bytes) -> set[int]:
    """The guest's TCP ports to which the packets hold a SYN: what was really tried."""
    return {port for port, flags in _tcp(pcap, target=True) if flags & (SYN | ACK) == SYN}


def _tcp(pcap: bytes, *, target: bool) -> Iterator[tuple[int, int]]:
    """Port (of the target or of the source) and flags of every TCP packet over IPv4."""
    at = 24
    while at + 16 <= len(pcap):
        size = struct.unpack_from("<I", pcap, at + 8)[0]
        frame = pcap[at + 16 : at + 16 + size]
        at += 16 + size
        if len(frame) < 34 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        tcp = 14 + (frame[14] & 15) * 4
        if len(frame) < tcp + 14:
            continue
        yield struct.unpack_from(">H", frame, tcp + (2 if target else 0))[0], frame[tcp + 13]


def knock(
    machine: VirtualMachine, ports: Sequence[int], seconds: float
) -> tuple[dict[int, str], str]:
    """Connect to every forwarded TCP port at once; give the guest `seconds` to answer.

    Returns `open`, `refused`, `silent` or `not tried` per guest port, and ssh's greeting if it
    came.  `not tried`: no call to it was seen on the cable, so its silence says nothing.
    """
    greeting = b""
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(capture(machine))
        sockets: dict[socket.socket, int] = {}
        for port in ports:
            connection = stack.enter_context(socket.socket())
            connection.settimeout(2)
            with contextlib.suppress(OSError):
                connection.connect(("127.0.0.1", machine.ports[Forward("tcp", port)]))
                sockets[connection] = port
        end = time.monotonic() + seconds
        waiting = dict(sockets)
        while waiting and (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(list(waiting), [], [], left)
            for connection in ready:
                port = waiting.pop(connection)
                with contextlib.suppress(OSError):
                    data = connection.recv(256)
                    if port == 22:
                        greeting = data
    packets = path.read_bytes() if path.exists() else b""
    answers, calls = tcp_answers(packets), tcp_calls(packets)
    line = greeting.decode("ascii", "replace").split("\r")[0].strip()
    silent = {port: "silent" if port in calls else "not tried" for port in ports}
    return {port: answers.get(port, silent[port]) for port in ports}, line


def check_ports(
    machine: VirtualMachine, ports: Sequence[int], ssh_open: bool, slowness: float
) -> list[SmokeCheck]:
    """ssh as configured, every other TCP port not open."""
    answers, greeting = knock(machine, ports, 2 * min(1.0, slowness) + slowness / 2)
    checks = []
    if 22 in answers:
        wanted = "open" if ssh_open else "closed"
        closed = answers[22] in ("refused", "silent")
        is_open = answers[22] == "open" and greeting.startswith("SSH-2.0-")
        good = is_open if ssh_open else closed
        detail = answers[22] + (f", says {greeting}" if greeting else "")
        checks.append(SmokeCheck.of(f"ssh from outside is {wanted}", good, detail))
    others = {p: a for p, a in answers.items() if p != 22}
    bad = [p for p, a in others.items() if a in ("open", "not tried")]
    kinds = ", ".join(f"{p} {a}" for p, a in sorted(others.items()))
    checks.append(SmokeCheck.of("no other TCP port is open from outside", not bad, kinds))
    return checks
