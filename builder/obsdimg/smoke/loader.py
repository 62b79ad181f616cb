"""The boot loader: reached over the BIOS's serial mirror, or by keyboard and screen.

The loader starts on the screen; `set tty com0` moves it, and the kernel it boots, to the
serial line (boot(8)).  A machine with `serial_mirror` shows and takes everything there from
the start; without it keys are sent to the keyboard and the screen's text is read.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace

from obsdimg.console.keys import CAREFUL
from obsdimg.smoke.console import Console, Mark
from obsdimg.smoke.expectations import (
    INCORRECT,
    LOADER_ABORTED,
    LOADER_PASSPHRASE,
    MISUNDERSTOOD,
    ON_SERIAL,
    SWITCHED,
    UNLOCKED,
    WRONG_PASSPHRASE,
    loader_prompt,
)
from obsdimg.smoke.machine import VirtualMachine
from obsdimg.smoke.plan import Secret

KEY_PAUSE = 0.025
"""Seconds between characters.  The BIOS's serial mirror looks at the line 18 times a second
and keeps 15 keys: 19 at once lost their end on SeaBIOS 1.16 (E66)."""
TYPED_AGAIN = 2
ENTER_SECONDS = 40.0
"""After so long without a new line the Enter was lost: the loader prints one as it takes it."""
NEW_LINE = Mark("new-line", r"\n", "S19 E77")
SET_COM0 = "   set tty com0"
"""The loader skips blanks, so those may get lost as it moves to com0: of `et tty com0` it makes a
kernel's name, and then no Enter boots (E77)."""
LOOK = 0.1  # seconds between looks at the screen


@dataclass
class Loader:
    """One start of the boot loader.  `slowness` multiplies limits of what is on the screen."""

    machine: VirtualMachine
    console: Console
    slowness: float = 1.0
    kdf_seconds: float = 30.0
    """How long the loader may compute over a passphrase, with hardware acceleration."""
    _lines_before: int = 0
    on_serial: bool = False
    """It is known to talk on the serial line."""
    _first_line: int = 0
    _boots: bool = False
    """It starts the kernel by itself, as its boot.conf says."""

    def __post_init__(self) -> None:
        self.on_serial = self.machine.spec.serial_mirror
        self._first_line = len(self.console.lines)

    def expect(self, mark: Mark) -> None:
        """Wait for `mark` where the loader shows it.  Raises ExpectationError.

        An ISO whose boot.conf says `set tty com0` moves to the serial line by itself.
        """
        if self.on_serial:
            self.console.expect(mark)
            return
        seconds = mark.limit * self.slowness
        before = self._lines_before
        end = time.monotonic() + seconds
        while True:
            lines = [line for line in self.machine.screen_text() if line] or [""]
            text = "\n".join(lines) + " "
            if re.search(mark.pattern + r"\Z", text):
                self.console.note(f"on the screen: {lines[-1]}")
                return
            for failure in (*mark.failures, *self.console.failures):
                if said := re.search(failure.pattern, "\n".join(lines[before:]), re.MULTILINE):
                    raise self.console.failed(
                        f"waiting for {mark.says or mark.name}, the screen shows: {said[0]}",
                        failure.hint, mark, failure,
                    )  # fmt: skip
            self.machine.check()
            if self.console.glimpse(mark, LOOK):
                self.on_serial = True
                return
            if time.monotonic() > end:
                raise self.console.failed(
                    f"waited {seconds:.0f} s for {mark.says or mark.name} on the screen",
                    None, mark, None,
                )  # fmt: skip

    def send(self, text: str) -> None:
        """Type `text` and Enter; on a serial line Enter again if it was lost."""
        if self.on_serial:
            self.console.send(text, pause=KEY_PAUSE)
            for _ in range(TYPED_AGAIN):
                if self.console.glimpse(NEW_LINE, ENTER_SECONDS):
                    break
                self.console.send("")
        else:
            self.console.note(f"typed on the keyboard: {text}")
            # What stands on the screen already is no answer to this.
            self._lines_before = len([line for line in self.machine.screen_text() if line])
            self.machine.type_keys(text + "\n", CAREFUL)

    def to_serial_line(self) -> None:
        """From power-on to the loader's prompt on the serial line.  Raises ExpectationError."""
        self.expect(loader_prompt())
        self._to_com0()

    def unlock(self, passphrase: Secret, wrong: Secret | None = None) -> bool:
        """From power-on to the loader's prompt on the serial line, or to the kernel, through the
        passphrase.

        Returns whether it was asked for on the serial line.  With `wrong`, that is typed first and
        must be refused.  What is refused on a serial line is typed again: a busy machine loses keys
        there (E77).  Raises ExpectationError.
        """
        self.expect(LOADER_PASSPHRASE)
        asked_on_serial = self.on_serial
        if wrong is not None:
            self.send(wrong.reveal())
            self.expect(replace(INCORRECT, limit=self.kdf_seconds))
        for _ in range(TYPED_AGAIN if self.on_serial else 0):
            self.send(passphrase.reveal())
            prompt = loader_prompt(LOADER_ABORTED, limit=self.kdf_seconds)
            said = self.console.expect(prompt, UNLOCKED, INCORRECT)
            if said is not INCORRECT:
                self._boots = said is UNLOCKED
                break
        else:
            self.send(passphrase.reveal())
            self.expect(loader_prompt(WRONG_PASSPHRASE, LOADER_ABORTED, limit=self.kdf_seconds))
        if not self._boots:
            self._to_com0()
        return asked_on_serial

    def boot(self) -> None:
        """Start the kernel, at the prompt on the serial line, unless it starts by itself."""
        if not self._boots:
            self.send("")

    def _to_com0(self) -> None:
        """From the prompt, wherever it is, to the prompt on the serial line.

        Where boot.conf has moved the loader there, nothing is typed: under UEFI the firmware
        goes on reading the line, too, and takes keys away (E77).  What it did not understand is
        typed again.
        """
        if any(SWITCHED in line.text for line in self.console.lines[self._first_line :]):
            self.on_serial = True
            return
        for _ in range(TYPED_AGAIN):
            self.send(SET_COM0)
            if self.console.expect(ON_SERIAL, MISUNDERSTOOD) is ON_SERIAL:
                break
        else:
            self.send(SET_COM0)
            self.console.expect(ON_SERIAL)
        self.on_serial = True
