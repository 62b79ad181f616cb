"""`obsdimg apply`: the project's peers, keys, ports and rules to the running server."""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.cli.changing import Consent, bring
from obsdimg.cli.options import WithServers, flag, option
from obsdimg.cli.reaching import WithServer
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import UsageError
from obsdimg.server.applying import CONFIRM_SECONDS, keys_to_apply

EXIT_DIFFERENT = 3


class ApplyUsageError(UsageError):
    """An option has a value that makes no sense."""


@dataclass(frozen=True, kw_only=True)
class Options(WithServer, WithServers):
    """What the command line says."""

    check: bool = flag("--check", help="only show the difference (exit 3 if there is one)")
    yes: bool = flag("-y", "--yes", help="do not ask")
    overwrite: bool = flag("--overwrite", help="also what was changed on the server by hand")
    seconds: int = option(
        "--confirm-within",
        type=int,
        default=CONFIRM_SECONDS,
        metavar="S",
        help="the server takes the change back unless this computer returns within S seconds"
        f" (default: {CONFIRM_SECONDS})",
    )


def run(options: Options, ui: Ui) -> int:
    """0: the server is as in the project; 3: it is not, and was left so; 1: an error."""
    if not 10 <= options.seconds <= 600:
        raise ApplyUsageError(
            f"--confirm-within {options.seconds}: is not between 10 and 600", "60 is usual"
        )
    keys = keys_to_apply(open_project(options))
    after = options.access()
    before = options.access_now(after)
    consent = Consent(
        yes=options.yes,
        overwrite=options.overwrite,
        only_look=options.check,
        seconds=options.seconds,
    )
    done = bring(before, after, keys, consent, ui, options.timeout)
    return EXIT_DIFFERENT if done is False else 0
