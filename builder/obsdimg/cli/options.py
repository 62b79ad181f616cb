"""A command's options as one frozen dataclass: the fields are the table that the parser, the
help and the manual page are made from, and nothing below this room sees argparse.

    @dataclass(frozen=True, kw_only=True)
    class Options(WithConfig):
        iso: Path | None = option("--iso", type=Path, metavar="F", help="the install ISO")
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from obsdimg.cli.ui import Ui

T = TypeVar("T")
_SPEC = "obsdimg.option"


@dataclass(frozen=True)
class Spec:
    """How a field is written on the command line."""

    words: tuple[str, ...]
    """`-c`, `--config`; empty for a positional argument."""
    how: dict[str, Any]
    """What argparse's add_argument gets beside that."""
    group: str | None = None
    """Heading in the help."""
    exclusive: str | None = None
    """Options with the same word here exclude each other."""
    complete: str | None = None
    """What the shell completes: a word of completing.py; None: files where a path is taken."""
    own: bool = False
    """A file that several servers cannot share: its name must have `{server}` in it then."""


def option(
    *words: str,
    help: str,
    default: Any = None,
    group: str | None = None,
    exclusive: str | None = None,
    complete: str | None = None,
    own: bool = False,
    **how: Any,
) -> Any:
    """A field given by `words` and a value, `default` without them."""
    given = {"help": help, "default": default, **how}
    spec = Spec(words, given, group, exclusive, complete, own)
    return field(default=default, metadata={_SPEC: spec})


def flag(*words: str, help: str, group: str | None = None) -> Any:
    """A field that is True where one of `words` is given."""
    return option(*words, help=help, default=False, group=group, action="store_true")


def repeated(
    *words: str, help: str, group: str | None = None, complete: str | None = None, **how: Any
) -> Any:
    """A tuple of the values of an option that may be given several times."""
    given = {"help": help, "action": "append", "default": [], **how}
    spec = Spec(words, given, group, complete=complete)
    return field(default=(), metadata={_SPEC: spec})


def argument(
    *,
    metavar: str,
    help: str | None = None,
    default: Any = None,
    complete: str | None = None,
    **how: Any,
) -> Any:
    """A positional argument; `nargs` as argparse has it."""
    given = {"metavar": metavar, "help": help, **how}
    spec = Spec((), given, complete=complete)
    if how.get("nargs") in ("?", "*"):
        given["default"] = [] if how["nargs"] == "*" else default
        return field(default=() if how["nargs"] == "*" else default, metadata={_SPEC: spec})
    return field(metadata={_SPEC: spec})


def specs(options: type[Any]) -> Iterator[tuple[str, Spec]]:
    """Name and spec of every field, in the order of the help."""
    for one in fields(options):
        if (spec := one.metadata.get(_SPEC)) is not None:
            yield one.name, spec


def configure(parser: argparse.ArgumentParser, options: type[Any]) -> None:
    """Give `parser` the arguments that the fields of `options` describe."""
    groups: dict[str, Any] = {}
    exclusives: dict[str, Any] = {}
    for name, spec in specs(options):
        place: Any = parser
        if spec.group is not None:
            if spec.group not in groups:
                groups[spec.group] = parser.add_argument_group(spec.group)
            place = groups[spec.group]
        if spec.exclusive is not None:
            if spec.exclusive not in exclusives:
                exclusives[spec.exclusive] = place.add_mutually_exclusive_group()
            place = exclusives[spec.exclusive]
        if spec.words:
            action = place.add_argument(*spec.words, dest=name, **spec.how)
        else:
            action = place.add_argument(name, **spec.how)
        # completing.py makes it a function; argparse itself does not look at it.
        action.completes = spec.complete or ("file" if spec.how.get("type") is Path else None)


def made(options: type[T], parsed: argparse.Namespace) -> T:
    """The dataclass from what argparse found; lists become tuples."""
    values = {}
    for name, _ in specs(options):
        value = getattr(parsed, name)
        values[name] = tuple(value) if isinstance(value, list) else value
    return options(**values)


DEFAULT_CONFIG = Path("obsdimg.toml")
"""Without -c; the very object, so that a `-c obsdimg.toml` is told from it."""


@dataclass(frozen=True, kw_only=True)
class WithConfig:
    """Options of a command that works on a project."""

    config: Path = option(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="the configuration (default: obsdimg.toml, here or in a folder above)",
    )  # fmt: skip
    server: tuple[str, ...] = repeated(
        "--server", metavar="NAME", complete="server",
        help="which server, where the configuration has several",
    )  # fmt: skip

    found: bool = False
    """In a folder above: not given by -c."""

    def command_words(self) -> tuple[str, ...]:
        """What a further command needs to be about the same project."""
        own = [word for name in self.server for word in ("--server", name)]
        return (*own,) if self.default_config else ("-c", str(self.config), *own)

    @property
    def default_config(self) -> bool:
        """Whether it is found without -c, here or in a folder above."""
        return self.config is DEFAULT_CONFIG or self.found

    def located(self, ui: Ui) -> Self:
        """The same with the project's configuration found from one of its subfolders."""
        if self.config is not DEFAULT_CONFIG or self.config.exists():
            return self
        above = config_above(Path.cwd())
        if above is None:
            return self
        ui.info(f"project: {above.parent}")
        return replace(self, config=above, found=True)


@dataclass(frozen=True, kw_only=True)
class WithServers(WithConfig):
    """Of one that works on several servers at once; bare names right behind the command do, too."""

    all: bool = flag("--all", help="every server of the configuration", group="several servers")
    jobs: int | None = option(
        "-j",
        "--jobs",
        type=int,
        metavar="N",
        help="how many at a time (default: as many as suits the command)",
        group="several servers",
    )


def config_above(folder: Path) -> Path | None:
    """The obsdimg.toml in the nearest folder above `folder` that has one.

    None also where that is another user's: its settings would have a say in what is done here.
    """
    for parent in folder.parents:
        path = parent / DEFAULT_CONFIG
        if path.is_file():
            ours = {path.stat().st_uid, parent.stat().st_uid} == {os.geteuid()}
            return path if ours else None
    return None


__all__ = [
    "Spec", "WithConfig", "WithServers", "argument", "config_above", "configure", "flag", "made",
    "option", "repeated", "specs",
]  # fmt: skip
