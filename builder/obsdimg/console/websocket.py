"""VNC inside a WebSocket (RFC 6455, sub-protocol `binary`), as a byte stream."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from pathlib import Path

from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from obsdimg.console.address import VncWebSocket
from obsdimg.console.connect import NO_CONSOLE, Stream, nothing_there, why
from obsdimg.console.errors import ConnectError, LostError, ProtocolError
from obsdimg.core.errors import printable

LARGEST_MESSAGE = 32 << 20
"""Bytes of one WebSocket message: a server sends at most one picture in it."""
NO_RESPONSE = "no response"
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_QUIET = logging.getLogger("obsdimg.console.websocket")
"""The library logs what it also raises; on a live screen the log would be drawn over the text."""
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class Connection(ClientConnection):
    """A connection whose handshake fails by InvalidHandshake, whoever speaks first.

    A bare VNC port speaks before it is asked.  The library's reading thread then ends the
    connection while the request is still being sent, which fails in several ways (an assertion,
    ConnectionClosed, a wait for an answer until time is up); all of them mean the same.
    """

    def handshake(self, *args: object, **more: object) -> None:
        """Raises InvalidHandshake, OSError."""
        try:
            super().handshake(*args, **more)  # type: ignore[arg-type]
        except (AssertionError, ConnectionClosed, TimeoutError) as error:
            raise self.protocol.handshake_exc or InvalidMessage(NO_RESPONSE) from error


def open_websocket(address: VncWebSocket, seconds: float, ca_file: Path | None) -> Stream:
    """Connect within `seconds`.  Raises ConnectError."""
    label = address.label
    stack = contextlib.ExitStack()
    try:
        connecting = connect(
            address.url,
            ssl=_tls(label, ca_file) if address.secure else None,
            subprotocols=[Subprotocol("binary")],
            compression=None,
            open_timeout=seconds,
            close_timeout=2,
            ping_interval=20,
            ping_timeout=20,
            max_size=LARGEST_MESSAGE,
            max_queue=4,
            user_agent_header=None,
            logger=_QUIET,
            create_connection=Connection,
        )
        connection = stack.enter_context(connecting)
    except ssl.SSLCertVerificationError as error:
        raise ConnectError(
            f"{label}: its certificate is not valid: {printable(error.verify_message)}",
            "is it the right host? --ca FILE trusts the certificate authority in FILE",
        ) from error
    except InvalidStatus as error:
        status = error.response.status_code
        raise ConnectError(
            f"{label}: the server refused the WebSocket with status {status}",
            "a ticket in the address may have expired: ask the provider for a new one"
            if status in (401, 403, 404)
            else NO_CONSOLE,
        ) from error
    except (ProxyError, InvalidProxy, ImportError) as error:
        raise ConnectError(
            f"{label}: the proxy of this host does not lead there: {_kind(error)}",
            "see the variables https_proxy, http_proxy and no_proxy",
        ) from error
    except (WebSocketException, EOFError) as error:
        raise ConnectError(
            f"{label}: no WebSocket there: {_kind(error)}",
            "the address is that of the WebSocket, not of the web page around it; a VNC port"
            " without one is vnc://HOST:PORT",
        ) from error
    except (OSError, UnicodeError) as error:
        raise nothing_there(label, error) from error
    return WebSocketStream(connection, stack, label, near=address.host in LOOPBACK)


def _kind(error: Exception) -> str:
    """What is wrong, in our words: the library's own may repeat the address with its ticket."""
    if isinstance(error, InvalidMessage):
        late = isinstance(error.__cause__, TimeoutError) and error.args == (NO_RESPONSE,)
        return "no answer in time" if late else "it does not speak HTTP"
    if isinstance(error, ImportError):
        return "SOCKS needs the Python package python-socks"
    return type(error).__name__


def _tls(label: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConnectError(
            f"{ca_file}: no certificates can be read there: {why(error)}",
            f"--ca takes a PEM file; it is for {label}",
        ) from error


class WebSocketStream:
    """Binary messages of a WebSocket as a stream."""

    def __init__(
        self, connection: ClientConnection, closing: contextlib.ExitStack, label: str, near: bool
    ) -> None:
        self.label, self.near = label, near
        self._connection, self._closing = connection, closing

    def send(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except (ConnectionClosed, OSError) as error:
            raise self._lost(error) from error

    def receive(self, seconds: float) -> bytes:
        try:
            data = self._connection.recv(timeout=seconds)
        except TimeoutError:
            return b""
        except (ConnectionClosed, OSError) as error:
            raise self._lost(error) from error
        if isinstance(data, str):
            raise ProtocolError(
                f"{self.label}: the WebSocket sends text, not a console's bytes",
                "the address must be that of the VNC WebSocket (sub-protocol `binary`)",
            )
        return data

    def _lost(self, error: Exception) -> LostError:
        sent = error.sent if isinstance(error, ConnectionClosed) else None
        if sent is not None and sent.code == 1009:
            size = f"{LARGEST_MESSAGE >> 20} MiB"
            return LostError(f"{self.label}: a message of more than {size} came")
        if isinstance(error, ConnectionClosed):
            return LostError(f"{self.label}: the other side closed the connection")
        return LostError(f"{self.label}: connection lost: {why(error)}")

    def close(self) -> None:
        # It waits for the other side's goodbye; a hostile one says none.
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(3)

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._closing.close()
