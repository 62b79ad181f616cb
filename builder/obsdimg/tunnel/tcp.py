"""The calling side of one TCP connection, without any I/O: segments in, segments out.

Sources: RFC 9293 (states, acceptability, acknowledgements), RFC 5961 (resets and SYNs that
may be forged), RFC 7323 (window scale), RFC 2018 (selective acknowledgement), RFC 1122
(delayed acknowledgement, keep-alive).  Not here, since a caller does not need it: listening,
simultaneous opening, urgent data.  Times are seconds of one monotonic clock, given by the
caller, so that tests run years in a moment.

    connection = TcpConnection(ends, segment=1380, now=now)
    for segment in connection.outgoing(now): …send it…
    connection.accept(segment, now)      # one that came
    connection.tick(now)                 # at `deadline()`
"""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass
from typing import Final

from obsdimg.tunnel.errors import TunnelError
from obsdimg.tunnel.flight import Flight
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.reassembly import Reassembly
from obsdimg.tunnel.rtt import INITIAL_RTO, MAXIMUM_RTO
from obsdimg.tunnel.segments import ACK, FIN, PSH, RST, SYN, Complaint, TcpSegment

RECEIVE_BYTES: Final = 1 << 20
"""What may wait for a slow reader: 20 Mbit/s over a round trip of 400 ms."""
SEND_BYTES: Final = 1 << 20
SCALE: Final = 5
"""Bits: windows are told in steps of 32 bytes."""
ACK_DELAY: Final = 0.04
ACK_EVERY: Final = 2
"""Segments; RFC 9293, section 3.8.6.3."""
KEEPALIVE_IDLE: Final = 60.0
KEEPALIVE_INTERVAL: Final = 15.0
SILENCE: Final = 120.0
"""The connection is lost after so long without a sign while one is due."""
TIME_WAIT: Final = 1.0
"""Not two minutes: the port is random and no other connection waits for it."""
DEFAULT_MSS: Final = {4: 536, 6: 1220}
LEAST_MSS: Final = 64

_MASK: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000


class TcpError(TunnelError):
    """A connection could not be opened, or broke."""


class TcpRefusedError(TcpError):
    """The other side, or a filter on the way, says no."""


class TcpState(enum.Enum):
    """RFC 9293, section 3.3.2, as far as a caller comes."""

    SYN_SENT = enum.auto()
    ESTABLISHED = enum.auto()
    """Also FIN-WAIT, CLOSE-WAIT, CLOSING and LAST-ACK: `TcpConnection` knows both directions."""
    TIME_WAIT = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True)
class Ends:
    """Both ends of a connection."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int

    def __str__(self) -> str:
        host = str(self.destination)
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{self.destination_port}"


class TcpConnection:
    """One connection.  `error` says why it is CLOSED, None where both sides finished."""

    def __init__(
        self,
        ends: Ends,
        *,
        segment: int,
        now: float,
        first: int | None = None,
        receive: int = RECEIVE_BYTES,
    ) -> None:
        """`segment`: bytes of data that a packet can hold; `first`: the initial sequence number
        (for tests; a random one otherwise, as RFC 6528 asks)."""
        self.ends: Final = ends
        self.state = TcpState.SYN_SENT
        self.error: TcpError | None = None
        self.reading: Final = Reassembly(receive)
        self.flight: Flight | None = None
        self.sent_segments = 0
        self.received_segments = 0
        self._mss: Final = segment
        self._first: Final = secrets.randbits(32) if first is None else first & _MASK
        self._their_first = 0
        self._scale_out = 0
        self._scale_in = 0
        self._heard = now
        self._opened = now
        self._window_from = (0, 0)
        self._queue: list[TcpSegment] = []
        self._ack_now = False
        self._ack_at: float | None = None
        self._unacknowledged = 0
        self._told = 0
        self._syns = 0
        self._syn_at: float | None = now
        self._syn_sent = now
        self._probed = now
        self._ends_at: float | None = None
        self._sack = False
        self._finishing = False

    # ---- what the user does

    @property
    def open(self) -> bool:
        return self.state is TcpState.ESTABLISHED

    @property
    def room(self) -> int:
        """How many bytes `write` takes now."""
        if self.flight is None or self._finishing or self.state is not TcpState.ESTABLISHED:
            return 0
        return max(SEND_BYTES - self.flight.waiting, 0)

    def write(self, data: bytes) -> None:
        """Add `data` to what is sent; `room` says how much makes sense."""
        assert self.flight is not None
        self.flight.write(data)

    def finish(self) -> None:
        """Nothing more will be written; what was written is still delivered."""
        if not self._finishing:
            self._finishing = True
            if self.flight is not None:
                self.flight.finish()

    def read(self, count: int) -> None:
        """The user took `count` bytes of `reading`; the other side is told where it matters."""
        self.reading.drop(count)
        edge = self.reading.next + self.reading.window()
        if edge - self._told >= min(RECEIVE_BYTES // 4, 16 * self._mss):
            self._ack_now = True

    def abort(self, error: TcpError | None = None) -> None:
        """Give up at once, because of `error`; the other side is told by a reset."""
        if self.state is TcpState.ESTABLISHED:
            assert self.flight is not None
            self._queue.append(self._make(self.flight.next, RST | ACK))
        self._close(error)

    # ---- what comes

    def accept(self, segment: TcpSegment, now: float) -> None:
        """Take in a segment that is for this connection's ports."""
        self.received_segments += 1
        if self.state is TcpState.CLOSED:
            return
        if self.state is TcpState.SYN_SENT:
            self._accept_opening(segment, now)
            return
        flight = self.flight
        assert flight is not None
        start = _near(segment.seq - self._their_first, self.reading.next)
        length = len(segment.data) + bool(segment.flags & FIN)
        if not self.reading.acceptable(start, length):
            if not segment.flags & RST:
                self._ack_now = True
                if start < self.reading.next and segment.flags & ACK:
                    # Old, or a keep-alive: what it acknowledges is news all the same.
                    self._heard = now
                    self._accept_ack(flight, segment, start, now)
                    self._settle(now)
            return
        if segment.flags & RST:
            if start == self.reading.next:
                self._reset()
            else:
                self._ack_now = True
            return
        if segment.flags & SYN or not segment.flags & ACK:
            self._ack_now = bool(segment.flags & SYN)
            return
        self._heard = now
        if not self._accept_ack(flight, segment, start, now):
            return
        if length and not self.reading.finished:
            self._accept_data(segment, start, now)
        elif length:
            self._ack_now = True
        self._settle(now)

    def _accept_opening(self, segment: TcpSegment, now: float) -> None:
        """The answer to our SYN (RFC 9293, section 3.10.7.3)."""
        if segment.flags & ACK and segment.ack != (self._first + 1) & _MASK:
            if not segment.flags & RST:
                self._queue.append(reset_for(segment))
            return
        if not segment.flags & ACK:
            return
        if segment.flags & RST:
            self._close(
                TcpRefusedError(
                    f"{self.ends}: the connection was refused",
                    "nothing listens there, or the firewall returns a reset",
                )
            )
            return
        if not segment.flags & SYN:
            return
        self._heard = now
        self._their_first = segment.seq
        self._sack = segment.sack_permitted
        if segment.scale is not None:
            self._scale_out, self._scale_in = segment.scale, SCALE
        theirs = segment.mss or DEFAULT_MSS[self.ends.source.version]
        flight = Flight(
            max(min(theirs, self._mss), LEAST_MSS), sack=self._sack, edge=1 + segment.window
        )
        if self._syns == 1:
            flight.trip.sample(now - self._syn_sent)
        if self._finishing:
            flight.finish()
        self.flight = flight
        self._window_from = (0, 1)
        self._syn_at = None
        self.state = TcpState.ESTABLISHED
        self._ack_now = True

    def _accept_ack(self, flight: Flight, segment: TcpSegment, start: int, now: float) -> bool:
        """The acknowledgement and the window; False: it acknowledges what was never sent."""
        ack = _near(segment.ack - self._first, flight.una)
        if ack > flight.next:
            self._ack_now = True
            return False
        if ack < flight.una:
            return True
        edge: int | None = None
        if (start, ack) >= self._window_from:
            self._window_from = (start, ack)
            edge = ack + (segment.window << self._scale_out)
        blocks: list[tuple[int, int]] = []
        if self._sack:
            for left, right in segment.sack:
                begin = _near(left - self._first, ack)
                blocks.append((begin, begin + ((right - left) & _MASK)))
        bare = not segment.data and not segment.flags & FIN
        flight.acknowledged(ack, edge, blocks, now, bare=bare)
        return True

    def _accept_data(self, segment: TcpSegment, start: int, now: float) -> None:
        fin = bool(segment.flags & FIN)
        in_order = self.reading.add(start, segment.data, fin)
        if not in_order or self.reading.finished:
            self._ack_now = True
            return
        self._unacknowledged += 1
        if self._unacknowledged >= ACK_EVERY:
            self._ack_now = True
        elif self._ack_at is None:
            self._ack_at = now + ACK_DELAY

    def complain(self, complaint: Complaint) -> None:
        """Take in an ICMP error about a segment of ours (RFC 5461: hard only while opening)."""
        if complaint.mtu is not None and self.flight is not None:
            header = 40 if self.ends.source.version == 4 else 60
            least = (576 if self.ends.source.version == 4 else 1280) - header
            self.flight.shrink(max(complaint.mtu - header, least))
        elif complaint.hard and self.state is TcpState.SYN_SENT:
            if complaint.seq != self._first:
                return
            self._close(
                TcpRefusedError(
                    f"{self.ends}: {complaint.reason} (says {complaint.reporter})",
                    "the server's firewall does not let this client there, or has no way to it",
                )
            )

    def _reset(self) -> None:
        flight = self.flight
        if flight is not None and self.reading.finished and flight.fin_sent:
            self._close(None)  # both had finished; only the last acknowledgement is missing
            return
        self._close(TcpError(f"{self.ends}: the connection was reset by the other side"))

    def _settle(self, now: float) -> None:
        """Wait out stray segments once both sides have finished."""
        assert self.flight is not None
        if self.reading.finished and self.flight.fin_acknowledged:
            self.state = TcpState.TIME_WAIT
            self._ends_at = now + TIME_WAIT

    def _close(self, error: TcpError | None) -> None:
        self.state = TcpState.CLOSED
        self.error = error

    # ---- what goes out

    def outgoing(self, now: float) -> list[TcpSegment]:
        """Everything that is to be sent now."""
        out, self._queue = self._queue, []
        if self.state is TcpState.SYN_SENT:
            if self._syn_at is not None and now >= self._syn_at:
                out.append(self._syn(now))
        elif self.state is not TcpState.CLOSED:
            assert self.flight is not None
            if self._ack_at is not None and now >= self._ack_at:
                self._ack_now = True
            if self._ack_now and self.reading.gap:
                out.append(self._acknowledge())
            for start, data, fin in self.flight.emit(now):
                out.append(self._data(start, data, fin))
            if self._ack_now:
                out.append(self._acknowledge())
        self.sent_segments += len(out)
        return out

    @property
    def calls_again(self) -> bool:
        """The first SYN was lost, or there is nobody to answer it."""
        return self.state is TcpState.SYN_SENT and self._syns > 1

    def _syn(self, now: float) -> TcpSegment:
        self._syn_sent = now
        self._syn_at = now + min(INITIAL_RTO * 2.0**self._syns, MAXIMUM_RTO)
        self._syns += 1
        window = min(self.reading.window(), 0xFFFF)
        return TcpSegment(
            self.ends.source_port,
            self.ends.destination_port,
            self._first,
            0,
            SYN,
            window,
            mss=self._mss,
            scale=SCALE,
            sack_permitted=True,
        )

    def _data(self, start: int, data: bytes, fin: bool) -> TcpSegment:
        flags = ACK | (FIN if fin else 0) | (PSH if data else 0)
        return self._make(start, flags, data)

    def _acknowledge(self) -> TcpSegment:
        assert self.flight is not None
        blocks = self.reading.blocks() if self._sack else ()
        sack = tuple(
            ((left + self._their_first) & _MASK, (right + self._their_first) & _MASK)
            for left, right in blocks
        )
        return self._make(self.flight.next, ACK, sack=sack)

    def _make(
        self, offset: int, flags: int, data: bytes = b"", sack: tuple[tuple[int, int], ...] = ()
    ) -> TcpSegment:
        """A segment with the present acknowledgement and window in it."""
        window = self.reading.window()
        shown = min(window >> self._scale_in, 0xFFFF)
        self._told = self.reading.next + (shown << self._scale_in)
        self._ack_now = False
        self._ack_at = None
        self._unacknowledged = 0
        return TcpSegment(
            self.ends.source_port,
            self.ends.destination_port,
            (self._first + offset) & _MASK,
            (self._their_first + self.reading.next) & _MASK,
            flags,
            shown,
            data,
            sack=sack,
        )

    # ---- the clock

    def deadline(self) -> float | None:
        """When `tick` and `outgoing` have something to do, if nothing comes before."""
        if self.state is TcpState.CLOSED:
            return None
        if self.state is TcpState.TIME_WAIT:
            return self._ends_at
        if self.state is TcpState.SYN_SENT:
            return self._syn_at
        assert self.flight is not None
        times = [self._ack_at, self.flight.deadline(), self._keepalive_at()]
        return min(time for time in times if time is not None)

    def _keepalive_at(self) -> float:
        return max(self._heard + KEEPALIVE_IDLE, self._probed + KEEPALIVE_INTERVAL)

    def tick(self, now: float) -> None:
        """Act where a time has come."""
        if self.state is TcpState.TIME_WAIT and self._ends_at is not None and now >= self._ends_at:
            self._close(None)
        if self.state is not TcpState.ESTABLISHED:
            return
        flight = self.flight
        assert flight is not None
        if now - self._heard >= SILENCE:
            if self.reading.finished and flight.only_fin_waits:
                self._close(None)  # LAST-ACK: everything arrived both ways, they forgot us
                return
            self.abort(
                TcpError(
                    f"{self.ends}: no sign from there for {SILENCE:.0f} s",
                    "the network or the server is gone",
                )
            )
            return
        probe = flight.tick(now)
        if probe is not None:
            self._queue.append(self._data(*probe))
        if now >= self._keepalive_at():
            self._probed = now
            if not flight.outstanding:
                # One number before the next: nobody accepts that, everybody answers it.
                self._queue.append(self._make(flight.next - 1, ACK))


def _near(number: int, near: int) -> int:
    """The offset closest to `near` whose lowest 32 bits are those of `number`."""
    return near + ((number - near + _HALF) & _MASK) - _HALF


def reset_for(segment: TcpSegment) -> TcpSegment:
    """The reset that answers a segment of no connection (RFC 9293, section 3.10.7.1)."""
    ports = segment.destination_port, segment.source_port
    if segment.flags & ACK:
        return TcpSegment(*ports, segment.ack, 0, RST, 0)
    length = len(segment.data) + bool(segment.flags & SYN) + bool(segment.flags & FIN)
    return TcpSegment(*ports, 0, (segment.seq + length) & _MASK, RST | ACK, 0)
