"""`obsdimg smoke`: boot the ISO in QEMU, install, reboot, unlock, use the tunnel; report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli import values
from obsdimg.cli.guest import (
    GIB,
    GuestUsageError,
    WithGuest,
    exposure,
    first_that_works,
    judge,
    kept_disk,
    passphrases,
    project_at,
    refuse_stand_in,
    require_carried,
    require_room,
    versions,
)
from obsdimg.cli.options import WithServers, argument, flag, option, repeated
from obsdimg.cli.servers import project_root
from obsdimg.cli.ui import Ui
from obsdimg.cli.which_iso import project_iso
from obsdimg.core.errors import UsageError
from obsdimg.core.progress import Progress
from obsdimg.core.scratch import run_folder
from obsdimg.image.inspection import Inspection, inspect
from obsdimg.project.folder import Project
from obsdimg.smoke import prepare as smokeplan
from obsdimg.smoke.plan import Login, SmokePlan
from obsdimg.smoke.play import RunOptions
from obsdimg.smoke.qemu import Accelerator, Qemu, find_qemu
from obsdimg.smoke.report import as_text, write_reports
from obsdimg.smoke.result import SmokeResult
from obsdimg.smoke.scenario import run_smoke
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.ip import Address


@dataclass(frozen=True, kw_only=True)
class Options(WithServers, WithGuest):
    """What the command line says."""

    iso: Path | None = argument(
        metavar="ISO", nargs="?", type=Path, help="default: the ISO of the project"
    )
    report: Path | None = option(
        "--report",
        type=Path,
        metavar="DIR",
        own=True,
        help="where the report goes (default: ./smoke-report, or in servers/NAME)",
    )
    json: bool = flag("--json", help="report.json on stdout")
    client: tuple[Path, ...] = repeated(
        "--client",
        type=Path,
        metavar="FILE",
        help="a client's configuration to try (default: those of the project); repeat for more",
    )
    server_address: tuple[Address, ...] = repeated(
        "--server-address",
        type=values.address,
        metavar="ADDR",
        help="the server's address in the tunnel (default: the project's)",
    )
    ssh: str | None = option("--ssh", choices=("open", "closed"), help="ssh from outside should be")
    login: str | None = option("--login", metavar="USER", help="also look from inside, over ssh")
    identity: Path | None = option(
        "--identity", type=Path, metavar="KEY", help="with --login: the private key"
    )
    idle: float = option(
        "--idle", type=values.duration, default=0.0, metavar="TIME", group="the run",
        help="leave the booted server alone for so long before its first client: 15m",
    )  # fmt: skip
    disk_size: int = option(
        "--disk-size",
        type=values.size,
        default=4 * GIB,
        metavar="SIZE",
        help="4G",
        group="the machine",
    )
    board: str = option(
        "--board",
        choices=("q35", "pc"),
        default="q35",
        help="QEMU's machine type (default: q35; OpenBSD boots 20 s slower on pc)",
        group="the machine",
    )
    uefi: bool = flag("--uefi", help="UEFI instead of BIOS (from 7.5)", group="the machine")
    keyboard: bool = flag(
        "--keyboard",
        help="reach the boot loader by keyboard and screen, without the BIOS's serial mirror",
        group="the machine",
    )
    offline: bool = flag(
        "--offline",
        help="where no namespace can be made (macOS): QEMU itself cuts the guest off; its DHCP then"
        " names no router, so only for servers with a fixed address and gateway",
        group="the machine",
    )


def run(options: Options, ui: Ui) -> int:
    """0 when every stage passed, 1 when the ISO does not give a working server."""
    if options.online and options.offline:
        raise UsageError("smoke: --online and --offline contradict each other")
    qemu = find_qemu()
    folder = project_root(options) if options.server else Path()
    report = options.report or folder / "smoke-report"
    project = project_at(options)
    iso = project_iso(options.iso, options)
    progress = ui.progress()
    judge(iso, project_root(options), options.trust_iso, progress)
    with progress.step(f"Looking into {iso.name}"):
        found = inspect(iso, progress)
    refuse_stand_in(iso, found)
    plan, notes = _plan(options, ui, project, found)
    played: list[SmokeResult] = []
    try:
        result = _play(options, ui, plan, qemu, notes, progress, played)
    except BaseException:  # also ctrl-C and SIGTERM: what was seen so far is worth keeping
        if played and played[-1].stages:
            write_reports(played[-1], report)
            ui.info(f"report of what was played: {report / 'report.html'}")
        raise
    paths = write_reports(result, report)
    if options.json:
        ui.json(result.as_dict())
    else:
        ui.say(as_text(result).rstrip())
    html = next(p for p in paths if p.suffix == ".html")
    ui.info(f"report: {html}")
    return 0 if result.verdict.value == "passed" else 1


def _plan(
    options: Options, ui: Ui, project: Project | None, found: Inspection
) -> tuple[SmokePlan, list[str]]:
    """The plan, and notes on what cannot be tried."""
    smokeplan.release_of(found)
    how = smokeplan.encryption_of(found)
    notes: list[str] = []
    peers: list[TunnelClient] = []
    if options.client:
        for path in options.client:
            peers.append(
                smokeplan.client_from_file(path.expanduser(), options.server_address, project)
            )
    elif project is not None:
        peers, notes = smokeplan.project_clients(project)
    require_carried(options, project)
    screen = options.keyboard or smokeplan.loader_on_com0(found, uefi=options.uefi)
    notes += smokeplan.of_the_screen(found, screen=screen)
    notes += exposure(options, ui, options.offline)
    if not peers:
        notes.append("no client to try: the tunnel itself is not tested")
    secret, sealing = passphrases(
        options.passphrase_file, options.sealing_passphrase_file, ui, found, how
    )
    wishes = smokeplan.SmokeOptions(
        disk_size=options.disk_size,
        memory_mib=options.memory,
        uefi=options.uefi,
        online=options.online,
        offline=options.offline,
        idle_seconds=options.idle,
        board=options.board,
        login=_login(options),
    )
    plan = smokeplan.make_plan(
        found, secret, sealing, peers, project, wishes,
        ssh_open=None if options.ssh is None else options.ssh == "open",
    )  # fmt: skip
    return plan, notes


def _login(options: Options) -> Login | None:
    if options.login is None:
        return None
    if options.identity is None or not options.identity.expanduser().is_file():
        raise UsageError(
            "--login needs --identity, an existing private ssh key", "--identity ~/.ssh/id_ed25519"
        )
    return Login(options.login, options.identity.expanduser())


def _play(
    options: Options,
    ui: Ui,
    plan: SmokePlan,
    qemu: Qemu,
    notes: list[str],
    progress: Progress,
    played: list[SmokeResult],
) -> SmokeResult:
    """Play the scenario with the first accelerator that runs the guest.

    Each attempt's result is in `played` from its beginning.
    """

    def attempt(accelerator: Accelerator) -> SmokeResult:
        result = SmokeResult(plan.iso.name, plan.release, notes=list(notes))
        result.versions = versions(qemu, accelerator)
        played.append(result)
        with _workshop(options, plan, qemu, accelerator) as run:
            return run_smoke(plan, run, progress, result)

    return first_that_works(options.accelerator, attempt, ui, notes)


@contextmanager
def _workshop(
    options: Options, plan: SmokePlan, qemu: Qemu, accelerator: Accelerator
) -> Iterator[RunOptions]:
    """A private folder for the disk beside the cache, gone afterwards; the kept disk."""
    kept = kept_disk(plan)
    if options.start == "installed" and not kept.exists():
        raise GuestUsageError(
            f"{kept}: no installed disk was kept for this ISO", "run once with --keep"
        )
    root = kept.parent
    require_room(root, plan.disk_size, "--disk-size")

    def keep(disk: Path) -> Path:
        return disk.replace(kept) if options.keep else disk

    with run_folder(root) as folder:
        yield RunOptions(
            folder=folder,
            qemu=qemu,
            accelerator=accelerator,
            # That the loader asks on the line is shown only where there is a screen.
            serial_mirror=not (options.keyboard or plan.loader_on_com0),
            installed=kept if options.start == "installed" else None,
            finished_install=keep,
            doomed=folder,
        )
