"""The sending half of a TCP connection: what is on its way, what is lost, what may go next.

Positions are offsets in our stream, counted from our initial sequence number (which is 0;
the first byte of data is 1), unbounded.  Sources: RFC 9293, section 3.8 (windows, probing of
closed ones); RFC 5681 and RFC 6928 (congestion window); RFC 2018 (selective
acknowledgement); RFC 8985 (what is lost is told by time, so that reordering is no loss);
RFC 6298 (time-out).  Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from obsdimg.tunnel.rtt import RoundTrip

INITIAL_SEGMENTS: Final = 10
MAXIMUM_CONGESTION_WINDOW: Final = 4 << 20
DUPLICATES: Final = 3
"""So many acknowledgements of the same offset mean a loss, where there is no SACK."""
MAXIMUM_QUARTERS: Final = 64
LEAST_SLACK: Final = 0.001
"""Reordering by so many seconds is never a loss."""
BLACK_HOLE_SEGMENT: Final = 1180
"""Data bytes that come through any path with the IPv6 minimum of 1280, tunnel included."""
BLACK_HOLE_TIMEOUTS: Final = 2
"""After so many, a large segment may be too large for a router that says nothing."""


@dataclass(slots=True)
class Sent:
    """A range of the stream that went out as one segment."""

    start: int
    end: int
    when: float
    fin: bool = False
    again: bool = False
    """It was sent more than once: no measure of the round trip."""
    sacked: bool = False
    lost: bool = False

    @property
    def size(self) -> int:
        return self.end - self.start


Outgoing = tuple[int, bytes, bool]
"""The offset, the data, and whether a FIN follows it."""


class Flight:
    """Data in, segments out."""

    def __init__(self, segment: int, *, sack: bool, edge: int) -> None:
        """`segment`: bytes of data at most; `edge`: the offset before which we may send."""
        self.segment = segment
        self.trip: Final = RoundTrip()
        self.una = 1
        """The first offset that is not acknowledged."""
        self.next = 1
        """The first offset that was never sent."""
        self.edge = edge
        self.timer: float | None = None
        """When to act if nothing comes: time-out, or probe of a closed window."""
        self._sack: Final = sack
        self._data = bytearray()
        self._base = 1
        self._fin = False
        self._records: list[Sent] = []
        self._pipe = 0
        self._lost = 0
        self._sacked = 0
        self._widest = edge - 1
        self._congestion = INITIAL_SEGMENTS * segment
        self._threshold = MAXIMUM_CONGESTION_WINDOW
        self._recovery: int | None = None
        self._collapsed = False
        self._duplicates = 0
        self._seen: set[tuple[int, int]] = set()
        self._last = 0.0
        self._newest = (0.0, 0)
        self._newest_trip = 0.0
        self._highest = 1
        self._reordered = False
        self._quarters = 1
        self._reorder_timer: float | None = None

    # ---- what the user does

    def write(self, data: bytes) -> None:
        """Add to the stream; never after `finish`."""
        assert not self._fin
        self._data += data

    def finish(self) -> None:
        """The stream ends behind what was written."""
        self._fin = True

    @property
    def waiting(self) -> int:
        """Bytes that are not acknowledged yet."""
        return len(self._data)

    @property
    def outstanding(self) -> bool:
        """Whether anything sent is not acknowledged yet."""
        return bool(self._records)

    @property
    def fin_sent(self) -> bool:
        return self.next > self._end

    @property
    def fin_acknowledged(self) -> bool:
        return self.una > self._end

    @property
    def only_fin_waits(self) -> bool:
        """Whether all data are acknowledged, and the FIN that was sent is not."""
        return self.una == self._end and self.fin_sent

    @property
    def _end(self) -> int:
        """The offset behind the last byte of data: that of the FIN."""
        return self._base + len(self._data)

    # ---- what the other side says

    def acknowledged(
        self,
        ack: int,
        edge: int | None,
        blocks: Sequence[tuple[int, int]],
        now: float,
        *,
        bare: bool,
    ) -> None:
        """Take in an acknowledgement of everything before `ack` (una <= ack <= next).

        `edge`: the window's new right edge, None where the segment is too old to say.
        `blocks`: ranges that have come besides.  `bare`: the segment held nothing else.
        """
        opened = edge is not None and edge > self.edge
        closed = self.edge <= self.next
        moved = edge is not None and edge != self.edge
        if edge is not None:
            self.edge = edge
            self._widest = max(self._widest, edge - ack)
        if blocks and blocks[0][1] <= ack:
            # A report of something that came twice: it was late, not lost (RFC 2883).
            self._quarters = min(self._quarters + 1, MAXIMUM_QUARTERS)
        advanced = ack - self.una
        delivered = self._take_acknowledged(ack) if advanced > 0 else []
        delivered += self._take_blocks(blocks)
        if delivered:
            self._learn(delivered, now)
        if advanced > 0:
            self._advance(ack, advanced, now)
        elif bare and not moved and self._records and not self._sack:
            self._duplicates += 1
            if self._duplicates == DUPLICATES and self._recovery is None:
                self._lose(self._records[0])
                self._enter_recovery()
        if self._sack and (self._sacked or self._recovery is not None):
            self._find_lost(now)
        if opened and closed and advanced <= 0 and self._records:
            # The probe of the closed window was thrown away; do not wait for its time-out.
            self.trip.backoff = 0
            for record in self._records:
                if not record.sacked and not record.lost:
                    self._lose(record)
        if opened and not self._records:
            self.timer = None

    def _advance(self, ack: int, advanced: int, now: float) -> None:
        partial = self._recovery is not None and ack < self._recovery
        self.una = ack
        count = min(ack, self._end) - self._base
        if count > 0:
            del self._data[:count]
            self._base += count
        self._duplicates = 0
        self.trip.backoff = 0
        self.timer = now + self.trip.timeout() if self._records else None
        if self._recovery is not None and not partial:
            self._recovery = None
            self._collapsed = False
        if self._recovery is None or self._collapsed:
            self._grow(advanced)
        elif partial and not self._sack and self._records and not self._records[0].again:
            self._lose(self._records[0])
        if not self._records:
            self._seen.clear()

    def _take_acknowledged(self, ack: int) -> list[Sent]:
        """Remove the records before `ack`; cut the one that `ack` divides."""
        gone = 0
        for record in self._records:
            if record.end > ack:
                if record.start < ack:
                    self._forget(record, ack - record.start)
                    record.start = ack
                break
            self._forget(record, record.size)
            if record.sacked:
                self._sacked -= 1
            if record.lost:
                self._lost -= 1
            gone += 1
        taken = self._records[:gone]
        del self._records[:gone]
        return [record for record in taken if not record.sacked]

    def _forget(self, record: Sent, size: int) -> None:
        if not record.sacked and not record.lost:
            self._pipe -= size

    def _take_blocks(self, blocks: Sequence[tuple[int, int]]) -> list[Sent]:
        """Mark the records that lie in `blocks`; those that were not marked before."""
        fresh: list[Sent] = []
        for block in blocks:
            if block in self._seen or not self.una < block[1] <= self.next:
                continue
            if len(self._seen) < 4096:
                self._seen.add(block)
            at = bisect_left(self._records, block[0], key=lambda record: record.start)
            for record in self._records[at:]:
                if record.end > block[1]:
                    break
                if record.sacked:
                    continue
                if record.lost:
                    record.lost = False
                    self._lost -= 1
                else:
                    self._pipe -= record.size
                record.sacked = True
                self._sacked += 1
                fresh.append(record)
        return fresh

    def _learn(self, delivered: Sequence[Sent], now: float) -> None:
        """The round trip, and what was sent last of all that has arrived (RFC 8985, 6.2)."""
        measured: float | None = None
        for record in delivered:
            took = now - record.when
            if record.again and self.trip.least is not None and took < self.trip.least:
                continue  # the answer is to the first sending
            if not record.again:
                measured = took if measured is None else min(measured, took)
                if record.end < self._highest:
                    self._reordered = True
            self._highest = max(self._highest, record.end)
            if (record.when, record.end) > self._newest:
                self._newest = (record.when, record.end)
                self._newest_trip = took
        if measured is not None:
            self.trip.sample(measured)

    def _find_lost(self, now: float) -> None:
        """Sent before something that has arrived, and overdue by more than reordering explains."""
        slack = 0.0
        if self._reordered or (self._recovery is None and self._sacked < DUPLICATES):
            slack = max((self.trip.least or 0.0) * self._quarters / 4, LEAST_SLACK)
            slack = min(slack, max(self.trip.smoothed or 0.0, LEAST_SLACK))
        wait: float | None = None
        found = False
        for record in self._records:
            if record.sacked or record.lost or (record.when, record.end) >= self._newest:
                continue
            left = record.when + self._newest_trip + slack - now
            if left <= 0:
                self._lose(record)
                found = True
            else:
                wait = left if wait is None else max(wait, left)
        self._reorder_timer = None if wait is None else now + wait
        if found and self._recovery is None:
            self._enter_recovery()

    def _lose(self, record: Sent) -> None:
        record.lost = True
        self._lost += 1
        self._pipe -= record.size

    def _enter_recovery(self) -> None:
        flying = self.next - self.una
        self._recovery = self.next
        self._threshold = max(min(flying, self._congestion) // 2, 2 * self.segment)
        self._congestion = self._threshold

    def _grow(self, acknowledged: int) -> None:
        """Slow start, or one segment a round trip (RFC 5681, 3.1), where the window was used.

        By bytes, without a limit per acknowledgement: receivers answer whole batches at once.
        """
        if self._pipe + acknowledged < self._congestion // 2:
            return
        if self._congestion < self._threshold:
            self._congestion += acknowledged
        else:
            self._congestion += max(self.segment * acknowledged // self._congestion, 1)
        self._congestion = min(self._congestion, MAXIMUM_CONGESTION_WINDOW)

    # ---- what goes out

    def emit(self, now: float) -> Iterator[Outgoing]:
        """What may be sent now: lost segments first, then new data, then the FIN."""
        if not self._records and now - self._last >= self.trip.timeout():
            # After a pause nothing is known of the path (RFC 5681, 4.1).
            self._congestion = min(self._congestion, INITIAL_SEGMENTS * self.segment)
        if self._lost:
            yield from self._emit_lost(now)
        while not self._lost and not self.fin_sent:
            length = min(self.segment, self._end - self.next, self.edge - self.next)
            rest = self._end - self.next - length
            last = self._fin and rest == 0
            if length < 0 or (length == 0 and not last):
                break
            if self._pipe and self._pipe + length > self._congestion:
                break
            if rest and length < self.segment and self._pipe and length < self._widest // 2:
                break  # a small piece only because the window is nearly full (RFC 9293, 3.8.6.2)
            yield self._new(length, last, now)
        if self.timer is None and (self._records or self._end > self.next or self._fin_due):
            self.timer = now + self.trip.timeout()

    @property
    def _fin_due(self) -> bool:
        return self._fin and not self.fin_acknowledged

    def _new(self, length: int, last: bool, now: float) -> Outgoing:
        start = self.next
        end = start + length + last
        self._records.append(Sent(start, end, now, last))
        self._pipe += end - start
        self.next = end
        self._last = now
        return self._outgoing(start, end, last)

    def _emit_lost(self, now: float) -> Iterator[Outgoing]:
        at = 0
        while at < len(self._records):
            record = self._records[at]
            at += 1
            if not record.lost:
                continue
            if record.size > self.segment + record.fin:
                self._split(at - 1)
            if self._pipe and self._pipe + record.size > self._congestion:
                return
            record.lost = False
            record.again = True
            record.when = now
            self._lost -= 1
            self._pipe += record.size
            yield self._outgoing(record.start, record.end, record.fin)

    def _split(self, at: int) -> None:
        """Divide a lost record that is longer than a segment may be now."""
        record = self._records[at]
        middle = record.start + self.segment
        rest = Sent(middle, record.end, record.when, record.fin, True, False, True)
        record.end, record.fin = middle, False
        self._records.insert(at + 1, rest)
        self._lost += 1

    def _outgoing(self, start: int, end: int, fin: bool) -> Outgoing:
        first = start - self._base
        return start, bytes(self._data[first : end - fin - self._base]), fin

    # ---- the clock

    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        if self._reorder_timer is None:
            return self.timer
        return self._reorder_timer if self.timer is None else min(self.timer, self._reorder_timer)

    def tick(self, now: float) -> Outgoing | None:
        """What the clock demands: a probe to send, or segments that are now taken for lost."""
        if self._reorder_timer is not None and now >= self._reorder_timer:
            self._find_lost(now)
        if self.timer is None or now < self.timer:
            return None
        self.trip.backoff += 1
        self.timer = now + self.trip.timeout()
        if not self._records:
            return self._probe(now)
        first = self._records[0]
        if first.end > self.edge + first.fin:
            # The probe of a closed window: it is sent again, and says nothing of the path.
            if not first.lost:
                self._lose(first)
            return None
        if self.trip.backoff > BLACK_HOLE_TIMEOUTS and first.size > BLACK_HOLE_SEGMENT:
            self.segment = min(self.segment, BLACK_HOLE_SEGMENT)
        if not self._collapsed:
            self._threshold = max((self.next - self.una) // 2, 2 * self.segment)
        self._collapsed = True
        self._recovery = self.next
        self._congestion = self.segment
        self._reorder_timer = None
        for record in self._records:
            # What was reported as arrived may have been thrown away since (RFC 2018, 8).
            if record.sacked:
                record.sacked = False
                self._sacked -= 1
                record.lost = True
                self._lost += 1
            elif not record.lost:
                self._lose(record)
        self._seen.clear()
        return None

    def _probe(self, now: float) -> Outgoing | None:
        """One byte beyond a closed window (RFC 9293, 3.8.6.1), or a FIN that has to wait for it."""
        if self._end > self.next:
            return self._new(1, False, now)
        if self._fin and not self.fin_sent:
            return self._new(0, True, now)
        return None

    def shrink(self, segment: int) -> None:
        """Segments may hold `segment` bytes at most from now on."""
        if segment < self.segment:
            self.segment = segment
            for record in self._records:
                if record.size > segment and not record.sacked and not record.lost:
                    self._lose(record)
