"""`obsdimg restore`: what `obsdimg backup` kept, put back where it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import argument, flag, option
from obsdimg.cli.passphrase import existing
from obsdimg.cli.ui import NoTerminalError, Ui
from obsdimg.project.backup import decrypt, read, restore


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    file: Path = argument(metavar="FILE", type=Path, help="the backup")
    folder: Path = argument(
        metavar="DIR", nargs="?", type=Path, default=Path(), help="the project (default: here)"
    )
    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="the passphrase; else it is asked for"
    )
    list: bool = flag("--list", help="only say what is in it")
    json: bool = flag("--json", help="the result as JSON")


def run(options: Options, ui: Ui) -> int:
    """0 when everything of the backup is there.  What is there and differs stops it."""
    data = read(options.file.expanduser())
    secret = existing(options.passphrase_file, ui, "Passphrase of the backup")
    if secret is None:
        raise NoTerminalError(
            "the passphrase of the backup is needed", "give it with --passphrase-file FILE"
        )
    with ui.progress().step("Decrypting"):
        entries = decrypt(data, secret, str(options.file))
    names = [entry.path[1:] for entry in entries if entry.kind != "dir"]
    if options.list:
        if options.json:
            ui.json({"holds": names})
        else:
            ui.say("\n".join(names))
        return 0
    done = restore(entries, options.folder.expanduser())
    if options.json:
        ui.json({"folder": str(options.folder), "written": done.written, "same": done.same})
        return 0
    ui.say(f"{options.folder}: {len(done.written)} files restored, {len(done.same)} were there")
    ui.next("check", folder=None if options.folder == Path() else options.folder)
    return 0
