"""The boot loader's prompt, played by the test at the other end of the serial line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from obsdimg.smoke import loader as loader_module
from obsdimg.smoke.console import Console, ExpectationError
from obsdimg.smoke.loader import SET_COM0, Loader
from obsdimg.smoke.plan import Secret

BANNER = "\r\n>> OpenBSD/amd64 CDBOOT 3.65\n\rboot> "
REFUSED = "\r\nboot: illegal argument tty\n\rboot> "
UEFI = "\r\nset: syntax error\r\nboot> "
NOT_A_CONSOLE = "\r\ncm0 not a console device\n\rboot> "
BLANK = "\r\nboot> "


def play(
    answers: Sequence[str], greeting: str = BANNER
) -> tuple[list[str], Console, threading.Thread]:
    """A loader at its prompt that gives each line it gets the next answer."""
    ours, theirs = socket.socketpair()
    typed: list[str] = []

    def loader() -> None:
        with theirs, theirs.makefile("rb") as lines:
            theirs.sendall(greeting.encode())
            for answer in answers:
                line = bytearray()
                while (key := lines.read(1)) not in (b"\r", b""):
                    line += key
                typed.append(line.decode())
                theirs.sendall(f"{line.decode()}{answer}".encode())

    thread = threading.Thread(target=loader, daemon=True)
    thread.start()
    return typed, Console(ours), thread


def to_serial_line(answers: Sequence[str], greeting: str = BANNER) -> list[str]:
    typed, console, thread = play(answers, greeting)
    machine = SimpleNamespace(spec=SimpleNamespace(serial_mirror=True))
    Loader(cast(Any, machine), console).to_serial_line()
    thread.join(10)
    return typed


@pytest.fixture(autouse=True)
def _typist_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "KEY_PAUSE", 0.001)


@pytest.mark.parametrize(
    "refusals", [[], [REFUSED], [REFUSED, UEFI], [NOT_A_CONSOLE, BLANK], [BLANK]]
)
def test_what_the_loader_lost_a_key_of_is_typed_again(refusals: list[str]) -> None:
    answers = [*refusals, "\r\nswitching console to com0" + BANNER]
    assert to_serial_line(answers) == [SET_COM0] * (len(refusals) + 1)


@pytest.mark.parametrize("said", ["com", "com0"])
def test_nothing_is_typed_where_boot_conf_has_moved_the_loader(said: str) -> None:
    """Under UEFI the firmware takes keys away there (seen on a real 7.7)."""
    assert to_serial_line([], f"{BANNER[:-6]}switching console to {said}{BANNER}") == []


def test_a_loader_that_moved_before_a_restart_is_told_again() -> None:
    typed, console, thread = play(["\r\nswitching console to com0" + BANNER])
    console._arrived("switching console to com0\n")
    machine = SimpleNamespace(spec=SimpleNamespace(serial_mirror=True))
    Loader(cast(Any, machine), console).to_serial_line()
    thread.join(10)
    assert typed == [SET_COM0]


@pytest.mark.parametrize("lost", [0, 1])
def test_the_enter_that_boots_is_typed_again_where_it_was_lost(
    lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "ENTER_SECONDS", 1.0 if lost else 60.0)
    answers = ["", "\r\nbooting cd0a"] if lost else ["\r\nbooting cd0a"]
    typed, console, thread = play(answers, "switching console to com0" + BANNER)
    loader = Loader(cast(Any, SimpleNamespace(spec=SimpleNamespace(serial_mirror=True))), console)
    loader.to_serial_line()
    loader.boot()
    thread.join(10)
    assert typed == [""] * len(answers)


def test_the_first_key_may_get_lost() -> None:
    assert SET_COM0[:1] == " " and SET_COM0[1:].strip() == "set tty com0"


def test_a_loader_that_never_understands_is_a_failure() -> None:
    with pytest.raises(ExpectationError, match="greeting on the serial line"):
        to_serial_line([REFUSED] * 3)


WRONG, RIGHT = "not the passphrase", "a right passphrase"


def unlock(lost: Sequence[str], right: str = RIGHT) -> list[str]:
    """What a locked loader takes for lines.  For each line that is typed `lost` names keys of it
    that do not arrive ("\\r": Enter)."""
    ours, theirs = socket.socketpair()
    taken: list[str] = []

    def guest() -> None:
        left = [list(keys) for keys in lost]
        with theirs:

            def line() -> str:
                keys, missing = "", left.pop(0) if left else []
                while True:
                    key = theirs.recv(1).decode()
                    if not key:
                        raise EOFError
                    if key in missing:
                        missing.remove(key)
                    elif key == "\r":
                        theirs.sendall(b"\n\r")
                        taken.append(keys)
                        return keys
                    else:
                        keys += key

            try:
                theirs.sendall(b"Passphrase: ")
                while line() != right:
                    theirs.sendall(b"incorrect passphrase\n\rPassphrase: ")
                theirs.sendall(b"boot> ")
                line()
                theirs.sendall(b"switching console to com0" + BANNER.encode())
                theirs.recv(1)
            except EOFError:
                return

    thread = threading.Thread(target=guest, daemon=True)
    thread.start()
    with ours:
        machine = SimpleNamespace(spec=SimpleNamespace(serial_mirror=True))
        Loader(cast(Any, machine), Console(ours)).unlock(Secret(RIGHT), Secret(WRONG))
    thread.join(10)
    return taken


@pytest.mark.parametrize(
    ("lost", "taken"),
    [
        ([], [WRONG, RIGHT]),
        (["\r", ""], [WRONG, RIGHT]),
        (["", "\r"], [WRONG, RIGHT]),
        (["", "g"], [WRONG, RIGHT.replace("g", ""), RIGHT]),
        (["", "se\r"], [WRONG, "a right pasphras", RIGHT]),
        (["", "", "\r"], [WRONG, RIGHT]),
    ],
)
def test_keys_that_the_locked_loader_lost_are_typed_again(
    lost: list[str], taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "ENTER_SECONDS", 1.0 if "\r" in "".join(lost) else 60.0)
    assert unlock(lost) == [*taken, SET_COM0]


def test_a_passphrase_that_is_refused_again_and_again_is_the_wrong_one() -> None:
    with pytest.raises(ExpectationError, match="incorrect passphrase") as caught:
        unlock([], right="another passphrase")
    assert "another passphrase than the one given" in (caught.value.hint or "")
