"""Takes a server through sysupgrade(8): asks how far it is, fetches, restarts, waits for it.

Everything that takes long runs on the server itself and goes on whatever becomes of this
connection; what is asked here can be asked again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.core.process import ProcessError
from obsdimg.core.progress import Progress
from obsdimg.core.resources import resource
from obsdimg.server.access import AccessError, ServerAccess, join_hub
from obsdimg.server.asking import ServerAskError, remote_script, run_script
from obsdimg.server.state import StateError, sections_of
from obsdimg.server.upgrade_report import UpgradeReport, parse_upgrade
from obsdimg.tunnel.errors import TunnelError

FOLDER: Final = "/var/db/obsdimg/upgrade"
ASK_SECONDS: Final = 60.0
MIRROR_SECONDS: Final = 60
PACKAGES_SECONDS: Final = 1200
LOADER_SECONDS: Final = 240
"""For the loader and the boot area's hash; 55 were seen where a machine was emulated."""
LOOK_SECONDS: Final = 4.0
ANSWER_SECONDS: Final = 8.0
SAME_START_SECONDS: Final = 120
"""The time of the start moves with the clock when that is set."""


class UpgradeError(ObsdimgError):
    """The upgrade was not begun, did not take place, or what became of it is not known."""


def ask_upgrade(
    access: ServerAccess, target: str, *, mirror: str = "", ask_mirror: bool = False
) -> UpgradeReport:
    """How far the server is on its way to `target`.

    Raises ServerAskError, StateError and what reaching the server raises.
    """
    script = remote_script(
        "asking.sh",
        "working.sh",
        "upgrade.sh",
        dir=FOLDER,
        next=target,
        mirror=mirror,
        ask="yes" if ask_mirror else "no",
        seconds=str(MIRROR_SECONDS),
    )
    return parse_upgrade(run_script(access, script, ASK_SECONDS + 2 * MIRROR_SECONDS * ask_mirror))


def begin_fetch(access: ServerAccess, target: str, mirror: str) -> None:
    """Let the server fetch and verify `target`; one that does already goes on.

    Raises UpgradeError: it cannot.
    """
    job = resource("siteXX", "remote/upgrade-job.sh").read_text()
    script = remote_script(
        "working.sh",
        "upgrade-begin.sh",
        dir=FOLDER,
        next=target,
        mirror=mirror,
        job=job.rstrip("\n"),
    )
    answer = _answer(run_script(access, script, ASK_SECONDS))
    if answer not in ("begun", "busy"):
        raise UpgradeError(
            f"{access.name}: {printable(answer) or 'does not say whether it fetches the release'}",
            "nothing has changed; look there: obsdimg ssh",
        )


def await_fetch(
    access: ServerAccess, target: str, limit: float, progress: Progress
) -> UpgradeReport:
    """Wait until the release is there and verified.

    A connection that is lost is made again.  Raises UpgradeError: it failed, or takes too long.
    """
    end = time.monotonic() + limit
    last = ""
    with progress.step(f"{access.name} fetches and verifies OpenBSD {target}") as step:
        while True:
            report = _maybe(access, target)
            if report is not None and not report.fetching:
                break
            line = report.log[-1] if report is not None and report.log else ""
            if line and line != last:
                step.note(printable(line)[:100])
                last = line
            if time.monotonic() >= end:
                raise UpgradeError(
                    f"{access.name}: OpenBSD {target} was not fetched within {limit:g} s",
                    "it goes on there; obsdimg upgrade again waits for it",
                )
            time.sleep(LOOK_SECONDS)
    if report.fetched(target):
        return report
    raise _not_fetched(access.name, report, target)


def _not_fetched(name: str, report: UpgradeReport, target: str) -> UpgradeError:
    """What the server has after a download that is not under way any more."""
    if report.pending:
        # Ended between sysupgrade and the look at what it fetched.
        return UpgradeError(
            f"{name}: the download of {target} ended without its result, and an upgrade waits"
            " there: the next start is it",
            "obsdimg upgrade again fetches and verifies it anew; or, to have none:"
            " obsdimg ssh doas rm /bsd.upgrade",
        )
    if report.result is None:
        return UpgradeError(
            f"{name}: the download of {target} was cut off, nothing waits there",
            "obsdimg upgrade again begins anew",
        )
    said = next((line for line in reversed(report.log) if line.strip()), "it said nothing")
    return UpgradeError(
        f"{name}: sysupgrade did not fetch {target}, nothing has changed: {printable(said)[:200]}",
        "--mirror URL takes another mirror; by hand: obsdimg ssh doas sysupgrade -n",
    )


def _maybe(access: ServerAccess, target: str) -> UpgradeReport | None:
    """The report, or None while the server cannot be asked."""
    try:
        with join_hub(access, ANSWER_SECONDS) as hub:
            # A session of before a restart is dead, which ssh would find out after a minute.
            hub.renew(ANSWER_SECONDS)
            return ask_upgrade(replace(access, via=hub.path), target)
    except (AccessError, ServerAskError, StateError, ProcessError, TunnelError, ConnectionError):
        return None


def restart(access: ServerAccess, target: str) -> None:
    """Restart into the upgrade.  Raises UpgradeError where none waits."""
    script = remote_script("working.sh", "upgrade-restart.sh", dir=FOLDER, next=target)
    try:
        answer = _answer(run_script(access, script, ASK_SECONDS))
    except (ServerAskError, ProcessError):
        return  # it may have restarted all the same; coming back tells
    if answer == "applying":
        raise UpgradeError(
            f"{access.name}: a change is being applied there: it was not restarted",
            "run obsdimg upgrade again in a minute or two",
        )
    if answer == "loader":
        raise UpgradeError(
            f"{access.name}: the boot loader could not be told of the upgrade:"
            " it was not restarted",
            "there: doas /usr/local/sbin/obsdimg-loader; /var/log/daemon says why",
        )
    if answer != "restarts":
        raise UpgradeError(
            f"{access.name}: the upgrade to {target} does not wait there any more",
            "run obsdimg upgrade again: it fetches what is missing",
        )


def await_release(
    access: ServerAccess,
    target: str,
    booted: int | None,
    limit: float,
    look: Callable[[float], None],
) -> UpgradeReport:
    """Wait until the server answers with `target`.

    `booted`: when it had been started before; `look` is called in between, with the seconds that
    it may take: it watches a console, or sleeps.  Raises UpgradeError: it came back as it was, or
    not at all; and what `look` raises.
    """
    end = time.monotonic() + limit
    seen = "it did not answer"
    while True:
        report = _maybe(access, target)
        if report is not None and report.release == target:
            return report
        if report is not None and _restarted(report.booted, booted):
            raise UpgradeError(
                f"{access.name}: was restarted and still runs {report.release}: the upgrade did"
                " not take place",
                "its console tells why (root's mail, too); obsdimg upgrade begins anew",
            )
        if report is not None:
            seen = f"it still runs {report.release} and did not restart"
        if time.monotonic() >= end:
            raise UpgradeError(
                f"{access.name}: is not back with {target} within {limit:g} s: {seen}",
                "does it wait for its passphrase? look at its console; obsdimg upgrade again goes"
                " on from where it is",
            )
        look(LOOK_SECONDS)


def _restarted(now: int | None, before: int | None) -> bool:
    return now is not None and before is not None and now > before + SAME_START_SECONDS


def await_first_start(
    access: ServerAccess, target: str, limit: float, progress: Progress
) -> UpgradeReport:
    """Wait until what runs once after an upgrade is through; after `limit` seconds it is taken as
    it is."""
    end = time.monotonic() + limit
    with progress.step(f"{access.name} ends the first start of {target}"):
        while True:
            report = _maybe(access, target)
            if report is not None and (not report.first_start or time.monotonic() >= end):
                return report
            if time.monotonic() >= end:
                raise UpgradeError(
                    f"{access.name}: answered once with {target}, and does not any more",
                    "obsdimg upgrade again goes on from where it is",
                )
            time.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class UpgradeEnd:
    """What became of the packages, and of the loader that UEFI starts."""

    packages: bool
    lines: tuple[str, ...] = ()
    """The last that pkg_add said."""
    renewed: tuple[str, ...] = ()
    """Loaders in the EFI System partition that are another now."""
    loader_failed: str | None = None
    boot_area: str | None = None
    """SHA-256 of the boot area, as it is now."""


def end_upgrade(access: ServerAccess) -> UpgradeEnd:
    """Packages of the new release, and its loader for UEFI where nobody else renews that."""
    names = ("asking.sh", "bootarea.sh", "efi-loader.sh", "upgrade-end.sh")
    script = remote_script(*names, dir=FOLDER, seconds=str(PACKAGES_SECONDS))
    said = run_script(access, script, PACKAGES_SECONDS + LOADER_SECONDS)
    return parse_end(said.decode("utf-8", "replace"))


def parse_end(text: str) -> UpgradeEnd:
    """From what siteXX/remote/upgrade-end.sh printed."""
    sections = sections_of(text)
    lines = sections.get("packages", [])
    loaders = [line.partition(" ")[2] for line in sections.get("efi", []) if line[:2] == "@ "]
    said = [(word, rest) for word, _, rest in (line.partition(" ") for line in loaders)]
    area = [line for line in sections.get("bootarea", []) if re.fullmatch("[0-9a-f]{64}", line)]
    return UpgradeEnd(
        packages=bool(lines) and lines[-1] == "@ known",
        lines=tuple(line for line in lines if line != "@ known"),
        renewed=tuple(printable(rest)[:40] for word, rest in said if word == "renewed"),
        loader_failed=next(
            (printable(rest)[:160] for word, rest in said if word == "failed"), None
        ),
        boot_area=area[0] if area else None,
    )


def _answer(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("@ ")]
    return lines[-1][2:].strip() if lines else ""
