"""`obsdimg rehearse`: the ISO's own installer, here, against stand-in disks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import WithServers, argument, flag, option, repeated
from obsdimg.cli.passphrase import existing
from obsdimg.cli.rehearsing import LIMIT, rehearse, report
from obsdimg.cli.servers import project_root
from obsdimg.cli.ui import Ui
from obsdimg.cli.which_iso import project_iso
from obsdimg.core.errors import UsageError
from obsdimg.core.files import write_file
from obsdimg.core.passphrase import given
from obsdimg.image.comparison import image_key, standing
from obsdimg.rehearsal import (
    Dhcp,
    MachineChanges,
    MachineDisk,
    MachineNic,
    Rehearsal,
    RehearsalLimits,
    TypedPassphrase,
)
from obsdimg.rehearsal.upgrade import rehearse_upgrade

PROMPT = "Passphrase of the build (Enter alone: a made-up one is typed)"
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class RehearseUsageError(UsageError):
    """An option of `obsdimg rehearse` cannot be understood."""


@dataclass(frozen=True, kw_only=True)
class Options(WithServers):
    """What the command line says."""

    iso: Path | None = argument(
        metavar="ISO", nargs="?", type=Path, help="default: the ISO of the project"
    )
    json: bool = flag("--json", help="print as JSON")
    transcript: Path | None = option(
        "--transcript", type=Path, metavar="F", own=True, help="write the console's output"
    )
    passphrase_file: Path | None = option(
        "--passphrase-file",
        type=Path,
        metavar="F",
        help="what the operator types (default: asked for; without a terminal a made-up passphrase,"
        " which opens no sealed file)",
    )
    disk: tuple[str, ...] = repeated(
        "--disk",
        metavar="SIZE[:WHAT]",
        help="a disk such as 25G, 20G:foreign, 20G:openbsd or 20G:encrypted; repeat for more",
        group="the machine",
    )
    nic: tuple[str, ...] = repeated(
        "--nic",
        metavar="NAME[:none]",
        help="a network interface; with `none` nobody answers DHCP there; repeat for more",
        group="the machine",
    )
    serial: bool = flag("--serial", help="the console is com0", group="the machine")
    no_dhcp: bool = flag(
        "--no-dhcp", help="nobody answers DHCP on any interface", group="the machine"
    )
    upgrade: bool = flag(
        "--upgrade",
        help="the upgrade instead: what sysupgrade restarts a server of the release before into,"
        " with the sets of this ISO as a mirror has them",
    )
    efi: bool = flag("--efi", help="started by UEFI", group="the machine")
    cpus: int = option(
        "--cpus",
        type=int,
        default=1,
        metavar="N",
        help="processors (default: 1)",
        group="the machine",
    )
    trust_iso: bool = flag(
        "--trust-iso",
        help="type the real passphrase also to an ISO that is not the one that was built",
    )
    wipe: bool = flag("--wipe", help="the operator agrees to erase disks that are not empty")
    limit: float = option(
        "--limit", type=float, default=LIMIT, metavar="S", help="give up after S seconds (120)"
    )


def run(options: Options, ui: Ui) -> int:
    if options.upgrade and (options.disk or options.wipe or options.passphrase_file is not None):
        raise RehearseUsageError(
            "--upgrade goes without --disk, --wipe and --passphrase-file",
            "its disk holds an installed system, and nobody types anything",
        )
    iso = project_iso(options.iso, options)
    if options.upgrade:
        return _upgrade(iso, options, ui)
    typed = TypedPassphrase.REAL
    changes = machine(options)
    phrase = given(options.passphrase_file)
    judged = standing(iso, image_key(project_root(options)), ui.progress())
    if judged.state == "changed":
        ui.warn(f"{iso}: is not the ISO that was built: {judged.detail}")
    if phrase is None and judged.state == "built" and judged.manifest and judged.manifest["sealed"]:
        phrase = existing(None, ui, PROMPT)
    if phrase is not None and judged.state in ("changed", "unknown") and not options.trust_iso:
        ui.warn(
            f"{iso}: nobody vouches for it ({judged.detail}): a made-up passphrase is typed"
            " instead of yours (--trust-iso types yours)"
        )
        typed = TypedPassphrase.DUMMY
    result = rehearse(
        *(iso, ui, phrase, changes), wipe=options.wipe, typed=typed, limit=options.limit
    )
    return _end(result, options, ui)


def _upgrade(iso: Path, options: Options, ui: Ui) -> int:
    """The other half of the installer's script."""
    with ui.progress().step(f"Rehearsing an upgrade to the release of {iso.name}"):
        result = rehearse_upgrade(iso, machine(options), limits=RehearsalLimits(options.limit))
    return _end(result, options, ui)


def _end(result: Rehearsal, options: Options, ui: Ui) -> int:
    if options.transcript is not None:
        write_file(options.transcript, result.transcript.encode())
        ui.info(f"wrote {options.transcript}")
    if options.json:
        ui.json(result.as_dict())
    else:
        report(result)
    return 0 if result.passed else 1


def machine(options: Options) -> MachineChanges:
    """What the options say of the machine; the rest fits the response file.

    Raises RehearseUsageError.
    """
    return MachineChanges(
        disks=tuple(_disk(word) for word in options.disk) or None,
        nics=tuple(_nic(word, n) for n, word in enumerate(options.nic)) or None,
        cpus=options.cpus,
        serial=options.serial,
        efi=options.efi,
        dhcp=not options.no_dhcp,
    )


def _disk(word: str) -> MachineDisk:
    found = re.fullmatch(r"(\d+)([MGT])(?::(empty|foreign|openbsd|encrypted))?", word)
    if not found:
        raise RehearseUsageError(
            f"--disk {word}: not a disk", "write SIZE or SIZE:WHAT, such as 25G or 25G:encrypted"
        )
    return MachineDisk(int(found[1]) * _UNITS[found[2]], found[3] or "empty")  # type: ignore[arg-type]


def _nic(word: str, number: int) -> MachineNic:
    name, _, what = word.partition(":")
    if not re.fullmatch(r"[a-z]+\d+", name) or what not in ("", "none"):
        raise RehearseUsageError(f"--nic {word}: not an interface", "write vio1 or vio1:none")
    dhcp = None if what else Dhcp(address=f"10.0.{2 + number}.15", router=f"10.0.{2 + number}.2")
    return MachineNic(name, f"52:54:00:12:34:{56 + number:02d}", dhcp)
