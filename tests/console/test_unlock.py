from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from obsdimg.console import unlock as module
from obsdimg.console.address import parse
from obsdimg.console.errors import ConnectError, ConsoleError, LostError
from obsdimg.console.remote import RemoteConsole, open_console
from obsdimg.console.screen import Kind
from obsdimg.console.states import Sight
from obsdimg.console.unlock import Outcome, Unlocking, UnlockLimits
from obsdimg.core.secret import Secret
from support.console_machine import Qemu, qemu
from support.loader_guest import make_disk
from support.scripted_console import BANNER, LOGIN, PROMPT, Scene, ScriptedConsole, screen

RIGHT = "correct horse"
QUICK = UnlockLimits(prompt=1.0, answer=1.0, reconnect=0.01)
REFUSAL = "\nincorrect passphrase\nPassphrase: "
REFUSED = PROMPT + REFUSAL
BOOTING = PROMPT + "\nboot> \nbooting sr0a:/bsd: 12957000"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.0)
    monkeypatch.setattr(module, "LOOK", 0.01)


class Loader:
    """Answers as the boot loader does, below what stands on the screen already."""

    def __init__(self) -> None:
        self.shown = PROMPT

    def __call__(self, line: str) -> list[Scene]:
        before = self.shown
        right = line == RIGHT
        self.shown += "\nboot> \nbooting sr0a:/bsd: 1" if right else REFUSAL
        return [before, self.shown]


def run(
    *consoles: RemoteConsole | ConsoleError,
    passphrase: str = RIGHT,
    restart: bool = False,
    wake: bool = False,
    host: str | None = None,
    tries: int = 2,
) -> tuple[Unlocking, list[str]]:
    told: list[str] = []
    answers = iter(consoles)

    def connect() -> RemoteConsole:
        found = next(answers)
        if isinstance(found, ConsoleError):
            raise found
        return found

    work = Unlocking(
        connect, restart=restart, wake=wake, host=host, tries=tries, limits=QUICK,
        tell=told.append,
    )  # fmt: skip
    work.run(Secret(passphrase))
    return work, told


pytestmark = pytest.mark.usefixtures("quick")


def test_from_a_cold_start() -> None:
    console = ScriptedConsole(
        screen("", Kind.BLANK), "SeaBIOS (version 1.16)", "Booting from Hard Disk...",
        "Loading......", BANNER, PROMPT, answer=Loader(),
    )  # fmt: skip
    work, told = run(console)
    assert work.report.outcome is Outcome.UNLOCKED
    assert console.typed == RIGHT + "\r"
    assert told[-2:] == ["the passphrase is typed", "OpenBSD boots"]
    assert RIGHT not in " ".join(told) + repr(work.report)


def test_a_wrong_passphrase_is_typed_again_once_in_case_a_key_was_lost() -> None:
    console = ScriptedConsole(PROMPT, answer=Loader())
    work, _ = run(console, passphrase="wrong one")
    assert work.report.outcome is Outcome.REFUSED
    assert work.report.tries == 2
    assert console.typed == 2 * "wrong one\r"


def test_a_lost_key_is_not_called_a_wrong_passphrase() -> None:
    lines = itertools.count()
    console = ScriptedConsole(
        PROMPT, answer=lambda line: [REFUSED] if next(lines) == 0 else [REFUSED, BOOTING]
    )
    work, _ = run(console)
    assert work.report.outcome is Outcome.UNLOCKED
    assert work.report.tries == 2


def test_a_refusal_on_a_full_screen_is_not_seen_too_early() -> None:
    full = "Passphrase: \nincorrect passphrase\n" * 12 + "Passphrase: "
    moved = full.partition("\n")[2] + "\n"
    console = ScriptedConsole(full, answer=lambda line: [moved] * 20 + [BOOTING])
    work, _ = run(console)
    assert work.report.outcome is Outcome.UNLOCKED
    assert work.report.tries == 1
    again = ScriptedConsole(full, answer=lambda line: [moved] * 20 + [full])
    work, _ = run(again)
    assert work.report.outcome is Outcome.REFUSED


def test_the_loaders_spinner_says_nothing_yet() -> None:
    said = (PROMPT + "\n-", PROMPT + "\n/", PROMPT + REFUSAL)
    work, _ = run(ScriptedConsole(PROMPT, answer=lambda line: list(said)), tries=1)
    assert work.report.outcome is Outcome.REFUSED


def test_half_a_refusal_is_no_acceptance() -> None:
    said = (PROMPT + "\nincorr", PROMPT + "\nincorrect passphrase", REFUSED)
    console = ScriptedConsole(PROMPT, answer=lambda line: list(said))
    work, _ = run(console, tries=1)
    assert work.report.outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("shown", "outcome", "sight"),
    [
        (LOGIN, Outcome.RUNNING, Sight.LOGIN),
        ("root on sd1a swap on sd1b", Outcome.RUNNING, Sight.BOOTING),
        ("panic: mtx_enter\nddb> ", Outcome.CRASHED, Sight.PANIC),
        ("No bootable device.", Outcome.CRASHED, Sight.NO_SYSTEM),
        ("obsdimg: sd0 is NOT EMPTY. It holds:\nAnswer: ", Outcome.INSTALLER, Sight.GUARD),
        ("New passphrase: ", Outcome.INSTALLER, Sight.GUARD),
        ("(I)nstall, (U)pgrade or (S)hell? ", Outcome.INSTALLER, Sight.INSTALLER),
        ("Enter passphrase for disk: ", Outcome.NO_PROMPT, Sight.OTHER),
        ("Unlock it.\nPassphrase: ", Outcome.NO_PROMPT, Sight.OTHER),
        (BANNER + "Passphrase: \naborting...\nboot> ", Outcome.NO_PROMPT, Sight.ABORTED),
    ],
)
def test_nothing_is_typed_where_the_loader_does_not_ask(
    shown: str, outcome: Outcome, sight: Sight
) -> None:
    console = ScriptedConsole(shown)
    work, _ = run(console)
    assert work.report.outcome is outcome
    assert work.report.seen.sight is sight
    assert console.typed == ""
    assert work.report.lines == [line.rstrip() for line in shown.split("\n") if line.strip()]


def test_a_screen_without_text_is_its_own_outcome() -> None:
    console = ScriptedConsole(screen("", Kind.GRAPHICS))
    work, _ = run(console)
    assert work.report.outcome is Outcome.UNREADABLE
    assert console.typed == ""


def test_a_machine_that_begins_anew_after_the_passphrase_is_not_unlocked() -> None:
    """Seen under UEFI: the firmware's logo, then the loader asks again."""
    logo = screen("", Kind.GRAPHICS)
    console = ScriptedConsole(PROMPT, answer=lambda line: [PROMPT, logo, f"again\n{PROMPT}"])
    work, _ = run(console, tries=1)
    assert work.report.outcome is Outcome.NO_PROMPT
    answers = iter([[logo, f"again\n{PROMPT}"], ["boot> \nbooting sr0a:/bsd: 1"]])
    console = ScriptedConsole(PROMPT, answer=lambda line: next(answers))
    work, _ = run(console)
    assert work.report.outcome is Outcome.UNLOCKED
    assert work.report.tries == 2


def test_a_restart_that_is_still_to_come_is_waited_for() -> None:
    before = ScriptedConsole(LOGIN, LOGIN, LostError("vnc://scripted: closed"))
    after = ScriptedConsole("SeaBIOS (version 1.16)", PROMPT, answer=Loader())
    work, _ = run(before, ConnectError("refused"), ConnectError("refused"), after, restart=True)
    assert work.report.outcome is Outcome.UNLOCKED
    assert before.typed == ""
    assert before.closed


def test_without_a_restart_a_console_that_is_not_there_is_an_error_at_once() -> None:
    with pytest.raises(ConnectError, match="refused"):
        run(ConnectError("refused"))


def test_another_machine_is_noticed_by_its_name() -> None:
    console = ScriptedConsole(LOGIN)
    with pytest.raises(ConsoleError, match=r"of vpn\.example\.org, not of mail; nothing was typed"):
        run(console, host="mail", restart=True)
    assert console.typed == ""
    work, _ = run(ScriptedConsole(LOGIN), host="vpn.other.example")
    assert work.report.outcome is Outcome.RUNNING


@pytest.mark.parametrize(
    "shown", ["", "Connected to domain 'vpn'\nEscape character is ^] (Ctrl + ])"]
)
def test_a_line_that_is_silent_is_woken_once_if_that_is_asked_for(
    shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAKE_AFTER", 0.1)
    loader = Loader()
    loader.shown = shown
    console = ScriptedConsole(screen(shown, Kind.TEXT if shown else Kind.BLANK), answer=loader)
    work, told = run(console, wake=True)
    assert work.report.outcome is Outcome.UNLOCKED
    assert console.typed == "x\r" + RIGHT + "\r"
    assert work.report.tries == 1
    assert any("the line is silent" in line for line in told)
    deaf = ScriptedConsole(screen("", Kind.BLANK))
    work, _ = run(deaf, wake=True)
    assert work.report.outcome is Outcome.NO_PROMPT
    assert deaf.typed == "x\r"
    untouched = ScriptedConsole(screen("", Kind.BLANK))
    run(untouched)
    assert untouched.typed == ""


def test_a_line_that_speaks_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only waiting moves."""
    monkeypatch.setattr(module, "WAKE_AFTER", 0.1)
    console = ScriptedConsole(
        screen("", Kind.BLANK), *(f"line {number}" for number in range(15)), PROMPT,
        answer=Loader(),
    )  # fmt: skip
    wait, clock = console.wait, itertools.count()
    now = [0.0]

    def slow(after: int, seconds: float) -> bool:
        now[0] = next(clock) * 0.05
        return wait(after, seconds)

    monkeypatch.setattr(console, "wait", slow)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    work, _ = run(console, wake=True)
    assert work.report.outcome is Outcome.UNLOCKED
    assert console.typed == RIGHT + "\r"


@pytest.mark.parametrize("host", [None, "vpn"])
def test_the_login_of_another_system_is_another_machine(host: str | None) -> None:
    console = ScriptedConsole("Debian GNU/Linux 12 web tty1\n\nweb login: ")
    with pytest.raises(ConsoleError, match="of another system: web login:; nothing was typed"):
        run(console, host=host)
    assert console.typed == ""


def test_a_loader_that_says_nothing_more_is_an_error() -> None:
    console = ScriptedConsole(PROMPT, answer=lambda line: [PROMPT])
    with pytest.raises(ConsoleError, match="says nothing to the passphrase within 1 s"):
        run(console)


def test_a_console_lost_after_typing_is_an_error() -> None:
    console = ScriptedConsole(PROMPT, answer=lambda line: [LostError("vnc://scripted: closed")])
    with pytest.raises(LostError):
        run(console)


def test_a_crash_of_the_boot_is_seen_afterwards() -> None:
    console = ScriptedConsole(PROMPT, answer=Loader())
    work, _ = run(console)
    assert not work.crashed()
    console.scenes = ["panic: init died\nddb> "]
    assert work.crashed()
    assert work.report.outcome is Outcome.CRASHED
    console.scenes = [LostError("gone")]
    assert not work.crashed()  # the handshake decides, not a lost console


# -- on a machine

AWKWARD = r"""Zz9 ~!@#$%^&*()_+|}{":?><`-=\][';/., long enough to fill any buffer twice"""

Running = tuple[Callable[[], RemoteConsole], Qemu]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.undo()  # with the real patience
    make_disk(tmp_path / "disk", AWKWARD)
    with qemu(tmp_path / "q", "-drive", f"file={tmp_path / 'disk'},format=raw") as running:
        yield lambda: open_console(parse(running.vnc)), running


@pytest.mark.qemu
def test_a_guest_with_a_bios_keyboard(machine: Running) -> None:
    connect, _ = machine
    first = Unlocking(connect, tries=1)
    assert first.run(Secret("wrong first")).outcome is Outcome.REFUSED
    first.close()
    second = Unlocking(connect, tries=1)
    assert second.run(Secret(AWKWARD)).outcome is Outcome.UNLOCKED
    second.close()


@pytest.mark.qemu
def test_a_serial_line_that_is_joined_after_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaBIOS mirrors the BIOS's screen and keyboard to the line, which nobody reads at first."""
    monkeypatch.undo()  # with the real patience
    make_disk(tmp_path / "disk", AWKWARD)
    disk = ("-drive", f"file={tmp_path / 'disk'},format=raw")
    with qemu(tmp_path / "q", "-machine", "graphics=off", *disk) as running:
        seen = open_console(parse(running.vnc))
        end = time.monotonic() + 120
        while "Passphrase:" not in seen.screen().text:
            assert time.monotonic() < end, seen.screen().text
            seen.wait(seen.changes, 0.5)
        seen.close()
        deaf = Unlocking(lambda: open_console(parse(running.serial)), limits=UnlockLimits(3.0))
        assert deaf.run(Secret(AWKWARD)).outcome is Outcome.NO_PROMPT
        deaf.close()
        work = Unlocking(lambda: open_console(parse(running.serial)), wake=True)
        report = work.run(Secret(AWKWARD))
        assert (report.outcome, report.tries) == (Outcome.UNLOCKED, 1), report
        work.close()


def _restarts(machine: Running, count: int) -> None:
    connect, running = machine
    for number in range(count):
        work = Unlocking(connect, tries=1, restart=True)
        try:
            outcome = work.run(Secret(AWKWARD)).outcome
        finally:
            work.close()
        assert outcome is Outcome.UNLOCKED, f"restart {number}: {work.report}"
        running.reset()
        time.sleep(3)


@pytest.mark.qemu
def test_restarts_in_a_row_lose_no_key(machine: Running) -> None:
    _restarts(machine, 3)


@pytest.mark.qemu
@pytest.mark.slow(reason="a hundred restarts of some ten seconds each")
@pytest.mark.timeout(3600)
@pytest.mark.skipif("not __import__('os').environ.get('OBSDIMG_LONG')", reason="OBSDIMG_LONG")
def test_a_hundred_restarts_in_a_row_lose_no_key(machine: Running) -> None:
    _restarts(machine, 100)
