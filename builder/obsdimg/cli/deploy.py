"""`obsdimg deploy`: from the ISO to a server that answers; `status` and `destroy` beside it."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obsdimg.cli.console_options import PASSWORD_VARIABLE
from obsdimg.cli.hosting import WithHosting, hosting_choice
from obsdimg.cli.options import WithServers, argument, flag, option
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.console.address import Address, from_argument, parse
from obsdimg.console.errors import AddressError
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.passphrase import obtain_once, private_line
from obsdimg.core.secret import Secret
from obsdimg.deploy import session
from obsdimg.deploy.by_console import ByConsole
from obsdimg.deploy.handshake import first_caller
from obsdimg.deploy.image import Image, check_image, load_disk, load_image, refuse_small_plan
from obsdimg.deploy.provider import DeployError, Offer, Provider
from obsdimg.deploy.removal import Removal
from obsdimg.deploy.session import SMALLEST_DISK
from obsdimg.deploy.state import State
from obsdimg.deploy.steps import Deployment, WantedInstance
from obsdimg.deploy.uploading import Upload
from obsdimg.deploy.work import Waits
from obsdimg.disk.manifest import read_manifest
from obsdimg.image.comparison import image_key
from obsdimg.project.folder import Project
from obsdimg.site.clients import client_path, plan_clients, write_client
from obsdimg.site.ways import ssh_outside
from obsdimg.tunnel.identity import TunnelClient

ACTIONS = ("status", "destroy")


@dataclass(frozen=True, kw_only=True)
class Options(WithHosting, WithServers):
    """What the command line says."""

    action: str | None = argument(
        metavar="{status,destroy}",
        nargs="?",
        choices=ACTIONS,
        help="status: what there is; destroy: remove it (default: deploy, or go on with it)",
    )
    disk: Path | None = option(
        "--disk",
        type=Path,
        metavar="F",
        help="from the installed disk that `obsdimg disk` made, instead of the ISO (Vultr: raw, as"
        " a snapshot; libvirt: qcow2 or raw, as a volume)",
    )
    region: str | None = option("--region", help="default: deploy.region")
    plan: str | None = option("--plan", help="default: deploy.plan")
    label: str | None = option(
        "--label", help="name at the provider (default: deploy.label, or --name)"
    )
    yes: bool = flag("--yes", help="do not ask before creating")
    installed: bool = flag(
        "--installed",
        help="the console says that the installation is over: take the ISO out without a handshake",
    )
    install_limit: float | None = option(
        "--install-limit",
        type=float,
        metavar="MIN",
        help="how long to wait for each of the two handshakes (default: 180)",
    )
    console: str | None = option(
        "--console",
        metavar="URL",
        help="the machine's console, as `obsdimg console` takes it (default: the provider's, where"
        " it can be opened from here)",
    )
    passphrase_file: Path | None = option(
        "--passphrase-file",
        type=Path,
        metavar="F",
        help="typed on the console: the disk's passphrase (default: OBSDIMG_PASSPHRASE_FILE, or"
        " asked for)",
    )
    confirm: str | None = option(
        "--confirm", metavar="NAME", help="with destroy: its name, beforehand"
    )
    json: bool = flag("--json", help="the result as JSON")


def run(options: Options, ui: Ui) -> int:
    """0 when the server answers without the ISO.  Raises DeployError."""
    project = open_project(options)
    name = options.name or project.config.host.name
    store = session.store_of(project)
    begun = store.load(name)
    project = session.at_region(project, begun, options.region)
    if options.action == "status":
        return _status(project, name, options, ui)
    if options.action == "destroy":
        kind = "iso" if begun is None else begun.kind
        with store.lock(name), session.open_provider(project, options.token_file, kind) as provider:
            return _destroy(project, provider, name, options, ui)
    if options.iso is not None and options.disk is not None:
        raise UsageError("deploy: --iso and --disk exclude each other", "give one of them")
    _waits(options)
    if begun is None or not begun.instance.lives:
        session.hosting_of(project, hosting_choice(options), begun)
    key = image_key(project.root)
    if options.disk is not None:
        disk = options.disk.expanduser()
        manifest, _ = read_manifest(disk, None)
        if options.console is None and (begun is None or not begun.done):
            session.require_screen_for_disk(project.config, manifest)
        uefi = session.uefi_for(project, manifest)
        opened = session.open_provider(project, options.token_file, "disk", uefi=uefi)
        with store.lock(name), opened as provider:
            image = load_disk(disk, session.disk_forms(project), ui.progress(), key)
            return _deploy(project, provider, name, image, options, ui)
    if begun is not None and begun.kind == "disk" and not begun.removing:
        raise DeployError(
            f"{store.path(name)}: this deployment was begun with a disk",
            "give the same --disk again; obsdimg deploy destroy gives it up",
        )
    if options.console is None and (begun is None or not begun.installed):
        session.require_screen(project.config)
    path = session.image_path(project, options.iso)
    check_image(path, options.allow_secrets)
    with store.lock(name), session.open_provider(project, options.token_file) as provider:
        image = load_image(path, options.allow_secrets, ui.progress(), key)
        return _deploy(project, provider, name, image, options, ui)


def _waits(options: Options) -> Waits:
    return session.waits(options.pause, options.upload_limit, options.install_limit)


def _deploy(
    project: Project, provider: Provider, name: str, image: Image, options: Options, ui: Ui
) -> int:
    settings, progress = project.config.deploy, ui.progress()
    store, limits = session.store_of(project), _waits(options)
    caller = first_caller(plan_clients(project.config, project.keys(make=False)))
    label = options.label or settings.label or name
    state = session.begin(
        project, store, name, label, image, "iso" if options.disk is None else "disk"
    )
    work = Deployment(provider, store, state, limits=limits, progress=progress, say=ui.info)
    wish = session.wanted_instance(project.config, options.plan)
    if state.instance.lives:
        state.call_at = session.call_at(project.config, provider)  # it may have changed
    else:
        hosting = session.hosting_of(project, hosting_choice(options), state)
        offer = provider.offer(wish.region, wish.plan)
        state.call_at = session.call_at(project.config, provider)
        _agree(offer, wish, state, image, project, options, ui)
        work.refuse_taken()
        state.region = wish.region
        upload = Upload(provider, store, state, limits=limits, progress=progress, say=ui.info)
        with store.nothing_left(state):
            upload.upload(image, hosting, settings.keep_object)
    work.create(wish)
    if state.call_at is not None and not state.done:
        port = project.config.tunnel.port
        ui.info(f"{state.call_at} must forward port {port}/udp to {state.address}")
    if caller is None:
        _tell_console(work, project, ui)
        raise ObsdimgError(
            f"{state.label} runs at {state.address}, but no client here can call it",
            "obsdimg client --server-key KEY tells the key that its console shows; then run this"
            " again",
        )
    typing = _by_console(work, project, options, ui)
    if state.kind == "disk":
        if typing is None and not state.done:
            ui.info(f"console: {work.instance().console or 'in the web page of the provider'}")
            ui.info("its disk is installed: type the passphrase there")
        work.skip_installation()
    elif typing is not None:
        typing.install()
    else:
        _tell_console(work, project, ui)
        work.await_installation(caller, _operator(options, ui))
    work.detach(caller)
    if typing is not None:
        typing.unlock()
    elif not state.done and state.kind == "iso":
        _tell_unlock(project, ui)
    work.await_service(caller)
    work.finish(settings.keep_iso)
    _summary(project, state, caller, options, ui)
    return 0


def _agree(
    offer: Offer,
    wish: WantedInstance,
    state: State,
    image: Image,
    project: Project,
    options: Options,
    ui: Ui,
) -> None:
    """Show what will be made and what it costs; ask.  Raises DeployError: too small, or no."""
    if offer.disk < SMALLEST_DISK:
        raise DeployError(
            f"deploy.plan: {offer.plan} has a disk of {offer.disk} GB, too small for OpenBSD",
            f"choose one with {SMALLEST_DISK} GB or more",
        )
    refuse_small_plan(offer, image)
    ui.info(f"{project.config.deploy.provider}, region {offer.region} ({offer.place})")
    ui.info(
        f"plan {offer.plan}: {offer.cpus} CPU, {offer.ram} MiB, {offer.disk} GB,"
        f" {offer.monthly:.2f} USD a month"
    )
    ports = ", ".join(f"{p}/udp" for p in wish.firewall_ports)
    made = [f"instance {state.label}"]
    made += [f"firewall group (lets in {ports})"] if ports else []
    made += [f"private network {wish.subnet}"] if wish.network == "create" else []
    made += [] if state.iso_verified else [f"{state.medium} in the account"]
    ui.info("to be made: " + ", ".join(made))
    if wish.firewall_ports and ssh_outside(project.config).always:
        ui.warn("the firewall group keeps ssh out, which the server's own rules let in")
    if not options.yes and not ui.confirm("Make it?"):
        raise DeployError("nothing was made")


def _by_console(work: Deployment, project: Project, options: Options, ui: Ui) -> ByConsole | None:
    """Whoever types on the console for us; None: a person has to."""
    if work.state.done or project.config.disk.encryption != "passphrase":
        return None

    def where() -> tuple[Address, Secret | None]:
        if options.console is not None:
            return from_argument(options.console), _console_password(ui)
        instance = work.instance()
        password = instance.console_password
        return parse(instance.console), Secret(password) if password else None

    if options.console is None:
        try:
            where()
        except AddressError:
            return None  # a web page, or nothing
    else:
        where()
    passphrase = obtain_once(options.passphrase_file, ui.ask_secret)
    return ByConsole(work, where, passphrase, host=project.config.host.name)


def _console_password(ui: Ui) -> Secret | None:
    named = os.environ.get(PASSWORD_VARIABLE)
    if named:
        return Secret(private_line(Path(named).expanduser(), "console's password"))
    return None


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
    if project.config.disk.encryption in ("passphrase", "embedded"):
        ui.info("the machine restarts without the ISO: type the passphrase on its console")


def _operator(options: Options, ui: Ui) -> Callable[[], bool]:
    """Whether the operator says that the installation is over: `--installed`, or Enter."""
    if options.installed:
        return lambda: True
    if not sys.stdin.isatty():
        return lambda: False

    def pressed() -> bool:
        if not select.select([sys.stdin], [], [], 0)[0]:
            return False
        return sys.stdin.readline() != "" and ui.confirm("Is the installation over?")

    return pressed


def _summary(
    project: Project, state: State, caller: TunnelClient, options: Options, ui: Ui
) -> None:
    if options.json:
        ui.json(_facts(state))
        return
    speed = "" if state.handshake is None else f" in {state.handshake * 1000:.1f} ms"
    without = ", without the ISO" if state.kind == "iso" else ""
    ui.say(f"{state.label}: {state.called} answers as {caller.name}{speed}{without}")
    ui.say(f"  instance {state.instance.id}, plan {state.plan}, region {state.region}")
    endpoint = project.config.tunnel.endpoint
    for path in _client_files(project, state, ui):
        ui.say(f"  client {path}")
    if endpoint is not None and endpoint != state.called:
        ui.info(f"let {endpoint} point to {state.address}")
    ui.next("probe", caller.name, *options.command_words())
    for peer in project.config.tunnel.peers:
        if peer.public_key is None and peer.name != caller.name:
            ui.next("client", peer.name, "--qr", *options.command_words())
            break


def _client_files(project: Project, state: State, ui: Ui) -> list[str]:
    """The clients' files; where no endpoint is configured they get the address, now known."""
    config, written = project.config, []
    if config.tunnel.endpoint is None and state.address is not None:
        tunnel = config.tunnel.model_copy(update={"endpoint": state.address})
        config = config.model_copy(update={"tunnel": tunnel})
        ui.info(f'write it down: tunnel.endpoint = "{state.address}"')
    for client in plan_clients(config, project.keys(make=False)):
        path = client_path(project.clients, client.name)
        if config is not project.config or not path.exists():
            write_client(project.clients, client)
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


def _status(project: Project, name: str, options: Options, ui: Ui) -> int:
    store = session.store_of(project)
    state = store.load(name)
    if state is None:
        others = ", ".join(store.names())
        if options.json:
            ui.json({"name": name, "deployed": False, "others": store.names()})
            return 0
        ui.say(f"{name}: nothing deployed" + (f" (there is: {others})" if others else ""))
        return 0
    with session.open_provider(project, options.token_file, state.kind) as provider:
        key = state.instance.id
        instance = provider.instance(key) if key and not state.instance.gone else None
        iso = provider.iso(state.iso.id) if state.iso.id and not state.iso.gone else None
        drive = provider.attached_iso(instance.id) if instance else None
    seen = {
        "instance": None if instance is None else instance.status,
        "iso": None if iso is None else iso.status,
        "iso_attached": drive,
    }
    if options.json:
        ui.json({**_facts(state), "provider_says": seen})
        return 0
    for event in state.events:
        ui.say(f"{event.at}  {event.step}")
    ui.say(f"instance: {seen['instance'] or 'none'}" + (f", {state.address}" if instance else ""))
    if state.kind == "disk":
        ui.say(f"{state.medium} in the account: {seen['iso'] or 'none'}")
    else:
        ui.say(f"ISO in the account: {seen['iso'] or 'none'}; in the drive: {drive or 'none'}")
    if instance is not None and instance.console and not state.done:
        ui.say(f"console: {instance.console}")
    if not state.done:
        ui.info("not finished: obsdimg deploy goes on, obsdimg deploy destroy gives up")
    return 0


def _destroy(project: Project, provider: Provider, name: str, options: Options, ui: Ui) -> int:
    store = session.store_of(project)
    state = store.load(name)
    if state is None:
        raise DeployError(f"{name}: nothing deployed", f"there is: {store.names() or 'none'}")
    (ui.info if options.confirm else ui.tell)(
        f"to be destroyed: {state.label} ({state.instance.id}) at {state.address}, with its disk"
    )
    typed = options.confirm
    if typed is None:
        if not sys.stdin.isatty():
            raise DeployError("destroy asks for the name", f"--confirm {name} says it beforehand")
        typed = ui.ask("Type its name to destroy it:")
    if typed != name:
        raise DeployError(f"{typed!r} is not {name!r}: nothing was destroyed")
    work = Removal(
        provider, store, state,
        limits=_waits(options), progress=ui.progress(), say=ui.info,
    )  # fmt: skip
    work.destroy(session.bucket_of(project, options.s3_keys))
    if options.json:
        ui.json({"name": name, "deployed": False, "others": store.names()})
    else:
        ui.say(f"{name}: nothing of it is left at {provider.name}")
    return 0
