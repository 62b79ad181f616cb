"""The change that a new release wants on a running server, as `apply` makes changes.

Between most releases there is none.  7.0 has another DHCP client.  6.8 has WireGuard in its kernel:
there the tunnel moves from wireguard-go's interface to wg(4)'s with the same keys, port and
addresses; in memory first, and back again unless this host returns through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from obsdimg.core.entry import Entry
from obsdimg.server.change import (
    Change,
    ChangeError,
    check_commands,
    file_lines,
    names_in,
    peer_lines,
    plan_change,
    with_server_key,
)
from obsdimg.server.next_release import RESOLV, ReleaseFiles
from obsdimg.server.wgfiles import read_wg_file

_NAMES: Final = "/etc/wireguard/names"


def plan_release_change(
    files: ReleaseFiles,
    actual: Mapping[str, bytes],
    names: Mapping[str, str],
    applied: Mapping[str, str],
    running: Sequence[str],
) -> Change:
    """What brings a server that runs the new release to its files; arguments as `plan_change`.

    Raises ChangeError: it is not as the old release left it.
    """
    if files.switches:
        return _switch(files, actual, names, running)
    change = plan_change(files.after, actual, names, applied, running)
    forward, back = change.forward, change.back
    if RESOLV in files.after.files and RESOLV in change.files:
        # It writes what DHCP says into that file as long as it runs.
        forward = (*forward, "{ rcctl stop resolvd >/dev/null 2>&1; true; }")
        back = (*back, "{ rcctl start resolvd >/dev/null 2>&1; true; }")
    gone = tuple(path for path in files.gone if path in actual)
    lines = (*change.lines, *(f"- {path}" for path in gone))
    return replace(change, lines=lines, forward=forward, back=back, gone=gone)


def _switch(
    files: ReleaseFiles,
    actual: Mapping[str, bytes],
    names: Mapping[str, str],
    running: Sequence[str],
) -> Change:
    old, new = files.before.tunnel, files.after.tunnel
    key_file = files.before.key_files[0]
    there = read_wg_file(actual.get(key_file, b"").decode("utf-8", "replace"), old.backend)
    if not there.private and actual.keys() & set(files.after.key_files):
        # It was made already, and only the project does not know yet.
        return plan_change(files.after, actual, names, {}, running)
    planned = dict(files.after.files)
    for path in files.after.key_files:
        planned[path] = with_server_key(planned[path], there)
    wanted_key = files.after.key_files[0]
    wanted = read_wg_file(planned[wanted_key].data.decode(), new.backend)
    if there.private != wanted.private or there.port != wanted.port:
        raise ChangeError(
            f"{key_file}: its key or port is not the project's, so that clients would be lost",
            "put the project in order first: set release.version back, obsdimg apply, then again",
        )
    different = {path: file for path, file in planned.items() if actual.get(path) != file.data}
    by_hand = tuple(
        path
        for path, file in files.before.files.items()
        if path in actual and path not in files.before.key_files and actual[path] != file.data
    )
    lines = [
        f"~ WireGuard: wireguard-go on {old.interface} -> wg(4) on {new.interface}; same key, port"
        f" {wanted.port}",
        *peer_lines(there, wanted, {**names_in(actual.get(_NAMES, b"")), **names}, names, running),
        *file_lines(actual, different, {*files.after.key_files, _NAMES}),
        *(f"- {path}" for path in files.gone if path in actual),
    ]
    loaded = {path: planned[path] for path in ("/etc/pf.conf", wanted_key)}
    return Change(
        tuple(lines),
        by_hand,
        (),
        different,
        loaded,
        _forward(files, planned),
        _back(files),
        check_commands(wanted),
        tuple(path for path in files.gone if path in actual),
        old.interface,
    )


def _forward(files: ReleaseFiles, planned: Mapping[str, Entry]) -> tuple[str, ...]:
    """End wireguard-go, make the interfaces of wg(4) as netstart(8) would, load pf once more:
    its antispoof rules are made of the addresses that are there when it is loaded."""
    lines = []
    for daemon in files.before.tunnel.daemons.values():
        lines.append(_anyhow(f"rcctl -f stop {daemon.service}"))
        lines.append(_anyhow(f"ifconfig {daemon.interface} destroy"))
    for daemon in files.after.tunnel.daemons.values():
        lines.append(_anyhow(f"ifconfig {daemon.interface} destroy"))
        lines.append(f"ifconfig {daemon.interface} create")
        lines += interface_commands(daemon.interface, planned[daemon.config].data.decode())
    lines.append('pfctl -f "${0%/*}/new/etc/pf.conf"')
    if files.after.tunnel.unbound:
        lines.append(_anyhow("rcctl restart unbound"))
    return tuple(lines)


def _back(files: ReleaseFiles) -> tuple[str, ...]:
    lines = [
        _anyhow(f"ifconfig {daemon.interface} destroy")
        for daemon in files.after.tunnel.daemons.values()
    ]
    for daemon in files.before.tunnel.daemons.values():
        lines.append(_anyhow(f"sh /etc/netstart {daemon.interface}"))
        lines.append(f"rcctl start {daemon.service}")
    lines.append("pfctl -f /etc/pf.conf")
    if files.before.tunnel.unbound:
        lines.append(_anyhow("rcctl restart unbound"))
    return tuple(lines)


def interface_commands(interface: str, text: str) -> list[str]:
    """A hostname.if(5) file of ours as the commands that netstart(8) makes of it."""
    commands = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("!"):
            if "obsdimg-tunnel" not in line:  # it looks at the files, which are not there yet
                commands.append(line[1:])
        elif line and not line.startswith("#"):
            commands.append(f"ifconfig {interface} {line}")
    return commands


def _anyhow(command: str) -> str:
    return f"{{ {command} >/dev/null 2>&1; true; }}"
