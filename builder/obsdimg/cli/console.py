"""`obsdimg console`: a machine's screen and keyboard in this terminal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obsdimg.cli.ui import Ui
    from obsdimg.console.remote import Console
    from obsdimg.console.screen import Screen

HELP = "the screen of a machine, live in this terminal; keys go to the machine"

FIRST_TEXT = 3.0
"""Seconds that a screen has for its first text: it may just be changing its mode, or a serial
line may be silent."""


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli.console_options import add_console_options

    add_console_options(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", action="store_true", help="print what stands there now, and end")
    what.add_argument(
        "--screenshot", type=Path, metavar="F.png", help="write a picture of it, and end"
    )
    parser.add_argument("--json", action="store_true", help="with --text: as JSON, with details")


def run(args: argparse.Namespace, ui: Ui) -> int:
    """0 when it was left, or the text or picture is there.  Raises ConsoleError."""
    from obsdimg.cli.console_options import Target, TargetError

    live = not args.text and args.screenshot is None
    if args.json and not args.text:
        raise TargetError("--json goes with --text")
    if live and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise TargetError(
            "the live console needs a terminal", "--text prints the screen, --screenshot saves it"
        )
    console = Target(args, ui).open()
    try:
        if args.screenshot is not None:
            return _screenshot(console, args.screenshot, ui)
        if args.text:
            return _text(console, args.json, ui)
        from obsdimg.console.live import LEAVE_NAME, show

        show(console)
        ui.info(f"left {console.label} ({LEAVE_NAME}); the machine goes on")
        return 0
    finally:
        console.close()


def _screenshot(console: Console, path: Path, ui: Ui) -> int:
    from obsdimg.core.files import write_file

    write_file(path, console.png())
    ui.info(f"wrote {path}")
    return 0


def _text(console: Console, as_json: bool, ui: Ui) -> int:
    from obsdimg.console.errors import NoTextError
    from obsdimg.console.screen import Kind
    from obsdimg.console.states import hostname, recognise

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


def _first_text(console: Console) -> Screen:
    """The screen, with some patience for text that is just coming."""
    from obsdimg.console.screen import Kind

    end = time.monotonic() + FIRST_TEXT
    while True:
        screen = console.screen()
        if screen.kind is Kind.TEXT or time.monotonic() >= end:
            return screen
        console.wait(console.changes, 0.2)
