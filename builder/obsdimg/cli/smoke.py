"""`obsdimg smoke`: boot the ISO in QEMU, install, reboot, unlock, use the tunnel; report."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from obsdimg import __version__
from obsdimg.cli import values
from obsdimg.cli.options import WithConfig, argument, flag, option, repeated
from obsdimg.cli.passphrase import existing
from obsdimg.cli.ui import Ui
from obsdimg.cli.which_iso import project_iso
from obsdimg.core import passphrase as phrases
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import private_dir
from obsdimg.core.progress import Progress
from obsdimg.core.scratch import run_folder
from obsdimg.core.secret import Secret
from obsdimg.fetch.cache import Cache
from obsdimg.image.comparison import image_key, require_built, standing
from obsdimg.image.inspection import Inspection, inspect
from obsdimg.project.folder import Project
from obsdimg.smoke import prepare as smokeplan
from obsdimg.smoke.machine import AcceleratorError
from obsdimg.smoke.plan import Login, SmokePlan
from obsdimg.smoke.play import RunOptions
from obsdimg.smoke.qemu import Accelerator, Qemu, accelerators, find_qemu
from obsdimg.smoke.report import as_text, write_reports
from obsdimg.smoke.result import SmokeResult
from obsdimg.smoke.scenario import run_smoke
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.ip import Address

GIB = 1024**3
SPARE = 1 * GIB  # bytes of free space beyond the machine's disk


class SmokeUsageError(ObsdimgError):
    """The options, or what is on this machine, do not allow the test."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    iso: Path | None = argument(
        metavar="ISO", nargs="?", type=Path, help="default: the ISO of the project"
    )
    report: Path = option(
        "--report",
        type=Path,
        default=Path("smoke-report"),
        metavar="DIR",
        help="where the report goes (default: ./smoke-report)",
    )
    json: bool = flag("--json", help="report.json on stdout")
    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="the disk's passphrase (mode 0600)"
    )
    sealing_passphrase_file: Path | None = option(
        "--sealing-passphrase-file",
        type=Path,
        metavar="F",
        help="the passphrase of the build, if the disk gets another one",
    )
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
    keep: bool = flag("--keep", help="keep the installed disk for the next run", group="the run")
    trust_iso: bool = flag(
        "--trust-iso", help="also an ISO that is not the one that was built", group="the run"
    )
    start: str = option(
        "--from",
        choices=("iso", "installed"),
        default="iso",
        help="installed: start from the disk that --keep kept for this ISO",
        group="the run",
    )
    accelerator: str = option(
        "--accelerator",
        choices=("auto", "kvm", "hvf", "tcg"),
        default="auto",
        help="auto: what works here, else tcg (QEMU's own, slow)",
        group="the machine",
    )
    disk_size: int = option(
        "--disk-size",
        type=values.size,
        default=4 * GIB,
        metavar="SIZE",
        help="4G",
        group="the machine",
    )
    memory: int = option(
        "--memory", type=int, default=1024, metavar="MIB", help="1024", group="the machine"
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
        help="the guest reaches nothing beyond its gateway; DHCP then names no router, so only for"
        " servers with a fixed address and gateway",
        group="the machine",
    )


def run(options: Options, ui: Ui) -> int:
    """0 when every stage passed, 1 when the ISO does not give a working server."""
    qemu = find_qemu()
    project = _project(options)
    iso = project_iso(options.iso, options.config)
    progress = ui.progress()
    _judge(options, iso, progress)
    with progress.step(f"Looking into {iso.name}"):
        found = inspect(iso, progress)
    if found.stand_in:
        raise SmokeUsageError(
            f"{iso}: was built on the stand-in medium: it is not OpenBSD and installs nothing",
            "obsdimg rehearse plays it; for QEMU build on a real install ISO",
        )
    plan, notes = _plan(options, ui, project, found)
    played: list[SmokeResult] = []
    try:
        result = _play(options, ui, plan, qemu, notes, progress, played)
    except BaseException:  # also ctrl-C and SIGTERM: what was seen so far is worth keeping
        if played and played[-1].stages:
            write_reports(played[-1], options.report)
            ui.info(f"report of what was played: {options.report / 'report.html'}")
        raise
    paths = write_reports(result, options.report)
    if options.json:
        ui.json(result.as_dict())
    else:
        ui.say(as_text(result).rstrip())
    html = next(p for p in paths if p.suffix == ".html")
    ui.info(f"report: {html}")
    return 0 if result.verdict.value == "passed" else 1


def _project(options: Options) -> Project | None:
    if options.config.exists():
        return Project.open(options.config)
    if options.config != Path("obsdimg.toml"):
        raise SmokeUsageError(f"{options.config}: there is no such configuration")
    return None


def _judge(options: Options, iso: Path, progress: Progress) -> None:
    """The real passphrase is typed to the ISO that was built, and to no other without a word.

    Raises ChangedIsoError, SmokeUsageError.
    """
    judged = standing(iso, image_key(options.config.parent), progress)
    if options.trust_iso:
        return
    require_built(judged, iso)
    if judged.state == "unknown":
        raise SmokeUsageError(
            f"{iso}: nobody vouches for it: {judged.detail}",
            "put its manifest beside it, or say --trust-iso: your passphrase is typed to it",
        )


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
    if not peers:
        notes.append("no client to try: the tunnel itself is not tested")
    secret, sealing = _passphrases(options, ui, found, how)
    wishes = smokeplan.SmokeOptions(
        disk_size=options.disk_size,
        memory_mib=options.memory,
        uefi=options.uefi,
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


def _passphrases(
    options: Options, ui: Ui, found: Inspection, how: str
) -> tuple[Secret, Secret | None]:
    """The disk's passphrase and, where it differs, the one of the sealed secrets."""
    sealing = None
    if options.sealing_passphrase_file is not None:
        sealing = phrases.from_file(options.sealing_passphrase_file)
    embedded = found.extracts.get("ramdisk/obsdimg.key")
    if how == "embedded" and embedded is not None:
        return Secret(embedded.decode("latin-1").rstrip("\n")), sealing
    secret = existing(options.passphrase_file, ui, "Passphrase of the build")
    if secret is None:
        raise SmokeUsageError(
            "the passphrase of the build is needed, to be typed in the machine",
            f"give it with --passphrase-file F, or name a file in {phrases.VARIABLE}",
        )
    return secret, sealing or (secret if how == "none" else None)


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
    chosen = accelerators() if options.accelerator == "auto" else [Accelerator(options.accelerator)]
    for number, accelerator in enumerate(chosen):
        result = SmokeResult(plan.iso.name, plan.release, notes=list(notes))
        result.versions = _versions(qemu, accelerator)
        played.append(result)
        with _workshop(options, plan, qemu, accelerator) as run:
            try:
                return run_smoke(plan, run, progress, result)
            except AcceleratorError as error:
                if number + 1 == len(chosen):
                    raise
                ui.warn(f"{error.message}; starting over with {chosen[number + 1].value}")
                notes.append(f"{accelerator.value} was tried first: {error.message}")
    raise AssertionError("the last accelerator returns or raises")


@contextmanager
def _workshop(
    options: Options, plan: SmokePlan, qemu: Qemu, accelerator: Accelerator
) -> Iterator[RunOptions]:
    """A private folder for the disk beside the cache, gone afterwards; the kept disk."""
    cache = Cache.default()
    kept = _kept(cache, plan)
    if options.start == "installed" and not kept.exists():
        raise SmokeUsageError(
            f"{kept}: no installed disk was kept for this ISO", "run once with --keep"
        )
    root = private_dir(kept.parent)
    free = shutil.disk_usage(root).free
    if free < plan.disk_size + SPARE:
        raise SmokeUsageError(
            f"{root}: {free / GIB:.1f} GB free, {(plan.disk_size + SPARE) / GIB:.1f} GB needed",
            "free some space, choose another place with OBSDIMG_CACHE, or a smaller --disk-size",
        )

    def keep(disk: Path) -> Path:
        return disk.replace(kept) if options.keep else disk

    with run_folder(root) as folder:
        yield RunOptions(
            folder=folder,
            qemu=qemu,
            accelerator=accelerator,
            serial_mirror=not options.keyboard,
            installed=kept if options.start == "installed" else None,
            finished_install=keep,
            folder_doomed=True,
        )


def _kept(cache: Cache, plan: SmokePlan) -> Path:
    """Where the installed disk of this very ISO is kept, if it is."""
    with plan.iso.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return cache.path("smoke", f"{digest}-{plan.disk_size}.qcow2")


def _versions(qemu: Qemu, accelerator: Accelerator) -> dict[str, str]:
    return {
        "obsdimg": __version__,
        "QEMU": ".".join(map(str, qemu.version)),
        "accelerator": accelerator.value,
        "qemu.qmp": version("qemu.qmp"),
        "pexpect": version("pexpect"),
        "Python": platform.python_version(),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
