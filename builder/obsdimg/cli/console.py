"""`obsdimg console`: a machine's screen and keyboard in this terminal."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.console_options import ConsoleTarget, ConsoleTargetError, WithConsole
from obsdimg.cli.options import flag, option
from obsdimg.cli.ui import Ui
from obsdimg.console.errors import NoTextError
from obsdimg.console.live import LEAVE_NAME, show
from obsdimg.console.remote import RemoteConsole
from obsdimg.console.screen import Kind, Screen
from obsdimg.console.states import hostname, recognise
from obsdimg.core.errors import UsageError
from obsdimg.core.files import write_file

FIRST_TEXT = 3.0
"""Seconds that a screen has for its first text: it may just be changing its mode, or a serial
line may be silent."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConsole):
    """What the command line says."""

    text: bool = option(
        "--text",
        help="print what stands there now, and end",
        default=False,
        exclusive="what",
        action="store_true",
    )
    screenshot: Path | None = option(
        "--screenshot",
        type=Path,
        metavar="F.png",
        help="write a picture of it, and end",
        exclusive="what",
    )
    json: bool = flag("--json", help="with --text: as JSON, with details")


def run(options: Options, ui: Ui) -> int:
    """0 when it was left, or the text or picture is there.  Raises ConsoleError."""

    live = not options.text and options.screenshot is None
    if options.json and not options.text:
        raise UsageError("--json goes with --text", "obsdimg console --text --json")
    if live and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConsoleTargetError(
            "the live console needs a terminal", "--text prints the screen, --screenshot saves it"
        )
    console = ConsoleTarget(options, ui).open()
    try:
        if options.screenshot is not None:
            return _screenshot(console, options.screenshot, ui)
        if options.text:
            return _text(console, options.json, ui)

        show(console)
        ui.info(f"left {console.label} ({LEAVE_NAME}); the machine goes on")
        return 0
    finally:
        console.close()


def _screenshot(console: RemoteConsole, path: Path, ui: Ui) -> int:

    write_file(path, console.png())
    ui.info(f"wrote {path}")
    return 0


def _text(console: RemoteConsole, as_json: bool, ui: Ui) -> int:

    screen = _first_text(console)
    if as_json:
        ui.json(
            {
                "console": console.label,
                "kind": screen.kind.value,
                "shows": recognise(screen).sight.value,
                "hostname": hostname(screen),
                "font": screen.font or None,
                "pixels": [screen.width, screen.height] if screen.width else None,
                "cursor": list(screen.cursor) if screen.cursor else None,
                "unknown_cells": screen.unknown,
                "lines": screen.lines,
            }
        )
    elif screen.kind is Kind.TEXT:
        ui.say(screen.text)
    if screen.kind is Kind.GRAPHICS:
        raise NoTextError(
            f"{console.label}: no text on the screen ({screen.width}x{screen.height} pixels, or a"
            " font that is not known)",
            "--screenshot F.png shows it",
        )
    if screen.kind is Kind.BLANK and not as_json:
        raise NoTextError(
            f"{console.label}: the screen is blank", "it may be switched off, or waking it needs a"
            " key: the live console sends one",
        )  # fmt: skip
    return 0


def _first_text(console: RemoteConsole) -> Screen:
    """The screen, with some patience for text that is just coming."""

    end = time.monotonic() + FIRST_TEXT
    while True:
        screen = console.screen()
        if screen.kind is Kind.TEXT or time.monotonic() >= end:
            return screen
        console.wait(console.changes, 0.2)
