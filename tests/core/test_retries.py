"""Asking again: how often, after how long, and what comes out when it never works."""

from __future__ import annotations

import ssl
import time
from email.utils import formatdate

import pytest

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.retries import AgainError, Pace, certificate_fault, patiently, retry_after

PACE = Pace(tries=4, first_wait=1.0, longest_wait=3.0)


class Server:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.asked = list(failures), 0
        self.waits: list[float] = []

    def ask(self) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    def call(self) -> str:
        return patiently(self.ask, PACE, self.waits.append)


def busy(wait: float | None = None) -> AgainError:
    return AgainError(ObsdimgError("busy"), wait)


def test_what_works_at_once_is_asked_once() -> None:
    server = Server()
    assert server.call() == "answer"
    assert (server.asked, server.waits) == (1, [])


def test_waits_double_up_to_the_longest_and_the_servers_word_counts() -> None:
    server = Server(busy(), busy(0.5), busy())
    assert server.call() == "answer"
    assert server.waits == [1.0, 0.5, 3.0]


def test_the_last_failure_is_the_error() -> None:
    server = Server(*(AgainError(ObsdimgError(f"busy {n}")) for n in range(9)))
    with pytest.raises(ObsdimgError, match="busy 3"):
        server.call()
    assert (server.asked, server.waits) == (4, [1.0, 2.0, 3.0])


def test_what_is_not_worth_another_try_ends_it() -> None:
    server = Server(busy(), ObsdimgError("refused"))
    with pytest.raises(ObsdimgError, match="refused"):
        server.call()
    assert server.asked == 2


def test_a_wait_never_overflows() -> None:
    assert Pace(first_wait=1.0, longest_wait=30.0).wait(100_000) == 30.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("17", 17.0), ("", None), ("soon", None), ("-1", None), ("٣", None)],
)
def test_retry_after_is_a_number_of_seconds(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


def test_retry_after_may_be_a_date_and_a_past_one_is_now() -> None:
    later = retry_after(formatdate(time.time() + 60, usegmt=True))
    assert later is not None
    assert 50 < later <= 60
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert retry_after("9" * 5000) == 999999999.0


def test_a_rejected_certificate_is_found_behind_other_errors() -> None:
    inner = ssl.SSLCertVerificationError("x")
    inner.verify_message = "self-signed certificate"
    outer = ValueError("outer")
    outer.__cause__ = OSError("middle")
    outer.__cause__.__context__ = inner
    assert certificate_fault(outer) == "self-signed certificate"
    assert certificate_fault(ValueError("other")) is None
