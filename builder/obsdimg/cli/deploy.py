"""`obsdimg deploy`: from the ISO to a server that answers; `status` and `destroy` beside it."""

from __future__ import annotations

import argparse
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError

if TYPE_CHECKING:
    from obsdimg.deploy.handshake import DeploymentCaller
    from obsdimg.deploy.provider import Offer, Provider
    from obsdimg.deploy.state import State
    from obsdimg.deploy.steps import Deployment, WantedInstance
    from obsdimg.project.folder import Project

HELP = "make the server at the provider, wait for its handshake, take the ISO out"

ACTIONS = ("status", "destroy")


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli.hosting_options import add_hosting_options
    from obsdimg.cli.main import add_config_option

    parser.add_argument(
        "action",
        nargs="?",
        choices=ACTIONS,
        help="status: what there is; destroy: remove it (default: deploy, or go on with it)",
    )
    add_config_option(parser)
    add_hosting_options(parser)
    parser.add_argument("--region", help="default: deploy.region")
    parser.add_argument("--plan", help="default: deploy.plan")
    parser.add_argument("--label", help="name at the provider (default: deploy.label, or --name)")
    parser.add_argument("--yes", action="store_true", help="do not ask before creating")
    parser.add_argument(
        "--installed",
        action="store_true",
        help="the console says that the installation is over: take the ISO out without a handshake",
    )
    parser.add_argument(
        "--install-limit",
        type=float,
        metavar="MIN",
        help="how long to wait for each of the two handshakes (default: 180)",
    )
    parser.add_argument("--confirm", metavar="NAME", help="with destroy: its name, beforehand")
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(args: argparse.Namespace, ui: Ui) -> int:
    """0 when the server answers without the ISO.  Raises DeployError."""
    from obsdimg.deploy import session
    from obsdimg.project.folder import Project

    project = Project.open(args.config)
    name = args.name or project.config.host.name
    store = session.store_of(project)
    if args.action == "status":
        return _status(project, name, args, ui)
    with store.lock(name), session.open_provider(project, args.token_file) as provider:
        if args.action == "destroy":
            return _destroy(project, provider, name, args, ui)
        return _deploy(project, provider, name, args, ui)


def _deploy(
    project: Project, provider: Provider, name: str, args: argparse.Namespace, ui: Ui
) -> int:
    from obsdimg.deploy import session
    from obsdimg.deploy.handshake import choose_caller
    from obsdimg.deploy.image import load_image
    from obsdimg.deploy.steps import Deployment
    from obsdimg.deploy.uploading import Upload

    settings, progress = project.config.deploy, ui.progress()
    store, limits = session.store_of(project), session.limits_of(args)
    caller = choose_caller(project.config, project.keys())
    label = args.label or settings.label or name
    image = load_image(session.image_path(project, args.iso), args.allow_secrets, progress)
    state = session.begin(project, store, name, label, image)
    work = Deployment(provider, store, state, limits=limits, progress=progress, say=ui.info)
    wish = session.wish_of(project.config, args.region, args.plan)
    if not state.instance.lives:
        hosting = session.hosting_of(project, args, state)
        _agree(provider.offer(wish.region, wish.plan), wish, state, project, args, ui)
        work.refuse_taken()
        Upload(provider, store, state, limits=limits, progress=progress, say=ui.info).upload(
            image, hosting, settings.keep_object
        )
    work.create(wish)
    _tell_console(work, project, ui)
    if caller is None:
        raise ObsdimgError(
            f"{state.label} runs at {state.address}, but no client here can call it",
            "obsdimg client --server-key KEY tells the key that its console shows; then run this"
            " again",
        )
    work.await_installation(caller, _operator(args, ui))
    work.detach(caller)
    if not state.done:
        _tell_unlock(project, ui)
    work.await_service(caller)
    work.finish(settings.keep_iso)
    _summary(project, state, caller, args, ui)
    return 0


def _agree(
    offer: Offer,
    wish: WantedInstance,
    state: State,
    project: Project,
    args: argparse.Namespace,
    ui: Ui,
) -> None:
    """Show what will be made and what it costs; ask.  Raises DeployError: too small, or no."""
    from obsdimg.deploy.provider import DeployError
    from obsdimg.deploy.session import SMALLEST_DISK

    if offer.disk < SMALLEST_DISK:
        raise DeployError(
            f"deploy.plan: {offer.plan} has a disk of {offer.disk} GB, too small for OpenBSD",
            f"choose one with {SMALLEST_DISK} GB or more",
        )
    ui.info(f"{project.config.deploy.provider}, region {offer.region} ({offer.place})")
    ui.info(
        f"plan {offer.plan}: {offer.cpus} CPU, {offer.ram} MiB, {offer.disk} GB,"
        f" {offer.monthly:.2f} USD a month"
    )
    ports = ", ".join(f"{p}/udp" for p in wish.firewall_ports)
    made = [f"instance {state.label}"]
    made += [f"firewall group (lets in {ports})"] if ports else []
    made += [f"private network {wish.subnet}"] if wish.network == "create" else []
    made += [] if state.iso_verified else ["ISO in the account"]
    ui.info("to be made: " + ", ".join(made))
    if wish.firewall_ports and project.config.access.ssh_from == "anywhere":
        ui.warn("the firewall group keeps ssh out, which access.ssh_from lets in")
    if not args.yes and not ui.confirm("Make it?"):
        raise DeployError("nothing was made")


def _tell_console(work: Deployment, project: Project, ui: Ui) -> None:
    """Where the console is and what it asks; its address is a key to it and is not stored."""
    if work.state.installed:
        return
    ui.info(f"console: {work.instance().console or 'in the web page of the provider'}")
    if project.config.disk.encryption == "passphrase":
        ui.info("it asks there for the disk's passphrase, twice; again after every restart")
    ui.info("if it starts from the ISO again after the installation, nothing is erased:")
    ui.info("  press Enter here (or run again with --installed), and the ISO is taken out")


def _tell_unlock(project: Project, ui: Ui) -> None:
    if project.config.disk.encryption == "passphrase":
        ui.info("the machine restarts without the ISO: type the passphrase on its console")


def _operator(args: argparse.Namespace, ui: Ui) -> Callable[[], bool]:
    """Whether the operator says that the installation is over: `--installed`, or Enter."""
    if args.installed:
        return lambda: True
    if not sys.stdin.isatty():
        return lambda: False

    def pressed() -> bool:
        if not select.select([sys.stdin], [], [], 0)[0]:
            return False
        return sys.stdin.readline() != "" and ui.confirm("Is the installation over?")

    return pressed


def _summary(
    project: Project, state: State, caller: DeploymentCaller, args: argparse.Namespace, ui: Ui
) -> None:
    if args.json:
        ui.json(_facts(state))
        return
    speed = "" if state.handshake is None else f" in {state.handshake * 1000:.1f} ms"
    ui.say(f"{state.label}: {state.address} answers as {caller.name}{speed}, without the ISO")
    ui.say(f"  instance {state.instance.id}, plan {state.plan}, region {state.region}")
    endpoint = project.config.tunnel.endpoint
    for path in _client_files(project, state, ui):
        ui.say(f"  client {path}")
    if endpoint is not None and endpoint != state.address:
        ui.info(f"let {endpoint} point to {state.address}")
    ui.info("next: obsdimg probe, obsdimg client NAME --qr")


def _client_files(project: Project, state: State, ui: Ui) -> list[str]:
    """The clients' files; where no endpoint is configured they get the address, now known."""
    from obsdimg.core.files import private_dir, write_file
    from obsdimg.site.clients import client_conf

    config, written = project.config, []
    if config.tunnel.endpoint is None and state.address is not None:
        tunnel = config.tunnel.model_copy(update={"endpoint": state.address})
        config = config.model_copy(update={"tunnel": tunnel})
        ui.info(f'write it down: tunnel.endpoint = "{state.address}"')
    keys = project.keys()
    for peer in config.tunnel.peers:
        path = private_dir(project.clients) / f"{peer.name}.conf"
        if config is not project.config or not path.exists():
            write_file(path, client_conf(config, keys, peer))
        written.append(str(path))
    return written


def _facts(state: State) -> dict[str, Any]:
    """The state for people and programs: without marks and paths that are nobody's business."""
    return {
        "name": state.name,
        "label": state.label,
        "provider": state.provider,
        "region": state.region,
        "plan": state.plan,
        "address": state.address,
        "instance": state.instance.id,
        "iso": None if state.iso.gone else state.iso.id,
        "firewall": state.firewall.id,
        "network": state.network.id or state.network_given,
        "handshake_ms": None if state.handshake is None else round(state.handshake * 1000, 3),
        "done": state.done,
        "events": [event.model_dump() for event in state.events],
    }


def _status(project: Project, name: str, args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg.deploy import session

    store = session.store_of(project)
    state = store.load(name)
    if state is None:
        others = ", ".join(store.names())
        ui.say(f"{name}: nothing deployed" + (f" (there is: {others})" if others else ""))
        return 0
    with session.open_provider(project, args.token_file) as provider:
        key = state.instance.id
        instance = provider.instance(key) if key and not state.instance.gone else None
        iso = provider.iso(state.iso.id) if state.iso.id and not state.iso.gone else None
        drive = provider.attached_iso(instance.id) if instance else None
    seen = {
        "instance": None if instance is None else instance.status,
        "iso": None if iso is None else iso.status,
        "iso_attached": drive,
    }
    if args.json:
        ui.json({**_facts(state), "provider_says": seen})
        return 0
    for event in state.events:
        ui.say(f"{event.at}  {event.step}")
    ui.say(f"instance: {seen['instance'] or 'none'}" + (f", {state.address}" if instance else ""))
    ui.say(f"ISO in the account: {seen['iso'] or 'none'}; in the drive: {drive or 'none'}")
    if instance is not None and instance.console and not state.done:
        ui.say(f"console: {instance.console}")
    if not state.done:
        ui.info("not finished: obsdimg deploy goes on, obsdimg deploy destroy gives up")
    return 0


def _destroy(
    project: Project, provider: Provider, name: str, args: argparse.Namespace, ui: Ui
) -> int:
    from obsdimg.deploy import session
    from obsdimg.deploy.provider import DeployError
    from obsdimg.deploy.removal import Removal

    store = session.store_of(project)
    state = store.load(name)
    if state is None:
        raise DeployError(f"{name}: nothing deployed", f"there is: {store.names() or 'none'}")
    ui.info(
        f"to be destroyed: {state.label} ({state.instance.id}) at {state.address}, with its disk"
    )
    typed = args.confirm
    if typed is None:
        if not sys.stdin.isatty():
            raise DeployError("destroy asks for the name", f"--confirm {name} says it beforehand")
        typed = input("Type its name to destroy it: ").strip()
    if typed != name:
        raise DeployError(f"{typed!r} is not {name!r}: nothing was destroyed")
    work = Removal(
        provider, store, state,
        limits=session.limits_of(args), progress=ui.progress(), say=ui.info,
    )  # fmt: skip
    work.destroy(session.bucket_of(project, args.s3_keys))
    ui.say(f"{name}: nothing of it is left at {provider.name}")
    return 0
