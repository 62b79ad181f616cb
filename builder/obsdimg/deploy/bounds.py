"""Answers with an end: a hook for httpx that bounds an answer's body in bytes and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx


class _BoundedStream(httpx.SyncByteStream):
    """A body of at most `largest` bytes that comes within `seconds`."""

    def __init__(self, stream: httpx.SyncByteStream, largest: int, seconds: float) -> None:
        self._stream = stream
        self._largest, self._seconds = largest, seconds

    def __iter__(self) -> Iterator[bytes]:
        left, until = self._largest, time.monotonic() + self._seconds
        for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise httpx.ReadError("an answer without end")
            if time.monotonic() > until:
                raise httpx.ReadTimeout("an answer that takes too long")
            yield piece

    def close(self) -> None:
        self._stream.close()


def bound(largest: int, seconds: float) -> Callable[[httpx.Response], None]:
    """A response hook; what is compressed is refused, since a small body then may be a large one.

    The body's reader gets httpx.ReadError or httpx.ReadTimeout where it is too much.
    """

    def hook(response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx.ReadError("a compressed answer, which nobody asked for")
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _BoundedStream(response.stream, largest, seconds)

    return hook
