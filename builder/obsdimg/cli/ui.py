"""What a command needs to talk to its user: progress, results as text or JSON, questions."""

from __future__ import annotations

import getpass
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.progress import PlainProgress, Progress


class NoTerminalError(ObsdimgError):
    """A question has to be asked and nobody is there to answer it."""


@dataclass(frozen=True)
class Ui:
    """Chosen once by the command line from `--quiet` and `--debug` and from where output goes."""

    quiet: bool = False
    debug: bool = False

    def progress(self) -> Progress:
        """rich on a terminal, a line per step elsewhere, nothing with `--quiet`; on stderr."""
        if self.quiet:
            return Progress()
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from obsdimg.core.progress_rich import RichProgress

            return RichProgress()
        return PlainProgress()

    def say(self, text: str = "") -> None:
        """A line of the result, on stdout; `--quiet` keeps it."""
        print(text)

    def info(self, text: str) -> None:
        """A line about what is going on, on stderr; dropped by `--quiet`."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """A warning, on stderr, always."""
        print(f"warning: {text}", file=sys.stderr)

    def json(self, value: Any) -> None:
        """`value` as JSON on stdout: keys in the order given, two blanks of indent."""
        print(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def confirm(self, question: str) -> bool:
        """`question` with [y/N] on the terminal.  Raises NoTerminalError without one."""
        if not sys.stdin.isatty():
            raise NoTerminalError(
                f"{question} needs an answer", "use --yes to answer it beforehand"
            )
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    def ask_secret(self, prompt: str) -> str:
        """A secret typed on the terminal, without echo.  Raises NoTerminalError without one."""
        if not sys.stdin.isatty():
            raise NoTerminalError(
                "a passphrase is needed and there is no terminal to ask on",
                "give it with --passphrase-file FILE",
            )
        return getpass.getpass(f"{prompt}: ")
