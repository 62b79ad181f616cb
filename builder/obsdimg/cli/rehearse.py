"""`obsdimg rehearse`: the ISO's own installer, here, against stand-in disks."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError

if TYPE_CHECKING:
    from obsdimg.core.passphrase import Secret
    from obsdimg.rehearsal import MachineDisk, MachineNic, Rehearsal, RehearsalMachine

HELP = "run the ISO's own installer script on this machine, against stand-in disks"

LIMIT = 120.0
"""Seconds for a whole rehearsal."""
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class RehearseUsageError(ObsdimgError):
    """An option of `obsdimg rehearse` cannot be understood."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iso", type=Path, metavar="ISO")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--transcript", type=Path, metavar="F", help="write the console's output")
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="F",
        help="what the operator types (default: a made-up passphrase, which opens no sealed file)",
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--disk",
        action="append",
        default=[],
        metavar="SIZE[:WHAT]",
        help="a disk such as 25G, 20G:foreign, 20G:openbsd or 20G:encrypted; repeat for more",
    )
    machine.add_argument(
        "--nic",
        action="append",
        default=[],
        metavar="NAME[:none]",
        help="a network interface; with `none` nobody answers DHCP there; repeat for more",
    )
    machine.add_argument("--serial", action="store_true", help="the console is com0")
    machine.add_argument("--efi", action="store_true", help="started by UEFI")
    machine.add_argument("--cpus", type=int, default=1, metavar="N")
    parser.add_argument(
        "--wipe", action="store_true", help="the operator agrees to erase disks that are not empty"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT, metavar="S", help="give up after S seconds (120)"
    )


def run(args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg.core.files import write_file

    phrase = None
    if args.passphrase_file is not None:
        from obsdimg.core.passphrase import from_file

        phrase = from_file(args.passphrase_file)
    result = rehearse(args.iso, ui, phrase, machine(args), wipe=args.wipe, limit=args.limit)
    if args.transcript is not None:
        write_file(args.transcript, result.transcript.encode())
        ui.info(f"wrote {args.transcript}")
    if args.json:
        ui.json(result.as_dict())
    else:
        report(result)
    return 0 if result.passed else 1


def why_not() -> str | None:
    """Why this system cannot hold a rehearsal, or None if it can."""
    from obsdimg.rehearsal import SandboxError, find_host

    try:
        find_host()
    except SandboxError as error:
        return f"{error.message}; {error.hint}"
    return None


def rehearse_iso(iso: Path, ui: Ui, passphrase: Secret | None) -> int:
    """For `build` and `demo`: rehearse what was built, print the report, give the exit code."""
    result = rehearse(iso, ui, passphrase)
    report(result)
    return 0 if result.passed else 1


def rehearse(
    iso: Path,
    ui: Ui,
    passphrase: Secret | None,
    machine: RehearsalMachine | None = None,
    *,
    wipe: bool = False,
    limit: float = LIMIT,
) -> Rehearsal:
    """Rehearse `iso` with the questions known for its release.

    `machine` None: one that fits the response file; `passphrase` is what the operator types.
    """
    from obsdimg.iso import Iso
    from obsdimg.rehearsal import Operator, rehearse_iso
    from obsdimg.rehearsal.machine import PASSPHRASE
    from obsdimg.rehearsal.ramdisk import medium_release
    from obsdimg.response.known import KnownQuestions
    from obsdimg.response.questions import load, releases

    with Iso.open(iso) as opened:
        version, _ = medium_release(opened)
    digits = version.replace(".", "")
    known = KnownQuestions(load(digits)) if digits in releases() else None
    operator = Operator.default(passphrase.reveal() if passphrase else PASSPHRASE, wipe=wipe)
    with ui.progress().step(f"Rehearsing the installer of {iso.name}"):
        return rehearse_iso(iso, machine, operator, known=known, limit=limit)


def report(result: Rehearsal) -> None:
    """The tables, on stdout."""
    from rich.console import Console

    from obsdimg.rehearsal.report import show

    show(result, Console(soft_wrap=False))


def machine(args: argparse.Namespace) -> RehearsalMachine | None:
    """The machine that the options describe, None without any.  Raises RehearseUsageError."""
    from obsdimg.rehearsal import MachineNic, RehearsalMachine

    if not (args.disk or args.nic or args.serial or args.efi) and args.cpus == 1:
        return None
    return RehearsalMachine(
        disks=tuple(_disk(word) for word in args.disk or ["25G"]),
        nics=tuple(_nic(word, n) for n, word in enumerate(args.nic)) or (MachineNic("vio0"),),
        cpus=args.cpus,
        serial=args.serial,
        efi=args.efi,
    )


def _disk(word: str) -> MachineDisk:
    from obsdimg.rehearsal import MachineDisk

    found = re.fullmatch(r"(\d+)([MGT])(?::(empty|foreign|openbsd|encrypted))?", word)
    if not found:
        raise RehearseUsageError(
            f"--disk {word}: not a disk", "write SIZE or SIZE:WHAT, such as 25G or 25G:encrypted"
        )
    return MachineDisk(int(found[1]) * _UNITS[found[2]], found[3] or "empty")  # type: ignore[arg-type]


def _nic(word: str, number: int) -> MachineNic:
    from obsdimg.rehearsal import Dhcp, MachineNic

    name, _, what = word.partition(":")
    if not re.fullmatch(r"[a-z]+\d+", name) or what not in ("", "none"):
        raise RehearseUsageError(f"--nic {word}: not an interface", "write vio1 or vio1:none")
    dhcp = None if what else Dhcp(address=f"10.0.{2 + number}.15", router=f"10.0.{2 + number}.2")
    return MachineNic(name, f"52:54:00:12:34:{56 + number:02d}", dhcp)
