"""`obsdimg ssh`: the server's shell through the project's own tunnel."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from obsdimg.cli.options import argument, flag, option
from obsdimg.cli.reaching import WithServer
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import read_file, write_file
from obsdimg.server.access import (
    ServerAccess,
    is_host_key_of,
    join_hub,
    ssh_command,
    ssh_environment,
    ssh_options,
)
from obsdimg.tunnel.hub import Hub, HubClient, HubError
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.proxy import copy


class SshUsageError(UsageError):
    """The words do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Options(WithServer):
    """What the command line says."""

    user: str | None = option(
        "-l", "--user", metavar="USER", help="who logs in (default: the admin)"
    )
    ssh_config: bool = flag(
        "--ssh-config", help="print a section for ~/.ssh/config, for scp, sftp, rsync and Ansible"
    )
    forget: bool = flag(
        "--forget", help="forget the server's host key, after it was installed anew"
    )
    proxy: tuple[str, str] | None = option(
        "--proxy",
        nargs=2,
        metavar=("HOST", "PORT"),
        help="connect standard input and output with HOST:PORT there (ssh's ProxyCommand)",
    )
    via: Path | None = option(
        "--via", type=Path, metavar="SOCKET", help="with --proxy: the process that holds the tunnel"
    )
    hub: bool = flag(
        "--hub", help="hold the tunnel for other obsdimg processes (started by themselves)"
    )
    words: tuple[str, ...] = argument(
        metavar="[NAME] [COMMAND]",
        nargs=argparse.REMAINDER,
        help="the server's name (there is one), and a command instead of a shell",
    )


def run(options: Options, ui: Ui) -> int:
    """Becomes ssh; else the exit code."""
    if options.via is not None:
        if not options.proxy:
            raise SshUsageError("--via goes with --proxy", "obsdimg uses it by itself")
        with HubClient(options.via) as hub:
            _copy(hub, *_target(options.proxy))
        return 0
    access = options.access(user=options.user)
    if options.hub:
        return _serve(access, options.timeout)
    if options.proxy:
        return _proxy(access, options.proxy, options.timeout)
    if options.forget:
        _forget(access, ui)
        return 0
    if options.ssh_config:
        ui.say(_section(access))
        return 0
    words = command_words(options.words, access.name)
    with ui.progress().step(f"Calling {access.client.endpoint} as {access.client.name}"):
        join_hub(access, options.timeout).close()  # it lingers until ssh has asked it
    try:
        os.execvpe("ssh", ssh_command(access, words), dict(ssh_environment()))  # noqa: S606
    except FileNotFoundError as error:
        raise ObsdimgError("ssh: program not found", "install OpenSSH's client") from error


def command_words(words: Sequence[str], name: str) -> Sequence[str]:
    """The remote command: without the server's name in front, and without `--`."""
    if words and words[0] == name:
        words = words[1:]
    if words and words[0] == "--":
        words = words[1:]
    return words


def _section(access: ServerAccess) -> str:
    lines = [f"Host {access.name}"]
    lines += [f"\t{name} {value}" for name, value in ssh_options(access).items()]
    return "\n".join(lines)


def _forget(access: ServerAccess, ui: Ui) -> None:
    path = access.known_hosts
    lines = read_file(path, "known host keys").splitlines(True) if path.exists() else []
    kept = [line for line in lines if not is_host_key_of(line, access.name)]
    if len(kept) == len(lines):
        ui.say(f"{path}: holds no key of {access.name}")
        return
    write_file(path, b"".join(kept))
    ui.say(f"{path}: the key of {access.name} is forgotten; the next one is taken as it comes")


def _proxy(access: ServerAccess, target: tuple[str, str], timeout: float) -> int:
    """Between ssh's pipes and a stream."""
    host, port = target
    address, number = _target((str(access.address) if host == access.name else host, port))
    with join_hub(access, timeout) as hub:
        _copy(hub, address, number)
    return 0


def _target(target: tuple[str, str]) -> tuple[Address, int]:
    host, port = target
    try:
        address, number = ip_address(host), int(port)
    except ValueError as error:
        raise SshUsageError(
            f"--proxy {host} {port}: not an address and a port",
            "names are not resolved in the tunnel, but for the server's own",
        ) from error
    if not 1 <= number <= 65535:
        raise SshUsageError(
            f"--proxy: port {number} is not between 1 and 65535", "ssh's port is 22"
        )
    return address, number


def _copy(hub: HubClient, address: Address, port: int) -> None:
    copy(0, 1, hub.connect(address, port))


def _serve(access: ServerAccess, timeout: float) -> int:
    """The process that holds the tunnel; its one line of output is for who started it."""

    def tell(text: str) -> None:
        os.write(1, text.encode() + b"\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    try:
        hub = Hub(access.hub())
    except HubError:
        tell("busy")
        return 0
    try:
        with access.open_tunnel(timeout) as tunnel:
            hub.listen()
            tell("ready")
            hub.serve(tunnel)
    except ObsdimgError as error:
        tell(f"error {error.message}\t{error.hint or ''}")
        return 1
    finally:
        hub.close()
    return 0
