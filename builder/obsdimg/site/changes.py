"""Changing the tunnel of a running server: the files that differ, and the command that sends them.

After a client was added, removed or given new keys, either a new ISO is built and installed,
or the files below go to the server through the tunnel: pf.conf, the peers, their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from obsdimg.config import Config
from obsdimg.core.entry import Entry
from obsdimg.project.folder import ProjectKeys
from obsdimg.releases.release import Release
from obsdimg.site.files import site_set
from obsdimg.site.plan import Materials, plan_site

ARCHIVE = "apply.tgz"


def changes_archive(
    config: Config, release: Release, keys: ProjectKeys, overlay: Sequence[Entry] = ()
) -> bytes:
    """A tar archive of the changed files; it holds secrets and belongs into clients/ (0600).

    A server that made its own key keeps its key file: that one is left out.  `overlay` wins
    over generated files here as it does in the site set.
    """
    plan = plan_site(config, release, keys, Materials(overlay=overlay))
    # The folder for its mode: without an entry tar would open it to all.
    wanted = {"/etc/pf.conf", "/etc/wireguard", "/etc/wireguard/names"}
    files = [f for f in plan.files if f.path in wanted]
    return site_set([*files, *plan.sealed.values()], 0)


def changes_command(config: Config) -> str | None:
    """The shell command that sends the archive, or None where nobody can log in."""
    if config.access.admin is None or not config.access.sshd:
        return None
    own = config.tunnel.ipv4 or config.tunnel.ipv6
    assert own is not None
    as_root = "" if config.access.admin.doas == "none" else "doas "
    remote = f"{as_root}/usr/local/sbin/obsdimg-tunnel take"
    return f"ssh {config.access.admin.name}@{own.ip} '{remote}' <clients/{ARCHIVE}"
