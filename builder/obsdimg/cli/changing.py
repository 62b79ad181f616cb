"""What `apply` and `client --apply` do: show the difference, ask, change, come back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError
from obsdimg.project.folder import ProjectKeys
from obsdimg.server.access import ServerAccess, join_hub
from obsdimg.server.applying import CONFIRM_SECONDS, apply_change, find_change, remember
from obsdimg.server.change import Change
from obsdimg.server.kept import ServerMemory, kept_files


class ChangedByHandError(ObsdimgError):
    """The server is not as obsdimg left it, and nobody said that this may be overwritten."""


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What the user has agreed to beforehand."""

    yes: bool = False
    overwrite: bool = False
    """Files that were changed by hand may be written over."""
    only_look: bool = False
    seconds: int = CONFIRM_SECONDS


def bring(
    before: ServerAccess,
    after: ServerAccess,
    keys: ProjectKeys,
    consent: Consent,
    ui: Ui,
    timeout: float,
) -> bool | None:
    """Bring the project's state to the server; True: done, False: not wanted, None: no difference.

    `before` and `after`: how this host reaches the server now and then.  `keys`: the project's,
    as they shall be.
    """
    project = after.project
    kept = kept_files(project, keys)
    memory = ServerMemory.load(project)
    with join_hub(before, timeout) as hub:
        before = replace(before, via=hub.path)
        with ui.progress().step(f"Comparing {before.name} with the project"):
            change = find_change(before, keys, kept, memory)
        if change.empty:
            remember(after, kept, memory)
            ui.say(f"{before.name}: as in the project")
            return None
        show(change, ui)
        if consent.only_look:
            return False
        if change.by_hand and not consent.overwrite:
            raise ChangedByHandError(
                f"{before.name}: changed there, not by obsdimg: {', '.join(change.by_hand)}",
                "take over into the project what shall stay (pf rules: overlay/etc/pf.conf), or"
                " write over it with --overwrite",
            )
        if before.hub() != after.hub():
            ui.say(
                "this computer's own keys or port change: this connection ends, the server goes on"
                " by itself"
            )
            ui.say(
                f"  (obsdimg-apply in /var/log/daemon), and obsdimg comes back the new way; if it"
                f" does not within {consent.seconds} s, the server takes all back"
            )
        if not consent.yes and not ui.confirm(f"Change {before.name} so?"):
            ui.say("nothing was changed")
            return False
        apply_change(before, after, change, kept, ui.progress(), consent.seconds)
    remember(after, kept, memory)
    ui.say(f"{after.name}: changed, and this computer came back through the tunnel")
    for path in change.at_restart:
        ui.say(f"  {path}: takes effect when the server is restarted")
    return True


def show(change: Change, ui: Ui) -> None:
    """The difference, on standard output."""
    for line in change.lines:
        ui.say(line)
    if not change.lines:
        ui.say("~ comments and order only")
