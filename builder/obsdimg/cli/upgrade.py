"""`obsdimg upgrade`: the running server to the next release, through sysupgrade(8)."""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.cli import values
from obsdimg.cli.console_options import ConsoleKeys, UnlockOptions
from obsdimg.cli.options import flag, option
from obsdimg.cli.reaching import WithServer
from obsdimg.cli.ui import Ui
from obsdimg.cli.upgrade_run import UpgradeRun
from obsdimg.core.errors import ObsdimgError, UsageError


class UpgradeUsageError(UsageError):
    """An option has a value that makes no sense."""


@dataclass(frozen=True, kw_only=True)
class Options(UnlockOptions, ConsoleKeys, WithServer):
    """What the command line says."""

    check: bool = flag("--check", help="only the checks; nothing is changed, nothing is fetched")
    yes: bool = flag("-y", "--yes", help="do not ask")
    mirror: str | None = option(
        "--mirror", metavar="URL", help="where the server fetches the release (default: its own)"
    )
    console: str | None = option(
        "--console",
        metavar="NAME|URL",
        help="where the disk's passphrase is typed: a deployment or an address as `unlock` takes"
        " it (default: this server's deployment)",
    )
    no_console: bool = flag(
        "--no-console", help="type no passphrase: you unlock the server twice elsewhere"
    )
    fetch_limit: float = option(
        "--fetch-limit",
        type=values.seconds(1, 86400),
        default=7200.0,
        metavar="S",
        help="how long the server may fetch and verify (default: 7200)",
    )
    limit: float = option(
        "--limit",
        type=values.seconds(10, 7 * 86400),
        default=3600.0,
        metavar="S",
        help="how long both restarts may take, with the passphrases (default: 3600)",
    )
    json: bool = flag("--json", help="the result as JSON")


def run(options: Options, ui: Ui) -> int:
    """0: upgraded, or every check is ok; 1: an error."""
    if options.console is not None and options.no_console:
        raise UpgradeUsageError("--console and --no-console do not go together", "give one")
    after = options.access()
    work = UpgradeRun(options, ui, options.access_now(after))
    try:
        work.run()
    except ObsdimgError as error:
        work.failed(error)
        raise
    work.end()
    return 0
