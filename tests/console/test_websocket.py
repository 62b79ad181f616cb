"""WebSockets to servers that are none, that refuse, and that harm."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from obsdimg.console import websocket
from obsdimg.console.address import parse
from obsdimg.console.connect import open_stream
from obsdimg.console.errors import ConnectError, ConsoleError, LostError, ProtocolError
from obsdimg.console.vnc import Vnc
from support import hostile_vnc as hostile

MEMORY = 150 << 20
"""Bytes by which this process may grow, whatever a server sends."""


@contextlib.contextmanager
def raw_server(play: hostile.Play) -> Iterator[str]:
    """Plays bytes to each client, without a WebSocket; gives the address, ticket included."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        clients: list[socket.socket] = []

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    clients.append(client)
                    play(client)

        threading.Thread(target=run, daemon=True).start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}/vnc?ticket=TOPSECRET"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for client in clients:
                client.close()


@contextlib.contextmanager
def server(play: Callable[[ServerConnection], None]) -> Iterator[str]:
    """A WebSocket server that plays `play` to each client."""

    def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            play(connection)

    with serve(handle, "127.0.0.1", 0, compression=None) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/"
        running.shutdown()


def refused(url: str, seconds: float = 2.0) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        open_stream(parse(url), seconds)
    assert caught.value.message.isprintable()
    assert "TOPSECRET" not in caught.value.message + str(caught.value.hint)
    return caught.value


@pytest.mark.parametrize("late", [0.0, 0.2])
@pytest.mark.parametrize("closes", [True, False])
def test_a_bare_vnc_port_speaks_before_it_is_asked(
    late: float, closes: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether its greeting comes before the request is sent or after, the error is the same."""
    handshake = websocket.ClientConnection.handshake

    def delayed(self: object, *args: object, **more: object) -> None:
        time.sleep(late)
        handshake(self, *args, **more)  # type: ignore[arg-type]

    def play(sock: socket.socket) -> None:
        sock.sendall(hostile.HELLO)
        if closes:
            sock.close()

    monkeypatch.setattr(websocket.ClientConnection, "handshake", delayed)
    with raw_server(play) as url:
        for _ in range(5):
            error = refused(url, 1.0)
            assert "no WebSocket there" in error.message
            assert "vnc://HOST:PORT" in str(error.hint)
    assert capfd.readouterr() == ("", "")


def test_a_server_that_says_nothing() -> None:
    with raw_server(lambda sock: None) as url:
        assert "no WebSocket there: no answer in time" in refused(url, 0.5).message


@pytest.mark.parametrize(
    ("status", "hint"), [("401 Unauthorized", "ticket"), ("500 Broken", "running")]
)
def test_a_refusal_by_status(status: str, hint: str) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    with raw_server(lambda sock: sock.sendall(answer)) as url:
        error = refused(url)
    assert f"refused the WebSocket with status {status[:3]}" in error.message
    assert hint in str(error.hint)


def test_a_proxy_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with raw_server(lambda sock: sock.sendall(b"HTTP/1.1 403 No\r\n\r\n")) as url:
        port = url.rpartition(":")[2].partition("/")[0]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        error = refused("ws://console.example/vnc?ticket=TOPSECRET")
    assert "the proxy of this host does not lead there" in error.message


def test_text_is_no_console() -> None:
    def play(connection: ServerConnection) -> None:
        connection.send("hello")
        connection.recv(5)

    with server(play) as url:
        stream = open_stream(parse(url), 5)
        with pytest.raises(ProtocolError, match="sends text"):
            stream.receive(5)
        stream.close()


def test_a_server_that_cuts_stalls_or_sends_nonsense() -> None:
    def cuts(connection: ServerConnection) -> None:
        connection.send(hostile.HELLO)
        connection.socket.shutdown(socket.SHUT_RDWR)

    def stalls(connection: ServerConnection) -> None:
        connection.send(hostile.HELLO[:5])
        connection.recv(20)

    def nonsense(connection: ServerConnection) -> None:
        connection.send(b"\xff" * 4096)
        connection.recv(20)

    for play, says in (
        (cuts, "closed the connection"),
        (stalls, "does not answer as a VNC console"),
        (nonsense, "it is not VNC"),
    ):
        with server(play) as url, pytest.raises(ConsoleError, match=says):
            Vnc(open_stream(parse(url), 5), seconds=2)


def test_messages_without_end_cost_no_memory() -> None:
    """10 GB, offered in messages of 16 MB, and one message of 10 GB."""

    def many(connection: ServerConnection) -> None:
        connection.send(hostile.HELLO)
        for _ in range(640):
            connection.send(bytes(16 << 20))

    def one(connection: ServerConnection) -> None:
        # A frame's header with its length (RFC 6455, 5.2), and then the bytes.
        connection.socket.sendall(b"\x82\x7f" + (10 << 30).to_bytes(8, "big"))
        for _ in range(10):
            connection.socket.sendall(bytes(16 << 20))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.monotonic()
    with server(many) as url, pytest.raises(ConsoleError):
        Vnc(open_stream(parse(url), 5), seconds=5)
    with server(one) as url, pytest.raises(LostError, match="more than 32 MiB"):
        stream = open_stream(parse(url), 5)
        try:
            for _ in range(20):
                stream.receive(1)
        finally:
            stream.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MEMORY
    assert time.monotonic() - start < 60
