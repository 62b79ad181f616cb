"""The boot loader: reached over the BIOS's serial mirror, or by keyboard and screen.

The loader starts on the screen; `set tty com0` moves it, and the kernel it boots, to the
serial line (boot(8)).  A machine with `serial_mirror` shows and takes everything there from
the start; without it keys are sent to the keyboard and the screen's text is read.
"""

from __future__ import annotations

import re
import time

from obsdimg.smoke.console import Console, Mark
from obsdimg.smoke.expectations import (
    INCORRECT,
    LOADER_ABORTED,
    LOADER_PASSPHRASE,
    ON_SERIAL,
    WRONG_PASSPHRASE,
    loader_prompt,
)
from obsdimg.smoke.machine import Machine
from obsdimg.smoke.plan import Secret

LOOK = 0.1  # seconds between looks at the screen


def expect(machine: Machine, console: Console, mark: Mark, slowness: float = 1.0) -> None:
    """Wait for `mark` where the loader shows it: serial mirror, or the end of the screen.

    Raises ExpectationError.
    """
    if machine.spec.serial_mirror:
        console.expect(mark)
        return
    seconds = mark.limit * slowness
    end = time.monotonic() + seconds
    while True:
        lines = [line for line in machine.screen_text() if line]
        text = "\n".join(lines) + " "
        if re.search(mark.pattern + r"\Z", text):
            console.note(f"on the screen: {lines[-1]}")
            return
        for failure in (*mark.failures, *console.failures):
            if re.search(failure.pattern, text, re.MULTILINE):
                raise console.failed(
                    f"waiting for {mark.says or mark.name}, the screen shows: {lines[-1]}",
                    failure.hint, mark, failure,
                )  # fmt: skip
        machine.check()
        if time.monotonic() > end:
            raise console.failed(
                f"waited {seconds:.0f} s for {mark.says or mark.name} on the screen",
                None, mark, None,
            )  # fmt: skip
        time.sleep(LOOK)


def send(machine: Machine, console: Console, text: str) -> None:
    """Type `text` and Enter to the loader."""
    if machine.spec.serial_mirror:
        console.send(text)
    else:
        console.note(f"typed on the keyboard: {text}")
        machine.type_keys(text + "\n")


def to_serial_line(machine: Machine, console: Console, slowness: float = 1.0) -> None:
    """From power-on to the loader's prompt on the serial line.  Raises ExpectationError."""
    expect(machine, console, loader_prompt(), slowness)
    send(machine, console, "set tty com0")
    console.expect(ON_SERIAL)


def unlock(
    machine: Machine,
    console: Console,
    passphrase: Secret,
    wrong: Secret | None = None,
    slowness: float = 1.0,
) -> None:
    """From power-on to the loader's prompt on the serial line, through the disk's passphrase.

    With `wrong`, that is typed first and must be refused.  Raises ExpectationError.
    """
    expect(machine, console, LOADER_PASSPHRASE, slowness)
    if wrong is not None:
        send(machine, console, wrong.reveal())
        expect(machine, console, INCORRECT, slowness)
    send(machine, console, passphrase.reveal())
    expect(machine, console, loader_prompt(WRONG_PASSPHRASE, LOADER_ABORTED, limit=90), slowness)
    send(machine, console, "set tty com0")
    console.expect(ON_SERIAL)
