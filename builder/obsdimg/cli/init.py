"""`obsdimg init`: a new project folder."""

from __future__ import annotations

import datetime
import shlex
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from obsdimg.cli.options import argument, flag, option, repeated
from obsdimg.cli.ui import Ui
from obsdimg.config.document import SCHEMA_FILE, commented, schema
from obsdimg.config.load import parse
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import private_dir, read_file, write_file
from obsdimg.project.folder import Project
from obsdimg.releases.support import newest, support

GITIGNORE = """\
# Keys, and what is made from them.
/secrets/
/clients/
/images/
/deploy/
"""


MOST_PEERS = 200


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
        "--peer", metavar="NAME", help="a client of the tunnel (default: laptop)"
    )
    console: str | None = option(
        "--console", choices=("vga", "com0"), help="where the server's console is"
    )
    private: tuple[str, ...] = repeated(
        "--private", metavar="ADDR/LEN@IF",
        help="a further interface with its own address, such as 172.16.1.3/24@vio1",
    )  # fmt: skip
    recipe: bool = flag("--recipe", help="the recipe of 2019: 6.6, laptop and phone, 172.16.1.0/24")


def run(options: Options, ui: Ui) -> int:
    folder: Path = options.folder
    config = folder / "obsdimg.toml"
    if config.exists():
        raise InitError(f"{config}: there is a project here already", "choose another folder")
    values = settings(options)
    version = values["release"]["version"]
    sentence = support(version, datetime.date.today()).sentence  # also: such a release is known
    text = commented(values).encode()
    parse(text, str(config))  # before anything is made
    private_dir(folder)
    for name in ("secrets", "overlay", "images"):
        private_dir(folder / name)
    if not (folder / ".gitignore").exists():
        write_file(folder / ".gitignore", GITIGNORE.encode(), 0o644)
    write_file(folder / SCHEMA_FILE, schema(), 0o644)
    write_file(config, text, 0o644)
    Project.open(config).keys()
    ui.say(f"{config}: a new project for OpenBSD {version}")
    if sentence is not None:
        ui.warn(sentence)
    missing = [] if options.ssh_key else ["access.admin.keys"]
    missing += [] if options.endpoint else ["tunnel.endpoint"]
    edit = f"edit it ({', '.join(missing)}), then " if missing else ""
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))}, "
    ui.info(f"next: {where}{edit}obsdimg check")
    return 0


def settings(options: Options) -> dict[str, Any]:
    """The settings that the new file holds, as TOML has them.  Raises InitError."""
    names = options.peer or (("laptop", "phone") if options.recipe else ("laptop",))
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
    lines = read_file(path.expanduser(), "public ssh key").decode("utf-8", "replace").splitlines()
    if len(lines) != 1 or "PRIVATE" in lines[0]:
        raise InitError(f"{path}: is no public ssh key", "give the file that ends in .pub")
    return lines[0].strip()
