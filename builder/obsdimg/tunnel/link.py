"""The UDP side of a client: one connected socket for each address of the server.

Connected sockets, since only they hear the ICMP errors that answer their datagrams
(udp(7): ECONNREFUSED).  No root, no tun device.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from obsdimg.core.files import describe
from obsdimg.core.lifetime import Closing
from obsdimg.tunnel.endpoint import SocketAddress

DATAGRAM_BYTES: Final = 65536

BUFFER_BYTES: Final = 1 << 20
"""Of received datagrams; the system may allow less."""

_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_MSG_ERRQUEUE: Final = 0x2000
"""linux/in.h, in6.h, socket.h.  Without the options Linux keeps to itself that a router
says `host unreachable` (ip(7)); with them, errors stand in a queue of their own."""

_UNREACHABLE: Final = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EACCES,
    errno.EPERM,
    errno.EADDRNOTAVAIL,
}


@dataclass(frozen=True)
class Received:
    """A datagram from the server's address number `which`."""

    which: int
    datagram: bytes


@dataclass(frozen=True)
class Refused:
    """ICMP port unreachable: nothing listens there."""

    which: int


@dataclass(frozen=True)
class Unreachable:
    """No way to the address, said by this machine or by a router."""

    which: int
    reason: str


Event = Received | Refused | Unreachable


class Link(Closing):
    """A context manager; every wait has a deadline in seconds of `time.monotonic`."""

    def __init__(self, addresses: Sequence[SocketAddress]) -> None:
        self.addresses: Final = tuple(addresses)
        self._sockets: list[socket.socket | None] = []
        self._waiting: list[Event] = []
        for which, address in enumerate(addresses):
            self._sockets.append(self._open(which, address))

    def _open(self, which: int, address: SocketAddress) -> socket.socket | None:
        """A connected socket, or None where this machine has no route to the address."""
        try:
            opened = socket.socket(address.family, socket.SOCK_DGRAM)
        except OSError as error:
            self._waiting.append(Unreachable(which, describe(error)))
            return None
        try:
            opened.setblocking(False)
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            if sys.platform == "linux":
                if address.family == socket.AF_INET6:
                    opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
                else:
                    opened.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            opened.connect(address.sockaddr)
        except OSError as error:
            opened.close()
            self._waiting.append(Unreachable(which, describe(error)))
            return None
        return opened

    def usable(self) -> list[int]:
        """The numbers of the addresses that have a route."""
        return [which for which, opened in enumerate(self._sockets) if opened is not None]

    def send(self, which: int, datagram: bytes) -> None:
        """Send to address number `which`; what the network says to it comes by `receive`."""
        opened = self._sockets[which]
        if opened is None:
            return
        try:
            opened.send(datagram)
        except OSError as error:
            self._note(which, error)

    def receive(self, deadline: float) -> Event | None:
        """The next event, or None at the deadline (at once where it has passed)."""
        while True:
            if self._waiting:
                return self._waiting.pop(0)
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            opened = [one for one in self._sockets if one is not None]
            ready, _, _ = select.select(opened, [], [], left)
            for one in ready:
                which = self._sockets.index(one)
                self._drain_errors(which, one)
                try:
                    self._waiting.append(Received(which, one.recv(DATAGRAM_BYTES)))
                except OSError as error:
                    self._note(which, error)

    def sockets(self) -> list[socket.socket]:
        """The open ones, for a select of the caller's own; `drain` then."""
        return [one for one in self._sockets if one is not None]

    def drain(self, most: int) -> list[Event]:
        """What has come already, at most `most` datagrams from each address; does not wait."""
        events, self._waiting = self._waiting, []
        for which, opened in enumerate(self._sockets):
            count = 0
            while opened is not None and count < most:
                try:
                    events.append(Received(which, opened.recv(DATAGRAM_BYTES)))
                except BlockingIOError:
                    break
                except OSError as error:
                    if (event := _event(which, error)) is not None:
                        events.append(event)
                count += 1
            if opened is not None and count == 0:
                self._drain_errors(which, opened)
        events += self._waiting
        self._waiting = []
        return events

    def reopen(self) -> None:
        """New sockets: this machine may have another address or route since."""
        self.close()
        self._sockets = [self._open(which, a) for which, a in enumerate(self.addresses)]

    def _drain_errors(self, which: int, opened: socket.socket) -> None:
        """Turn Linux's queue of errors into events; it would wake every select otherwise."""
        while sys.platform == "linux":
            try:
                _, ancillary, _, _ = opened.recvmsg(512, 512, _MSG_ERRQUEUE)
            except OSError:
                return
            for _, _, data in ancillary:
                number = struct.unpack_from("=I", data)[0] if len(data) >= 16 else 0
                self._note(which, OSError(number, os.strerror(number)))

    def _note(self, which: int, error: OSError) -> None:
        event = _event(which, error)
        if event is not None:
            self._waiting.append(event)

    def close(self) -> None:
        for opened in self._sockets:
            if opened is not None:
                opened.close()
        self._sockets = [None] * len(self._sockets)


def _event(which: int, error: OSError) -> Event | None:
    """What an error of send or recv tells; None for what passes by itself (a full queue)."""
    if error.errno == errno.ECONNREFUSED:
        return Refused(which)
    if error.errno in _UNREACHABLE:
        return Unreachable(which, describe(error))
    return None
