"""Headers with an end: a limit on the time in which a server's answer begins.

A timeout of httpx is one for each piece of the network's, so a server that sends a byte now and
then holds a command for days.  Here a timer shuts the connection down, at which every wait on it
ends.  What starts and ends the timer is httpcore's trace (documented under "Extensions"): the TLS
handshake, and the headers from the request's last byte on, however long that took to send.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


class HeaderLimit:
    """`guard` is a request hook for one httpx client.  After `seconds` the request fails with
    httpx.ReadError, RemoteProtocolError or ConnectError, as for a connection that was cut."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None
        self._held: socket.socket | None = None

    def guard(self, request: httpx.Request) -> None:
        """Watch this request."""
        request.extensions = {**request.extensions, "trace": self._trace}

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        _, step, state = event.rsplit(".", 2)
        if step not in ("connect_tcp", "start_tls", "receive_response_headers"):
            return
        if state == "started":
            if step == "connect_tcp":
                return  # that has a limit of its own
            if step == "start_tls":
                self._keep_hold()
            self._timer = threading.Timer(self.seconds, self._cut)
            self._timer.daemon = True
            self._timer.start()
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            self._held.close()
            self._held = None
        if state == "complete" and step != "receive_response_headers":
            self._sockets = [one for one in self._sockets if one.fileno() >= 0]
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    def _keep_hold(self) -> None:
        """TLS takes the newest socket's descriptor away while it shakes hands: a second one."""
        own = self._sockets[-1].fileno() if self._sockets else -1
        if own >= 0:
            self._held = socket.socket(fileno=os.dup(own))

    def _cut(self) -> None:
        for one in (*self._sockets, self._held):
            if one is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
