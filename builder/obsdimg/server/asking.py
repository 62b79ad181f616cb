"""Asks the server for its state, and puts beside it what the project expects."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from typing import Final

from obsdimg.core import process
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.resources import resource
from obsdimg.project.folder import ProjectKeys
from obsdimg.releases.support import support
from obsdimg.server.access import ServerAccess, ssh_command, ssh_environment
from obsdimg.server.findings import ExpectedServer
from obsdimg.server.kept import KeptFiles, ServerMemory
from obsdimg.server.state import ServerState, parse_state

ASK_SECONDS: Final = 180.0
MIRROR_SECONDS: Final = 45


class ServerAskError(ObsdimgError):
    """The server let us in, or not, and gave no report."""


def ask_state(access: ServerAccess, kept: KeptFiles, *, updates: bool) -> ServerState:
    """The server's state.  `updates`: also ask its mirror for patches and packages.

    Raises ServerAskError, StateError and what reaching the server raises.
    """
    script = remote_script(
        "asking.sh",
        "wireguard.sh",
        "bootarea.sh",
        "status.sh",
        interface=kept.tunnel.interface,
        backend=kept.tunnel.backend,
        updates="yes" if updates else "no",
        seconds=str(MIRROR_SECONDS),
        files=" ".join(kept.files),
    )
    return parse_state(run_script(access, script, ASK_SECONDS + 2 * MIRROR_SECONDS * updates))


def remote_script(*names: str, **values: str) -> str:
    """The scripts siteXX/remote/NAME one after another, with shell variables in front."""
    front = "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())
    return front + "".join(resource("siteXX", f"remote/{name}").read_text() for name in names)


def run_script(access: ServerAccess, script: str, timeout: float, *words: str) -> bytes:
    """Run `script` there as root, given on standard input; what it wrote on standard output.

    `words`: its positional parameters.  Raises ServerAskError.
    """
    remote = f"{access.becomes_root}sh -s {shlex.join(words)}".strip()
    command = ssh_command(access, [remote], "-T", "-oBatchMode=yes")
    done = process.run(
        command, stdin=script.encode(), timeout=timeout, env=ssh_environment(), check=False
    )
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = said[-1] if said else f"exit {done.returncode}"
    if done.returncode == 255:
        if (why := proxy_error(said)) is not None:
            raise ServerAskError(f"{access.user}@{access.name}: {why[0]}", why[1])
        raise ServerAskError(
            f"{access.user}@{access.name}: ssh: {last}",
            "obsdimg ssh shows more; is your key in the agent, or named in ~/.ssh/config?",
        )
    raise ServerAskError(
        f"{access.user}@{access.name}: {last}",
        "doas must not ask for a password there (access.admin.doas = nopass)",
    )


def proxy_error(said: Sequence[str]) -> tuple[str, str | None] | None:
    """Message and hint of our ProxyCommand among the lines of ssh's standard error: ssh itself
    then only says `Connection closed by UNKNOWN port 65535`."""
    for line, after in zip(said, [*said[1:], ""], strict=True):
        if line.startswith("error: "):
            message, hint = line.removeprefix("error: "), after.strip()
            return message, hint.removeprefix("hint: ") if hint.startswith("hint: ") else None
    return None


def expect(
    access: ServerAccess, keys: ProjectKeys, kept: KeptFiles, memory: ServerMemory
) -> ExpectedServer:
    """What the project says."""
    config = access.project.config
    return ExpectedServer(
        release=config.release.version,
        support=support(config.release.version, datetime.datetime.now(datetime.UTC).date()),
        port=kept.tunnel.listen_port,
        peers={own.public.text(): name for name, own in keys.peers.items()},
        files=kept.hashes(),
        applied=memory.applied,
        boot_area=memory.boot_area,
        encrypted=config.disk.encryption != "none",
    )
