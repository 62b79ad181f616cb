"""Byte streams to consoles: TCP, Unix sockets, WebSockets, terminal devices, commands.

Every stream gives at most CHUNK bytes at a time and never waits longer than it is told.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import termios
import time
import tty
from pathlib import Path
from typing import IO, Protocol

from obsdimg.console.address import (
    Address,
    SerialCommand,
    SerialDevice,
    SerialUnix,
    VncCommand,
    VncTcp,
    VncUnix,
    VncWebSocket,
)
from obsdimg.console.errors import ConnectError, LostError
from obsdimg.core.errors import printable
from obsdimg.core.files import describe
from obsdimg.core.process import dies_with_us, kill_group

CHUNK = 1 << 16
SEND_SECONDS = 20.0
NO_CONSOLE = "is the machine running, and is its console there? `obsdimg deploy status` may know"


class Stream(Protocol):
    """A connection.  `near`: it does not leave this host, so that bandwidth is no matter."""

    label: str
    near: bool

    def send(self, data: bytes) -> None:
        """Send all of `data`.  Raises LostError."""
        ...

    def receive(self, seconds: float) -> bytes:
        """What has come, up to CHUNK bytes or one message; nothing after `seconds`.

        Raises LostError at the end, ProtocolError for what no console sends.
        """
        ...

    def close(self) -> None:
        """End it; never raises."""
        ...


def open_stream(address: Address, seconds: float, ca_file: Path | None = None) -> Stream:
    """Connect within `seconds`; `ca_file` holds certificates trusted instead of the system's.

    Raises ConnectError.
    """
    if isinstance(address, VncTcp):
        return _tcp(address, seconds)
    if isinstance(address, VncUnix | SerialUnix):
        return _unix(address.path, address.label, seconds)
    if isinstance(address, VncWebSocket):
        from obsdimg.console.websocket import open_websocket  # a library that others do not need

        return open_websocket(address, seconds, ca_file)
    if isinstance(address, SerialDevice):
        return DeviceStream(address)
    return CommandStream(address)


def _tcp(address: VncTcp, seconds: float) -> Stream:
    try:
        sock = socket.create_connection((address.host, address.port), timeout=seconds)
    except (OSError, UnicodeError) as error:
        raise nothing_there(address.label, error) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer = str(sock.getpeername()[0])
    return SocketStream(sock, address.label, near=peer.startswith("127.") or peer == "::1")


def _unix(path: Path, label: str, seconds: float) -> Stream:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(seconds)
    try:
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise nothing_there(label, error) from error
    return SocketStream(sock, label, near=True)


class SocketStream:
    """A stream socket."""

    def __init__(self, sock: socket.socket, label: str, near: bool) -> None:
        self.label, self.near = label, near
        self._socket = sock
        sock.settimeout(SEND_SECONDS)

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise LostError(f"{self.label}: connection lost: {why(error)}") from error

    def receive(self, seconds: float) -> bytes:
        try:
            if not select.select([self._socket], [], [], seconds)[0]:
                return b""
            data = self._socket.recv(CHUNK)
        except (OSError, ValueError) as error:
            raise LostError(f"{self.label}: connection lost: {why(error)}") from error
        if not data:
            raise LostError(f"{self.label}: the other side closed the connection")
        return data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


# -- serial lines


class DeviceStream:
    """A terminal device, made raw."""

    def __init__(self, address: SerialDevice) -> None:
        self.label, self.near = address.label, True
        try:
            self._fd = os.open(address.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise nothing_there(self.label, error) from error
        if not os.isatty(self._fd):
            os.close(self._fd)
            raise ConnectError(
                f"{self.label}: not a terminal device", "a socket is serial+unix:///PATH"
            )
        self._before = termios.tcgetattr(self._fd)
        tty.setraw(self._fd, termios.TCSANOW)

    def send(self, data: bytes) -> None:
        _write(self._fd, data, self.label)

    def receive(self, seconds: float) -> bytes:
        return _read(self._fd, seconds, self.label)

    def close(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        with contextlib.suppress(OSError):
            os.close(self._fd)


class CommandStream:
    """A program that is the line; it ends with the stream, its whole process group."""

    def __init__(self, address: SerialCommand | VncCommand) -> None:
        self.label, self.near = address.label, False
        try:
            self._child = subprocess.Popen(
                address.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=dies_with_us(),
            )
        except OSError as error:
            raise ConnectError(
                f"{self.label}: cannot be started: {why(error)}", "exec: takes a program's words"
            ) from error
        self._in, self._out = _pipe(self._child.stdin), _pipe(self._child.stdout)
        self._err = _pipe(self._child.stderr)
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)

    def send(self, data: bytes) -> None:
        _write(self._in, data, self.label)

    def receive(self, seconds: float) -> bytes:
        try:
            return _read(self._out, seconds, self.label)
        except LostError as error:
            raise LostError(f"{self.label}: it ended: {self._last_words()}") from error

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        said = b""
        with contextlib.suppress(OSError):
            said = os.read(self._err, 4096)
        lines = said.decode("utf-8", "replace").split("\n")
        words = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return printable(words) or f"exit code {self._child.returncode}"

    def close(self) -> None:
        kill_group(self._child)
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _pipe(stream: IO[bytes] | None) -> int:
    assert stream is not None
    return stream.fileno()


def _read(fd: int, seconds: float, label: str) -> bytes:
    try:
        if not select.select([fd], [], [], seconds)[0]:
            return b""
        data = os.read(fd, CHUNK)
    except BlockingIOError:
        return b""
    except (OSError, ValueError) as error:
        raise LostError(f"{label}: connection lost: {why(error)}") from error
    if not data:
        raise LostError(f"{label}: the other side closed the connection")
    return data


def _write(fd: int, data: bytes, label: str) -> None:
    end = time.monotonic() + SEND_SECONDS
    while data:
        try:
            if not select.select([], [fd], [], max(0.0, end - time.monotonic()))[1]:
                raise LostError(f"{label}: the other side does not take what is typed")
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            continue
        except (OSError, ValueError) as error:
            raise LostError(f"{label}: connection lost: {why(error)}") from error


def nothing_there(label: str, error: Exception) -> ConnectError:
    return ConnectError(f"{label}: no console there: {why(error)}", NO_CONSOLE)


def why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {printable(error.reason or 'failed')}".lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return describe(error)
    return type(error).__name__
