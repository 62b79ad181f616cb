"""A server that sends its headers, or its part of the TLS handshake, a byte now and then."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from obsdimg.core.slow_headers import HeaderLimit
from support.mirror import certificate, serve

LIMIT = 0.5
FAR = 60.0
"""Seconds after which a test gives up: many times the limit, whatever the machine is doing."""


@contextmanager
def dripping(first: bytes) -> Iterator[int]:
    """The port of a server that says `first` and then `x` every tenth of a second, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve_one() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(first)
            while not over.wait(0.1):
                connection.sendall(b"x")

    thread = threading.Thread(target=serve_one, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        over.set()
        listener.close()
        thread.join(FAR)
    assert not thread.is_alive(), "its connection was cut"


def client(limit: float = LIMIT, verify: ssl.SSLContext | bool = True) -> httpx.Client:
    hooks = {"request": [HeaderLimit(limit).guard]}
    return httpx.Client(timeout=FAR, event_hooks=hooks, verify=verify, trust_env=False)


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        ("http", b"HTTP/1.1 200 OK\r\nX-Slow: "),
        ("http", b"HTTP"),
        # A TLS record of a handshake, 16,000 bytes long, which comes byte by byte.
        ("https", b"\x16\x03\x03\x3e\x80\x02\x00\x3e\x7c"),
    ],
)
def test_headers_that_drip_end(scheme: str, first: bytes) -> None:
    with dripping(first) as port, client() as session:
        began = time.monotonic()
        with pytest.raises(httpx.TransportError):
            session.get(f"{scheme}://127.0.0.1:{port}/")
        assert LIMIT <= time.monotonic() - began < FAR / 2


@pytest.mark.parametrize("tls", [False, True])
def test_good_servers_notice_nothing_on_a_connection_that_is_used_again(
    tmp_path: Path, tls: bool
) -> None:
    own = certificate(tmp_path / "pem") if tls else None
    trusted = ssl.create_default_context(cafile=str(own)) if own else True
    with serve(own) as mirror, client(FAR, trusted) as session:
        mirror.files["/x"] = b"data"
        for _ in range(3):
            assert session.get(f"{mirror.url}/x").content == b"data"
    assert len(mirror.log) == 3
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
