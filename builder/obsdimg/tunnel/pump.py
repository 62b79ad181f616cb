"""The loop between local files (sockets, pipes) and TCP connections through a tunnel.

One thread runs it and owns everything in it; others ask by `submit`.  Every local file is
non-blocking while it is here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from obsdimg.tunnel.carrier import Carrier
from obsdimg.tunnel.errors import PacketError
from obsdimg.tunnel.ip import Address, IpPacket, unwrap
from obsdimg.tunnel.link import Link
from obsdimg.tunnel.segments import RST, TCP, TcpSegment, parse, parse_complaint
from obsdimg.tunnel.tcp import TcpConnection, TcpError, TcpState, reset_for

BATCH: Final = 64
"""Datagrams that are read before the loop looks at anything else."""
CHUNK_BYTES: Final = 1 << 16
LONGEST_WAIT: Final = 30.0
FIRST_PORT: Final = 49152
"""Of the dynamic ones (RFC 6335), from which a random one is taken."""


@dataclass
class TunnelChannel:
    """One connection and its local files.  `reader` and `writer` may be the same."""

    connection: TcpConnection
    reader: int
    writer: int
    close: Callable[[], None]
    """Closes both files; called once, at the end."""
    end_output: Callable[[], None]
    """Tells the local reader that nothing more comes."""
    greeting: bytes = b""
    """What the local reader gets first, once the connection is open."""
    opened: Future[None] = field(default_factory=Future)
    """Done when the connection is open; holds the error if it cannot be."""
    done: Future[None] = field(default_factory=Future)
    """Done when both sides have finished; holds the error of a broken connection."""
    give_up: float | None = None
    """When to stop trying to open it."""
    hears: bool = True
    """The local side may still write."""
    speaks: bool = True
    """The local side still reads."""


class Pump:
    """Channels over one carrier."""

    def __init__(self, link: Link, carrier: Carrier) -> None:
        self._link: Final = link
        self._carrier: Final = carrier
        self._channels: dict[tuple[Address, int, int], TunnelChannel] = {}
        self._requests: SimpleQueue[Callable[[float], None]] = SimpleQueue()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._stopping = False
        self.failure: BaseException | None = None
        """Why the loop has ended, if not by `stop`."""

    # ---- from other threads

    def submit(self, request: Callable[[float], None]) -> None:
        """Run `request(now)` in the loop's thread, soon."""
        self._requests.put(request)
        with contextlib.suppress(OSError):
            self._wake_out.send(b"x")

    def stop(self) -> None:
        """End the loop; open connections are reset."""
        self.submit(lambda _: self._end())

    def _end(self) -> None:
        self._stopping = True

    @property
    def busy(self) -> int:
        """How many channels there are (a guess, from another thread)."""
        return len(self._channels)

    # ---- in the loop's thread

    def free_port(self, destination: Address, port: int) -> int:
        """A random source port that no channel to the same place has."""
        while True:
            found = FIRST_PORT + secrets.randbelow(65536 - FIRST_PORT)
            if (destination, port, found) not in self._channels:
                return found

    def add(self, channel: TunnelChannel) -> None:
        """Start a channel; its first segment goes out at once."""
        ends = channel.connection.ends
        self._channels[(ends.destination, ends.destination_port, ends.source_port)] = channel

    def run(self) -> None:
        """Work until `stop`; then every channel is closed."""
        try:
            while not self._stopping:
                self._turn()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._close_all()

    def _turn(self) -> None:
        now = time.monotonic()
        readable, writable = self._wait(now)
        now = time.monotonic()
        if self._wake_in.fileno() in readable:
            self._serve_requests(now)
        for event in self._link.drain(BATCH):
            packet = self._carrier.read(event, now)
            if packet is not None:
                self._take(packet, now)
        for key, channel in list(self._channels.items()):
            if channel.reader in readable:
                self._pull(channel)
            self._open(channel, now)
            if channel.speaks and (len(channel.connection.reading) or channel.writer in writable):
                self._push(channel)
            self._settle(channel)
            self._send(channel.connection, now)
            if channel.connection.state is TcpState.CLOSED:
                self._finish(key, channel)
        self._carrier.tick(now)

    def _wait(self, now: float) -> tuple[set[int], set[int]]:
        """The descriptors that are ready; waits for the next deadline at most."""
        readers = [self._wake_in.fileno(), *(one.fileno() for one in self._link.sockets())]
        writers: list[int] = []
        until = min(now + LONGEST_WAIT, self._carrier.deadline())
        for channel in self._channels.values():
            connection = channel.connection
            if channel.hears and connection.room:
                readers.append(channel.reader)
            if channel.speaks and len(connection.reading):
                writers.append(channel.writer)
            for time_ in (connection.deadline(), channel.give_up):
                if time_ is not None:
                    until = min(until, time_)
        ready = select.select(readers, writers, [], max(until - now, 0))
        return set(ready[0]), set(ready[1])

    def _serve_requests(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)
        while True:
            try:
                request = self._requests.get_nowait()
            except Empty:
                return
            request(now)

    def _take(self, packet: bytes, now: float) -> None:
        """A packet out of the tunnel, to the connection that it is for."""
        try:
            ip = unwrap(packet)
            if not ip.whole:
                return
            if ip.protocol == TCP:
                self._take_segment(ip, parse(ip), now)
            elif (complaint := parse_complaint(ip)) is not None:
                key = (complaint.destination, complaint.destination_port, complaint.source_port)
                if (channel := self._channels.get(key)) is not None:
                    channel.connection.complain(complaint)
        except PacketError:
            return

    def _take_segment(self, ip: IpPacket, segment: TcpSegment, now: float) -> None:
        key = (ip.source, segment.source_port, segment.destination_port)
        channel = self._channels.get(key)
        if channel is not None and channel.connection.ends.source == ip.destination:
            channel.connection.accept(segment, now)
        elif not segment.flags & RST:
            self._carrier.send(reset_for(segment).pack(ip.destination, ip.source), now)

    def _pull(self, channel: TunnelChannel) -> None:
        """From the local writer into the connection."""
        connection = channel.connection
        try:
            data = os.read(channel.reader, min(CHUNK_BYTES, connection.room))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            connection.write(data)
        else:
            channel.hears = False
            connection.finish()

    def _push(self, channel: TunnelChannel) -> None:
        """From the connection to the local reader."""
        connection = channel.connection
        waiting = connection.reading.peek()
        while waiting:
            try:
                count = os.write(channel.writer, bytes(waiting[:CHUNK_BYTES]))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                channel.speaks = False
                if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                    connection.abort(TcpError(f"{connection.ends}: {error.strerror}"))
                else:
                    connection.abort()
                return
            connection.read(count)

    def _open(self, channel: TunnelChannel, now: float) -> None:
        """Let the connection's clock run, and say when it is open, or that it will not be."""
        connection = channel.connection
        connection.tick(now)
        if not channel.opened.done():
            if connection.open:
                channel.give_up = None
                if channel.greeting:
                    with contextlib.suppress(OSError):
                        os.write(channel.writer, channel.greeting)
                channel.opened.set_result(None)
            elif channel.give_up is not None and now >= channel.give_up:
                connection.abort(
                    TcpError(
                        f"{connection.ends}: no answer through the tunnel",
                        "is the service started, and does pf.conf let this client reach it?",
                    )
                )

    def _settle(self, channel: TunnelChannel) -> None:
        """Pass on that the other side has finished."""
        connection = channel.connection
        if channel.speaks and connection.reading.finished and not len(connection.reading):
            channel.speaks = False
            channel.end_output()
        if (
            connection.state is TcpState.TIME_WAIT
            and not channel.speaks
            and not channel.done.done()
        ):
            # Only the network waits from here on.
            channel.hears = False
            channel.close()
            channel.done.set_result(None)

    def _send(self, connection: TcpConnection, now: float) -> None:
        source, destination = connection.ends.source, connection.ends.destination
        segments = connection.outgoing(now)
        for segment in segments:
            self._carrier.send(segment.pack(source, destination), now)
        if segments and connection.calls_again:
            # Somebody waits. A server that has started anew does not know the session, and the
            # carrier would notice only after SILENCE_SECONDS.
            self._carrier.doubt(now)

    def _finish(self, key: tuple[Address, int, int], channel: TunnelChannel) -> None:
        del self._channels[key]
        error = channel.connection.error
        if not channel.done.done():
            channel.close()
        for future in (channel.opened, channel.done):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(None)

    def _close_all(self) -> None:
        now = time.monotonic()
        for key, channel in list(self._channels.items()):
            connection = channel.connection
            if connection.state is not TcpState.CLOSED:
                connection.abort(TcpError(f"{connection.ends}: the tunnel was closed"))
            with contextlib.suppress(Exception):
                self._send(connection, now)
            self._finish(key, channel)
        self._stopping = True
        while True:
            try:
                self._requests.get_nowait()(now)
            except Empty:
                break
        self._wake_in.close()
        self._wake_out.close()
        self._link.close()
