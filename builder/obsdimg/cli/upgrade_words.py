"""What `upgrade` says: checks, what will happen, how to unlock by hand, the result as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obsdimg.cli.ui import Ui
from obsdimg.core.errors import printable
from obsdimg.server.upgrade_checks import UpgradeCheck
from obsdimg.server.upgrading import UpgradeEnd

RESTARTS = (
    "Now its console asks for the disk's passphrase, twice: at the start of the upgrade, and at",
    "the first start of the new release. Type it there; or, if you have the console's address:",
    "  obsdimg unlock URL --wait 3600 --no-probe",
    "  obsdimg unlock URL --wait 3600",
)


def show_checks(checks: Sequence[UpgradeCheck], ui: Ui) -> None:
    """A line each, and what to do."""
    for one in checks:
        ui.say(f"{one.mark.value:6} {printable(one.topic)}: {printable(one.text)}")
        if one.remedy:
            ui.say(f"       -> {printable(one.remedy)}")


def undone(ended: UpgradeEnd) -> list[str]:
    """What the server could not do at the end of the upgrade, and is left to somebody."""
    left = []
    if not ended.packages:
        why = f" ({printable(ended.lines[-1])[:120]})" if ended.lines else ""
        left.append(f"packages were not updated{why}: obsdimg ssh doas pkg_add -u")
    if ended.loader_failed is not None:
        left.append(
            f"the loader that UEFI starts was not renewed: {ended.loader_failed}; by hand:"
            " docs/disk.md"
        )
    return left


def explain(name: str, old: str, target: str, config: str, typed: str | None, ui: Ui) -> None:
    """What will happen, for who is asked.  `typed`: who types the passphrase; None: nobody."""
    lines = [
        f"What will happen to {name}, from {old} to {target}:",
        "  1. It fetches the sets and verifies them with OpenBSD's own key (sysupgrade -n). If",
        "     that fails, nothing has changed.",
        "  2. It restarts into the upgrade, and from there into the new release. No client has its",
        "     tunnel meanwhile: some ten minutes, and as long as a passphrase is waited for.",
    ]
    if typed is not None:
        lines.append(f"     Both starts ask for the disk's passphrase; it is typed {typed}.")
    lines += [
        "  3. It is looked at from inside; what obsdimg keeps there is brought to the new release,",
        f"     then its packages. {config} says {target} only when all is well.",
        "There is no way back but a snapshot at its provider, or installing anew with the same",
        "keys (docs/upgrading.md).",
    ]
    for line in lines:
        ui.tell(line)


def check_facts(checks: Sequence[UpgradeCheck]) -> list[dict[str, Any]]:
    """For --json."""
    return [
        {
            "topic": one.topic,
            "result": one.mark.value.lower(),
            "text": printable(one.text),
            "remedy": one.remedy or None,
        }
        for one in checks
    ]
