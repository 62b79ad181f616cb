"""A network in virtual time between our TCP and a listener, that loses, delays and doubles.

The listener is our own TcpConnection, put into the state in which a SYN leaves a server; what
judges the bytes on the wire is a real kernel, in test_stream.py.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from obsdimg.tunnel.errors import PacketError
from obsdimg.tunnel.flight import Flight
from obsdimg.tunnel.ip import unwrap
from obsdimg.tunnel.segments import ACK, RST, SYN, TcpSegment, parse
from obsdimg.tunnel.tcp import SCALE, Ends, TcpConnection, TcpState, reset_for

CLIENT, SERVER = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1")


@dataclass
class Faults:
    """How bad the network is; probabilities 0 to 1, times in seconds."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    damage: float = 0.0
    delay: float = 0.01
    late: float = 0.02
    """How much later a reordered packet comes."""


class Listener(TcpConnection):
    """A connection made from a SYN, which it answers by a SYN-ACK until that is acknowledged."""

    @classmethod
    def made(
        cls, syn: TcpSegment, now: float, *, segment: int, sack: bool, scale: bool, first: int
    ) -> Listener:
        ends = Ends(SERVER, syn.destination_port, CLIENT, syn.source_port)
        made = cls(ends, segment=segment, now=now, first=first)
        made._their_first = syn.seq
        made._sack = sack and syn.sack_permitted
        if scale and syn.scale is not None:
            made._scale_out, made._scale_in = syn.scale, SCALE
        made.flight = Flight(min(syn.mss or 536, segment), sack=made._sack, edge=1 + syn.window)
        made._window_from = (0, 1)
        made.state = TcpState.ESTABLISHED
        made.syn_ack = TcpSegment(
            ends.source_port,
            ends.destination_port,
            first,
            (syn.seq + 1) & 0xFFFFFFFF,
            SYN | ACK,
            min(made.reading.window(), 0xFFFF),
            mss=segment,
            scale=SCALE if scale else None,
            sack_permitted=made._sack,
        )
        return made

    syn_ack: TcpSegment


@dataclass
class Side:
    """What one end wants to send, has sent, and has got."""

    to_send: bytes = b""
    got: bytearray = field(default_factory=bytearray)
    finish: bool = True
    reads: Callable[[float], int] = lambda _: 1 << 30
    """How many bytes it takes at a time."""


class Network:
    """Runs both ends until both are finished, or the time is over."""

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        *,
        client_first: int | None = None,
        server_first: int | None = None,
        sack: bool = True,
        scale: bool = True,
        segment: int = 1380,
        server_segment: int = 1380,
        listens: bool = True,
    ) -> None:
        self.chance = random.Random(seed)
        self.faults = faults or Faults()
        self.now = 1000.0
        self.sack, self.scale, self.server_segment = sack, scale, server_segment
        self.listens = listens
        self.server_first = self.chance.getrandbits(32) if server_first is None else server_first
        first = self.chance.getrandbits(32) if client_first is None else client_first
        self.client = TcpConnection(
            Ends(CLIENT, 50000, SERVER, 22), segment=segment, now=self.now, first=first
        )
        self.server: Listener | None = None
        self.sides = {True: Side(), False: Side()}
        self.wire: list[tuple[float, int, bool, bytes]] = []
        self.count = itertools.count()
        self.segments = 0
        self.seen: list[TcpSegment] = []
        self.times: list[float] = []
        """When each of `seen` went out."""
        self.filter: Callable[[bool, TcpSegment], bool] = lambda to_server, segment: True
        """Whether a segment comes through, besides the faults."""

    def send(self, to_server: bool, segment: TcpSegment) -> None:
        ends = (CLIENT, SERVER) if to_server else (SERVER, CLIENT)
        packet = segment.pack(*ends)
        self.segments += 1
        self.seen.append(segment)
        self.times.append(self.now)
        faults = self.faults
        if not self.filter(to_server, segment) or self.chance.random() < faults.loss:
            return
        if self.chance.random() < faults.damage:
            at = self.chance.randrange(len(packet))
            packet = packet[:at] + bytes([packet[at] ^ 0x55]) + packet[at + 1 :]
        for _ in range(2 if self.chance.random() < faults.duplicate else 1):
            delay = faults.delay
            if self.chance.random() < faults.reorder:
                delay += self.chance.uniform(0, faults.late)
            item = (self.now + delay, next(self.count), to_server, packet)
            heapq.heappush(self.wire, item)

    def deliver(self, to_server: bool, packet: bytes) -> None:
        try:
            segment = parse(unwrap(packet))
        except PacketError:
            return
        if not to_server:
            if self.client.state is not TcpState.CLOSED:
                self.client.accept(segment, self.now)
            elif not segment.flags & RST:
                self.send(True, reset_for(segment))  # as the pump does
            return
        if not self.listens:
            self.send(False, reset_for(segment))
            return
        if segment.flags & SYN:
            if self.server is None:
                self.server = Listener.made(
                    segment,
                    self.now,
                    segment=self.server_segment,
                    sack=self.sack,
                    scale=self.scale,
                    first=self.server_first,
                )
            self.send(False, self.server.syn_ack)
        elif self.server is not None and self.server.state is not TcpState.CLOSED:
            self.server.accept(segment, self.now)
        elif not segment.flags & RST:
            self.send(False, reset_for(segment))

    def step(self, is_client: bool) -> None:
        """One end works: reads, writes, sends."""
        connection = self.client if is_client else self.server
        if connection is None:
            return
        side = self.sides[is_client]
        connection.tick(self.now)
        if connection.open:
            room = min(connection.room, len(side.to_send))
            if room:
                connection.write(side.to_send[:room])
                side.to_send = side.to_send[room:]
            if not side.to_send and side.finish:
                connection.finish()
        count = min(len(connection.reading), side.reads(self.now))
        if count:
            side.got += connection.reading.peek()[:count]
            connection.read(count)
        for segment in connection.outgoing(self.now):
            self.send(is_client, segment)

    def done(self) -> bool:
        ended = (TcpState.CLOSED, TcpState.TIME_WAIT)
        return self.client.state in ended and (self.server is None or self.server.state in ended)

    def run(self, limit: float, until: Callable[[], bool] | None = None) -> None:
        """Let virtual time pass until `until` (both ended), or for `limit` seconds."""
        end = self.now + limit
        until = until or self.done
        while self.now < end:
            self.step(True)
            self.step(False)
            if until():
                return
            times = [end]
            if self.wire:
                times.append(self.wire[0][0])
            for connection in (self.client, self.server):
                deadline = None if connection is None else connection.deadline()
                if deadline is not None:
                    times.append(deadline)
            if any(self.sides[side].reads(self.now) < (1 << 30) for side in self.sides):
                times.append(self.now + 0.05)
            self.now = max(self.now + 1e-6, min(times))
            while self.wire and self.wire[0][0] <= self.now:
                _, _, to_server, packet = heapq.heappop(self.wire)
                self.deliver(to_server, packet)
