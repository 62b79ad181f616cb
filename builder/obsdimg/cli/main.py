"""The command line: parses, calls one command, prints errors; nothing else happens here."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from obsdimg import __version__
from obsdimg.cli import options
from obsdimg.cli.commands import COMMANDS
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError, printable


class _TerminatedError(BaseException):
    """SIGTERM, as an exception, so that temporary files and processes are cleaned up."""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line; with `only`, other commands stay unconfigured."""
    top = argparse.ArgumentParser(
        prog="obsdimg",
        description="Turn a plain OpenBSD install ISO into an encrypted WireGuard server"
        " that installs itself.",
        epilog="Start with `obsdimg demo`, then `obsdimg init NAME`.",
    )
    top.add_argument("--version", action="version", version=f"obsdimg {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        sub = commands.add_parser(name, help=line, description=line)
        sub.add_argument("-q", "--quiet", action="store_true", help="only results and errors")
        sub.add_argument("--debug", action="store_true", help="show a traceback on errors")
        sub.set_defaults(parser=sub)
        if only is None or only == name:
            options.configure(sub, importlib.import_module(f"obsdimg.cli.{name}").Options)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.  0: done; 1: an error was printed; 2: wrong usage; 130: interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"obsdimg {__version__}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    top = parser(words[0] if words else None)
    if not words:
        top.print_help(sys.stderr)
        return 2
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else "obsdimg --help lists them"
        top.error(f"{printable(words[0])}: no such command; {meant}")
    args, unknown = top.parse_known_args(words)
    if unknown:
        # By the command itself, so that its own usage is shown.
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    ui = Ui(quiet=args.quiet, debug=args.debug)
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        module = importlib.import_module(f"obsdimg.cli.{args.command}")
        return int(module.run(options.made(module.Options, args), ui))
    except ObsdimgError as error:
        if ui.debug:
            raise
        _print_error(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: nothing was changed that is not reported above", file=sys.stderr)
        return 130
    except _TerminatedError:
        return 143
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if ui.debug:
            raise
        what = (error.strerror or str(error)).lower()
        place = f"{error.filename}: " if error.filename is not None else ""
        _print_error(f"{place}{what}", "check that it is there and may be read and written")
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _print_error(message: str, hint: str | None) -> None:
    print(f"error: {printable(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {printable(hint)}", file=sys.stderr)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _TerminatedError
