"""The servers of a project: which one a command is about, or which ones.

The one place that knows `--server`, `--all` and bare names behind a command.  What reads the
configuration is imported where it is called: `verify` and its like need none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from obsdimg.cli.options import DEFAULT_CONFIG, WithConfig, WithServers, config_above
from obsdimg.core.errors import ObsdimgError, UsageError

if TYPE_CHECKING:
    from obsdimg.project.folder import Project

BARE_NAMES: Final = {
    "apply": None, "build": None, "check": None, "deploy": None, "rehearse": None,
    "smoke": None, "ssh": 1, "status": None, "upgrade": 1,
}  # fmt: skip
"""How many names of servers may stand behind a command; None: any number."""


class ServersUsageError(UsageError):
    """The servers named do not go with the command."""


class NoSuchServerError(ObsdimgError):
    """The configuration has no server of that name, or only one without a name."""


def open_project(options: WithConfig) -> Project:
    """The project of the one server that the command is about.  Raises ConfigError."""
    from obsdimg.project.folder import Project

    return Project.open(options.config, one_server(options))


def open_projects(options: WithConfig) -> list[Project]:
    """The projects of the servers named, or of all; just one where the file is about one."""
    from obsdimg.project.folder import Project

    names: Sequence[str | None] = options.server or names_in(options.config) or (None,)
    return [Project.open(options.config, name) for name in names]


def one_server(options: WithConfig) -> str | None:
    """The one that is named, if any is.  Raises ServersUsageError."""
    if len(options.server) > 1 or (isinstance(options, WithServers) and options.all):
        raise ServersUsageError("this is about one server", "give one --server NAME")
    return options.server[0] if options.server else None


def project_root(options: WithConfig) -> Path:
    """The folder with the server's own things, whether or not there is a configuration."""
    name = one_server(options)
    folder = options.config.parent
    return folder if name is None else folder / "servers" / name


def names_in(config: Path) -> tuple[str, ...]:
    """The servers of the configuration, in its order.  Raises ConfigError, FileError."""
    from obsdimg.config.load import parse_table, read_configuration
    from obsdimg.config.servers import server_names

    return server_names(parse_table(read_configuration(config), str(config)), str(config))


def with_names(words: Sequence[str]) -> list[str]:
    """The command line with bare names of servers as `--server NAME`."""
    if not words or words[0] not in BARE_NAMES:
        return list(words)
    known = _known(words)
    most = BARE_NAMES[words[0]]
    count = 0
    while count + 1 < len(words) and words[count + 1] in known and count != most:
        count += 1
    given = [part for name in words[1 : count + 1] for part in ("--server", name)]
    return [words[0], *given, *words[count + 1 :]]


def not_a_server(words: Sequence[str], unknown: Sequence[str]) -> str | None:
    """What is wrong with the first of the `unknown` words, if it was meant for a server."""
    known = _known(words) if words[0] in BARE_NAMES else ()
    if not known or unknown[0].startswith("-"):
        return None
    if unknown[0] in known:
        return f"{unknown[0]}: names of servers stand right behind {words[0]}"
    return f"there is no server {unknown[0]}; there is: {', '.join(known[:20])}"


def _known(words: Sequence[str]) -> Sequence[str]:
    """The servers of the configuration that the words name; none where it cannot be read, which
    the command itself will say."""
    finder = _parser()
    finder.add_argument("-c", "--config", type=Path)
    try:
        found, _ = finder.parse_known_args(list(words[1:]))
        given = found.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
        config = given or config_above(Path.cwd())
        return () if config is None else names_in(config)
    except (ObsdimgError, argparse.ArgumentError, OSError):
        return ()


def wanted(options: Any) -> tuple[str, ...]:
    """The servers that the command is to be run for, one by one; empty: it is run as it is.

    Raises ServersUsageError, ConfigError.
    """
    if not isinstance(options, WithServers):
        return ()
    if not options.all:
        if len(set(options.server)) < len(options.server):
            raise ServersUsageError(f"--server {options.server[0]}: a server is named twice")
        if len(options.server) < 2:
            return ()
        known = names_in(options.config)
        for name in options.server:
            if name not in known:
                there = ", ".join(known) or "none"
                raise NoSuchServerError(
                    f"{options.config}: there is no server {name}", f"there is: {there}"
                )
        return options.server
    if options.server:
        raise ServersUsageError("--all and names do not go together", "give one of them")
    names = names_in(options.config)
    if not names:
        raise NoSuchServerError(
            f"{options.config}: --all: it has no [servers.NAME] tables", "leave --all out"
        )
    return names


def for_one(words: Sequence[str]) -> list[str]:
    """The words behind a command without what names servers."""
    finder = _parser()
    finder.add_argument("--server", action="append")
    finder.add_argument("--all", action="store_true")
    finder.add_argument("-j", "--jobs")
    return finder.parse_known_args(list(words))[1]


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
