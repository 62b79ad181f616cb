"""The receiving half of a TCP connection: pieces of a stream, in whatever order, put together.

Positions are offsets in the stream, counted from the other side's initial sequence number
(which is 0; the first byte of data is 1), unbounded.  Memory is bounded by the window that
was offered.  Sources: RFC 9293, sections 3.4 and 3.8.6; RFC 2018 (which blocks to report).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

REPORTED_BLOCKS: Final = 3
"""As many SACK blocks as fit beside the other options (RFC 2018, section 3)."""
PIECES: Final = 4096
"""Gaps beyond so many pieces are not kept: the other side sends those again."""


class Reassembly:
    """What has come, and how much more may come."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that may wait here for the reader."""
        self._limit: Final = limit
        self.next = 1
        """The first offset that has not come (RCV.NXT)."""
        self.finished = False
        """The other side's FIN has come, and everything before it."""
        self._ready = bytearray()
        self._early: list[tuple[int, bytes]] = []
        self._newest: list[int] = []
        self._fin: int | None = None
        self._edge = 1 + limit

    def __len__(self) -> int:
        """Bytes that can be taken."""
        return len(self._ready)

    @property
    def gap(self) -> bool:
        """Whether something has come that must wait for what was lost."""
        return bool(self._early)

    def window(self) -> int:
        """How many bytes from `next` on may come; the right edge never moves back."""
        self._edge = max(self._edge, self.next + self._limit - len(self._ready))
        return self._edge - self.next

    def acceptable(self, start: int, length: int) -> bool:
        """Whether a segment of `length` numbers at `start` touches the window (RFC 9293, 3.4)."""
        if length == 0:
            return self.next <= start <= self._edge
        return start < self._edge and start + length > self.next

    def add(self, start: int, data: bytes, fin: bool) -> bool:
        """Take in a segment's data; say whether it was in order and left no gap.

        What came before, and what is beyond the window, is cut off.
        """
        if self.finished:
            return False
        end = start + len(data)
        if fin and self._fin is None and end <= self._edge:
            self._fin = end
        last = self._edge if self._fin is None else min(self._edge, self._fin)
        if end > last:
            data, end = data[: max(last - start, 0)], last
        if start < self.next:
            data, start = data[self.next - start :], self.next
        in_order = start == self.next and not self._early
        if data:
            if start == self.next:
                self._ready += data
                self.next = end
                self._join()
            else:
                self._keep(start, data)
        if self._fin is not None and self.next == self._fin and not self.finished:
            self.finished = True
            self.next += 1
            self._early.clear()
        return in_order

    def peek(self) -> bytearray:
        """The bytes that can be taken, without a copy; not to be changed."""
        return self._ready

    def drop(self, count: int) -> None:
        """Forget the first `count` bytes that `peek` showed."""
        del self._ready[:count]

    def blocks(self) -> tuple[tuple[int, int], ...]:
        """What has come beyond the gaps, as ranges; the one that grew last stands first."""
        if not self._early:
            return ()
        ranges: list[tuple[int, int]] = []
        for start, data in self._early:
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], start + len(data))
            else:
                ranges.append((start, start + len(data)))
        order: list[tuple[int, int]] = []
        for newest in self._newest:
            for block in ranges:
                if block[0] <= newest < block[1] and block not in order:
                    order.append(block)
        rest = [block for block in ranges if block not in order]
        return tuple([*order, *rest][:REPORTED_BLOCKS])

    def _keep(self, start: int, data: bytes) -> None:
        """Put into the gaps what is new of a piece; the pieces never overlap and are sorted."""
        if len(self._early) >= PIECES:
            return
        self._note(start)
        at = bisect_right(self._early, start, key=lambda piece: piece[0] + len(piece[1]))
        while data:
            taken, held = self._early[at] if at < len(self._early) else (start + len(data), b"")
            room = max(taken - start, 0)
            if room:
                self._early.insert(at, (start, data[:room]))
                at += 1
            skip = taken + len(held) - start
            data, start = data[skip:], start + skip
            at += 1

    def _note(self, offset: int) -> None:
        self._newest = [offset, *(n for n in self._newest[:7] if n != offset)]

    def _join(self) -> None:
        """Move early pieces that the gap no longer keeps back."""
        count = 0
        for start, data in self._early:
            if start > self.next:
                break
            count += 1
            new = data[self.next - start :]
            self._ready += new
            self.next += len(new)
        if count:
            del self._early[:count]
        if not self._early:
            self._newest.clear()
