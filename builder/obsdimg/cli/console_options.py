"""Options that `console` and `unlock` share, and from them a console; light to import."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from obsdimg.core.errors import ObsdimgError

if TYPE_CHECKING:
    from obsdimg.cli.ui import Ui
    from obsdimg.console.address import Address
    from obsdimg.console.remote import Console
    from obsdimg.core.passphrase import Secret
    from obsdimg.deploy.state import State
    from obsdimg.project.folder import Project

PASSWORD_VARIABLE = "OBSDIMG_CONSOLE_PASSWORD_FILE"  # noqa: S105


class TargetError(ObsdimgError):
    """It is not clear which console is meant, or its provider gives none."""


def add_console_options(parser: argparse.ArgumentParser) -> None:
    """`[NAME|URL]`, the console's password, certificates, and where the project is."""
    from obsdimg.cli.hosting_options import add_token_option
    from obsdimg.cli.main import add_config_option

    parser.add_argument(
        "target",
        nargs="?",
        metavar="NAME|URL",
        help="a deployment of this project (default: host.name), or a console's address:"
        " vnc://HOST:PORT, vnc+unix:///PATH, ws://…, wss://…, serial+unix:///PATH,"
        " serial:///dev/TTY, exec:COMMAND, or @FILE that holds one",
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="F",
        help=f"the console's password (default: {PASSWORD_VARIABLE}, or asked for)",
    )
    parser.add_argument(
        "--ca", type=Path, metavar="F", help="wss: trust the certificates in F, not the system's"
    )
    parser.add_argument(
        "--connect-limit", type=float, default=20.0, metavar="S", help="default: 20 seconds"
    )
    add_config_option(parser)
    add_token_option(parser)


class Target:
    """Which console is meant; for a name also the project and the deployment."""

    def __init__(self, args: argparse.Namespace, ui: Ui) -> None:
        """Raises TargetError, ConsoleError, or what the provider raises."""
        from obsdimg.console.address import from_argument, is_address

        self._args, self._ui = args, ui
        self._password: Secret | None = None
        self.project: Project | None = None
        self.state: State | None = None
        self._address: Address | None = None
        if not 0.1 <= args.connect_limit <= 3600:
            raise TargetError("--connect-limit: between 0.1 and 3600 seconds")
        by_name = args.target is None or not is_address(args.target)
        if by_name or args.config.exists():
            self.project = _project(args.config)
        if by_name:
            self.state = self._deployment()
        else:
            self._address = from_argument(args.target)

    def _deployment(self) -> State:
        from obsdimg.deploy.session import store_of

        assert self.project is not None
        name = self._args.target or self.project.config.host.name
        store = store_of(self.project)
        state = store.load(name)
        if state is None or not state.instance.lives:
            others = ", ".join(store.names()) or "none"
            raise TargetError(
                f"{name}: nothing is deployed under this name (there is: {others})",
                "give the console's address instead: obsdimg console vnc://HOST:PORT",
            )
        return state

    def address(self) -> Address:
        """Where the console is; a provider is asked every time, as its answer may expire."""
        from obsdimg.console.address import parse
        from obsdimg.console.errors import AddressError
        from obsdimg.deploy.session import open_provider

        if self._address is not None:
            return self._address
        assert self.project is not None and self.state is not None
        with open_provider(self.project, self._args.token_file) as provider:
            instance = provider.instance(self.state.instance.id or "")
        console = "" if instance is None else instance.console
        if not console:
            raise TargetError(
                f"{self.state.name}: {self.state.provider} gives no console for it",
                "is it running? find its address at the provider and give that instead",
            )
        try:
            return parse(console)
        except AddressError as error:
            raise TargetError(
                f"{self.state.name}: {self.state.provider} gives a web page, not a console that"
                " can be opened here",
                "open it in a browser (obsdimg deploy status shows it), or find the address of its"
                " WebSocket and give that",
            ) from error

    def open(self) -> Console:
        """Connect.  Raises ConsoleError."""
        from obsdimg.console.remote import open_console

        args = self._args
        return open_console(self.address(), self._ask_password, args.connect_limit, args.ca)

    def _ask_password(self) -> Secret | None:
        """The console's password, asked for once."""
        from obsdimg.core.passphrase import Secret, private_line

        if self._password is not None:
            return self._password
        named = os.environ.get(PASSWORD_VARIABLE)
        file = self._args.password_file or (Path(named) if named else None)
        if file is not None:
            self._password = Secret(private_line(file.expanduser(), "console's password"))
        elif sys.stdin.isatty():
            self._password = Secret(self._ui.ask_secret("Password of the console"))
        return self._password


def _project(config: Path) -> Project:
    from obsdimg.project.folder import Project

    if not config.exists():
        raise TargetError(
            f"{config}: there is no such configuration",
            "run it in the project's folder, or give -c FILE, or the console's address",
        )
    return Project.open(config)


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds between `low` and `high`, for argparse."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not between {low:g} and {high:g}")
        return value

    return parse
