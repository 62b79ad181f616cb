"""`obsdimg inventory`: the project's servers as an Ansible inventory (docs/fleet.md)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from obsdimg.cli.options import WithConfig, flag, option
from obsdimg.cli.servers import open_projects
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import UsageError
from obsdimg.server.access import ServerAccess, find_access, ssh_options

GROUP = "obsdimg"
"""Group of all servers."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    client: str | None = option(
        "--as", metavar="CLIENT", complete="client",
        help="call as this client (default: `operator`, or the only one)",
    )  # fmt: skip
    every: bool = flag("--list", help="the whole inventory (also without it)")
    host: str | None = option(
        "--host", metavar="NAME", complete="server", help="the variables of one server"
    )


def run(options: Options, ui: Ui) -> int:
    """Print what Ansible's `script` inventory wants.  Raises what `find_access` does."""
    if options.every and options.host is not None:
        raise UsageError("--list and --host do not go together", "give one of them")
    found = {
        access.name: host_variables(access)
        for access in (find_access(p, client=options.client) for p in open_projects(options))
    }
    if options.host is None:
        ui.json({GROUP: {"hosts": list(found)}, "_meta": {"hostvars": found}})
    else:
        ui.json(found.get(options.host, {}))
    return 0


def host_variables(access: ServerAccess) -> dict[str, Any]:
    """What Ansible needs to reach a server, and what the role needs to know of it.

    `ansible_host` is the name under which `known_hosts` has its key; ssh gets the address itself.
    """
    arguments = [
        word
        for name, value in ssh_options(access).items()
        if name != "User"
        for word in ("-o", f"{name}={value}")
    ]
    project = access.project
    words = ["-c", str(project.config_path.resolve())]
    words += [] if project.server is None else ["--server", project.server]
    return {
        "ansible_connection": "ssh",
        "ansible_host": access.name,
        "ansible_user": access.user,
        "ansible_ssh_common_args": shlex.join(arguments),
        "ansible_shell_type": "sh",
        "obsdimg_as_root": access.becomes_root,
        "obsdimg_release": project.config.release.version,
        "obsdimg_project": words,
    }
