"""Options that `console`, `unlock` and `upgrade` share, and from them a console."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli import values
from obsdimg.cli.options import WithConfig, argument, option
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.console.address import Address, from_argument, is_address, parse
from obsdimg.console.errors import AddressError
from obsdimg.console.remote import RemoteConsole, open_console
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.passphrase import VARIABLE, private_line
from obsdimg.core.secret import Secret
from obsdimg.deploy.session import open_provider, store_of
from obsdimg.deploy.state import State
from obsdimg.project.folder import Project

PASSWORD_VARIABLE = "OBSDIMG_CONSOLE_PASSWORD_FILE"  # noqa: S105


class ConsoleTargetError(ObsdimgError):
    """It is not clear which console is meant, or its provider gives none."""


@dataclass(frozen=True, kw_only=True)
class ConsoleKeys:
    """The console's password, certificates, and the provider's token."""

    password_file: Path | None = option(
        "--password-file",
        type=Path,
        metavar="F",
        help=f"the console's password (default: {PASSWORD_VARIABLE}, or asked for)",
    )
    ca: Path | None = option(
        "--ca", type=Path, metavar="F", help="wss: trust the certificates in F, not the system's"
    )
    token_file: Path | None = option(
        "--token-file", type=Path, metavar="F", help="the token (default: VULTR_API_KEY, keyring)"
    )


@dataclass(frozen=True, kw_only=True)
class UnlockOptions:
    """The disk's passphrase, typed at the boot loader."""

    passphrase_file: Path | None = option(
        "--passphrase-file",
        type=Path,
        metavar="F",
        help=f"the disk's passphrase (default: {VARIABLE}, or asked for)",
    )
    answer_limit: float = option(
        "--answer-limit",
        type=values.seconds(1, 86400),
        default=300.0,
        metavar="S",
        help="how long the loader may compute over the passphrase (default: 300)",
    )


@dataclass(frozen=True, kw_only=True)
class WithConsole(ConsoleKeys, WithConfig):
    """`[NAME|URL]`, and how to get in there."""

    target: str | None = argument(
        metavar="NAME|URL",
        nargs="?",
        complete="deployment",
        help="a deployment of this project (default: host.name), or a console's address:"
        " vnc://HOST:PORT, vnc+unix:///PATH, ws://…, wss://…, serial+unix:///PATH,"
        " serial:///dev/TTY, exec:COMMAND, or @FILE that holds one",
    )
    connect_limit: float = option(
        "--connect-limit",
        type=values.seconds(0.1, 3600),
        default=20.0,
        metavar="S",
        help="default: 20 seconds",
    )


class ConsoleTarget:
    """Which console is meant; for a name also the project and the deployment."""

    def __init__(self, options: WithConsole, ui: Ui) -> None:
        """Raises ConsoleTargetError, ConsoleError, or what the provider raises."""

        self._options, self._ui = options, ui
        self._password: Secret | None = None
        self.project: Project | None = None
        self.state: State | None = None
        self._address: Address | None = None
        given = options.target if options.target and is_address(options.target) else None
        if given is None or options.config.exists():
            self.project = _project(options)
        if given is None:
            self.state = self._deployment()
        else:
            self._address = from_argument(given)

    def _deployment(self) -> State:

        assert self.project is not None
        name = self._options.target or self.project.config.host.name
        store = store_of(self.project)
        state = store.load(name)
        if state is None or not state.instance.lives:
            others = ", ".join(store.names()) or "none"
            raise ConsoleTargetError(
                f"{name}: nothing is deployed under this name (there is: {others})",
                "give the console's address instead: obsdimg console vnc://HOST:PORT",
            )
        return state

    def address(self) -> Address:
        """Where the console is; a provider is asked every time, as its answer may expire."""

        if self._address is not None:
            return self._address
        assert self.project is not None and self.state is not None
        with open_provider(self.project, self._options.token_file) as provider:
            instance = provider.instance(self.state.instance.id or "")
        console = "" if instance is None else instance.console
        if instance is not None and instance.console_password:
            self._password = Secret(instance.console_password)
        if not console:
            raise ConsoleTargetError(
                f"{self.state.name}: {self.state.provider} gives no console for it",
                "is it running? find its address at the provider and give that instead",
            )
        try:
            return parse(console)
        except AddressError as error:
            raise ConsoleTargetError(
                f"{self.state.name}: {self.state.provider} gives a web page, not a console that"
                " can be opened here",
                "open it in a browser (obsdimg deploy status shows it), or find the address of its"
                " WebSocket and give that",
            ) from error

    def open(self) -> RemoteConsole:
        """Connect.  Raises ConsoleError."""

        options = self._options
        return open_console(self.address(), self._ask_password, options.connect_limit, options.ca)

    def _ask_password(self) -> Secret | None:
        """The console's password, asked for once."""

        if self._password is not None:
            return self._password
        named = os.environ.get(PASSWORD_VARIABLE)
        file = self._options.password_file or (Path(named) if named else None)
        if file is not None:
            self._password = Secret(private_line(file.expanduser(), "console's password"))
        elif sys.stdin.isatty():
            self._password = Secret(self._ui.ask_secret("Password of the console"))
        return self._password


def _project(options: WithConfig) -> Project:

    if not options.config.exists():
        raise ConsoleTargetError(
            f"{options.config}: there is no such configuration",
            "run it in the project's folder, or give -c FILE, or the console's address",
        )
    return open_project(options)
