from __future__ import annotations

import contextlib
import resource
import socket
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.console import vnc as vnc_module
from obsdimg.console.address import parse
from obsdimg.console.connect import open_stream
from obsdimg.console.errors import (
    ConnectError,
    ConsoleError,
    LoginError,
    LostError,
    ProtocolError,
)
from obsdimg.console.rfb import Rfb
from obsdimg.console.vnc import Vnc
from obsdimg.core.secret import Secret
from support import hostile_vnc as hostile

MEMORY = 150 << 20
"""Bytes by which this process may grow, whatever a server sends."""


def connect(url: str, seconds: float = 3.0, password: str | None = None) -> Vnc:
    secret = None if password is None else Secret(password)
    return Vnc(open_stream(parse(url), seconds), lambda: secret, seconds)


def grown() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fails(tmp_path: Path, play: hostile.Play, seconds: float = 3.0) -> ConsoleError:
    """The error that `play` ends in: one line, in time, without eating memory."""
    before, start = grown(), time.monotonic()
    with hostile.server(tmp_path, play) as url, pytest.raises(ConsoleError) as caught:
        console = connect(url, seconds)
        try:
            for _ in range(100):
                console.wait(console.updates, 0.2)
        finally:
            console.close()
    assert time.monotonic() - start < 30
    assert grown() - before < MEMORY
    assert "\n" not in caught.value.message
    assert "vnc+unix://" in caught.value.message
    return caught.value


def test_a_server_that_says_nothing_at_all(tmp_path: Path) -> None:
    error = fails(tmp_path, hostile.pause, 1.0)
    assert isinstance(error, LostError)
    assert "does not answer as a VNC console" in error.message


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01" * 9]
)
def test_another_protocol_is_called_by_its_name(tmp_path: Path, said: bytes) -> None:
    def play(sock: socket.socket) -> None:
        sock.sendall(said)
        hostile.pause(sock, 5)

    assert "not VNC" in fails(tmp_path, play).message


def test_a_server_that_cuts_at_every_point(tmp_path: Path) -> None:
    talk = [
        hostile.HELLO, hostile.NO_LOGIN, hostile.LOGIN_OK, hostile.init(64, 32),
        hostile.whole()[:4], hostile.whole()[4:100],
    ]  # fmt: skip
    for count in range(len(talk) + 1):

        def play(sock: socket.socket, count: int = count) -> None:
            for said in talk[:count]:
                sock.sendall(said)
                time.sleep(0.05)

        error = fails(tmp_path, play)
        assert isinstance(error, LostError)
        assert "closed the connection" in error.message or "lost" in error.message


def test_a_server_that_stops_in_the_middle_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vnc_module, "SILENCE", 0.5)

    def play(sock: socket.socket) -> None:
        hostile.logged_in(sock)
        sock.sendall(hostile.whole())
        sock.sendall(hostile.whole()[:200])
        hostile.pause(sock, 20)

    assert "stopped answering" in fails(tmp_path, play).message


def test_ten_gigabytes_before_the_login(tmp_path: Path) -> None:
    assert isinstance(
        fails(tmp_path, lambda sock: hostile.forever(sock, bytes(1 << 16))), ProtocolError
    )

    def names(sock: socket.socket) -> None:
        sock.sendall(hostile.HELLO + b"\0" + struct.pack("!I", 0xFFFFFFFF))
        hostile.forever(sock, b"A" * 65536)

    assert "4294967295 bytes" in fails(tmp_path, names).message


def test_ten_gigabytes_of_clipboard_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(sock: socket.socket) -> None:
        hostile.logged_in(sock)
        sock.sendall(hostile.whole())
        sock.sendall(struct.pack("!BxxxI", 3, 0xFFFFFFFF))
        hostile.forever(sock, b"A" * 65536, 300 << 20)

    assert isinstance(fails(tmp_path, play), LostError)  # the end of the script


@pytest.mark.parametrize("size", [(65535, 65535), (16385, 1), (8192, 8192)])
def test_a_huge_resolution_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    def at_login(sock: socket.socket) -> None:
        sock.sendall(hostile.HELLO + hostile.NO_LOGIN + hostile.LOGIN_OK + hostile.init(*size))
        hostile.pause(sock, 5)

    def later(sock: socket.socket) -> None:
        hostile.logged_in(sock)
        sock.sendall(hostile.update(hostile.rectangle(0, 0, *size, -223)))
        hostile.pause(sock, 5)

    for play in (at_login, later):
        assert f"{size[0]}x{size[1]} pixels" in fails(tmp_path, play).message


@pytest.mark.parametrize(
    ("rectangles", "says"),
    [
        ([hostile.rectangle(60, 0, 10, 1, 0, bytes(40))], "beyond the screen"),
        ([hostile.rectangle(0, 0, 65535, 65535, 0)], "beyond the screen"),
        ([hostile.rectangle(0, 0, 4, 4, 1, struct.pack("!HH", 62, 0))], "beyond the screen"),
        ([hostile.rectangle(0, 0, 64, 32, 1, b"\0\0\0\0")] * 100, "over and over"),
        ([hostile.rectangle(0, 0, 8, 8, 7)], "encoding that was not asked for"),
        ([hostile.rectangle(0, 0, 8, 8, 5)], "encoding that was not asked for"),
    ],
)
def test_what_would_paint_elsewhere_or_for_ever(
    tmp_path: Path, rectangles: list[bytes], says: str
) -> None:
    def play(sock: socket.socket) -> None:
        hostile.logged_in(sock)
        sock.sendall(hostile.update(*rectangles))
        hostile.pause(sock, 5)

    assert says in fails(tmp_path, play).message


def test_a_server_that_wants_another_login(tmp_path: Path) -> None:
    def play(sock: socket.socket) -> None:
        sock.sendall(hostile.HELLO + b"\x02\x13\x14")
        hostile.pause(sock, 5)

    error = fails(tmp_path, play)
    assert isinstance(error, ConnectError)
    assert "VeNCrypt (TLS), SASL" in error.message
    assert error.hint
    assert "wss://" in error.hint


def test_a_refusal_is_quoted_without_its_escapes(tmp_path: Path) -> None:
    said = b"too many\x1b]0;evil\x07 attempts\n"

    def play(sock: socket.socket) -> None:
        sock.sendall(hostile.HELLO + b"\0" + struct.pack("!I", len(said)) + said)
        hostile.pause(sock, 5)

    error = fails(tmp_path, play)
    assert "refuses: too many" in error.message
    assert error.message.isprintable()


def test_without_a_password_there_is_a_hint(tmp_path: Path) -> None:
    def play(sock: socket.socket) -> None:
        sock.sendall(hostile.HELLO + b"\x01\x02" + bytes(16))
        hostile.pause(sock, 5)

    error = fails(tmp_path, play)
    assert isinstance(error, LoginError)
    assert "wants a password" in error.message


@pytest.mark.parametrize("version", [b"RFB 000.000\n", b"RFB 999.999\n", b"RFB 003.00x\n"])
def test_odd_versions_do_not_end_in_a_traceback(tmp_path: Path, version: bytes) -> None:
    fails(tmp_path, lambda sock: (sock.sendall(version), hostile.pause(sock, 3))[0], 1.0)


class Client(Rfb):
    """Without a connection: what it would send is forgotten."""

    def __init__(self, compressed: bool = True) -> None:
        self.updates = 0
        super().__init__("vnc", lambda data: None, lambda: None, self._count, compressed)

    def _count(self, rectangles: list[tuple[int, int, int, int]]) -> None:
        self.updates += 1


def ready(compressed: bool = True) -> Client:
    client = Client(compressed)
    client.feed(hostile.HELLO + hostile.NO_LOGIN + hostile.LOGIN_OK + hostile.init(64, 64))
    return client


def test_a_little_cannot_be_unpacked_to_a_lot() -> None:
    bomb = zlib.compress(bytes(100 << 20), 9)
    assert len(bomb) < 200_000
    said = hostile.update(hostile.rectangle(0, 0, 64, 64, 16, struct.pack("!I", len(bomb)) + bomb))
    with pytest.raises(ProtocolError, match="larger than it may be"):
        ready().feed(said)


def test_a_compressed_picture_is_painted() -> None:
    client = ready()
    tile = b"\x01" + b"\x10\x20\x30"
    packed = zlib.compress(tile)
    client.feed(
        hostile.update(hostile.rectangle(0, 0, 64, 64, 16, struct.pack("!I", len(packed)) + packed))
    )
    assert client.updates == 1
    assert client.picture().pixels == b"\x10\x20\x30\0" * 4096


def test_bytes_may_come_one_by_one_or_all_at_once() -> None:
    said = hostile.HELLO + hostile.NO_LOGIN + hostile.LOGIN_OK + hostile.init(64, 32)
    said += hostile.update(
        hostile.rectangle(0, 0, 64, 32, 0, b"\x01\x02\x03\xff" * 2048),
        hostile.rectangle(0, 8, 64, 8, 1, b"\0\0\0\0"),
        hostile.rectangle(0, 0, 32, 16, -223),
    )
    said += b"\x02" + struct.pack("!BxxxI", 3, 5) + b"hello"  # bell and clipboard
    pictures = []
    for size in (1, 7, len(said)):
        client = Client()
        for at in range(0, len(said), size):
            client.feed(said[at : at + size])
        pictures.append(client.picture())
        assert client.updates == 1
    assert pictures[0] == pictures[1] == pictures[2]
    assert (pictures[0].width, pictures[0].height) == (32, 16)


@settings(max_examples=200, deadline=2000)
@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_nonsense_is_an_error_of_ours_or_waits_for_more(
    pieces: list[bytes], compressed: bool
) -> None:
    for client in (Client(compressed), ready(compressed)):
        try:
            for piece in pieces:
                client.feed(piece)
        except ConsoleError as error:
            assert error.message.isprintable()


@settings(max_examples=200, deadline=2000)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 70), st.integers(0, 70), st.integers(0, 70), st.integers(0, 70),
            st.sampled_from([0, 1, 16, -223, -224, -258, 5, 99]), st.binary(max_size=200),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_nearly_right_updates_never_paint_beyond_the_screen(
    rectangles: list[tuple[int, int, int, int, int, bytes]],
) -> None:
    client = ready()
    with contextlib.suppress(ConsoleError):
        client.feed(hostile.update(*(hostile.rectangle(*r) for r in rectangles)))
    assert len(client.pixels) == 4 * client.width * client.height
