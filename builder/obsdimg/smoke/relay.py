"""Inside the namespace that has no network: becomes QEMU, with a relay to its forwarded ports.

    python relay.py TOLD FDS SOCKETS PROGRAM [ARGUMENT...]

Sockets belong to the network namespace that they were made in.  SOCKETS (`tcp:FD:PORT`, comma-
separated) were bound outside by `isolation.py`: what calls there is led to 127.0.0.1:PORT in
here, where QEMU forwards it to the guest, and no other way leads in or out.  FDS are QEMU's own
file descriptors.  Its process id and the namespace go to TOLD, a pipe.  The relay is a child that
dies with QEMU.  Stand-alone, standard library only (`python -I -S`), Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import socket

PR_SET_PDEATHSIG = 1  # prctl(2)
CALLERS = 64
"""Callers over UDP that a port remembers; the one that was silent longest is forgotten first."""
PIECE = 65536


def main(argv: list[str]) -> int:
    told, fds, given, words = int(argv[1]), argv[2], argv[3], argv[4:]
    sockets = [(kind, int(fd), int(port)) for kind, fd, port in split(given)]
    own = os.getpid()
    if sockets and os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:
            return 1
        for fd in [told, *(int(word) for word in fds.split(","))]:
            os.close(fd)  # so that their other ends see QEMU's end
        relay(sockets)
        return 0
    for _, fd, _ in sockets:
        os.close(fd)
    os.write(told, f"{own} {os.readlink('/proc/self/ns/net')}\n".encode())  # noqa: PTH115
    os.close(told)
    try:
        os.execv(words[0], words)  # noqa: S606 - the words come from command_line
    except OSError as error:
        print(f"{words[0]}: {error.strerror}", file=sys.stderr)
        return 127


def split(given: str) -> list[list[str]]:
    """`a:b:c,d:e:f` as lists."""
    return [one.split(":") for one in given.split(",") if one]


def relay(sockets: list[tuple[str, int, int]]) -> None:
    """Lead every caller to its port, for ever."""
    import asyncio

    asyncio.run(_serve(sockets))


async def _serve(sockets: list[tuple[str, int, int]]) -> None:
    import asyncio
    import functools
    import socket

    kept: list[object] = []
    loop = asyncio.get_running_loop()
    for kind, fd, port in sockets:
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        if kind == "tcp":
            kept.append(await asyncio.start_server(functools.partial(_connected, port), sock=sock))
        else:
            kept.append(Datagrams(loop, sock, port))
    await asyncio.Event().wait()


async def _connected(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    import asyncio

    try:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))
    finally:
        forth.close()
        writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass everything on, the end too."""
    with contextlib.suppress(OSError):
        try:
            while data := await source.read(PIECE):
                sink.write(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()
            return
        sink.write_eof()


class Datagrams:
    """A UDP socket of the host: each of its callers gets a socket of its own in here, so that
    answers find their way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outer: socket.socket, port: int) -> None:
        self.loop, self.outer, self.port = loop, outer, port
        self.callers: OrderedDict[Any, socket.socket] = OrderedDict()
        loop.add_reader(outer, self._forth)

    def _forth(self) -> None:
        with contextlib.suppress(OSError):
            data, caller = self.outer.recvfrom(PIECE)
            self._inner(caller).send(data)

    def _inner(self, caller: Any) -> socket.socket:
        import socket

        if caller not in self.callers:
            inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            inner.setblocking(False)
            inner.connect(("127.0.0.1", self.port))
            self.callers[caller] = inner
            self.loop.add_reader(inner, self._back, inner, caller)
        self.callers.move_to_end(caller)
        if len(self.callers) > CALLERS:
            _, oldest = self.callers.popitem(last=False)
            self.loop.remove_reader(oldest)
            oldest.close()
        return self.callers[caller]

    def _back(self, inner: socket.socket, caller: Any) -> None:
        with contextlib.suppress(OSError):
            self.outer.sendto(inner.recv(PIECE), caller)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
