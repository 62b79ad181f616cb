"""A deployment's passphrases typed by ourselves, where its console can be opened from here."""

from __future__ import annotations

from collections.abc import Callable

from obsdimg.console.address import Address
from obsdimg.console.errors import ConsoleError
from obsdimg.console.install import Installing, InstallLimits
from obsdimg.console.remote import RemoteConsole, open_console
from obsdimg.console.unlock import Outcome, Unlocking, UnlockLimits
from obsdimg.core.secret import Secret
from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.steps import Deployment

Where = Callable[[], tuple[Address, Secret | None]]
"""The console's address and its password, asked for anew at each connection."""


class ByConsole:
    """Types at the encryption step and after the restart.  `progress` and limits are `work`'s."""

    def __init__(
        self,
        work: Deployment,
        where: Where,
        passphrase: Secret,
        sealing: Secret | None = None,
        host: str | None = None,
    ) -> None:
        """`host`: the name of the machine that is deployed."""
        self._work, self._where = work, where
        self._passphrase, self._sealing, self._host = passphrase, sealing, host

    def install(self) -> None:
        """From the encryption step to the end of the installation.  Raises ConsoleError."""
        state = self._work.state
        if state.installed:
            return
        limits = InstallLimits(whole=self._work.limits.install)
        with self._work.progress.step("Installing, by the console") as step:
            end = Installing(
                self._open,
                self._passphrase,
                self._sealing,
                host=self._host,
                limits=limits,
                tell=step.note,
            ).run()
        state.installed = True
        self._work.did(f"installed: {end.value}")

    def unlock(self) -> None:
        """Type the passphrase after the restart, if the loader asks.  Raises DeployError."""
        if self._work.state.done or self._work.state.handshake is not None:
            return
        with self._work.progress.step("Unlocking, by the console") as step:
            work = Unlocking(
                self._open,
                host=self._host,
                restart=False,
                limits=UnlockLimits(prompt=600.0),
                tell=step.note,
            )
            try:
                report = work.run(self._passphrase)
            finally:
                work.close()
        if report.outcome not in (Outcome.UNLOCKED, Outcome.RUNNING):
            raise DeployError(
                f"the console: {report.seen.words}",
                "obsdimg console shows it; the same command goes on",
            )
        self._work.did("unlocked by the console")

    def _open(self) -> RemoteConsole:
        address, password = self._where()
        return open_console(address, lambda: password)


__all__ = ["ByConsole", "ConsoleError", "Where"]
