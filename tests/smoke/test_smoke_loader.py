"""The boot loader's prompt, played by the test at the other end of the serial line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from obsdimg.smoke.console import Console, ExpectationError
from obsdimg.smoke.loader import Loader

BANNER = "\r\n>> OpenBSD/amd64 CDBOOT 3.65\n\rboot> "
REFUSED = "\r\nboot: illegal argument tty\n\rboot> "


def play(answers: Sequence[str]) -> tuple[list[str], Console, threading.Thread]:
    """A loader at its prompt that gives each line it gets the next answer."""
    ours, theirs = socket.socketpair()
    typed: list[str] = []

    def loader() -> None:
        with theirs, theirs.makefile("rb") as lines:
            theirs.sendall(b"switching console to com" + BANNER.encode())
            for answer in answers:
                line = bytearray()
                while (key := lines.read(1)) not in (b"\r", b""):
                    line += key
                typed.append(line.decode())
                theirs.sendall(f"{line.decode()}{answer}".encode())

    thread = threading.Thread(target=loader, daemon=True)
    thread.start()
    return typed, Console(ours), thread


def to_serial_line(answers: Sequence[str]) -> list[str]:
    typed, console, thread = play(answers)
    machine = SimpleNamespace(spec=SimpleNamespace(serial_mirror=True))
    Loader(cast(Any, machine), console).to_serial_line()
    thread.join(10)
    return typed


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_what_the_loader_lost_a_key_of_is_typed_again(refusals: int) -> None:
    answers = [REFUSED] * refusals + ["\r\nswitching console to com0" + BANNER]
    assert to_serial_line(answers) == ["set tty com0"] * (refusals + 1)


def test_a_loader_that_never_understands_is_a_failure() -> None:
    with pytest.raises(ExpectationError, match="greeting on the serial line"):
        to_serial_line([REFUSED] * 3)
