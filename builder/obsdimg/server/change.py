"""A change of the running server as a value: what differs, by peer and by line, and the archive
that makes it so.  Pure; nothing here talks to the server."""

from __future__ import annotations

import difflib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.templates import render
from obsdimg.server.kept import KeptFiles, digest
from obsdimg.server.routes import RouteChange
from obsdimg.server.wgfiles import WgFile, WgPeerEntry, read_wg_file
from obsdimg.site.tunnel import SERVER_KEY_MARK

FOLDER: Final = "/var/db/obsdimg/apply"
CHECK_INTERFACE: Final = "wg909"
"""Made for the check of a configuration, and destroyed."""


class ChangeError(ObsdimgError):
    """The server cannot be brought to the project's state by `apply`."""


@dataclass(frozen=True)
class Change:
    """What would be done.  Holds secrets; shows none."""

    lines: tuple[str, ...]
    """The difference for people, in the order of importance."""
    by_hand: tuple[str, ...]
    """Paths that are not as obsdimg left them."""
    at_restart: tuple[str, ...]
    """What of it takes effect when the server is restarted."""
    files: Mapping[str, Entry] = field(repr=False)
    """What will be written because it differs."""
    loaded: Mapping[str, Entry] = field(default_factory=dict, repr=False)
    """pf.conf and the key file, which are checked and loaded in any case."""
    forward: tuple[str, ...] = field(default=(), repr=False)
    """route(8) commands, and for wg(4) ifconfig(8)'s, and those that undo them."""
    back: tuple[str, ...] = field(default=(), repr=False)
    check: tuple[str, ...] = field(default=(), repr=False)
    gone: tuple[str, ...] = ()
    """Paths that the new release does not have any more; a copy of each is kept."""
    was: str | None = None
    """The interface that works until now, where it becomes another."""

    @property
    def empty(self) -> bool:
        return not self.files and not self.forward and not self.gone


def plan_change(
    kept: KeptFiles,
    actual: Mapping[str, bytes],
    names: Mapping[str, str],
    applied: Mapping[str, str],
    running: Sequence[str] = (),
) -> Change:
    """What brings the server to `kept`.

    `actual`: its files as they are; `names`: of the project's peers, by public key; `applied`:
    SHA-256 of the files as obsdimg wrote them last; `running`: the public keys of the peers that
    WireGuard has now.  Raises ChangeError for what cannot be done on a running server.
    """
    tunnel = kept.tunnel
    key_file = kept.key_files[0]
    planned = dict(kept.files)
    there = read_wg_file(actual.get(key_file, b"").decode("utf-8", "replace"), tunnel.backend)
    planned[key_file] = with_server_key(planned[key_file], there)
    wanted = read_wg_file(planned[key_file].data.decode(), tunnel.backend)
    if there.private and there.private != wanted.private:
        raise ChangeError(
            "the server's own key is another one than the project's",
            "every client would need its new file first: see docs/servers.md, or is it another"
            " server at this address?",
        )
    different = {path: file for path, file in planned.items() if actual.get(path) != file.data}
    by_hand = tuple(
        path
        for path in planned
        if path in different and path in applied and digest(actual.get(path, b"")) != applied[path]
    )
    old_names = names_in(actual.get("/etc/wireguard/names", b""))
    lines = [
        *peer_lines(there, wanted, {**old_names, **names}, names, running),
        *_port_lines(there, wanted),
        *file_lines(actual, different, {*kept.key_files, "/etc/wireguard/names"}),
    ]
    forward: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    if tunnel.backend == "wg":
        forward = _commands(tunnel.interface, there, wanted, running)
        back = _commands(tunnel.interface, wanted, there, ())
        check = check_commands(wanted)
    route_file = key_file if tunnel.backend == "wg" else f"/etc/hostname.{tunnel.interface}"
    old = actual.get(route_file, b"").decode("utf-8", "replace")
    routes = RouteChange.between(old, planned[route_file].data.decode())
    forward, back = (*routes.forward, *forward), (*back, *routes.back)
    late = ("/etc/hostname.tun", *kept.key_files[1:])
    at_restart = tuple(
        path
        for path in different
        if path.startswith(late) and not (path == route_file and routes.at_once)
    )
    if tunnel.backend == "wg" and there.rest != wanted.rest and not routes.at_once:
        at_restart = (*at_restart, key_file)
    loaded = {path: planned[path] for path in ("/etc/pf.conf", key_file)}
    return Change(tuple(lines), by_hand, at_restart, different, loaded, forward, back, check)


def with_server_key(file: Entry, there: WgFile) -> Entry:
    """A server that made its own key keeps it."""
    if SERVER_KEY_MARK.encode() not in file.data:
        return file
    if not there.private:
        raise ChangeError(
            f"{file.path}: the server's own key is not in it", "look at it there: obsdimg ssh"
        )
    data = file.data.replace(SERVER_KEY_MARK.encode(), there.private.encode())
    return replace(file, data=data)


def names_in(data: bytes) -> dict[str, str]:
    pairs = [line.split() for line in data.decode("utf-8", "replace").splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def peer_lines(
    there: WgFile,
    wanted: WgFile,
    names: Mapping[str, str],
    own: Mapping[str, str],
    running: Sequence[str],
) -> list[str]:
    """Peers by name; one whose key alone is new is called changed."""

    def name(key: str) -> str:
        return names.get(key, f"unknown-{key[:8]}")

    gone = {name(key): key for key in there.peers if key not in wanted.peers}
    fresh = {name(key): key for key in wanted.peers if key not in there.peers}
    lines = []
    for who in sorted(gone.keys() & fresh.keys()):
        lines.append(f"~ peer {who}: new keys")
    for who in sorted(fresh.keys() - gone.keys()):
        allowed = ", ".join(wanted.peers[fresh[who]].allowed)
        lines.append(f"+ peer {who}: {allowed}")
    for who in sorted(gone.keys() - fresh.keys()):
        lines.append(f"- peer {who}")
    for key, entry in wanted.peers.items():
        before = there.peers.get(key)
        if before is None or before == entry:
            continue
        if before.preshared != entry.preshared:
            lines.append(f"~ peer {name(key)}: new pre-shared key")
        if before.allowed != entry.allowed:
            old, new = ", ".join(before.allowed), ", ".join(entry.allowed)
            lines.append(f"~ peer {name(key)}: {old} -> {new}")
    for key in running:
        if key not in wanted.peers and key not in there.peers:
            lines.append(f"- peer {name(key)}: runs, and stands in no file")
    missing = [own[key] for key in wanted.peers if key in there.peers and key not in running]
    if running and missing:
        lines += [f"+ peer {who}: stands in the file, and does not run" for who in missing]
    return lines


def _port_lines(there: WgFile, wanted: WgFile) -> list[str]:
    lines = []
    if there.port != wanted.port:
        lines.append(f"~ port of WireGuard: {there.port} -> {wanted.port}")
    for line in difflib.ndiff(there.rest, wanted.rest):
        if line[0] in "+-":
            lines.append(f"{line[0]} interface: {line[2:]}")
    return lines


def file_lines(
    actual: Mapping[str, bytes], different: Mapping[str, Entry], silent: set[str]
) -> list[str]:
    """A unified difference of every other file; pf.conf first."""
    lines: list[str] = []
    for path in sorted(different, key=lambda one: (one != "/etc/pf.conf", one)):
        if path in silent:
            continue
        old = actual.get(path, b"").decode("utf-8", "replace").splitlines()
        new = different[path].data.decode("utf-8", "replace").splitlines()
        lines += list(difflib.unified_diff(old, new, path, path, lineterm="", n=1))
    return lines


def _commands(
    interface: str, before: WgFile, after: WgFile, running: Sequence[str]
) -> tuple[str, ...]:
    """ifconfig(8) for what differs only: sessions of other peers go on."""
    lines = []
    if before.port != after.port and after.port is not None:
        lines.append(f"ifconfig {interface} wgport {after.port}")
    for key in [*before.peers, *(key for key in running if key not in before.peers)]:
        if key not in after.peers:
            lines.append(f"ifconfig {interface} -wgpeer {key}")
    for key, entry in after.peers.items():
        if before.peers.get(key) != entry or (running and key not in running):
            lines.append(_peer_command(interface, key, entry, before.peers.get(key)))
    return tuple(lines)


def _peer_command(interface: str, key: str, entry: WgPeerEntry, before: WgPeerEntry | None) -> str:
    words = ["ifconfig", interface, "wgpeer", key]
    if entry.preshared:
        words += ["wgpsk", entry.preshared]
    elif before is not None and before.preshared:
        words.append("-wgpsk")
    for network in entry.allowed:
        words += ["wgaip", network]
    return " ".join(words)


def check_commands(wanted: WgFile) -> tuple[str, ...]:
    """The whole configuration, on an interface that nobody uses."""
    lines = [f"ifconfig {CHECK_INTERFACE} create"]
    lines.append(f"ifconfig {CHECK_INTERFACE} wgkey {wanted.private}")
    lines += [
        _peer_command(CHECK_INTERFACE, key, entry, None) for key, entry in wanted.peers.items()
    ]
    return tuple(lines)


def change_archive(change: Change, kept: KeptFiles, seconds: int) -> bytes:
    """The tar archive that begin.sh unpacks; it holds secrets and goes through the tunnel only."""
    tunnel = kept.tunnel
    planned = {**change.loaded, **change.files}
    entries = {f"new{path}": file.data for path, file in planned.items()}
    entries["files"] = "".join(
        f"{file.mode:o} {path}\n" for path, file in sorted(planned.items())
    ).encode()
    entries["apply.sh"] = render(
        "siteXX",
        "remote/apply.sh.j2",
        seconds=seconds,
        backend=tunnel.backend,
        interface=tunnel.interface,
        key_file=kept.key_files[0],
        was=change.was or tunnel.interface,
        gone=change.gone,
        group="wheel",
    )
    entries["forward.sh"] = _script(change.forward)
    entries["back.sh"] = _script(change.back)
    if tunnel.backend == "wg":
        entries["check.sh"] = _check_script(change.check)
    buffer = io.BytesIO()
    folders = {str(parent) for name in entries for parent in _parents(name)}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted(folders):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(info)
        for name, data in sorted(entries.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _script(lines: Sequence[str]) -> bytes:
    """Every line is tried; the script fails if one of them does."""
    body = "".join(f"{line} || failed=1\n" for line in lines)
    return f"failed=0\n{body}exit $failed\n".encode()


def _check_script(lines: Sequence[str]) -> bytes:
    body = "".join(f"{line} || failed=1\n" for line in lines)
    gone = f"ifconfig {CHECK_INTERFACE} destroy\n"
    return f"failed=0\n{body}{gone}exit $failed\n".encode()
