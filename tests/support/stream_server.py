"""A TCP server in a network namespace, and a UDP relay that spoils what passes; by `with`.

with StreamServer(world.server) as server:    # on port 7000, IPv4 and IPv6
    …  first byte e: echo; s and 16 digits: sends so many bytes; d: counts, then says so;
       h: says nothing and reads nothing for a second, then counts; x: resets
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from obsdimg.tunnel.endpoint import Endpoint

PORT = 7000

PROGRAM = """
import contextlib, hashlib, socket, struct, sys, threading, time

def serve(c):
    with contextlib.suppress(ConnectionError):
        talk(c)

def talk(c):
    kind = c.recv(1)
    if kind == b"e":
        while d := c.recv(65536):
            c.sendall(d)
    elif kind == b"s":
        left, block = int(c.recv(16)), bytes(range(256)) * 256
        while left > 0:
            c.sendall(block[:left])
            left -= len(block)
    elif kind in b"dh":
        if kind == b"h":
            time.sleep(1)
        state, count = hashlib.sha256(), 0
        while d := c.recv(65536):
            state.update(d)
            count += len(d)
        c.sendall(b"%d %s" % (count, state.hexdigest().encode()))
    elif kind == b"x":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()

s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", int(sys.argv[1])))
s.listen(16)
print("up", flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"""


class StreamServer:
    """The server in `namespace`."""

    def __init__(self, namespace: str, port: int = PORT) -> None:
        self.port = port
        words = ["ip", "netns", "exec", namespace, sys.executable, "-c", PROGRAM, str(port)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"up\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass
class Spoil:
    """What a relay does to datagrams; probabilities, and seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    late: float = 0.01


class Relay:
    """Forwards between one client and `target`, both ways, and spoils what passes.

    Made in the network namespace of the thread that makes it.
    """

    def __init__(self, target: Endpoint, spoil: Spoil, seed: int = 1) -> None:
        self.spoil = spoil
        self.passed = self.lost = 0
        self._chance = random.Random(seed)
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self._near.getsockname()[1])
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.connect((target.host, target.port))
        self._client: tuple[str, int] | None = None
        self._stop = threading.Event()
        self._late: list[tuple[float, bool, bytes]] = []
        for one in (self._near, self._far):
            one.settimeout(0.005)
        self._threads = [
            threading.Thread(target=self._run, args=(up,), daemon=True) for up in (True, False)
        ]

    def _run(self, up: bool) -> None:
        late: list[tuple[float, bytes]] = []
        while not self._stop.is_set():
            for when, datagram in [item for item in late if item[0] <= time.monotonic()]:
                late.remove((when, datagram))
                self._forward(up, datagram)
            try:
                datagram, source = (self._near if up else self._far).recvfrom(65536)
            except OSError:
                continue
            if up:
                self._client = source
            spoil = self.spoil
            if self._chance.random() < spoil.loss:
                self.lost += 1
                continue
            for _ in range(2 if self._chance.random() < spoil.duplicate else 1):
                if self._chance.random() < spoil.reorder:
                    after = self._chance.uniform(0, spoil.late)
                    late.append((time.monotonic() + after, datagram))
                else:
                    self._forward(up, datagram)

    def _forward(self, up: bool, datagram: bytes) -> None:
        self.passed += 1
        try:
            if up:
                self._far.send(datagram)
            elif self._client is not None:
                self._near.sendto(datagram, self._client)
        except OSError:
            self.lost += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._near.close()
        self._far.close()
