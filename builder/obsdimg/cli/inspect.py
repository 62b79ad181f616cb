"""`obsdimg inspect`: what is in an ISO."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError, printable

if TYPE_CHECKING:
    from obsdimg.image.inspection import Inspection

LIMITS = ("min", "max", "conf_complete")
"""Lines of the encryption step's settings that are the same in every ISO."""

HELP = "show what is in an ISO: boot entries, ramdisk changes, response file, site set, signatures"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iso", type=Path, metavar="ISO")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--extract", type=Path, metavar="DIR", help="write what was put in to DIR")
    parser.add_argument(
        "--secrets",
        type=Path,
        metavar="PROJECT",
        help="search the ISO for every secret of the project in this folder",
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="F", help="with --secrets: search for it, too"
    )


def run(args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg.image.inspection import extract, inspect

    progress = ui.progress()
    found = inspect(args.iso, progress)
    leaked = False
    if args.secrets is not None:
        from obsdimg.core.passphrase import from_file
        from obsdimg.image.project_secrets import add_secret_check

        phrase = from_file(args.passphrase_file) if args.passphrase_file else None
        leaked = bool(add_secret_check(found, args.secrets, phrase, progress).findings)
    if args.json:
        ui.json(found.as_dict())
    else:
        show(found, ui)
    if args.extract is not None:
        for path in extract(found, args.extract):
            ui.info(f"wrote {path}")
    if leaked:
        raise ObsdimgError(
            f"{args.iso}: holds secrets of {args.secrets} in clear",
            "give it to nobody; the failed check above says where they are",
        )
    return 0


def show(found: Inspection, ui: Ui) -> None:
    """The story of an ISO, top to bottom; whatever its names and files hold, a line is a line."""

    def say(text: str) -> None:
        ui.say(printable(text))

    say(f"{found.path}: {found.size} bytes, {found.volume_id!r}")
    say("Boot entries:")
    for entry in found.boot_entries:
        at = entry["file"] or f"sector {entry['lba']}"
        say(f"  {entry['platform']}, emulation {entry['media']}, {at}")
    say("/etc/boot.conf:")
    for line in found.boot_conf.splitlines():
        say(f"  {line}")
    say("Kernels with a ramdisk:")
    for kernel in found.kernels:
        form = "gzip, " if kernel["gzip"] else ""
        say(
            f"  {kernel['path']}: {form}{kernel['machine']}, ramdisk of {kernel['ramdisk_bytes']}"
            f" bytes found by {kernel['ramdisk_located_by']}, {kernel['ramdisk_free_bytes']} free"
        )
    if found.ramdisk_changes:
        say("The ramdisk that boots, against that of bsd.rd:")
        for change in found.ramdisk_changes:
            say(f"  {change['change']:8} {change['path']} ({change['size']} bytes)")
    if found.response:
        say("Response file:")
        for line in found.response:
            if line and not line.startswith("#"):
                say(f"  {line}")
    if found.hook:
        say("Encryption step:")
        say("  " + ", ".join(f"{k} = {v}" for k, v in found.hook.items() if v and k not in LIMITS))
    if found.sets:
        say("Sets:")
        for entry in found.sets:
            say(f"  {entry['state']:9} {entry['name']} ({entry['size']} bytes)")
    if found.site_set:
        say("Site set:")
        for entry in found.site_set:
            slash = "/" if entry["kind"] == "dir" else ""
            say(f"  {entry['mode']} {entry['path']}{slash}")
    say("Checks:")
    for check in found.checks:
        word = "ok  " if check.passed else "FAIL"
        say(f"  {word} {check.name}" + (f": {check.detail}" if check.detail else ""))
