"""Asking again: how often, how long to wait between, and what a server says about it.

For everything that talks HTTP; knows no HTTP library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from obsdimg.core.errors import ObsdimgError

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How long and how often, in seconds and tries."""

    connect: float = 15.0
    read: float = 60.0
    """Without a byte; `headers`: for an answer's headers; `whole`: for its body."""
    headers: float = 180.0
    whole: float = 180.0
    tries: int = 5
    first_wait: float = 1.0
    """Before the second try; doubled each time."""
    longest_wait: float = 30.0
    longest_asked: float = 120.0
    """A Retry-After beyond this is not waited for."""

    def wait(self, tries: int) -> float:
        """Seconds to wait after so many tries."""
        return min(self.first_wait * 2.0 ** min(tries - 1, 60), self.longest_wait)


class AgainError(Exception):
    """This try failed with `error`, and another may succeed, after `wait` seconds if given."""

    def __init__(self, error: ObsdimgError, wait: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.wait = error, wait


def patiently(
    attempt: Callable[[], T], pace: Pace, sleep: Callable[[float], None] = time.sleep
) -> T:
    """What `attempt` gives; where it raises AgainError, once more, `pace.tries` times at most.

    Raises the last one's error.
    """
    for tries in range(1, pace.tries + 1):
        try:
            return attempt()
        except AgainError as again:
            if tries == pace.tries:
                raise again.error from again.__cause__
            sleep(pace.wait(tries) if again.wait is None else again.wait)
    raise AssertionError("unreachable")


def retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number or a date."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    import email.utils  # not for a build that downloads nothing

    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def certificate_fault(error: BaseException | None) -> str | None:
    """Why a certificate was rejected, if that is behind `error`."""
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
