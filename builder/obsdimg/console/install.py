"""An installation by console: answer the ISO's encryption step, follow what the installer says.

Only the questions of obsdimg's own steps are answered (response/obsdimg.sh, install.site), and
never the one whether a disk that is not empty may be erased.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from obsdimg.console.errors import ConnectError, ConsoleError, LostError
from obsdimg.console.keys import CAREFUL, SLOW
from obsdimg.console.remote import RemoteConsole, type_text
from obsdimg.console.screen import Screen
from obsdimg.console.states import Sight, fingerprint, recognise, stranger
from obsdimg.core.secret import Secret

LOOK = 1.0
SETTLE = 1.0
RESTART = 120.0
"""Seconds that the machine has after `CONGRATULATIONS!` to show what it starts next."""
ANSWER = 30.0
"""Seconds until Enter must have changed the screen."""
MOST_ROUNDS = 3
"""How often a passphrase is typed again after `The two differ` or a wrong sealing passphrase."""


class InstallEnd(enum.Enum):
    """How the end of the installation was seen."""

    SAID_SO = "the installer says so"
    LOADER = "the boot loader asks for the passphrase of the new disk"
    ISO_AGAIN = "the machine started from the ISO again, which leaves the disk alone"
    LOGIN = "the system waits for a login"


class InstallError(ConsoleError):
    """The installation failed, or asks what only a person may answer; carries the screen."""

    def __init__(self, message: str, hint: str | None, lines: list[str]) -> None:
        super().__init__(message, hint)
        self.lines = lines


@dataclass(frozen=True)
class InstallLimits:
    """Seconds."""

    whole: float = 3 * 3600.0
    """The disk is filled with random data first."""
    silence: float = 1800.0
    """Without any change of the screen."""
    reconnect: float = 2.0


_PROGRESS = re.compile(
    r"^obsdimg: (random data: \d+ of \d+ MB|\S+ is the encrypted volume on \S+)"
    r"|^(Installing \S+)|^(Relinking to create unique kernel)|^obsdimg: (the sealed secrets .*)"
)


class Installing:
    """One installation, from the encryption step to its end."""

    def __init__(
        self,
        open_again: Callable[[], RemoteConsole],
        passphrase: Secret,
        sealing: Secret | None = None,
        *,
        host: str | None = None,
        limits: InstallLimits | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`host`: the name that a login prompt must show, if one is there."""
        self._open, self._tell = open_again, tell
        self._passphrase, self._sealing = passphrase, sealing or passphrase
        self._host, self._limits = host, limits or InstallLimits()
        self._console: RemoteConsole | None = None
        self._rounds = {Sight.GUARD: 0, Sight.SEALED: 0}
        self._said_so: float | None = None
        self._told = ""

    def run(self) -> InstallEnd:
        """Until the installation is over.

        Raises InstallError (failed, or a question for a person), ConsoleError (the console).
        """
        end = time.monotonic() + self._limits.whole
        last: tuple[str, ...] = ()
        changed = time.monotonic()
        try:
            while time.monotonic() < end:
                if self._said_so is not None and time.monotonic() - self._said_so > RESTART:
                    return InstallEnd.SAID_SO
                try:
                    console = self._connected()
                    screen = console.screen()
                    found = self._step(console, screen)
                    if found is not None:
                        return found
                    now = fingerprint(screen)
                    if now != last:
                        last, changed = now, time.monotonic()
                    if time.monotonic() - changed > self._limits.silence:
                        raise InstallError(
                            f"{console.label}: the screen has not changed for"
                            f" {self._limits.silence / 60:.0f} minutes",
                            "obsdimg console shows it",
                            _evidence(screen),
                        )
                    console.wait(console.changes, LOOK)
                except (LostError, ConnectError):
                    # The provider ends it when the machine restarts.
                    if self._said_so is None and time.monotonic() - changed > self._limits.silence:
                        raise
                    self.close()
                    time.sleep(self._limits.reconnect)
            raise InstallError("the installation takes too long", "obsdimg console shows it", [])
        finally:
            self.close()

    def close(self) -> None:
        if self._console is not None:
            self._console.close()
            self._console = None

    def _connected(self) -> RemoteConsole:
        if self._console is None:
            self._console = self._open()
        return self._console

    def _step(self, console: RemoteConsole, screen: Screen) -> InstallEnd | None:
        """Answer, tell, or see the end."""
        seen = recognise(screen)
        self._progress(screen)
        if seen.sight is Sight.GUARD:
            return self._guard(console, seen.line.strip())
        if seen.sight is Sight.SEALED:
            self._answer(console, Sight.SEALED, self._sealing, "the sealed secrets")
        elif seen.sight in (Sight.INSTALL_FAILED, Sight.PANIC):
            lines = _evidence(screen)
            raise InstallError(f"{console.label}: {seen.words}", "obsdimg console shows it", lines)
        elif seen.sight is Sight.INSTALLED:
            # The machine still writes and restarts by itself: better seen than cut short.
            if self._said_so is None:
                self._said_so = time.monotonic()
                self._tell("the installer says that it is done")
        elif seen.sight is Sight.HALTED:
            return InstallEnd.SAID_SO  # after = "halt": it waits for the ISO to be taken out
        elif seen.sight in (Sight.PASSPHRASE, Sight.REFUSED):
            return InstallEnd.LOADER
        elif seen.sight is Sight.LOGIN:
            if (found := stranger(screen, self._host)) is not None:
                raise InstallError(
                    f"{console.label}: {found}",
                    "give the console of the right machine",
                    _evidence(screen),
                )
            return InstallEnd.LOGIN
        return None

    def _guard(self, console: RemoteConsole, question: str) -> InstallEnd | None:
        if question == "Answer:":
            # A new disk is empty: this one holds what was just installed.
            self._tell("the disk is not empty: nothing is erased")
            return InstallEnd.ISO_AGAIN
        if question == "New passphrase:":
            self._answer(console, Sight.GUARD, self._passphrase, "the disk's passphrase")
        else:
            self._type(console, Sight.GUARD, self._passphrase)
        return None

    def _answer(self, console: RemoteConsole, kind: Sight, secret: Secret, what: str) -> None:
        """Type it.  Raises InstallError: it was asked for too often."""
        self._rounds[kind] += 1
        if self._rounds[kind] > MOST_ROUNDS:
            raise InstallError(
                f"{console.label}: {what} was typed {MOST_ROUNDS} times and is asked for again",
                "is it the right one? obsdimg console lets you type it yourself",
                _evidence(console.screen()),
            )
        self._tell(f"types {what}")
        self._type(console, kind, secret)

    def _type(self, console: RemoteConsole, kind: Sight, secret: Secret) -> None:
        """Type it and Enter, and wait until the question has gone: that takes a moment."""
        before = fingerprint(console.screen())
        pace = CAREFUL if self._rounds[kind] <= 1 else SLOW
        type_text(console, secret.reveal() + "\n", pace)
        end = time.monotonic() + ANSWER
        while time.monotonic() < end and fingerprint(console.screen()) == before:
            console.wait(console.changes, SETTLE / 4)
        time.sleep(SETTLE)

    def _progress(self, screen: Screen) -> None:
        for line in reversed(screen.lines):
            found = _PROGRESS.search(line.strip())
            if found:
                text = next(group for group in found.groups() if group)
                if text != self._told:
                    self._told = text
                    self._tell(text)
                return


def _evidence(screen: Screen) -> list[str]:
    return [line for line in screen.lines if line][-25:]
