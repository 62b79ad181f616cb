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
from typing import Any, NoReturn

from obsdimg import __version__
from obsdimg.cli import options, servers
from obsdimg.cli.commands import COMMANDS
from obsdimg.cli.ui import Ui, print_error
from obsdimg.core.errors import ObsdimgError, printable

REMAINDERS = ("ssh",)
"""Commands whose last words are another program's, options included."""


class _WrongUsageError(Exception):
    """What argparse does not take, with the parser that did not."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser, self.message = parser, message


class _Parser(argparse.ArgumentParser):
    commands: dict[str, argparse.ArgumentParser]

    def error(self, message: str) -> NoReturn:
        raise _WrongUsageError(self, message)


class _TerminatedError(BaseException):
    """SIGTERM, as an exception, so that temporary files and processes are cleaned up."""


def parser(only: str | None = None) -> _Parser:
    """The parser of the whole command line; with `only`, other commands stay unconfigured."""
    top = _Parser(
        prog="obsdimg",
        description="Turn a plain OpenBSD install ISO into an encrypted WireGuard server"
        " that installs itself.",
        epilog="Start with `obsdimg demo`, then `obsdimg init NAME`.",
    )
    top.add_argument("--version", action="version", version=f"obsdimg {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    top.commands = {}
    for name, line in COMMANDS.items():
        sub = commands.add_parser(name, help=line, description=line)
        sub.add_argument("-q", "--quiet", action="store_true", help="only results and errors")
        sub.add_argument("--debug", action="store_true", help="show a traceback on errors")
        sub.set_defaults(parser=sub, command=name)
        top.commands[name] = sub
        if only is None or only == name:
            options.configure(sub, importlib.import_module(f"obsdimg.cli.{name}").Options)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.  0: done; 1: an error was printed; 2: wrong usage; 130: interrupted."""
    try:
        return _run(argv)
    except BrokenPipeError:  # whoever read the output has gone, also while an error was printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None and "_ARGCOMPLETE" in os.environ:
        from obsdimg.cli import completing

        command = completing.command_in(os.environ.get("COMP_LINE", ""))
        completing.answer(parser(command if command in COMMANDS else "none of them"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    if not words:
        parser().print_help(sys.stderr)
        return 2
    try:
        words = servers.with_names(words)
        args = _parsed(words)
    except _WrongUsageError as error:
        _print_usage_error(error, Ui() if "--json" in words else None)
        raise SystemExit(2) from None
    ui = Ui(quiet=args.quiet, debug=args.debug, command=args.command)
    as_json = bool(getattr(args, "json", False))
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        module = importlib.import_module(f"obsdimg.cli.{args.command}")
        made: Any = options.made(module.Options, args)
        if isinstance(made, options.WithConfig):
            made = made.located(ui)
        names = servers.wanted(made)
        if names:
            from obsdimg.cli import each

            return each.run_each(args.command, words[1:], names, made, ui)
        return int(module.run(made, ui))
    except ObsdimgError as error:
        if ui.debug:
            raise
        return _failed(ui, as_json, error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        if as_json:
            _error_document(ui, "interrupted", None, 130)
        print("interrupted: nothing was changed that is not reported above", file=sys.stderr)
        return 130
    except _TerminatedError:
        if as_json:
            _error_document(ui, "terminated", None, 143)
        return 143
    except BrokenPipeError:
        raise
    except OSError as error:
        if ui.debug:
            raise
        what = (error.strerror or str(error)).lower()
        place = f"{error.filename}: " if error.filename is not None else ""
        hint = "check that it is there and may be read and written"
        return _failed(ui, as_json, f"{place}{what}", hint, 1)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _parsed(words: list[str]) -> argparse.Namespace:
    """Raises _WrongUsageError."""
    top = parser(words[0])
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else "obsdimg --help lists them"
        top.error(f"{printable(words[0])}: no such command; {meant}")
    if words[0] in COMMANDS and words[0] not in REMAINDERS:
        # Options may stand between the arguments, too.
        args, unknown = top.commands[words[0]].parse_known_intermixed_args(words[1:])
    else:
        args, unknown = top.parse_known_args(words)
    if unknown and (missing := servers.not_a_server(words, unknown)):
        args.parser.error(missing)
    if unknown:
        # By the command itself, so that its own usage is shown.
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(args, unknown[0])}")
    return args


def _meant(args: argparse.Namespace, word: str) -> str:
    """The option that a mistyped one is near to."""
    made = importlib.import_module(f"obsdimg.cli.{args.command}").Options
    known = [word for _, spec in options.specs(made) for word in spec.words]
    near = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _print_usage_error(error: _WrongUsageError, ui: Ui | None) -> None:
    """The usage and the error; with `ui` also as a document, since --json stands in the words."""
    hint = f"{error.parser.prog} --help explains it"
    if ui is not None:
        _error_document(ui, error.message, hint, 2)
    error.parser.print_usage(sys.stderr)
    print_error(error.message, hint)


def _failed(ui: Ui, as_json: bool, message: str, hint: str | None, code: int) -> int:
    """Print an error, with `as_json` as a document, too; gives the exit code back."""
    if as_json:
        _error_document(ui, message, hint, code)
    print_error(message, hint)
    return code


def _error_document(ui: Ui, message: str, hint: str | None, code: int) -> None:
    """What a program reads in place of the result; nothing where the result stands already."""
    if not ui.documents:
        ui.json({"error": {"message": message, "hint": hint, "exit_code": code}})


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _TerminatedError
