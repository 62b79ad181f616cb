"""`obsdimg init`: a new project folder."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from obsdimg.cli.options import argument, flag, option, repeated
from obsdimg.cli.ui import Ui
from obsdimg.config.document import REST, SCHEMA_FILE, commented, schema
from obsdimg.config.keyfiles import keys_in_file
from obsdimg.config.load import parse
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import private_dir, write_file
from obsdimg.project.folder import Project
from obsdimg.releases.support import newest, support

GITIGNORE = """\
# Keys, and what is made from them.
/secrets/
/clients/
/images/
/deploy/
/*.backup.age
/servers/
"""


MOST_PEERS = 200
RECIPE_PEERS = ("laptop", "phone")
PEERS = (*RECIPE_PEERS, "operator")
"""`operator` is this computer: ssh, apply and status call as the client of that name."""
USUAL_KEYS = tuple(
    Path(f"~/.ssh/id_{kind}.pub") for kind in ("ed25519", "ecdsa", "rsa", "ed25519_sk")
)
"""Where a public ssh key is looked for, to be offered."""


class InitError(ObsdimgError):
    """There is something in the way already."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    folder: Path = argument(
        metavar="DIR", nargs="?", type=Path, default=Path(), help="default: this folder"
    )
    release: str | None = option(
        "--release",
        metavar="N.N",
        complete="release",
        help="release of OpenBSD (default: the newest)",
    )
    endpoint: str | None = option(
        "--endpoint", metavar="HOST", help="name or address at which clients call the server"
    )
    ssh_key: tuple[Path, ...] = repeated(
        "--ssh-key", type=Path, metavar="F.pub", help="public ssh key of the administrator"
    )
    peer: tuple[str, ...] = repeated(
        "--peer",
        metavar="NAME",
        help="a client of the tunnel (default: laptop, phone, and operator: this computer)",
    )
    console: str | None = option(
        "--console", choices=("vga", "com0"), help="where the server's console is"
    )
    private: tuple[str, ...] = repeated(
        "--private", metavar="ADDR/LEN@IF",
        help="a further interface with its own address, such as 172.16.1.3/24@vio1",
    )  # fmt: skip
    yes: bool = flag("-y", "--yes", help="ask nothing: what is not given stays at its default")
    recipe: bool = flag("--recipe", help="the recipe of 2019: 6.6, laptop and phone, 172.16.1.0/24")

    asked: bool = False
    """Some of it was answered on the terminal."""

    @property
    def says_something(self) -> bool:
        """Whether a setting is given, so that nothing is asked."""
        given = (self.release, self.endpoint, self.ssh_key, self.peer, self.console, self.private)
        return self.recipe or any(given)


def run(options: Options, ui: Ui) -> int:
    folder: Path = options.folder
    config = folder / "obsdimg.toml"
    if config.exists():
        raise InitError(f"{config}: there is a project here already", "choose another folder")
    if ui.can_ask and not ui.quiet and not options.yes and not options.says_something:
        options = ask(options, ui)
    values = settings(options)
    version = values["release"]["version"]
    sentence = support(version, datetime.date.today()).sentence  # also: such a release is known
    text = commented(values)
    parse(text.encode(), str(config))  # before anything is made
    private_dir(folder)
    for name in ("secrets", "overlay", "images"):
        private_dir(folder / name)
    if not (folder / ".gitignore").exists():
        write_file(folder / ".gitignore", GITIGNORE.encode(), 0o644)
    write_file(folder / SCHEMA_FILE, schema(), 0o644)
    write_file(config, text.encode(), 0o644)
    Project.open(config).keys()
    ui.say(f"{config}: a new project for OpenBSD {version}")
    if sentence is not None:
        ui.warn(sentence)
    if options.asked:
        ui.info(_settings_of(text))
    missing = [] if options.ssh_key else ["access.admin.keys (your public ssh key)"]
    missing += [] if options.endpoint else ["tunnel.endpoint (where clients reach the server)"]
    if missing:
        ui.info(f"still to be set in {config.name}: {', '.join(missing)}")
    ui.next("check", folder=None if folder == Path() else folder)
    return 0


def _settings_of(text: str) -> str:
    """The settings in the first part of the new file."""
    lines = text.partition(REST)[0].splitlines()
    return "\n".join(f"  {line}" for line in lines if line and not line.startswith("#"))


def ask(options: Options, ui: Ui) -> Options:
    """The five things that matter, each asked for until it is right; Enter takes the default.

    Raises InputEndedError at ctrl-D: then nothing is made.
    """
    ui.tell("Five questions; Enter takes what stands in [ ]. Everything else stands in the file.")
    key = next((path for path in USUAL_KEYS if path.expanduser().is_file()), None)
    found = replace(options, asked=True)
    for question, default, setting in (
        ("Name or address at which clients reach the server", "", _endpoint),
        ("Public ssh key to log in with", str(key or ""), _ssh_key),
        ("Clients, with blanks between them", " ".join(PEERS), _peers),
        ("Release of OpenBSD", newest().version, _release),
        ("The server's console: vga (most providers) or com0", "vga", _console),
    ):
        while True:
            answer = ui.ask(f"{question} [{default or 'later'}]:") or default
            try:
                trial = setting(found, answer) if answer else found
                checked = settings(trial)
                support(checked["release"]["version"], datetime.date.today())
                parse(commented(checked).encode())
            except ObsdimgError as error:
                ui.mistake(_without_place(error))
                continue
            found = trial
            break
    return found


def _without_place(error: ObsdimgError) -> ObsdimgError:
    """Of an error in the file that is not written yet, without the file's name."""
    return ObsdimgError(error.message.removeprefix("obsdimg.toml: "), error.hint)


def _endpoint(options: Options, answer: str) -> Options:
    return replace(options, endpoint=answer)


def _ssh_key(options: Options, answer: str) -> Options:
    return replace(options, ssh_key=(Path(answer),))


def _peers(options: Options, answer: str) -> Options:
    return replace(options, peer=tuple(answer.replace(",", " ").split()))


def _release(options: Options, answer: str) -> Options:
    return replace(options, release=answer)


def _console(options: Options, answer: str) -> Options:
    return replace(options, console=answer)


def settings(options: Options) -> dict[str, Any]:
    """The settings that the new file holds, as TOML has them.  Raises InitError."""
    names = options.peer or (RECIPE_PEERS if options.recipe else PEERS)
    if len(names) > MOST_PEERS:
        raise InitError(f"{len(names)} clients: too many to begin with", "add them later")
    version = options.release or ("6.6" if options.recipe else newest().version)
    private = options.private or (("172.16.1.3/24@vio1",) if options.recipe else ())
    peers: list[dict[str, Any]] = [
        {"name": name, "ipv4": f"10.0.0.{number}"} for number, name in enumerate(names, 2)
    ]
    values: dict[str, Any] = {"release": {"version": version}, "tunnel": {"peers": peers}}
    if private:
        interfaces = [_interface(text) for text in private]
        values["network"] = {"interfaces": interfaces}
        peers[0]["reach"] = [str(ip_interface(i["ipv4"]).network) for i in interfaces]
    if options.endpoint is not None:
        values["tunnel"]["endpoint"] = options.endpoint
    if options.ssh_key:
        values["access"] = {"admin": {"keys": [_key(path) for path in options.ssh_key]}}
    if options.console is not None:
        values["host"] = {"console": options.console}
    return values


def _interface(text: str) -> dict[str, str]:
    address, at, name = text.partition("@")
    try:
        if not at or ip_interface(address).version != 4:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--private {text}: not ADDR/LEN@IF", "such as 172.16.1.3/24@vio1"
        ) from None
    return {"name": name, "ipv4": address}


def _key(path: Path) -> str:
    keys = keys_in_file(str(path), Path())
    if len(keys) != 1:
        raise InitError(f"{path}: holds {len(keys)} keys", "give one --ssh-key for each")
    return keys[0]
