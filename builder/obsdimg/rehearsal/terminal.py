"""The operator at a sandbox's terminal: reads what comes, types what is asked for."""

from __future__ import annotations

import errno
import os
import re
import termios

from obsdimg.rehearsal.machine import Operator

WINDOW = 2000
"""Characters at the end of the output that a prompt may take."""


class Typist:
    """What the operator still has to type, for all terminals of a rehearsal."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.given = [0] * len(operator.answers)

    def answer(self, shown: str) -> str | None:
        """What to type at the prompt that `shown` ends with, if it is one."""
        for number, reply in enumerate(self.operator.answers):
            found = re.search(f"(?:{reply.prompt})\\Z", shown)
            if found and self.given[number] < reply.times:
                self.given[number] += 1
                return reply.answer if reply.secret else found.expand(reply.answer)
        return None


class Terminal:
    """The master side of a sandbox's pseudo terminal; `transcript` takes what all of them show."""

    def __init__(self, master: int, slave: int, typist: Typist, transcript: bytearray) -> None:
        self.master, self.slave = master, slave
        self.typist = typist
        self.transcript = transcript
        self.window = b""
        self.kept: list[bytes | int] | None = None

    def read(self) -> bool:
        """Take what has come, and answer a prompt; False at the end."""
        try:
            data = os.read(self.master, 1 << 16)
        except BlockingIOError:
            return True
        except OSError as error:
            return error.errno == errno.EINTR
        self.transcript += data
        self.window = (self.window + data)[-WINDOW:]
        shown = self.window.decode("utf-8", "replace").replace("\r", "")
        typed = self.typist.answer(shown)
        if typed is not None:
            self.window = b""
            self._type(typed.encode() + b"\n")
        return bool(data)

    def _type(self, data: bytes) -> None:
        try:
            os.write(self.master, data)
        except BlockingIOError:  # it reads nothing: its own loss
            return

    def set(self, echo: bool, lines: bool) -> None:
        """What stty [-]echo and [-]icanon do to the real terminal line.

        Without `lines` a read gives what is there, and ends after a tenth of a second without
        anything (min 0 time 1).
        """
        modes = termios.tcgetattr(self.slave)
        wanted = modes[3] & ~(termios.ECHO | termios.ICANON)
        wanted |= (termios.ECHO if echo else 0) | (termios.ICANON if lines else 0)
        if wanted != modes[3]:
            modes[3] = wanted
            if not lines:  # with ICANON the same places hold VEOF and VEOL on some systems
                self.kept = modes[6][:]
                modes[6][termios.VMIN], modes[6][termios.VTIME] = 0, 1
            elif self.kept is not None:
                modes[6] = self.kept
            termios.tcsetattr(self.slave, termios.TCSANOW, modes)
