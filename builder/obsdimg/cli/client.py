"""`obsdimg client`: the clients of the tunnel."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from obsdimg.cli.changing import Consent, bring
from obsdimg.cli.each import show_documents
from obsdimg.cli.options import argument, flag, option, repeated
from obsdimg.cli.reaching import WithServer
from obsdimg.cli.servers import names_in, open_project, open_projects
from obsdimg.cli.ui import Ui
from obsdimg.config.edit import add_peer, free_addresses, remove_peer, shared_config
from obsdimg.config.rules import warnings
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import PRIVATE_FILE, private_dir, remove_file, write_file
from obsdimg.project.folder import Project, ProjectKeys, SecretStore
from obsdimg.server.access import join_hub
from obsdimg.site.clients import (
    client_path,
    clients_conf,
    find_peer,
    plan_client,
    still_missing,
    write_client,
)
from obsdimg.tunnel.keys import WgPublicKey
from obsdimg.tunnel.qr import QrError, qr_png, qr_size, qr_svg, qr_text

CHANGES = ("add", "remove", "rotate")
ACTIONS = ("list", "show", *CHANGES)


@dataclass(frozen=True, kw_only=True)
class Options(WithServer):
    """What the command line says."""

    words: tuple[str, ...] = argument(
        metavar="[list | show NAME | add NAME | remove NAME | rotate NAME | NAME]",
        nargs="*",
        complete="client words",
        help="without a word: list; a client's name alone: show",
    )
    qr: bool = flag("--qr", help="as a QR code on the terminal")
    png: Path | None = option("--png", type=Path, metavar="F", help="write the QR code as PNG")
    svg: Path | None = option("--svg", type=Path, metavar="F", help="write the QR code as SVG")
    public_key: str | None = option(
        "--public-key", metavar="KEY", help="with add: the client's own key"
    )
    split: bool = flag("--split", help="with add: only the tunnel, not all its traffic")
    reach: tuple[str, ...] = repeated("--reach", metavar="NET", help="with add: a private network")
    network: tuple[str, ...] = repeated(
        "--network", metavar="NET", help="with add: a network behind the client (site to site)"
    )
    mtu: int | None = option(
        "--mtu", type=int, metavar="N", help="with add: its MTU, 1280 for mobile networks"
    )
    server_key: str | None = option(
        "--server-key", metavar="KEY", help="remember the key that the server showed at first boot"
    )
    every: bool = flag(
        "--all", help="with show: one file for all servers (--server, repeated: for these)"
    )
    json: bool = flag("--json", help="with list: as JSON")
    apply: bool = flag(
        "--apply", help="with add, remove, rotate: bring it to the running server at once"
    )
    yes: bool = flag("-y", "--yes", help="with --apply: do not ask")
    overwrite: bool = flag(
        "--overwrite", help="with --apply: also what was changed on the server by hand"
    )


def run(options: Options, ui: Ui) -> int:
    action, names = _action(options.words)
    if options.json and action != "list":
        raise UsageError(f"client {action}: --json goes with list", "obsdimg client --json")
    new = {
        "--split": options.split,
        "--reach": options.reach,
        "--network": options.network,
        "--mtu": options.mtu is not None,
        "--public-key": options.public_key,
    }
    if action != "add" and any(new.values()):
        given = next(word for word, value in new.items() if value)
        raise UsageError(
            f"client {action}: {given} describes a new client",
            "it goes with add; an existing one is changed in obsdimg.toml",
        )
    if options.apply and action not in CHANGES:
        raise UsageError(f"client {action}: --apply changes nothing here", "see obsdimg apply")
    if action == "add" and names[0] in ACTIONS:
        raise UsageError(f"{names[0]}: is a word of this command", "choose another name")
    if options.server_key:
        _remember_server(open_project(options), options.server_key, ui)
        if not options.words:
            return 0
    if action in CHANGES:
        _refuse_one_of_several(options, action)
    if action == "list":
        _list(options, ui)
    elif action == "show":
        _show(options, names[0], ui)
    elif options.apply:
        _applied(options, action, names[0], ui)
    else:
        _what_next(_changed(options, action, names[0], ui), ui)
    return 0


def _refuse_one_of_several(options: Options, action: str) -> None:
    """Several servers have their clients in common.  Raises ObsdimgError."""
    if options.every:
        raise ObsdimgError(f"client {action}: --all goes with show", "it is for all servers anyway")
    if not names_in(options.config):
        return
    if options.server:
        raise ObsdimgError(
            f"client {action}: is for all servers of the file",
            "a client of one server stands in [servers.NAME.tunnel], and is edited there",
        )
    if options.apply:
        raise ObsdimgError(
            f"client {action}: --apply goes with one server", "obsdimg apply --all, afterwards"
        )


def _changed(options: Options, action: str, name: str, ui: Ui) -> Project:
    """Add, remove or rotate in the project; the project as it is then (of several, the first)."""
    if action == "add":
        return _add(options, name, ui)
    if action == "remove":
        return _remove(options, name, ui)
    return _rotate(options, name, ui)


def _applied(options: Options, action: str, name: str, ui: Ui) -> None:
    """Change the project and the server; if the server cannot be changed, neither is."""
    now = options.access_now(options.access())
    if action == "remove" and name == now.client.name:
        raise ObsdimgError(
            f"client {name}: is the one that would apply it", "choose another with --as"
        )
    saved = _saved(now.project, name)
    try:
        # Before the change, since it may be of the keys that this very tunnel has.
        with join_hub(now, options.timeout):
            fresh = _changed(options, action, name, ui)
            after = replace(options, client=now.client.name).access()
            consent = Consent(yes=options.yes, overwrite=options.overwrite)
            done = bring(now, after, fresh.keys(), consent, ui, options.timeout)
    except BaseException:
        _restore(saved)
        ui.warn("the project is as it was before")
        raise
    if done is False:
        _restore(saved)
        ui.say("the project is as it was before")
        return
    ui.say("an ISO built before does not know this: obsdimg build")


def _saved(project: Project, name: str) -> dict[Path, bytes | None]:
    """The files that a change of client `name` touches, as they are; None: not there."""
    paths = [project.config_path, project.clients / f"{name}.conf"]
    paths += [project.client_secrets / f"{name}.key", project.secrets / f"{name}.psk"]
    return {path: path.read_bytes() if path.exists() else None for path in paths}


def _restore(saved: dict[Path, bytes | None]) -> None:
    for path, data in saved.items():
        if data is None:
            remove_file(path)
        elif not path.exists() or path.read_bytes() != data:
            write_file(path, data, path.stat().st_mode & 0o777 if path.exists() else PRIVATE_FILE)


def _action(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    if not words:
        return "list", ()
    action, names = (words[0], words[1:]) if words[0] in ACTIONS else ("show", words)
    if len(names) != (0 if action == "list" else 1):
        raise UsageError(
            f"client {' '.join(words)}: one name is expected", "obsdimg client add phone"
        )
    return action, names


def _list(options: Options, ui: Ui) -> None:
    projects = open_projects(options)
    if options.json:
        if len(projects) == 1:
            ui.json(_rows(projects[0]))
            return
        show_documents({str(project.server): (0, _rows(project)) for project in projects}, ui)
        return
    for project in projects:
        if len(projects) > 1:
            ui.say(f"== {project.server}")
        _list_one(project, ui)


def _known_keys(project: Project) -> ProjectKeys:
    """The keys that there are; none is made to be shown."""
    project.refuse_lost_keys()
    return project.keys(make=False)


def _rows(project: Project) -> list[dict[str, object]]:
    keys = _known_keys(project)
    return [
        {
            "name": peer.name,
            "addresses": [str(a) for a in (peer.ipv4, peer.ipv6) if a is not None],
            "public_key": keys.peers[peer.name].public.text(),
            "own_key": peer.public_key is not None,
            "internet": peer.internet,
            "reach": [str(n) for n in peer.reach],
            "networks": [str(n) for n in peer.networks],
        }
        for peer in project.config.tunnel.peers
    ]


def _list_one(project: Project, ui: Ui) -> None:
    keys = _known_keys(project)
    for peer in project.config.tunnel.peers:
        kind = "full tunnel" if peer.internet else "split tunnel"
        addresses = ", ".join(str(a) for a in (peer.ipv4, peer.ipv6) if a is not None)
        reach = ", reaches " + ", ".join(map(str, peer.reach)) if peer.reach else ""
        behind = ", behind it " + ", ".join(map(str, peer.networks)) if peer.networks else ""
        key = keys.peers[peer.name].public.text()
        ui.say(f"{peer.name:12} {addresses:16} {key}  {kind}{reach}{behind}")


def _show(options: Options, name: str, ui: Ui) -> None:
    several = options.every or len(options.server) > 1
    projects = open_projects(options) if several else [open_project(options)]
    clients = []
    for number, project in enumerate(projects):
        peer = find_peer(project.config, name)
        # All its traffic goes to the first; to the others what is there.
        peer = peer if number == 0 else peer.model_copy(update={"internet": False})
        client = plan_client(project.config, _known_keys(project), peer)
        clients.append(client)
        for what, how in still_missing(client):
            where = f"{client.server_name}: " if several else ""
            ui.warn(f"{where}{name}: still missing: {what}: {how}")
    text = clients_conf(clients).decode()
    if options.png:
        write_file(options.png, qr_png(text))
        ui.info(f"wrote {options.png} (it holds the client's keys)")
    if options.svg:
        write_file(options.svg, qr_svg(text))
        ui.info(f"wrote {options.svg} (it holds the client's keys)")
    if options.qr:
        _refuse_small_terminal(text, name)
        ui.say(qr_text(text))
    elif not options.png and not options.svg:
        ui.say(text.rstrip("\n"))


def _refuse_small_terminal(text: str, name: str) -> None:
    """Raises QrError where the code would be wrapped or run off the top of the terminal."""
    if not sys.stdout.isatty():
        return
    columns, lines = qr_size(text)
    has = os.get_terminal_size(sys.stdout.fileno())
    if has.columns < columns or has.lines < lines + 1:
        raise QrError(
            f"the QR code takes {columns} columns and {lines + 1} lines, this terminal has"
            f" {has.columns} and {has.lines}",
            "make the window larger or the font smaller, or write a picture: obsdimg client"
            f" {name} --png {name}.png",
        )


def _add(options: Options, name: str, ui: Ui) -> Project:
    projects = open_projects(options)
    for project in projects:
        project.refuse_lost_keys()
    servers = [project.config for project in projects]
    addresses = free_addresses(shared_config(options.config), servers)
    values: dict[str, object] = {"name": name, **addresses}
    if options.public_key:
        values["public_key"] = options.public_key
    if options.split:
        values["internet"] = False
    if options.reach:
        values["reach"] = options.reach
    if options.network:
        values["networks"] = options.network
    if options.mtu is not None:
        values["mtu"] = options.mtu
    add_peer(options.config, values)
    projects = open_projects(options)
    for project in projects:
        _write_files(project, name, ui)
    for text in warnings(projects[0].config):
        if text.startswith(f"peer {name}: "):
            ui.warn(text)
    ui.say(f"client {name} added")
    return projects[0]


def _remove(options: Options, name: str, ui: Ui) -> Project:
    for project in open_projects(options):
        project.refuse_lost_keys()
    projects = open_projects(options)
    if not _half_removed(projects, name):
        remove_peer(options.config, name)
        projects = open_projects(options)
    for project in projects:
        _forget(project, name)
        remove_file(client_path(project.clients, name))
    ui.say(f"client {name} removed, with its keys")
    return projects[0]


def _half_removed(projects: Sequence[Project], name: str) -> bool:
    """Whether a run that was killed has taken it out of the configuration, and no further: its
    file in clients/ goes last."""
    if Path(name).name != name:
        return False
    listed = any(peer.name == name for p in projects for peer in p.config.tunnel.peers)
    return not listed and any(client_path(p.clients, name).exists() for p in projects)


def _forget(project: Project, name: str, *, own: bool = True) -> None:
    """Remove the client's keys; `own`: its own, too."""
    SecretStore(project.secrets).forget(f"{name}.psk")
    if own:
        SecretStore(project.client_secrets).forget(f"{name}.key")


def _rotate(options: Options, name: str, ui: Ui) -> Project:
    projects = open_projects(options)
    own = all(find_peer(p.config, name).public_key is None for p in projects)
    for project in projects:
        project.refuse_lost_keys()
    for project in projects:
        _forget(project, name, own=own)
    for project in projects:
        _write_files(project, name, ui)
    what = "keys" if own else "pre-shared key (its own key is its own affair)"
    ui.say(f"client {name} has new {what}")
    return projects[0]


def _write_files(project: Project, name: str, ui: Ui) -> None:
    client = plan_client(project.config, project.keys(), find_peer(project.config, name))
    path = write_client(project.clients, client)
    where = "" if project.server is None else f" --server {project.server}"
    ui.info(f"wrote {path}: give it to the client (obsdimg client {name} --qr{where})")


def _what_next(project: Project, ui: Ui) -> None:
    """What a server that runs already needs, and what one that is still to come."""
    ui.say("an ISO built before does not know this: obsdimg build")
    if project.config.access.sshd:
        every = "" if project.server is None else " --all"
        ui.say(f"a running server takes it over through the tunnel: obsdimg apply{every}")


def _remember_server(project: Project, text: str, ui: Ui) -> None:
    if project.config.tunnel.keys == "build":
        raise ObsdimgError(
            "--server-key: this server's key is made here", 'it is for tunnel.keys = "first-boot"'
        )
    key = WgPublicKey.parse(text, "--server-key")
    private_dir(project.secrets)
    write_file(project.secrets / "server.pub", f"{key.text()}\n".encode())
    for peer in project.config.tunnel.peers:
        _write_files(project, peer.name, ui)
