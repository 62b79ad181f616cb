"""What a stand-in command is: a generator from a call to an outcome, with steps on the way.

A stand-in runs outside of the sandbox and touches no file itself.  What it needs from inside
(its stdin, a file) it yields as a step; the small ksh client in the sandbox does the step and
sends the result back.  So nothing that the installer does can lead the outside astray, and
tests can drive a stand-in with a dict of files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Literal

from obsdimg.core.errors import ObsdimgError

if TYPE_CHECKING:
    from obsdimg.rehearsal.world import World

Phase = Literal["ramdisk", "installed"]
"""`ramdisk`: the installer; `installed`: inside `chroot /mnt`, where all of base exists."""


class RefusedError(ObsdimgError):
    """A command was called in a way that its stand-in does not know; ends the rehearsal."""


@dataclass(frozen=True)
class Call:
    """A command as it was called: `args` without the name, `cwd` as the caller sees it."""

    name: str
    args: tuple[str, ...]
    cwd: str
    phase: Phase


@dataclass(frozen=True)
class Stdin:
    """Step: read standard input to its end; answered with the bytes."""


@dataclass
class Spool:
    """Step: keep standard input (or the file `path`) in the sandbox, at `$q.spool`; answered
    with b"", and `stream` then reads it, however large it is; None if it is not there."""

    path: str = ""
    stream: BinaryIO = field(default_factory=BytesIO)
    opened: bool = False


@dataclass(frozen=True)
class ReadFile:
    """Step: read a small file of the sandbox; answered with its bytes, or None if it is not
    there."""

    path: str


@dataclass(frozen=True)
class Exists:
    """Step: answered with b"" if `path` exists (a link is followed), else with None."""

    path: str


@dataclass(frozen=True)
class WriteFile:
    """Step: write (or append to) a file of the sandbox; answered with None if that failed.

    `mode` is octal (`600`) and set after writing; an empty one leaves it to the umask.
    """

    path: str
    data: bytes
    append: bool = False
    mode: str = ""


@dataclass(frozen=True)
class Shell:
    """Step: run ksh text of ours in the sandbox; answered with its output, or None if it failed.

    The host's tools are in `$H`, `words` are the positional parameters, what was spooled is in
    `$q.spool`.
    """

    text: str
    words: tuple[str, ...] = ()


Step = Stdin | Spool | ReadFile | Exists | WriteFile | Shell


@dataclass(frozen=True)
class Done:
    """The end of a command: exit status and output; `spool`: what was spooled is written to
    standard output first."""

    status: int = 0
    out: bytes = b""
    err: bytes = b""
    spool: bool = False


@dataclass(frozen=True)
class Exec:
    """Let one of the host's tools in the sandbox do the work, with these arguments; it inherits
    standard input and output."""

    tool: str
    args: tuple[str, ...]


@dataclass(frozen=True)
class Installed:
    """Let `words` run in the new system: chroot /mnt, in a sandbox of its own."""

    words: tuple[str, ...]


Outcome = Done | Exec | Installed
Steps = Generator[Step, bytes | None, Outcome]
StandIn = Callable[[Call, "World"], Steps]

REGISTRY: dict[tuple[str, Phase], StandIn] = {}


def standin(*names: str, phases: tuple[Phase, ...] = ("ramdisk",)) -> Callable[[StandIn], StandIn]:
    """Register a stand-in for command `names`; its docstring names the source."""

    def register(function: StandIn) -> StandIn:
        for name in names:
            for phase in phases:
                REGISTRY[name, phase] = function
        return function

    return register


BOTH: tuple[Phase, ...] = ("ramdisk", "installed")


def text(lines: str | list[str]) -> bytes:
    """Lines as output, each with its newline."""
    if isinstance(lines, str):
        lines = [lines]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def fail(message: str, status: int = 1) -> Done:
    """Exit `status` with `message` on stderr."""
    return Done(status, b"", text(message))


def refuse(call: Call, why: str = "") -> RefusedError:
    """The error for a call that the stand-in does not know.  The arguments of `encrypt` are
    secret and never shown."""
    shown = call.name if call.name == "encrypt" else " ".join((call.name, *call.args))
    return RefusedError(
        f"the stand-in for {call.name} does not know: {shown}{f' ({why})' if why else ''}",
        "this is a limit of the rehearsal, not of OpenBSD: see docs/rehearsal.md",
    )


def getopt(call: Call, options: str) -> tuple[dict[str, str], list[str]]:
    """getopt(3): options (the last of each counts) and operands.  Raises RefusedError for an
    option that is not in `options` (`ab:c`: `b` takes an argument)."""
    found: dict[str, str] = {}
    words = list(call.args)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            at = options.find(letter)
            if letter == ":" or at < 0:
                raise refuse(call, f"option -{letter}")
            if options[at + 1 : at + 2] == ":":
                if not letters and not words:
                    raise refuse(call, f"option -{letter} without its argument")
                found[letter] = letters or words.pop(0)
                letters = ""
            else:
                found[letter] = ""
    return found, words
