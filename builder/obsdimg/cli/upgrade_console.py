"""The server's console during an upgrade: the passphrase is typed whenever the loader asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from obsdimg.cli.console_options import ConsoleTarget, ConsoleTargetError, WithConsole
from obsdimg.cli.ui import Ui
from obsdimg.console.address import is_serial
from obsdimg.console.errors import ConnectError, ConsoleError, LostError
from obsdimg.console.remote import RemoteConsole
from obsdimg.console.states import Sight
from obsdimg.console.unlock import CRASHES, Outcome, Unlocking, UnlockLimits, UnlockReport
from obsdimg.core.passphrase import obtain_once
from obsdimg.core.secret import Secret
from obsdimg.deploy.session import store_of
from obsdimg.project.folder import Project
from obsdimg.server.upgrade_checks import CheckMark, UpgradeCheck
from obsdimg.server.upgrading import UpgradeError

if TYPE_CHECKING:
    from obsdimg.cli.upgrade import Options

MOST_UNLOCKS = 6
"""Two are needed; a machine that asks again and again does not come up."""
STANDING = 3
"""Looks in a row at which a failure stands on the screen until it is believed."""


class ConsoleWatch:
    """Looks at the console for some seconds at each call.  Close it after use."""

    def __init__(
        self,
        open_console: Callable[[], RemoteConsole],
        host: str,
        passphrase: Secret,
        answer_limit: float,
        tell: Callable[[str], None],
        *,
        wake: bool = False,
    ) -> None:
        """`wake`: the machine may have asked before we came, on a line that does not repeat it."""
        self.unlocked = 0
        self._passphrase, self._tell = passphrase, tell
        limits = UnlockLimits(prompt=0.0, answer=answer_limit)
        self._work = Unlocking(
            open_console, host=host, restart=True, wake=wake, limits=limits, tell=self._note
        )
        self._standing = 0
        self._last = ""

    def __call__(self, seconds: float) -> None:
        """Watch for about `seconds`, longer where a passphrase is typed.

        Raises UpgradeError: it was refused, or the boot has failed; ConsoleError: another machine.
        """
        self._work.limit_prompt(seconds)
        self._work.report = UnlockReport()
        try:
            report = self._work.run(self._passphrase)
        except (ConnectError, LostError):
            # A provider ends the console when it restarts the machine.
            self._work.close()
            time.sleep(seconds)
            return
        label = "" if self._work.console is None else f"{self._work.console.label}: "
        if report.outcome is Outcome.REFUSED:
            raise UpgradeError(
                f"{label}the boot loader refused the passphrase, {report.tries} times",
                "the machine waits there; run obsdimg upgrade again with the disk's passphrase",
            )
        if report.outcome is Outcome.UNLOCKED:
            self.unlocked += 1
            if self.unlocked >= MOST_UNLOCKS:
                raise UpgradeError(
                    f"{label}the machine asked for the passphrase {self.unlocked} times",
                    "it starts again and again: obsdimg console shows why",
                )
        bad = report.seen.sight in CRASHES or report.seen.sight is Sight.INSTALL_FAILED
        self._standing = self._standing + 1 if bad else 0
        if self._standing >= STANDING:
            raise UpgradeError(
                f"{label}{report.seen.words}", "obsdimg console shows it and takes keys"
            )

    def attach(self) -> None:
        """Connect before the restart: a serial line shows nothing of what was asked before.

        Raises UpgradeError.
        """
        try:
            self._work.attach()
        except (ConnectError, LostError) as error:
            raise UpgradeError(
                f"the console, where the passphrase is to be typed: {error.message}; the server was"
                " not restarted, and the upgrade waits there",
                "obsdimg upgrade again, or --no-console",
            ) from error

    def close(self) -> None:
        self._work.close()

    def _note(self, what: str) -> None:
        what = what.removesuffix(": the machine started from the ISO")  # here it is the upgrade's
        if what != self._last:
            self._last = what
            self._tell(what)


class UpgradeConsole:
    """Which console types the passphrase, if any does."""

    def __init__(self, options: Options, ui: Ui, project: Project) -> None:
        self._options, self._ui, self._project = options, ui, project
        self._secret: Secret | None = None

    @property
    def asks(self) -> bool:
        """Whether an encrypted disk of this project asks for a passphrase."""
        return self._project.config.disk.encryption != "keydisk"

    def name(self) -> str | None:
        """A deployment or an address; None: there is none."""
        if self._options.no_console:
            return None
        if self._options.console is not None:
            return self._options.console
        name = self._project.config.host.name
        state = store_of(self._project).load(name)
        return name if state is not None and state.instance.lives else None

    def check(self, encrypted: bool) -> UpgradeCheck:
        """The line about the restarts."""
        if not encrypted:
            return UpgradeCheck("restarts", CheckMark.OK, "the disk is not encrypted")
        if not self.asks:
            return UpgradeCheck("restarts", CheckMark.OK, "a key disk unlocks it: leave it there")
        if self.name() is not None:
            return UpgradeCheck(
                "restarts", CheckMark.OK, "two wait for the passphrase, which is typed from here"
            )
        return UpgradeCheck(
            "restarts",
            CheckMark.NOTE,
            "two wait for the passphrase, and no console is known here: you type it",
            "--console URL lets obsdimg do it",
        )

    def typed(self, encrypted: bool) -> str | None:
        """Who types the passphrase; None: nobody."""
        if not (encrypted and self.asks):
            return None
        return "from here" if self.name() is not None else "by you, at its console"

    def obtain(self, encrypted: bool) -> None:
        """Have the passphrase, where it is typed from here."""
        if encrypted and self.asks and self.name() is not None:
            self._secret = obtain_once(self._options.passphrase_file, self._ui.ask_secret)

    def prove(self, encrypted: bool) -> None:
        """The console can be opened, before anything begins.  Raises UpgradeError."""
        if not (encrypted and self.asks and self.name() is not None):
            return
        try:
            self._target().open().close()
        except (ConsoleError, ConsoleTargetError) as error:
            raise UpgradeError(
                f"the console, where the passphrase is to be typed: {error.message};"
                " nothing was changed",
                "--no-console: you type it yourself at both starts; or --console URL",
            ) from error

    def watch(self, encrypted: bool, *, under_way: bool = False) -> ConsoleWatch | None:
        """What looks at the console and types; None: nobody does.

        `under_way`: it restarted before we came.
        """
        if not (encrypted and self.asks and self.name() is not None):
            return None
        if self._secret is None:
            self.obtain(encrypted)
        assert self._secret is not None
        return ConsoleWatch(
            self._target().open,
            self._project.config.host.name,
            self._secret,
            self._options.answer_limit,
            self._ui.info,
            wake=under_way and is_serial(self._target().address()),
        )

    def _target(self) -> ConsoleTarget:
        options = self._options
        return ConsoleTarget(
            WithConsole(
                config=options.config,
                server=options.server,
                target=self.name(),
                password_file=options.password_file,
                ca=options.ca,
                token_file=options.token_file,
            ),
            self._ui,
        )
