"""What a shell asks while somebody types: which words come next.  By argcomplete.

The shell runs obsdimg with `_ARGCOMPLETE` set and the line in `COMP_LINE`; the words go back on
descriptor 8.  Nothing is read but the project's obsdimg.toml, and nothing is written.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import FilesCompleter, SuppressCompleter

from obsdimg.cli.options import DEFAULT_CONFIG, config_above
from obsdimg.core.documents import from_toml
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file

ACTIONS = ("list", "show", "add", "remove", "rotate")
"""First words of `obsdimg client`; cli/client.py has the same, a test compares them."""


def command_in(line: str) -> str | None:
    """The command on a command line that is being typed: its first word that is no option."""
    try:
        words = shlex.split(line)
    except ValueError:  # an open quotation mark: what stands before it is enough
        words = line.split()
    return next((word for word in words[1:] if not word.startswith("-")), None)


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell what may come next, and end this process."""
    for one in _parsers(parser):
        for action in one._actions:
            _equip(action)
    argcomplete.autocomplete(
        parser, default_completer=SuppressCompleter(), always_complete_options=False
    )


def _parsers(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _equip(action: argparse.Action) -> None:
    """Give `action` the completer that its option asks for (options.Spec.complete)."""
    wanted = getattr(action, "completes", None)
    if wanted == "file":
        action.completer = FilesCompleter()  # type: ignore[attr-defined]
    elif wanted is not None:
        action.completer = _WORDS[wanted]  # type: ignore[attr-defined]


def _configuration(parsed_args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The project's obsdimg.toml, here or in a folder above; empty where it cannot be read."""
    path = Path(getattr(parsed_args, "config", DEFAULT_CONFIG))
    if path == DEFAULT_CONFIG and not path.exists():
        path = config_above(Path.cwd()) or path
    try:
        return path, from_toml(read_file(path, "configuration"))
    except (ObsdimgError, ValueError):
        return path, {}


def _clients(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Names of the clients in the configuration, of all its servers where it has several."""
    _path, table = _configuration(parsed_args)
    found: dict[str, None] = {}
    for part in (table, *_tables(table.get("servers"))):
        tunnel = part.get("tunnel")
        peers = tunnel.get("peers") if isinstance(tunnel, dict) else None
        for peer in peers if isinstance(peers, list) else ():
            if isinstance(peer, dict) and isinstance(peer.get("name"), str):
                found[peer["name"]] = None
    return list(found)


def _servers(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Names of the servers in the configuration, where it has several."""
    servers = _configuration(parsed_args)[1].get("servers")
    return list(servers) if isinstance(servers, dict) else []


def _tables(value: object) -> list[dict[str, Any]]:
    return [v for v in value.values() if isinstance(v, dict)] if isinstance(value, dict) else []


def _client_words(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """After `obsdimg client`: an action or a name, and after an action a name."""
    given = getattr(parsed_args, "words", None) or []
    if not given:
        return [*ACTIONS, *_clients(parsed_args)]
    return _clients(parsed_args) if given[0] in ("show", "remove", "rotate") else []


def _releases(**_: object) -> list[str]:
    from obsdimg.releases.release import known_releases

    return list(known_releases())


def _deployments(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Names of the deployments that this project remembers (deploy/NAME.json, of one of several
    servers in servers/NAME)."""
    root = _configuration(parsed_args)[0].parent
    try:
        found = [*root.glob("deploy/*.json"), *root.glob("servers/*/deploy/*.json")]
    except OSError:
        return []
    return sorted({path.stem for path in found})


_WORDS: dict[str, Callable[..., list[str]]] = {
    "server": _servers,
    "client": _clients,
    "client words": _client_words,
    "release": _releases,
    "deployment": _deployments,
}
