"""How long an answer takes, and how long to wait for one (RFC 6298).  All in seconds."""

from __future__ import annotations

from typing import Final

INITIAL_RTO: Final = 1.0
MINIMUM_RTO: Final = 0.2
"""Less than the second of RFC 6298, as every large system has it; the other side may hold an
acknowledgement back for as long."""
MAXIMUM_RTO: Final = 60.0


class RoundTrip:
    """The smoothed round trip, its variation, and the time-out with its backing off."""

    def __init__(self) -> None:
        self.smoothed: float | None = None
        self.variation = 0.0
        self.least: float | None = None
        self.backoff = 0
        """How often in a row the time-out passed."""

    def sample(self, seconds: float) -> None:
        """Take in a measurement; never one of a segment that was sent twice (Karn)."""
        seconds = max(seconds, 0.0)
        self.least = seconds if self.least is None else min(self.least, seconds)
        if self.smoothed is None:
            self.smoothed = seconds
            self.variation = seconds / 2
        else:
            self.variation += (abs(self.smoothed - seconds) - self.variation) / 4
            self.smoothed += (seconds - self.smoothed) / 8

    def timeout(self) -> float:
        """How long to wait for an acknowledgement now."""
        base = INITIAL_RTO
        if self.smoothed is not None:
            base = max(self.smoothed + 4 * self.variation, MINIMUM_RTO)
        return min(base * 2.0 ** min(self.backoff, 10), MAXIMUM_RTO)
