from __future__ import annotations

import os
import pty
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.console.address import parse
from obsdimg.console.errors import ConnectError, LostError, NoTextError
from obsdimg.console.keys import NAMED, chord, control
from obsdimg.console.remote import RemoteConsole, open_console, type_text
from obsdimg.console.screen import Kind
from obsdimg.console.serial import LONGEST_SEQUENCE, Sequences, SerialConsole


def wait_for(console: RemoteConsole, text: str, seconds: float = 10) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shown = console.screen().text
        if text in shown:
            return shown
        console.wait(console.changes, 0.2)
    raise AssertionError(f"{text!r} did not come: {console.screen().text!r}")


class Line:
    """A stream that gives `pieces`, then nothing."""

    label, near = "serial+unix:///test", True

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.sent = list(pieces), b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self, seconds: float) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        time.sleep(min(seconds, 0.01))
        return b""

    def close(self) -> None:
        pass


def shown(*pieces: bytes) -> str:
    console = SerialConsole(Line(*pieces))
    while console.changes < len(pieces):
        time.sleep(0.005)
    text = console.screen().text
    console.close()
    return text


def test_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "com0"))
        listening.listen()
        console = open_console(parse(f"serial+unix://{tmp_path}/com0"))
        other, _ = listening.accept()
        with other:
            other.sendall(b">> OpenBSD/amd64 BOOT 3.67\r\nPassphrase: ")
            wait_for(console, "Passphrase:")
            type_text(console, "a B~\n")
            assert other.recv(100) == b"a B~\r"
            with pytest.raises(NoTextError, match="has no picture"):
                console.png()
        with pytest.raises(LostError, match="closed"):
            wait_for(console, "never")
        console.close()


def test_a_terminal_device_becomes_raw_and_is_left_as_it_was() -> None:
    import termios

    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)
    console = open_console(parse(f"serial://{os.ttyname(inner)}"))
    os.write(outer, b"login: ")
    wait_for(console, "login:")
    console.press(control("c"))
    console.press((NAMED["up"],))
    time.sleep(0.1)
    assert os.read(outer, 10) == b"\x03\x1b[A"
    console.close()
    assert termios.tcgetattr(inner) == before
    os.close(outer)
    os.close(inner)


def test_a_command_is_the_line_and_ends_with_it() -> None:
    code = "print('ready', flush=True); print('got ' + input(), flush=True); input()"
    console = open_console(parse(f"exec:{sys.executable} -u -c {code!r}"))
    wait_for(console, "ready")
    console.press(chord("x"))
    console._stream.send(b"\n")  # type: ignore[attr-defined]
    wait_for(console, "got x")
    console.close()


def test_a_command_that_fails_is_quoted() -> None:
    console = open_console(parse("exec:sh -c 'echo \"error: no such domain\" >&2; exit 3'"))
    with pytest.raises(LostError, match="it ended: error: no such domain"):
        wait_for(console, "never")
    console.close()
    with pytest.raises(ConnectError, match="cannot be started: no such file"):
        open_console(parse("exec:/no/such/program"))


def test_what_is_no_terminal_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConnectError, match="not a terminal"):
        open_console(parse(f"serial://{tmp_path}/file"))
    for scheme in ("serial", "serial+unix", "vnc+unix"):
        with pytest.raises(ConnectError, match="no console there: no such file"):
            open_console(parse(f"{scheme}://{tmp_path}/none"))


def test_the_loaders_spinner_and_overwriting_leave_the_final_text() -> None:
    assert shown(b"booting sr0a:/bsd: |\b/\b-\b\\\b12345\r\nab\rc") == (
        "booting sr0a:/bsd: 12345\ncb"
    )


def test_the_bios_positions_its_text() -> None:
    assert shown(b"\x1b[2J\x1b[1;1Hfirst\x1b[3;5Hthird\x1b[=3h\x1b[0m!") == "first\n\n    third!"


def test_titles_and_other_strings_never_reach_the_screen() -> None:
    assert shown(b"a\x1b]0;evil", b" title\x07b", b"\x1bPq", b"x\x1b\\c") == "abc"


def test_sequences_that_never_end_cost_nothing() -> None:
    filter_ = Sequences()
    for start in ("\x1b]0;", "\x1b["):
        total = filter_.clean("x" + start)
        for _ in range(3000):
            total += filter_.clean("1" * 1000)
            assert len(filter_._held) <= LONGEST_SEQUENCE
        assert filter_.clean("\x07\x1b\\ok").endswith("ok")
        assert total.startswith("x")


@settings(max_examples=150, deadline=2000)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_nonsense_on_the_line_is_survived(pieces: list[bytes]) -> None:
    pieces = [piece for piece in pieces if piece] or [b"x"]
    console = SerialConsole(Line(*pieces, b"\x1b\\\x07\x18\x1bc\r\nlogin: "))
    end = time.monotonic() + 5
    while console.changes <= len(pieces) and time.monotonic() < end:
        time.sleep(0.002)
    screen = console.screen()
    assert screen.kind in (Kind.TEXT, Kind.BLANK)
    console.close()


@given(st.text("ab\x1b[];0123mHJ\\\x07P?=", max_size=40), st.integers(0, 40))
def test_cutting_a_sequence_in_two_changes_nothing(text: str, at: int) -> None:
    one, two = Sequences(), Sequences()
    whole = one.clean(text + "\x07\x1b\\end\x1b[0m")
    parts = two.clean(text[:at]) + two.clean(text[at:] + "\x07\x1b\\end\x1b[0m")
    assert parts == whole
