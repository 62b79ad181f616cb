"""VNC servers that do what none should: a script of bytes, over a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HELLO = b"RFB 003.008\n"
NO_LOGIN = b"\x01\x01"
LOGIN_OK = b"\0\0\0\0"
FORMAT = struct.pack("!BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)

Play = Callable[[socket.socket], None]


def init(width: int, height: int, name: bytes = b"test") -> bytes:
    return struct.pack("!HH", width, height) + FORMAT + struct.pack("!I", len(name)) + name


def logged_in(sock: socket.socket, width: int = 64, height: int = 32, name: bytes = b"x") -> None:
    """Everything up to the client's first request."""
    sock.sendall(HELLO)
    take(sock, 12)
    sock.sendall(NO_LOGIN)
    take(sock, 1)
    sock.sendall(LOGIN_OK)
    take(sock, 1)
    sock.sendall(init(width, height, name))
    take(sock, 20)  # SetPixelFormat
    count = struct.unpack("!BxH", take(sock, 4))[1]
    take(sock, 4 * count + 10)  # its encodings, and the first request


def take(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def rectangle(x: int, y: int, width: int, height: int, encoding: int, data: bytes = b"") -> bytes:
    return struct.pack("!HHHHi", x, y, width, height, encoding) + data


def update(*rectangles: bytes) -> bytes:
    return struct.pack("!BxH", 0, len(rectangles)) + b"".join(rectangles)


def whole(width: int = 64, height: int = 32) -> bytes:
    return update(rectangle(0, 0, width, height, 0, bytes(4 * width * height)))


def forever(sock: socket.socket, piece: bytes, most: int = 10 << 30) -> None:
    """Send `piece` again and again, `most` bytes at most."""
    for _ in range(most // len(piece)):
        sock.sendall(piece)


@contextlib.contextmanager
def server(folder: Path, play: Play) -> Iterator[str]:
    """Plays `play` to each client, 60 s at most; gives the address."""
    path = folder / "vnc"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    clients: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                client.settimeout(60)
                clients.append(client)
                threading.Thread(target=one, args=(client,), daemon=True).start()

    def one(client: socket.socket) -> None:
        with contextlib.suppress(OSError, ConnectionError), client:
            play(client)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"vnc+unix://{path}"
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
        path.unlink(missing_ok=True)


def pause(sock: socket.socket, seconds: float = 60) -> None:
    time.sleep(seconds)
