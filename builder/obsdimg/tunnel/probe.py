"""The probe: is this server's tunnel up, for this client, and how far do packets come?

A handshake as the client, then pings through the session: to the server's address in the
tunnel and to addresses beyond it.  It sends from an ordinary UDP socket: no root, no tun
device.  To the server it is the client: a device that is connected with the same key at
the same time loses its session and makes a new one within about 15 seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from obsdimg.tunnel.client import AFTER_COOKIE_SECONDS, Caller, HandshakeLog, Identity
from obsdimg.tunnel.endpoint import Endpoint, resolve
from obsdimg.tunnel.errors import (
    EndpointError,
    HandshakeError,
    MessageError,
    PacketError,
    ProbeArgumentError,
    ProbeError,
)
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.link import Link, Received
from obsdimg.tunnel.messages import Transport
from obsdimg.tunnel.messages import parse as parse_message
from obsdimg.tunnel.packets import Echo, IcmpError, build
from obsdimg.tunnel.packets import parse as parse_packet
from obsdimg.tunnel.report import (
    ProbeResult,
    ProbeVerdict,
    Role,
    TargetReport,
    judge_handshake,
    judge_targets,
)
from obsdimg.tunnel.session import Session

RESOLVE_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 2.0
"""How long the last request may stay unanswered."""
SILENCE_SECONDS: Final = 10.0
"""After so long without a packet the server may have restarted: a fresh handshake."""
MAXIMUM_COUNT: Final = 65536
MAXIMUM_PAYLOAD: Final = 1392
"""1420, the usual MTU inside a tunnel, less an IPv4 and an ICMP header."""


@dataclass(frozen=True)
class Target:
    """An address to ping, and why."""

    address: Address
    role: Role


def probe(
    endpoint: Endpoint,
    server_public: WgPublicKey,
    client_private: WgPrivateKey,
    preshared: PresharedKey | None,
    client_addresses: Sequence[Address],
    targets: Sequence[Target],
    *,
    count: int = 4,
    interval: float = 0.5,
    timeout: float = 20.0,
    payload: int = 56,
) -> ProbeResult:
    """Call the server and ping each of `targets` `count` times, `interval` seconds apart.

    `client_addresses`: the client's own in the tunnel, one per family at least; a target
    is pinged from the first of its family.  `timeout`: seconds during which the handshake
    is retried (a server that has just started needs some 20).  `payload`: bytes of each
    request.  Takes `timeout` + RESOLVE_SECONDS + `count` * `interval` + REPLY_SECONDS at
    most, and `timeout` more for each session that ends during the pings.

    What the network does ends in the result's verdict.  Raises ProbeError for arguments
    that make no sense.
    """
    sources = _sources(client_addresses, targets)
    _check(count, interval, timeout, payload)
    log = HandshakeLog()
    try:
        addresses = resolve(endpoint, min(timeout, RESOLVE_SECONDS))
    except EndpointError as error:
        return ProbeResult(ProbeVerdict.UNRESOLVED, endpoint, log, detail=error.message)
    identity = Identity(client_private, server_public, preshared)
    with Link(addresses) as link:
        caller = Caller(link, identity, log)
        try:
            session = caller.handshake(time.monotonic() + timeout)
        except HandshakeError as error:
            raise ProbeError(
                "the server's public key is a point of low order", "give its real public key"
            ) from error
        if session is None:
            return ProbeResult(judge_handshake(log), endpoint, log, detail=log.unreachable)
        series = [_Series(target, sources[target.address.version]) for target in targets]
        _Pinger(caller, session, series, payload, timeout).run(count, interval)
    reports = tuple(one.report() for one in series)
    return ProbeResult(judge_targets(reports), endpoint, log, reports)


def _sources(addresses: Sequence[Address], targets: Sequence[Target]) -> dict[int, Address]:
    """The client's address per IP version.  Raises ProbeError where a target has none."""
    sources: dict[int, Address] = {}
    for address in addresses:
        sources.setdefault(address.version, address)
    if not targets:
        raise ProbeError("there is no address to ping", "give the server's tunnel address")
    for target in targets:
        if target.address.version not in sources:
            raise ProbeError(
                f"{target.address} cannot be pinged: the client has no"
                f" IPv{target.address.version} address in the tunnel"
            )
    return sources


def _check(count: int, interval: float, timeout: float, payload: int) -> None:
    if not 1 <= count <= MAXIMUM_COUNT:
        raise ProbeArgumentError(f"a count of {count} is not between 1 and {MAXIMUM_COUNT}")
    if not 0.01 <= interval <= 60:
        raise ProbeError(f"an interval of {interval:g} s is not between 0.01 and 60")
    if not 0.1 <= timeout <= 3600:
        raise ProbeArgumentError(f"a time limit of {timeout:g} s is not between 0.1 and 3600")
    if not 8 <= payload <= MAXIMUM_PAYLOAD:
        raise ProbeArgumentError(
            f"a size of {payload} bytes is not between 8 and {MAXIMUM_PAYLOAD}"
        )


@dataclass
class _Series:
    """The pings to one target."""

    target: Target
    source: Address
    ident: int = field(default_factory=lambda: int.from_bytes(os.urandom(2), "big"))
    filling: bytes = field(default_factory=lambda: os.urandom(8))
    pending: dict[int, float] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    rtts_ms: list[float] = field(default_factory=list)
    sent: int = 0
    duplicates: int = 0
    error: str | None = None

    def request(self, payload: int, now: float) -> bytes:
        """The next request's packet; `payload`: its bytes of data."""
        sequence = self.sent
        self.sent += 1
        self.pending[sequence] = now
        data = (self.filling * (payload // len(self.filling) + 1))[:payload]
        return build(Echo(self.source, self.target.address, self.ident, sequence, data))

    def answer(self, echo: Echo, now: float) -> None:
        if not echo.reply or echo.source != self.target.address or echo.ident != self.ident:
            return
        if not echo.payload.startswith(self.filling):
            return
        if echo.sequence in self.answered:
            self.duplicates += 1
            return
        sent = self.pending.pop(echo.sequence, None)
        if sent is not None:
            self.answered.add(echo.sequence)
            self.rtts_ms.append((now - sent) * 1000)

    def refuse(self, error: IcmpError) -> None:
        about = error.about
        if about is None or about.destination != self.target.address or about.ident != self.ident:
            return
        if self.pending.pop(about.sequence, None) is not None:
            self.error = f"{error.reason} (from {error.source})"

    def report(self) -> TargetReport:
        return TargetReport(
            self.target.address,
            self.target.role,
            self.sent,
            tuple(self.rtts_ms),
            self.duplicates,
            self.error,
        )


@dataclass
class _Pinger:
    """Sends by the clock, listens in between, and calls anew where a session ends."""

    caller: Caller
    session: Session
    series: list[_Series]
    payload: int
    timeout: float
    heard: float = 0.0

    def run(self, count: int, interval: float) -> None:
        self.heard = due = began = time.monotonic()
        self._send(b"")  # a keepalive: the server uses a session after its first packet only
        for _ in range(count):
            self._listen(due, until_answered=False)
            self._renew()
            self._ask()
            due = max(due, time.monotonic() - interval) + interval
        self._listen(time.monotonic() + REPLY_SECONDS, until_answered=True)
        if self.caller.log.attempts > 1 and self.heard == began:
            self._once_more()

    def _ask(self) -> None:
        for one in self.series:
            self._send(one.request(self.payload, time.monotonic()))

    def _once_more(self) -> None:
        """We called more than once, and then nothing at all came.  A busy server may have worked on
        two calls at the same time, and have kept the session of the other one (wireguard-go)."""
        time.sleep(AFTER_COOKIE_SECONDS)
        fresh = self.caller.handshake(time.monotonic() + self.timeout)
        if fresh is None:
            return
        self.session = fresh
        self._send(b"")
        self._ask()
        self._listen(time.monotonic() + REPLY_SECONDS, until_answered=True)

    def _renew(self) -> None:
        """A fresh handshake where the session is old or the server has gone quiet."""
        now = time.monotonic()
        quiet = now - max(self.heard, self.session.born) >= SILENCE_SECONDS
        if quiet or self.session.wants_rekey(now):
            fresh = self.caller.handshake(now + self.timeout)
            if fresh is not None:
                self.session = fresh

    def _send(self, packet: bytes) -> None:
        self.caller.link.send(self.caller.which, self.session.wrap(packet))

    def _listen(self, deadline: float, *, until_answered: bool) -> None:
        while not (until_answered and not any(one.pending for one in self.series)):
            event = self.caller.link.receive(deadline)
            if event is None:
                return
            if isinstance(event, Received):
                self._read(event.datagram)

    def _read(self, datagram: bytes) -> None:
        """Whatever arrives; what is not ours or does not open is counted and dropped."""
        try:
            message = parse_message(datagram)
            if not isinstance(message, Transport):
                raise MessageError("not a transport message")
            inner = self.session.unwrap(message)
        except MessageError:
            self.caller.log.strange += 1
            return
        now = self.heard = time.monotonic()
        if not inner:
            return
        try:
            packet = parse_packet(inner)
        except PacketError:
            self.caller.log.strange += 1
            return
        for one in self.series:
            if isinstance(packet, Echo):
                one.answer(packet, now)
            elif isinstance(packet, IcmpError):
                one.refuse(packet)
