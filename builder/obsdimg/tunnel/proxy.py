"""Copies between two descriptors, as ssh's ProxyCommand has them, and a socket; and a local
port that leads through a tunnel, for programs that can only connect."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from obsdimg.tunnel.errors import TunnelError
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.stream import Tunnel

CHUNK_BYTES: Final = 1 << 16


def copy(reader: int, writer: int, stream: socket.socket) -> None:
    """Copy `reader` to `stream` and `stream` to `writer`, until `stream` has ended.

    The end of `reader` is passed on; whoever reads `writer` may go away.  Blocking writes:
    each side waits for the other, as a pipe does.
    """

    def upwards() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(reader, CHUNK_BYTES):
                stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=upwards, name="upwards", daemon=True)
    thread.start()
    with contextlib.suppress(OSError):
        while data := stream.recv(CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(writer, view) :]
    stream.close()


@contextmanager
def local_port(tunnel: Tunnel, host: Address, port: int) -> Iterator[int]:
    """A TCP port on 127.0.0.1 that leads to `host`:`port`, while the context lasts.

    Every user of this machine can connect to it: for tests and for `smoke`, where the
    other side asks for a key anyway.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    listening.listen(8)
    listening.settimeout(0.2)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                local, _ = listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=lead, args=(local,), daemon=True).start()

    def lead(local: socket.socket) -> None:
        try:
            tunnel.attach(host, port, local)
        except TunnelError:
            local.close()

    thread = threading.Thread(target=serve, name="local port", daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        stop.set()
        thread.join(5)
        listening.close()
