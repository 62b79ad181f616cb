"""`obsdimg backup`: the project's keys and settings as one encrypted file."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import WithConfig, flag, option
from obsdimg.cli.passphrase import choose
from obsdimg.cli.servers import open_projects
from obsdimg.cli.ui import NoTerminalError, Ui
from obsdimg.core import passphrase as phrases
from obsdimg.core.files import FileError, write_file
from obsdimg.core.secret import Secret
from obsdimg.project.backup import SUFFIX, collect, encrypt
from obsdimg.site.sealing import rounds_for

RULES = f"""\
The passphrase of the backup: whoever has both has the keys of the server and of its clients.
  {phrases.MIN_LENGTH} to {phrases.MAX_LENGTH} characters of a US keyboard; the disk's own will do.
  Enter alone offers random words."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    output: Path | None = option(
        "-o", "--output", type=Path, metavar="F",
        help=f"default: HOST-DATE{SUFFIX} in this folder",
    )  # fmt: skip
    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="the passphrase; else it is asked for"
    )
    weak_passphrase: bool = flag(
        "--weak-passphrase", help="take a passphrase that is guessed in less than a year"
    )
    json: bool = flag("--json", help="what was kept, as JSON")


def run(options: Options, ui: Ui) -> int:
    projects = open_projects(options)
    project = projects[0]
    entries, outside = collect(*projects)
    today = datetime.date.today().isoformat()
    name = project.config.host.name if project.server is None else project.folder.name
    output = options.output or Path(f"{name}-{today}{SUFFIX}")
    output = output.expanduser()
    if output.exists():
        raise FileError(f"{output}: is there already", "choose another name with -o")
    if not output.absolute().parent.is_dir():
        raise FileError(f"{output.parent}: there is no such folder", "make it, or choose with -o")
    given = phrases.given(options.passphrase_file)
    if given is None and not ui.can_ask:
        raise NoTerminalError(
            "a passphrase is needed and there is no terminal to ask on",
            "give it with --passphrase-file FILE",
        )

    def judge(secret: Secret) -> None:
        if not options.weak_passphrase:
            _refuse_weak(secret)

    if given is not None:
        judge(given)
    secret = given or choose(ui, judge, RULES)
    with ui.progress().step("Encrypting"):
        data = encrypt(entries, secret)
    write_file(output, data)
    for name in outside:
        ui.warn(f"{name}: is outside of the project, and not in the backup")
    files = [entry.path[1:] for entry in entries if entry.kind != "dir"]
    if options.json:
        ui.json({"file": str(output), "size": len(data), "holds": files, "left_out": outside})
        return 0
    ui.say(f"{output}: {len(files)} files, {len(data)} bytes, encrypted")
    ui.info("keep it on another computer, and the passphrase apart from it; a change of clients")
    ui.info(f"makes it old. It comes back by: obsdimg restore {output.name}")
    return 0


def _refuse_weak(secret: Secret) -> None:
    # age's scrypt costs about as much as the disk's derivation does.
    found = phrases.strength(secret, rounds_for(None))
    if found.weak:
        raise phrases.PassphraseError(
            f"this passphrase is guessed in {phrases.duration(found.rich_attacker_seconds)} by"
            " somebody who has the backup",
            "use five or more random words; --weak-passphrase takes it all the same",
        )
