"""`obsdimg smoke`: boot the ISO in QEMU, install, reboot, unlock, use the tunnel; report."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from obsdimg.core.errors import ObsdimgError

if TYPE_CHECKING:
    from obsdimg.cli.ui import Ui
    from obsdimg.core.passphrase import Secret
    from obsdimg.core.progress import Progress
    from obsdimg.fetch.cache import Cache
    from obsdimg.image.inspection import Inspection
    from obsdimg.project.folder import Project
    from obsdimg.smoke.plan import Login, SmokePlan
    from obsdimg.smoke.play import Options
    from obsdimg.smoke.qemu import Accelerator, Qemu
    from obsdimg.smoke.result import SmokeResult

HELP = "boot an ISO in QEMU: install, reboot, unlock, use the tunnel; with a report"

GIB = 1024**3
SPARE = 1 * GIB  # bytes of free space beyond the machine's disk


class SmokeUsageError(ObsdimgError):
    """The options, or what is on this machine, do not allow the test."""


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli.main import add_config_option

    parser.add_argument(
        "iso", nargs="?", type=Path, metavar="ISO", help="default: the ISO of the project"
    )
    add_config_option(parser)
    parser.add_argument(
        "--report", type=Path, default=Path("smoke-report"), metavar="DIR",
        help="where the report goes (default: ./smoke-report)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="report.json on stdout")
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="F", help="the disk's passphrase (mode 0600)"
    )
    parser.add_argument(
        "--sealing-passphrase-file", type=Path, metavar="F",
        help="the passphrase of the build, if the disk gets another one",
    )  # fmt: skip
    parser.add_argument(
        "--client", action="append", type=Path, default=[], metavar="FILE",
        help="a client's configuration to try (default: those of the project); repeat for more",
    )  # fmt: skip
    parser.add_argument(
        "--server-address", action="append", default=[], metavar="ADDR",
        help="the server's address in the tunnel (default: the project's)",
    )  # fmt: skip
    parser.add_argument("--ssh", choices=("open", "closed"), help="ssh from outside should be")
    parser.add_argument("--login", metavar="USER", help="also look from inside, over ssh")
    parser.add_argument(
        "--identity", type=Path, metavar="KEY", help="with --login: the private key"
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--keep", action="store_true", help="keep the installed disk for the next run")
    run.add_argument(
        "--from", dest="start", choices=("iso", "installed"), default="iso",
        help="installed: start from the disk that --keep kept for this ISO",
    )  # fmt: skip
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--accelerator", choices=("auto", "kvm", "hvf", "tcg"), default="auto",
        help="auto: what works here, else tcg (QEMU's own, slow)",
    )  # fmt: skip
    machine.add_argument("--disk-size", type=_size, default=4 * GIB, metavar="SIZE", help="4G")
    machine.add_argument("--memory", type=int, default=1024, metavar="MIB", help="1024")
    machine.add_argument(
        "--board", choices=("q35", "pc"), default="q35",
        help="QEMU's machine type (default: q35; OpenBSD boots 20 s slower on pc)",
    )  # fmt: skip
    machine.add_argument("--uefi", action="store_true", help="UEFI instead of BIOS (from 7.5)")
    machine.add_argument(
        "--keyboard", action="store_true",
        help="reach the boot loader by keyboard and screen, without the BIOS's serial mirror",
    )  # fmt: skip
    machine.add_argument(
        "--offline", action="store_true", help="the guest reaches nothing beyond its gateway"
    )


def run(args: argparse.Namespace, ui: Ui) -> int:
    """0 when every stage passed, 1 when the ISO does not give a working server."""
    from obsdimg.image.inspection import inspect
    from obsdimg.smoke.qemu import find_qemu
    from obsdimg.smoke.report import as_text, write_reports

    qemu = find_qemu()
    project = _project(args)
    iso = _iso(args, project)
    progress = ui.progress()
    with progress.step(f"Looking into {iso.name}"):
        found = inspect(iso, progress)
    plan, notes = _plan(args, ui, project, found)
    played: list[SmokeResult] = []
    try:
        result = _play(args, ui, plan, qemu, notes, progress, played)
    except BaseException:  # also ctrl-C and SIGTERM: what was seen so far is worth keeping
        if played and played[-1].stages:
            write_reports(played[-1], args.report)
            ui.info(f"report of what was played: {args.report / 'report.html'}")
        raise
    paths = write_reports(result, args.report)
    if args.json:
        ui.json(result.as_dict())
    else:
        ui.say(as_text(result).rstrip())
    html = next(p for p in paths if p.suffix == ".html")
    ui.info(f"report: {html}")
    return 0 if result.verdict.value == "passed" else 1


def _size(text: str) -> int:
    units = {"M": 1024**2, "G": GIB, "T": 1024 * GIB}
    number, unit = text[:-1], text[-1:].upper()
    if unit not in units or not number.isdigit() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a size such as 4G or 800M")
    return int(number) * units[unit]


def _project(args: argparse.Namespace) -> Project | None:
    from obsdimg.project.folder import Project

    if args.config.exists():
        return Project.open(args.config)
    if args.config != Path("obsdimg.toml"):
        raise SmokeUsageError(f"{args.config}: there is no such configuration")
    return None


def _iso(args: argparse.Namespace, project: Project | None) -> Path:
    if args.iso is not None:
        path: Path = args.iso.expanduser()
    elif project is not None:
        path = project.images / project.image_name()
    else:
        raise SmokeUsageError(
            "which ISO?", "name one, or run this in a project's folder (or give -c FILE)"
        )
    if not path.is_file():
        raise SmokeUsageError(f"{path}: there is no such ISO", "`obsdimg build` makes it")
    return path


def _plan(
    args: argparse.Namespace, ui: Ui, project: Project | None, found: Inspection
) -> tuple[SmokePlan, list[str]]:
    """The plan, and notes on what cannot be tried."""
    from obsdimg.smoke import prepare as smokeplan

    smokeplan.release_of(found)
    how = smokeplan.encryption_of(found)
    notes: list[str] = []
    files = [path.expanduser() for path in args.client]
    if not files and project is not None:
        files, notes = smokeplan.project_clients(project)
    servers, port = list(args.server_address), None
    if project is not None:
        tunnel = project.config.tunnel
        port = tunnel.port
        servers = servers or [str(own.ip) for own in (tunnel.ipv4, tunnel.ipv6) if own]
    peers = [smokeplan.peer_from_file(path, servers, port) for path in files]
    if project is not None:
        peers = smokeplan.with_reach(peers, project)
    if not peers:
        notes.append("no client to try: the tunnel itself is not tested")
    secret, sealing = _passphrases(args, ui, found, how)
    wishes = smokeplan.SmokeOptions(
        disk_size=args.disk_size,
        memory_mib=args.memory,
        uefi=args.uefi,
        offline=args.offline,
        board=args.board,
        login=_login(args),
    )
    plan = smokeplan.make_plan(
        found, secret, sealing, peers, project, wishes,
        ssh_open=None if args.ssh is None else args.ssh == "open",
    )  # fmt: skip
    return plan, notes


def _login(args: argparse.Namespace) -> Login | None:
    from obsdimg.smoke.plan import Login

    if args.login is None:
        return None
    if args.identity is None or not args.identity.expanduser().is_file():
        raise SmokeUsageError("--login needs --identity, an existing private ssh key")
    return Login(args.login, args.identity.expanduser())


def _passphrases(
    args: argparse.Namespace, ui: Ui, found: Inspection, how: str
) -> tuple[Secret, Secret | None]:
    """The disk's passphrase and, where it differs, the one of the sealed secrets."""
    import os

    from obsdimg.core import passphrase as phrases

    sealing = None
    if args.sealing_passphrase_file is not None:
        sealing = phrases.from_file(args.sealing_passphrase_file)
    embedded = found.extracts.get("ramdisk/obsdimg.key")
    if how == "embedded" and embedded is not None:
        return phrases.Secret(embedded.decode("latin-1").rstrip("\n")), sealing
    named = args.passphrase_file or os.environ.get(phrases.VARIABLE)
    if named:
        secret = phrases.from_file(Path(named).expanduser())
    else:
        secret = phrases.validate(ui.ask_secret("Passphrase of the build"))
    return secret, sealing or (secret if how == "none" else None)


def _play(
    args: argparse.Namespace,
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
    from obsdimg.smoke.machine import AcceleratorError
    from obsdimg.smoke.qemu import Accelerator, accelerators
    from obsdimg.smoke.result import SmokeResult
    from obsdimg.smoke.scenario import run_smoke

    chosen = accelerators() if args.accelerator == "auto" else [Accelerator(args.accelerator)]
    for number, accelerator in enumerate(chosen):
        result = SmokeResult(plan.iso.name, plan.release, notes=list(notes))
        result.versions = _versions(qemu, accelerator)
        played.append(result)
        with _workshop(args, plan, qemu, accelerator) as options:
            try:
                return run_smoke(plan, options, progress, result)
            except AcceleratorError as error:
                if number + 1 == len(chosen):
                    raise
                ui.warn(f"{error.message}; starting over with {chosen[number + 1].value}")
                notes.append(f"{accelerator.value} was tried first: {error.message}")
    raise AssertionError("the last accelerator returns or raises")


@contextmanager
def _workshop(
    args: argparse.Namespace, plan: SmokePlan, qemu: Qemu, accelerator: Accelerator
) -> Iterator[Options]:
    """A private folder for the disk beside the cache, gone afterwards; the kept disk."""
    import shutil
    import tempfile

    from obsdimg.core.files import private_dir
    from obsdimg.fetch.cache import Cache
    from obsdimg.smoke.play import Options

    cache = Cache.default()
    kept = _kept(cache, plan)
    if args.start == "installed" and not kept.exists():
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
        return disk.replace(kept) if args.keep else disk

    with tempfile.TemporaryDirectory(prefix="run-", dir=root) as folder:
        yield Options(
            folder=Path(folder),
            qemu=qemu,
            accelerator=accelerator,
            serial_mirror=not args.keyboard,
            installed=kept if args.start == "installed" else None,
            finished_install=keep,
            folder_doomed=True,
        )


def _kept(cache: Cache, plan: SmokePlan) -> Path:
    """Where the installed disk of this very ISO is kept, if it is."""
    import hashlib

    with plan.iso.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return cache.path("smoke", f"{digest}-{plan.disk_size}.qcow2")


def _versions(qemu: Qemu, accelerator: Accelerator) -> dict[str, str]:
    import platform
    from importlib.metadata import version

    from obsdimg import __version__

    return {
        "obsdimg": __version__,
        "QEMU": ".".join(map(str, qemu.version)),
        "accelerator": accelerator.value,
        "qemu.qmp": version("qemu.qmp"),
        "pexpect": version("pexpect"),
        "Python": platform.python_version(),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
