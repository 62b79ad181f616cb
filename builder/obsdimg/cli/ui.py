"""What a command needs to talk to its user: progress, results as text or JSON, questions."""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from obsdimg.cli.commands import COMMANDS
from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.core.progress import PlainProgress, Progress

if TYPE_CHECKING:
    from rich.console import Console

    from obsdimg.core.crowd import CrowdDisplay

CALLED_AS = "OBSDIMG_CALLED_AS"
RED, YELLOW = "1;31", "1;33"
"""Colours as ECMA-48 numbers them (SGR), bold."""
WIDE = 10_000
"""Columns of a table that nobody looks at on a terminal: a program reads it line by line."""


class NoTerminalError(ObsdimgError):
    """A question has to be asked and nobody is there to answer it."""


class InputEndedError(ObsdimgError):
    """A question was answered with ctrl-D: the input is at its end."""


def coloured(stream: TextIO) -> bool:
    """Whether colours may go to `stream`: a terminal that can, and no NO_COLOR (no-color.org)."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def paint(text: str, colour: str, stream: TextIO) -> str:
    """`text` in a colour where `stream` takes colours, else as it is."""
    return f"\033[{colour}m{text}\033[0m" if coloured(stream) else text


def called_as(folder: Path) -> str:
    """How this program is called from `folder`: by its name, or by the path of the script of a
    checkout (which sets OBSDIMG_CALLED_AS)."""
    script = os.environ.get(CALLED_AS, "")
    if "/" not in script:
        return "obsdimg"
    path = Path(script)
    if path.is_absolute():
        return str(path)
    below = os.path.relpath(path.absolute(), folder.absolute())
    return below if below.startswith("..") else f"./{below}"


_CALL = re.compile(rf"(?<![\w./-])obsdimg (?=(?:{'|'.join(COMMANDS)})\b)")


def as_typed(text: str) -> str:
    """`text` with each call that it names (`obsdimg check`) as it is typed from this folder."""
    program = called_as(Path())
    return text if program == "obsdimg" else _CALL.sub(lambda _: f"{program} ", text)


def print_error(message: str, hint: str | None) -> None:
    """`error: …` and `hint: …` on stderr, a line each."""
    print(f"{paint('error:', RED, sys.stderr)} {as_typed(printable(message))}", file=sys.stderr)
    if hint:
        print(f"hint: {as_typed(printable(hint))}", file=sys.stderr)


def table_console() -> Console:
    """For tables on stdout: as wide as the terminal, and never wrapped in a pipe or a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, soft_wrap=False)


@dataclass(frozen=True)
class Ui:
    """Chosen once by the command line from `--quiet` and `--debug` and from where output goes."""

    quiet: bool = False
    debug: bool = False
    command: str = ""
    """Which one runs."""
    documents: list[Any] = field(default_factory=list, compare=False)
    """What `json` has printed: there is one document, so an error after it adds none."""

    def progress(self) -> Progress:
        """rich on a terminal, a line per step elsewhere, nothing with `--quiet`; on stderr."""
        if self.quiet:
            return Progress()
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from obsdimg.core.progress_rich import RichProgress

            return RichProgress()
        return PlainProgress()

    def crowd_display(self) -> CrowdDisplay:
        """The same for several processes at once."""
        from obsdimg.core.crowd_shown import CrowdFaults, CrowdLines, CrowdTable

        if self.quiet:
            return CrowdFaults()
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            return CrowdTable()
        return CrowdLines()

    def say(self, text: str = "") -> None:
        """A line of the result, on stdout; `--quiet` keeps it."""
        print(text)

    def info(self, text: str) -> None:
        """A line about what is going on, on stderr; dropped by `--quiet`."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def tell(self, text: str) -> None:
        """A line that a question needs, on stderr, always."""
        print(text, file=sys.stderr)

    def mistake(self, error: ObsdimgError) -> None:
        """What is wrong with an answer; the question is asked again."""
        self.tell(f"{paint('error:', RED, sys.stderr)} {as_typed(printable(error.message))}")
        if error.hint:
            self.tell(f"hint: {as_typed(printable(error.hint))}")

    def next(self, *words: str, folder: Path | None = None) -> None:
        """A command that comes next, as it is typed where this one was: `next: …`.

        `folder`: one to change into first.  Dropped by `--quiet`.
        """
        program = called_as(folder or Path())
        line = shlex.join((program, *words))
        self.info("next: " + (f"cd {shlex.quote(str(folder))} && " if folder else "") + line)

    def warn(self, text: str) -> None:
        """A warning, on stderr, always."""
        print(f"{paint('warning:', YELLOW, sys.stderr)} {as_typed(text)}", file=sys.stderr)

    def json(self, value: Any) -> None:
        """`value` as JSON on stdout: keys in the order given, two blanks of indent."""
        self.documents.append(value)
        print(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer: a terminal to read from and to ask on."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(self, question: str) -> bool:
        """`question` with [y/N] on the terminal.  Raises NoTerminalError without one."""
        if not sys.stdin.isatty():
            raise NoTerminalError(
                f"{question} needs an answer", "use --yes to answer it beforehand"
            )
        return self.ask(f"{question} [y/N]").lower() in ("y", "yes")

    def ask(self, question: str) -> str:
        """A line typed on the terminal.  Raises InputEndedError at ctrl-D."""
        print(f"{question} ", end="", file=sys.stderr, flush=True)
        try:
            return input().strip()
        except EOFError:
            print(file=sys.stderr)
            raise InputEndedError(
                f"{question.rstrip(':')}: no answer", "run it again; nothing was made"
            ) from None

    def ask_secret(self, prompt: str) -> str:
        """A secret typed on the terminal, without echo.

        Raises NoTerminalError without one, InputEndedError at ctrl-D.
        """
        if not sys.stdin.isatty():
            raise NoTerminalError(
                "a passphrase is needed and there is no terminal to ask on",
                "give it with --passphrase-file FILE",
            )
        try:
            return getpass.getpass(f"{prompt}: ")
        except EOFError:
            print(file=sys.stderr)
            raise InputEndedError(
                f"{prompt}: nothing was typed", "run it again, or give --passphrase-file FILE"
            ) from None
