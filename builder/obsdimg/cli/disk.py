"""`obsdimg disk`: the installed, encrypted disk itself, as an image or written to a machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from obsdimg import __version__
from obsdimg.cli import values
from obsdimg.cli.disk_wishes import DiskUsageError, destination, size_of, uefi_loader
from obsdimg.cli.guest import (
    GIB,
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
from obsdimg.cli.options import argument, flag, option, specs
from obsdimg.cli.servers import project_root
from obsdimg.cli.ui import Ui
from obsdimg.cli.which_iso import project_iso
from obsdimg.core.errors import UsageError
from obsdimg.core.files import PRIVATE_FILE, atomic_file, private_dir, write_file
from obsdimg.core.hashing import sha256_file
from obsdimg.core.progress import Progress
from obsdimg.core.scratch import run_folder
from obsdimg.disk.both import find_writer, room_for
from obsdimg.disk.content import FORMS, Form, open_image
from obsdimg.disk.making import good_checks, kdf_rounds, make
from obsdimg.disk.manifest import (
    DiskManifest,
    IsoPart,
    NetworkPart,
    image_part,
    write_beside,
)
from obsdimg.disk.transfer import GAPS
from obsdimg.disk.writing import WrittenImage, write_image
from obsdimg.image.inspection import Inspection, inspect
from obsdimg.project.folder import Project, SecretStore
from obsdimg.signify.message import SignifySecretKey
from obsdimg.smoke import prepare
from obsdimg.smoke.machine import AcceleratorError
from obsdimg.smoke.plan import SmokePlan
from obsdimg.smoke.play import RunOptions
from obsdimg.smoke.qemu import Accelerator, Qemu, find_firmware, find_qemu
from obsdimg.smoke.report import write_reports
from obsdimg.smoke.result import SmokeResult

INSTALLED = 4 * GIB
"""Bytes that an installation writes at the most, where the disk is not filled."""
FEW_ROUNDS = 300
"""Of bcrypt: what `auto` reaches on hardware; emulation reaches less."""


@dataclass(frozen=True, kw_only=True)
class Options(WithGuest):
    """What the command line says."""

    file: Path | None = argument(
        metavar="FILE",
        nargs="?",
        type=Path,
        help="the ISO to install (default: that of the project); with --write, the image",
    )
    output: Path | None = option(
        "-o",
        "--output",
        type=Path,
        metavar="F",
        help="the image (default: beside the ISO, NAME.raw.zst)",
    )
    form: str | None = option(
        "--format", choices=FORMS, help="default: by the name of the image, else raw.zst"
    )
    size: int | None = option(
        "--size",
        type=values.size,
        metavar="SIZE",
        help="of the disk; it does not grow later (default: that of deploy.plan, else 10G)",
    )
    firmware: str = option(
        "--firmware",
        choices=("bios", "uefi", "both"),
        default="bios",
        help="what starts the disk there: bios; from 7.5 on also uefi, or both (default: bios)",
    )
    prove: bool = flag("--prove", help="start a throw-away copy and use its tunnel")
    report: Path = option(
        "--report",
        type=Path,
        default=Path("disk-report"),
        metavar="DIR",
        help="where the report of the installation goes (default: ./disk-report)",
    )
    json: bool = flag("--json", help="the manifest on stdout; with --write, what was done")
    write: str | None = option(
        "--write",
        metavar="USER@HOST:/dev/DISK",
        help="write the image to that disk of a machine in a rescue system, by ssh",
        group="writing to a machine",
    )
    yes: bool = flag(
        "--yes", help="do not ask for the disk's name before it is erased",
        group="writing to a machine",
    )  # fmt: skip
    gaps: str = option(
        "--gaps",
        choices=GAPS,
        default="zero",
        help="what the image has nothing for: zero it, skip it (faster; old data stays), or fill"
        " it with random data made there (default: zero)",
        group="writing to a machine",
    )
    port: int | None = option(
        "--port", type=int, metavar="N", help="of ssh there", group="writing to a machine"
    )
    identity: Path | None = option(
        "--identity", type=Path, metavar="KEY", help="the private key for ssh",
        group="writing to a machine",
    )  # fmt: skip
    other_network: bool = flag(
        "--other-network",
        help="also to a machine that seems to have none of the server's network cards",
        group="writing to a machine",
    )


_WRITING = ("yes", "gaps", "port", "identity", "other_network")
_MAKING = (
    *("output", "form", "size", "firmware", "prove", "keep", "start", "report", "accelerator"),
    *("memory", "online", "trust_iso", "sealing_passphrase_file", "passphrase_file"),
)


def _require_together(options: Options) -> None:
    """Raise UsageError for an option that would do nothing: half of them are about making an image,
    the others about writing one."""
    idle: Sequence[str] = _WRITING
    said = "goes with --write"
    if options.write is not None:
        idle, said = _MAKING, "is about making the image, and --write only writes one"
    for one in dataclasses.fields(options):
        if one.name in idle and getattr(options, one.name) != one.default:
            word = next(spec.words[-1] for name, spec in specs(Options) if name == one.name)
            raise UsageError(f"disk: {word} {said}", "leave it away")
    if options.port is not None and not 0 < options.port < 65536:
        raise UsageError(f"disk: --port {options.port} is not between 1 and 65535")
    if not 256 <= options.memory <= 1 << 20:
        raise UsageError(f"disk: --memory {options.memory} is not between 256 and 1048576 MiB")


def run(options: Options, ui: Ui) -> int:
    """0 when the image is there and good."""
    _require_together(options)
    if options.write is not None:
        from obsdimg.cli.disk_writing import write_there

        return write_there(options, options.write, ui)
    qemu = find_qemu()
    project = project_at(options)
    iso = project_iso(options.file, options)
    output, form = destination(options.output, options.form, iso, options.firmware)
    if options.firmware == "uefi" or (options.firmware == "both" and options.prove):
        find_firmware()
    if options.firmware == "both":
        find_writer()
    progress = ui.progress()
    digest = judge(iso, project_root(options), options.trust_iso, progress)
    with progress.step(f"Looking into {iso.name}"):
        found = inspect(iso, progress)
    refuse_stand_in(iso, found)
    loader = uefi_loader(iso, options.firmware)
    plan, notes = _plan(options, ui, project, found, loader)
    _remarks(options, ui, project, found)
    manifest = _make(
        options, ui, project, plan, found, loader, qemu, notes, output, form, digest, progress
    )
    if options.json:
        ui.json(manifest.model_dump())
    else:
        _tell(manifest, output, ui)
    return 0


def _plan(
    options: Options, ui: Ui, project: Project | None, found: Inspection, loader: bytes | None
) -> tuple[SmokePlan, list[str]]:
    """The plan, and notes on what cannot be tried."""
    prepare.release_of(found)
    how = prepare.encryption_of(found)
    if how == "none":
        raise DiskUsageError(
            f"{found.path}: installs without encryption: the image would hold the server's keys"
            " in clear",
            "set disk.encryption = passphrase and build again; without encryption, let the ISO"
            " install on the machine itself",
        )
    peers, notes = prepare.project_clients(project) if project is not None else ([], [])
    if options.prove and not peers:
        raise DiskUsageError(
            "--prove: there is no client that could call the copy", "; ".join(notes) or None
        )
    secret, sealing = passphrases(
        options.passphrase_file, options.sealing_passphrase_file, ui, found, how
    )
    wishes = prepare.SmokeOptions(
        disk_size=size_of(options.size, project) - room_for(loader or b""),
        memory_mib=options.memory,
        uefi=options.firmware == "uefi",
        online=options.online,
    )
    if options.prove:
        require_carried(options, project)
    notes += exposure(options, ui)
    return prepare.make_plan(found, secret, sealing, peers, project, wishes), notes


def _filled(found: Inspection) -> bool:
    """Whether the ISO fills the disk with random data."""
    return found.hook.get("fill", "yes") == "yes"


def _remarks(options: Options, ui: Ui, project: Project | None, found: Inspection) -> None:
    """What is worth knowing before minutes are spent."""
    gib = size_of(options.size, project) / GIB
    kinds = "BIOS and UEFI" if options.firmware == "both" else options.firmware
    ui.info(f"a disk of {gib:g} GiB for {kinds}; it does not grow later")
    if _filled(found):
        ui.info(
            "it is filled with random data first (disk.random_fill): the image gets as large as"
            " the disk, whatever its form"
        )


def _make(
    options: Options,
    ui: Ui,
    project: Project | None,
    plan: SmokePlan,
    found: Inspection,
    loader: bytes | None,
    qemu: Qemu,
    notes: list[str],
    output: Path,
    form: Form,
    digest: str,
    progress: Progress,
) -> DiskManifest:
    kept = kept_disk(plan)
    if options.start == "installed" and not kept.exists():
        raise DiskUsageError(
            f"{kept}: no installed disk was kept for this ISO", "run once with --keep"
        )
    # What is never written takes no room.  A kept disk stays as it is, beside that for both.
    needed = plan.disk_size if _filled(found) else min(plan.disk_size, INSTALLED)
    copies = 2 if loader is not None and (options.keep or options.start == "installed") else 1
    require_room(kept.parent, copies * needed, "--size")
    require_room(output.resolve().parent, needed, "--size")
    noted = kept.with_suffix(".rounds")

    def keep(disk: Path) -> Path:
        noted.unlink(missing_ok=True)  # it is of the disk that was kept before
        return disk.replace(kept)

    with run_folder(kept.parent) as folder:

        def attempt(accelerator: Accelerator) -> tuple[Path, SmokeResult]:
            result = SmokeResult(
                plan.iso.name,
                plan.release,
                notes=list(notes),
                versions=versions(qemu, accelerator),
                succeeds="this disk is good" + (", and serves" if options.prove else ""),
                fails="this ISO does not give a good disk",
            )
            own = private_dir(folder / accelerator.value)  # nothing of an attempt before
            chosen = RunOptions(
                folder=own,
                qemu=qemu,
                accelerator=accelerator,
                installed=kept if options.start == "installed" else None,
                finished_install=keep if options.keep else None,
                doomed=folder,
            )
            try:
                disk = make(plan, chosen, progress, result, prove=options.prove, loader=loader)
                return disk, result
            except AcceleratorError:
                result.stages.clear()  # it says nothing about the ISO
                raise
            finally:
                if result.stages:
                    write_reports(result, options.report)
                    ui.info(f"report: {options.report / 'report.html'}")

        disk, result = first_that_works(options.accelerator, attempt, ui, notes)
        rounds = plan.kdf_rounds or kdf_rounds(result)
        if options.start == "installed":
            rounds = rounds or _rounds_in(noted)
        elif options.keep and rounds is not None:
            write_file(noted, f"{rounds}\n".encode(), PRIVATE_FILE)
        key = _signing_key(project)
        with atomic_file(output) as stream:
            written = write_image(open_image(disk), form, stream, progress)
            manifest = _manifest(
                options, project, plan, found, result, output, written, digest, rounds
            )
            write_beside(output, manifest, written, key)
    if manifest.kdf_rounds is None:
        ui.warn(
            "how dear a guess at the passphrase is, is not known: the installation of this disk was"
            " not seen; make it anew without --from installed"
        )
    elif manifest.kdf_rounds < FEW_ROUNDS:
        why = "" if plan.kdf_rounds else ", as disk.rounds = auto measured them on this machine"
        ui.warn(
            f"whoever has the image tries passphrases at {manifest.kdf_rounds} rounds of bcrypt"
            f" each{why}: set disk.rounds = {FEW_ROUNDS} or more for a real server"
        )
    return manifest


def _rounds_in(path: Path) -> int | None:
    """What the run that kept the disk noted beside it."""
    try:
        return int(path.read_bytes()[:20])
    except (OSError, ValueError):
        return None


def _signing_key(project: Project | None) -> SignifySecretKey | None:
    if project is None or not (project.secrets / "image.sec").exists():
        return None
    return SecretStore(project.secrets, make=False).image_key()


def _manifest(
    options: Options,
    project: Project | None,
    plan: SmokePlan,
    found: Inspection,
    result: SmokeResult,
    output: Path,
    written: WrittenImage,
    digest: str,
    rounds: int | None,
) -> DiskManifest:
    firmware: Literal["bios", "uefi", "both"] = "uefi" if plan.uefi else "bios"
    if options.firmware == "both":
        firmware = "both"
    network = None
    if project is not None:
        own = project.config.network
        network = NetworkPart(interface=own.interface, also=list(own.also))
    return DiskManifest(
        tool=f"obsdimg {__version__}",
        image=image_part(output.name, written),
        iso=IsoPart(name=plan.iso.name, sha256=digest or sha256_file(plan.iso)[0]),
        release=plan.release,
        firmware=firmware,
        random_fill=_filled(found),
        kdf_rounds=rounds,
        network=network,
        accelerator=result.versions["accelerator"],
        checks=good_checks(result),
        proven=options.prove,
    )


def _tell(manifest: DiskManifest, output: Path, ui: Ui) -> None:
    image = manifest.image
    ui.say(f"{output}")
    ui.say(f"  {image.size} bytes, sha256 {image.sha256}")
    ui.say(
        f"  a disk of {image.disk_size / GIB:g} GiB for {manifest.firmware}, {image.stored >> 20}"
        f" MiB of it in use, sha256 {image.disk_sha256}"
    )
    mapped = "" if image.form == "qcow2" else f", map {output.name}.bmap"
    ui.say(f"  manifest {output.name}.json, checksum {output.name}.sha256{mapped}")
    ui.say("  never started: host keys are made at its first start" if not manifest.proven else
           "  a copy was started and its tunnel used; this one was never started")  # fmt: skip
    ui.info("one image, one server: two machines from it would have the same disk key")
    ui.info(f"to a machine in a rescue system: obsdimg disk --write USER@HOST:/dev/DISK {output}")
