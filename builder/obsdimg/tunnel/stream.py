"""Byte streams through a tunnel, from this process: no root, no tun device, no WireGuard here.

    with Tunnel.open(Caller…) as tunnel:
        stream = tunnel.connect(IPv4Address("10.0.0.1"), 22, timeout=10)   # a socket
        stream.sendall(b"…")

`Tunnel.of(client)` takes a planned client.  To the server this process is that
client: a device that is connected with the same keys loses its session.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final, Self, TypeVar

from obsdimg.core.lifetime import Closing
from obsdimg.tunnel.carrier import Carrier
from obsdimg.tunnel.client import Caller, HandshakeLog, Identity
from obsdimg.tunnel.endpoint import Endpoint, resolve
from obsdimg.tunnel.errors import EndpointError, HandshakeError, TunnelError
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, Address
from obsdimg.tunnel.link import Link
from obsdimg.tunnel.pump import Pump, TunnelChannel
from obsdimg.tunnel.report import ProbeResult, judge_handshake
from obsdimg.tunnel.segments import TCP_HEADER_BYTES
from obsdimg.tunnel.tcp import Ends, TcpConnection, TcpError

DEFAULT_MTU: Final = 1420
HANDSHAKE_SECONDS: Final = 20.0
CONNECT_SECONDS: Final = 20.0
RESOLVE_SECONDS: Final = 10.0
END_SECONDS: Final = 5.0

T = TypeVar("T")


class TunnelDownError(TunnelError):
    """No session with the server; message and hint are the probe's."""


class StreamError(TunnelError):
    """A stream was asked for that cannot be."""


class Tunnel(Closing):
    """A session with a server that is kept up, and connections through it; by `with`."""

    def __init__(
        self,
        caller: Caller,
        carrier: Carrier,
        own: Sequence[Address],
        mtu: int,
        allows: Callable[[Address], bool],
    ) -> None:
        self._caller: Final = caller
        self._own: Final = tuple(own)
        self._mtu: Final = mtu
        self._allows: Final = allows
        self.carrier: Final = carrier
        self._pump: Final = Pump(caller.link, carrier)
        self._thread = threading.Thread(target=self._pump.run, name="tunnel", daemon=True)
        self._thread.start()

    @classmethod
    def of(
        cls,
        client: TunnelClient,
        *,
        endpoint: Endpoint | None = None,
        timeout: float = HANDSHAKE_SECONDS,
    ) -> Self:
        """The tunnel of a client whose keys are known.

        `endpoint` replaces the configured one; `timeout`: seconds during which the handshake
        is tried.  Raises StreamError, TunnelDownError.
        """
        endpoint = endpoint or client.endpoint
        if endpoint is None or client.private is None or client.server is None:
            raise StreamError(
                f"client {client.name}: its key, its server's key or address is not known"
            )
        return cls.open(
            endpoint,
            Identity(client.private, client.server, client.preshared),
            [address.ip for address in client.addresses],
            mtu=client.mtu or DEFAULT_MTU,
            keepalive=float(client.keepalive or 0),
            allows=client.allows,
            timeout=timeout,
        )

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        identity: Identity,
        own: Sequence[Address],
        *,
        mtu: int = DEFAULT_MTU,
        keepalive: float = 25.0,
        allows: Callable[[Address], bool] = lambda _: True,
        timeout: float = HANDSHAKE_SECONDS,
    ) -> Self:
        """Call the server at `endpoint` until it answers, for `timeout` seconds at most.

        `own`: this client's addresses in the tunnel; `mtu`: bytes of a packet inside;
        `allows`: what the client sends there.  Raises TunnelDownError.
        """
        log = HandshakeLog()
        try:
            addresses = resolve(endpoint, min(timeout, RESOLVE_SECONDS))
        except EndpointError as error:
            raise TunnelDownError(error.message, error.hint) from error
        link = Link(addresses)
        try:
            caller = Caller(link, identity, log)
            session = caller.handshake(time.monotonic() + timeout)
            if session is None:
                verdict = judge_handshake(log)
                result = ProbeResult(verdict, endpoint, log, detail=log.unreachable)
                raise TunnelDownError(result.message, result.hint)
            carrier = Carrier(caller, session, time.monotonic(), keepalive)
        except HandshakeError as error:
            link.close()
            raise TunnelDownError(
                "the server's public key is a point of low order", "give its real public key"
            ) from error
        except BaseException:
            link.close()
            raise
        return cls(caller, carrier, own, mtu, allows)

    @property
    def address(self) -> str:
        """The server's outer address that answered, with the port."""
        return self._caller.log.address or ""

    def connect(
        self, host: Address, port: int, *, timeout: float = CONNECT_SECONDS
    ) -> socket.socket:
        """A connection to `host`:`port` as a blocking socket (one end of a pair).

        When the socket is closed or shut down, so is the connection; what breaks the
        connection ends the stream.  Raises StreamError, TcpError, TcpRefusedError.
        """
        here, there = socket.socketpair()
        try:
            self.attach(host, port, there, timeout=timeout)
        except BaseException:
            here.close()
            raise
        return here

    def attach(
        self,
        host: Address,
        port: int,
        local: socket.socket,
        *,
        greeting: bytes = b"",
        timeout: float = CONNECT_SECONDS,
    ) -> None:
        """Lead a connection to the socket `local`, which is closed with it, or if it fails.

        `greeting` is what the other end of `local` reads first.  Raises as `connect`.
        """
        local.setblocking(False)

        def end_output() -> None:
            with contextlib.suppress(OSError):
                local.shutdown(socket.SHUT_WR)

        fd = local.fileno()
        try:
            self._start(host, port, fd, fd, local.close, end_output, timeout, greeting)
        except StreamError:
            local.close()
            raise

    def renew(self, timeout: float = HANDSHAKE_SECONDS) -> float:
        """Make a new session now; seconds it took.  Raises TunnelDownError at the time-out."""
        start = time.monotonic()
        before: Future[int] = Future()

        def begin(now: float) -> None:
            before.set_result(self.carrier.handshakes)
            self.carrier.renew(now)

        self._submit(begin)
        count = _result(before, END_SECONDS)
        while self.carrier.handshakes == count:
            if time.monotonic() - start >= timeout:
                raise TunnelDownError(
                    f"{self.address}: no answer to a new handshake within {timeout:.0f} s",
                    "the server may not know this client any more, or the port is closed",
                )
            time.sleep(0.02)
        return time.monotonic() - start

    @property
    def busy(self) -> int:
        """How many connections there are."""
        return self._pump.busy

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _submit(self, request: Callable[[float], None]) -> None:
        if not self._thread.is_alive():
            raise StreamError("the tunnel was closed")
        self._pump.submit(request)

    def splice(
        self,
        host: Address,
        port: int,
        reader: int,
        writer: int,
        *,
        timeout: float = CONNECT_SECONDS,
    ) -> None:
        """Copy between the descriptors `reader` and `writer` and a connection, until both ended.

        Takes the two over: they are non-blocking meanwhile, and `writer` is closed when the
        other side has finished.  Raises StreamError, TcpError, TcpRefusedError.
        """
        modes = {fd: os.get_blocking(fd) for fd in (reader, writer)}
        closed = threading.Event()

        def end_output() -> None:
            if not closed.is_set():
                closed.set()
                with contextlib.suppress(OSError):
                    os.set_blocking(writer, modes[writer])
                os.close(writer)

        for fd in modes:
            os.set_blocking(fd, False)
        try:
            channel = self._start(host, port, reader, writer, lambda: None, end_output, timeout)
            _result(channel.done, None)
        finally:
            for fd, mode in modes.items():
                if fd != writer or not closed.is_set():
                    with contextlib.suppress(OSError):
                        os.set_blocking(fd, mode)

    def _start(
        self,
        host: Address,
        port: int,
        reader: int,
        writer: int,
        close: Callable[[], None],
        end_output: Callable[[], None],
        timeout: float,
        greeting: bytes = b"",
    ) -> TunnelChannel:
        """Open a connection and hand it over to the pump; back when it is open."""
        source = self._source(host)
        segment = self._mtu - TCP_HEADER_BYTES
        segment -= IPV4_HEADER_BYTES if host.version == 4 else IPV6_HEADER_BYTES
        made: Future[TunnelChannel] = Future()

        def begin(now: float) -> None:
            if not made.set_running_or_notify_cancel():
                close()
                return
            ends = Ends(source, self._pump.free_port(host, port), host, port)
            connection = TcpConnection(ends, segment=segment, now=now)
            channel = TunnelChannel(
                connection, reader, writer, close, end_output, greeting=greeting
            )
            channel.give_up = now + timeout
            self._pump.add(channel)
            made.set_result(channel)

        self._submit(begin)
        channel = _result(made, END_SECONDS)
        _result(channel.opened, timeout + END_SECONDS)
        return channel

    def _source(self, host: Address) -> Address:
        if not self._allows(host):
            raise StreamError(
                f"{host} is not in this client's AllowedIPs",
                "a real client would not send it into the tunnel either",
            )
        for address in self._own:
            if address.version == host.version:
                return address
        raise StreamError(f"{host}: this client has no IPv{host.version} address in the tunnel")

    def close(self) -> None:
        """End every connection and the tunnel."""
        if self._thread.is_alive():
            self._pump.stop()
            self._thread.join(END_SECONDS)


def _result(future: Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    except FutureTimeout as error:
        future.cancel()
        raise TcpError("the tunnel's thread does not answer", "report this") from error
