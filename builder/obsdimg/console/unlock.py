"""Unlock a disk at the boot loader's prompt: wait for it, type, see what comes of it.

Nothing is ever typed anywhere else than at the prompt of OpenBSD's boot loader, but for one
letter and Enter on a silent line if that is asked for (`wake`).
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from obsdimg.console.errors import ConnectError, ConsoleError, LostError
from obsdimg.console.keys import CAREFUL, SLOW
from obsdimg.console.remote import RemoteConsole, type_text
from obsdimg.console.screen import Screen
from obsdimg.console.states import REFUSAL, Seen, Sight, fingerprint, recognise, stranger
from obsdimg.core.secret import Secret

LOOK = 0.5
SETTLE = 0.7
"""Seconds without a change until a screen is believed: it may be half drawn."""
WAKE_AFTER = 5.0
"""Seconds of silence on a serial line until `wake` types."""
EVIDENCE_LINES = 25


class Outcome(enum.Enum):
    """How it ended; the value is what is told to programs."""

    UNLOCKED = "unlocked"
    RUNNING = "running"
    """No passphrase was asked for: the system boots, or is up."""
    REFUSED = "refused"
    NO_PROMPT = "no-prompt"
    CRASHED = "crashed"
    INSTALLER = "installer"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class UnlockEvent:
    """Something seen or done, and when: seconds since the start."""

    at: float
    what: str


@dataclass
class UnlockReport:
    """What came of it, and what was seen on the way; nothing in it is secret."""

    outcome: Outcome = Outcome.NO_PROMPT
    seen: Seen = field(default_factory=lambda: Seen(Sight.BLANK))
    tries: int = 0
    events: list[UnlockEvent] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """The last lines of the screen."""


@dataclass(frozen=True)
class UnlockLimits:
    """Seconds."""

    prompt: float = 90.0
    """Until the prompt is there."""
    answer: float = 300.0
    """How long the loader may compute over a passphrase."""
    reconnect: float = 2.0


CRASHES = frozenset(
    (Sight.PANIC, Sight.SINGLE_USER, Sight.ROOT_DEVICE, Sight.NO_SYSTEM, Sight.HALTED)
)
INSTALLERS = frozenset(
    (Sight.GUARD, Sight.SEALED, Sight.INSTALLER, Sight.INSTALL_FAILED, Sight.INSTALLED)
)
SILENT = frozenset((Sight.BLANK, Sight.OTHER))
"""A line on which nothing is asked; the program that leads there may have greeted."""
UP = frozenset((Sight.LOGIN, Sight.BOOTING, Sight.LOADER))


class Unlocking:
    """One attempt to unlock a machine.  `open_again` connects; `tell` gets lines for people."""

    def __init__(
        self,
        open_again: Callable[[], RemoteConsole],
        *,
        host: str | None = None,
        restart: bool = False,
        wake: bool = False,
        tries: int = 2,
        limits: UnlockLimits | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`host`: the name that a login prompt must show, if one is there; `restart`: wait for
        one that is still to come, whatever stands on the screen now; `wake`: a serial line shows
        nothing that was said before we came, so where it is silent type one letter and Enter,
        once: a loader that waits refuses that and asks again.
        """
        self.report = UnlockReport()
        self.console: RemoteConsole | None = None
        self._open, self._host, self._restart, self._tries = open_again, host, restart, tries
        self._limits, self._tell = limits or UnlockLimits(), tell
        self._wake = wake
        self._shown: tuple[str, ...] = ()
        self._silent_since: float | None = None
        self._start = time.monotonic()

    def limit_prompt(self, seconds: float) -> None:
        """How long the next `run` waits for the prompt."""
        self._limits = replace(self._limits, prompt=seconds)

    def run(self, passphrase: Secret) -> UnlockReport:
        """Do it; again for a further start of the same machine, with a new `report`.

        Raises ConsoleError: no console, that of another machine, or lost after typing.
        """
        end = time.monotonic() + self._limits.prompt
        if not self._await_prompt(end):
            return self.report
        while True:
            before = self._type(passphrase)
            seen = self._await_answer(before)
            asked_again = seen.sight in (Sight.REFUSED, Sight.PASSPHRASE)
            if not asked_again or self.report.tries >= self._tries:
                break
            # A key may have been lost on the way, or the machine began anew: once more before it
            # is called wrong.
            self._note("once more, slowly")
        self.report.outcome = self._judge(seen)
        return self.report

    # -- the prompt

    def _await_prompt(self, end: float) -> bool:
        """Whether the prompt is there; otherwise the report says what is."""
        while True:
            try:
                console = self._connected(end)
                seen = self._look(console)
                if seen.sight in (Sight.PASSPHRASE, Sight.REFUSED):
                    return True
                outcome = None if self._restart else _other(seen.sight)
                if outcome is not None:
                    seen = self._settled(console)
                    if seen.sight in (Sight.PASSPHRASE, Sight.REFUSED):
                        return True
                    if (outcome := _other(seen.sight)) is not None:
                        self.report.outcome = outcome
                        return False
                changes = console.changes
                self._wake_up(console, seen.sight)
                console.wait(changes, min(LOOK, max(0.0, end - time.monotonic())))
            except LostError:
                # A provider ends the console when it restarts the machine.
                self.close()
                if time.monotonic() >= end:
                    raise
                time.sleep(self._limits.reconnect)
            if time.monotonic() >= end:
                unreadable = self.report.seen.sight is Sight.UNREADABLE
                self.report.outcome = Outcome.UNREADABLE if unreadable else Outcome.NO_PROMPT
                return False

    def _wake_up(self, console: RemoteConsole, sight: Sight) -> None:
        """On a line that has been silent, since whatever `run` that was, for WAKE_AFTER seconds."""
        now, shown = time.monotonic(), fingerprint(console.screen())
        if self._silent_since is None or sight not in SILENT or shown != self._shown:
            self._shown, self._silent_since = shown, now
        elif self._wake and now - self._silent_since >= WAKE_AFTER:
            self._wake = False
            self._note("the line is silent: one letter and Enter, which a loader refuses")
            type_text(console, "x\n", SLOW)

    def attach(self) -> None:
        """Connect now: a serial line shows nothing of what was said before.

        Raises ConnectError, LostError.
        """
        if self.console is None:
            self.console = self._open()

    def _connected(self, end: float) -> RemoteConsole:
        while self.console is None:
            try:
                self.console = self._open()
            except (ConnectError, LostError):
                if not self._restart or time.monotonic() >= end:
                    raise
                time.sleep(self._limits.reconnect)
        return self.console

    def _look(self, console: RemoteConsole) -> Seen:
        screen = console.screen()
        self._refuse_other_machine(console, screen)
        seen = recognise(screen)
        if seen.sight is not self.report.seen.sight or not self.report.events:
            self._note(seen.words)
        self.report.seen = seen
        self.report.lines = _evidence(screen)
        return seen

    def _refuse_other_machine(self, console: RemoteConsole, screen: Screen) -> None:
        found = stranger(screen, self._host)
        if found is not None:
            typed = "" if self.report.tries else "; nothing was typed"
            raise ConsoleError(
                f"{console.label}: {found}{typed}", "give the console of the right machine"
            )

    def _settled(self, console: RemoteConsole) -> Seen:
        """What is seen when the text has stopped changing for a moment, or within ten seconds."""
        end = time.monotonic() + 10
        quiet = time.monotonic()
        before = fingerprint(console.screen())
        while time.monotonic() < end and time.monotonic() - quiet < SETTLE:
            console.wait(console.changes, SETTLE / 4)
            now = fingerprint(console.screen())
            if now != before:
                before, quiet = now, time.monotonic()
        return self._look(console)

    # -- the passphrase

    def _type(self, passphrase: Secret) -> tuple[str, ...]:
        """Type it and Enter; the text that stood there before."""
        assert self.console is not None
        self._settled(self.console)
        if self.report.seen.sight not in (Sight.PASSPHRASE, Sight.REFUSED):
            raise ConsoleError(
                f"{self.console.label}: the prompt went away before anything was typed",
                "is somebody else at this console?",
            )
        before = fingerprint(self.console.screen())
        type_text(self.console, passphrase.reveal() + "\n", SLOW if self.report.tries else CAREFUL)
        self.report.tries += 1
        self._note("the passphrase is typed")
        return before

    def _await_answer(self, before: tuple[str, ...]) -> Seen:
        """What the loader says to it.  Raises ConsoleError: nothing, in time."""
        console = self.console
        assert console is not None
        end = time.monotonic() + self._limits.answer
        # Enter on the last row moves the prompt up by one, and that is no answer yet.
        moved, was_moved = (*before[1:], ""), False
        while time.monotonic() < end:
            console.wait(console.changes, LOOK)
            now = fingerprint(console.screen())
            was_moved = was_moved or (bool(before and before[-1]) and now == moved)
            if now == moved or (now == before and not was_moved):
                continue
            seen = self._settled(console)
            # A picture is the firmware's logo: the machine began anew, and nothing is opened.
            if seen.sight in (Sight.BLANK, Sight.UNREADABLE) or _half_said(seen):
                continue
            return seen
        raise ConsoleError(
            f"{console.label}: the boot loader says nothing to the passphrase"
            f" within {self._limits.answer:.0f} s",
            "a slow machine computes long over many KDF rounds: --answer-limit; or restart it",
        )

    def _judge(self, seen: Seen) -> Outcome:
        if seen.sight is Sight.REFUSED:
            return Outcome.REFUSED
        if seen.sight in (Sight.PASSPHRASE, Sight.ABORTED):
            return Outcome.NO_PROMPT
        return Outcome.CRASHED if seen.sight in CRASHES else Outcome.UNLOCKED

    # -- afterwards

    def crashed(self) -> bool:
        """Whether the screen shows by now that the boot has failed; never raises."""
        with contextlib.suppress(ConsoleError):
            if self.console is not None and self._look(self.console).sight in CRASHES:
                self.report.outcome = Outcome.CRASHED
                return True
        return False

    def close(self) -> None:
        if self.console is not None:
            self.console.close()
            self.console = None
            self._silent_since = None  # the next one has its own silence

    def _note(self, what: str) -> None:
        self.report.events.append(UnlockEvent(round(time.monotonic() - self._start, 1), what))
        self._tell(what)


def _other(sight: Sight) -> Outcome | None:
    """What a sight other than the prompt ends in; None: it may still come."""
    if sight in INSTALLERS:
        return Outcome.INSTALLER
    if sight in CRASHES:
        return Outcome.CRASHED
    return Outcome.RUNNING if sight in UP else None


def _half_said(seen: Seen) -> bool:
    """A refusal of which the rest is still to come, or the loader's spinner."""
    line = seen.line.strip()
    if seen.sight is not Sight.OTHER or not line:
        return False
    return REFUSAL.startswith(line) or line in "|/-\\"


def _evidence(screen: Screen) -> list[str]:
    return [line for line in screen.lines if line][-EVIDENCE_LINES:]
