"""What the commands that install an ISO in QEMU share: `smoke` and `disk`."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from obsdimg import __version__
from obsdimg.cli.options import WithConfig, flag, option
from obsdimg.cli.passphrase import existing
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.core import passphrase as phrases
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir
from obsdimg.core.progress import Progress
from obsdimg.core.secret import Secret
from obsdimg.fetch.cache import Cache
from obsdimg.image.comparison import image_key, require_built, standing
from obsdimg.image.inspection import Inspection
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.site.plan import package_stems
from obsdimg.smoke.isolation import find_isolation
from obsdimg.smoke.machine import AcceleratorError
from obsdimg.smoke.plan import SmokePlan
from obsdimg.smoke.qemu import Accelerator, Qemu, accelerators

T = TypeVar("T")

GIB = 1024**3
SPARE = 1 * GIB
"""Bytes of free space beyond the machine's disk."""


class GuestUsageError(ObsdimgError):
    """The options, or what is on this machine, do not allow the test."""


@dataclass(frozen=True, kw_only=True)
class WithGuest(WithConfig):
    """Options about the installation in QEMU."""

    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="the disk's passphrase (mode 0600)"
    )
    sealing_passphrase_file: Path | None = option(
        "--sealing-passphrase-file",
        type=Path,
        metavar="F",
        help="the passphrase of the build, if the disk gets another one",
    )
    keep: bool = flag("--keep", help="keep the installed disk for the next run", group="the run")
    trust_iso: bool = flag(
        "--trust-iso", help="also an ISO that is not the one that was built", group="the run"
    )
    start: str = option(
        "--from",
        choices=("iso", "installed"),
        default="iso",
        help="installed: the disk that --keep kept for this ISO, size and firmware",
        group="the run",
    )
    accelerator: str = option(
        "--accelerator",
        choices=("auto", "kvm", "hvf", "tcg"),
        default="auto",
        help="auto: what works here, else tcg (QEMU's own, slow)",
        group="the machine",
    )
    memory: int = option(
        "--memory", type=int, default=1024, metavar="MIB", help="1024", group="the machine"
    )
    online: bool = flag(
        "--online",
        help="the guest reaches the internet, and what listens on this host's loopback (default:"
        " neither)",
        group="the machine",
    )


def project_at(options: WithConfig) -> Project | None:
    """The project of the configuration; none where the default one is not there."""
    if options.config.exists():
        return open_project(options)
    if options.config != Path("obsdimg.toml"):
        raise GuestUsageError(f"{options.config}: there is no such configuration")
    return None


def judge(iso: Path, project: Path, trusted: bool, progress: Progress) -> str:
    """The real passphrase is typed to the ISO that was built, and to no other without a word.

    Gives its SHA-256, if that was needed.  Raises ChangedIsoError, GuestUsageError.
    """
    judged = standing(iso, image_key(project), progress)
    if trusted:
        return judged.sha256
    require_built(judged, iso)
    if judged.state == "unknown":
        raise GuestUsageError(
            f"{iso}: nobody vouches for it: {judged.detail}",
            "put its manifest beside it, or say --trust-iso: your passphrase is typed to it",
        )
    return judged.sha256


def refuse_stand_in(iso: Path, found: Inspection) -> None:
    """Raise GuestUsageError for an ISO on which there is no OpenBSD to install."""
    if found.stand_in:
        raise GuestUsageError(
            f"{iso}: was built on the stand-in medium: it is not OpenBSD and installs nothing",
            "obsdimg rehearse plays it; for QEMU build on a real install ISO",
        )


def require_carried(options: WithGuest, project: Project | None) -> None:
    """Raise GuestUsageError for a server that fetches packages, in a machine without a network."""
    if options.online or project is None or project.config.packages.carry:
        return
    if package_stems(project.config, load_release(project.config.release.version)):
        raise GuestUsageError(
            "packages.carry = false: the server fetches its packages at the first boot, and the"
            " machine has no network",
            "give --online, or set packages.carry = true and build again",
        )


def exposure(options: WithGuest, ui: Ui, offline: bool = False) -> list[str]:
    """A note, and a warning, where the guest cannot be cut off from this host."""
    found = find_isolation()
    if options.online or offline or found.words:
        return []
    said = (
        f"not isolated: {found.missing}: the guest could reach the internet and what listens on"
        " this host's loopback"
    )
    ui.warn(f"{said}; {found.hint}" if found.hint else said)
    return [said]


def passphrases(
    file: Path | None, sealing_file: Path | None, ui: Ui, found: Inspection, how: str
) -> tuple[Secret, Secret | None]:
    """The disk's passphrase and, where it differs, the one of the sealed secrets."""
    sealing = phrases.from_file(sealing_file) if sealing_file is not None else None
    embedded = found.extracts.get("ramdisk/obsdimg.key")
    if how == "embedded" and embedded is not None:
        return Secret(embedded.decode("latin-1").rstrip("\n")), sealing
    secret = existing(file, ui, "Passphrase of the build")
    if secret is None:
        raise GuestUsageError(
            "the passphrase of the build is needed, to be typed in the machine",
            f"give it with --passphrase-file F, or name a file in {phrases.VARIABLE}",
        )
    return secret, sealing or (secret if how == "none" else None)


def first_that_works(
    named: str, attempt: Callable[[Accelerator], T], ui: Ui, notes: list[str]
) -> T:
    """What `attempt` gives with the accelerator called `named`, or for `auto` with the first one
    that runs the guest; `notes` then say what was tried before.  Raises AcceleratorError."""
    chosen = accelerators() if named == "auto" else [Accelerator(named)]
    for number, accelerator in enumerate(chosen):
        try:
            return attempt(accelerator)
        except AcceleratorError as error:
            if number + 1 == len(chosen):
                raise
            ui.warn(f"{error.message}; starting over with {chosen[number + 1].value}")
            notes.append(f"{accelerator.value} was tried first: {error.message}")
    raise AssertionError("the last accelerator returns or raises")


def kept_disk(plan: SmokePlan) -> Path:
    """Where the installed disk of this very ISO is kept, if it is; its folder is made."""
    with plan.iso.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    kind = "-uefi" if plan.uefi else ""
    path = Cache.default().path("smoke", f"{digest}-{plan.disk_size}{kind}.qcow2")
    private_dir(path.parent)
    return path


def require_room(folder: Path, size: int, option: str) -> None:
    """Raise GuestUsageError unless `folder` has `size` bytes and some more; `option` sets it."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise GuestUsageError(
            f"{folder}: {free / GIB:.1f} GB free, {(size + SPARE) / GIB:.1f} GB needed",
            f"free some space, choose another place with OBSDIMG_CACHE, or a smaller {option}",
        )


def versions(qemu: Qemu, accelerator: Accelerator) -> dict[str, str]:
    """What a report names."""
    return {
        "obsdimg": __version__,
        "QEMU": ".".join(map(str, qemu.version)),
        "accelerator": accelerator.value,
        "qemu.qmp": version("qemu.qmp"),
        "pexpect": version("pexpect"),
        "Python": platform.python_version(),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
