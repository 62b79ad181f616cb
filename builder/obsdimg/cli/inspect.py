"""`obsdimg inspect`: what is in an ISO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import argument, flag, option
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.core.passphrase import from_file
from obsdimg.image.inspection import Inspection, extract, inspect
from obsdimg.image.project_secrets import add_secret_check

LIMITS = ("min", "max", "conf_complete")
"""Lines of the encryption step's settings that are the same in every ISO."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    iso: Path = argument(metavar="ISO", type=Path)
    json: bool = flag("--json", help="print as JSON")
    extract: Path | None = option(
        "--extract", type=Path, metavar="DIR", help="write what was put in to DIR"
    )
    secrets: Path | None = option(
        "--secrets",
        type=Path,
        metavar="PROJECT",
        help="search the ISO for every secret of the project in this folder",
    )
    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="with --secrets: search for it, too"
    )


def run(options: Options, ui: Ui) -> int:
    progress = ui.progress()
    found = inspect(options.iso, progress)
    leaked = False
    if options.secrets is not None:
        phrase = from_file(options.passphrase_file) if options.passphrase_file else None
        leaked = bool(add_secret_check(found, options.secrets, phrase, progress).findings)
    if options.json:
        ui.json(found.as_dict())
    else:
        show(found, ui)
    if options.extract is not None:
        for path in extract(found, options.extract):
            ui.info(f"wrote {path}")
    if leaked:
        raise ObsdimgError(
            f"{options.iso}: holds secrets of {options.secrets} in clear",
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
