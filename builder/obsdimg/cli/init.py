"""`obsdimg init`: a new project folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import argument
from obsdimg.cli.ui import Ui
from obsdimg.config.document import SCHEMA_FILE, commented, schema
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, write_file
from obsdimg.project.folder import Project

GITIGNORE = """\
# Keys, and what is made from them.
/secrets/
/clients/
/images/
/deploy/
"""


class InitError(ObsdimgError):
    """There is something in the way already."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    folder: Path = argument(
        metavar="DIR", nargs="?", type=Path, default=Path(), help="default: this folder"
    )


def run(options: Options, ui: Ui) -> int:
    folder: Path = options.folder
    config = folder / "obsdimg.toml"
    if config.exists():
        raise InitError(f"{config}: there is a project here already", "choose another folder")
    private_dir(folder)
    for name in ("secrets", "overlay", "images"):
        private_dir(folder / name)
    example = {"tunnel": {"peers": [{"name": "laptop", "ipv4": "10.0.0.2"}]}}
    if not (folder / ".gitignore").exists():
        write_file(folder / ".gitignore", GITIGNORE.encode(), 0o644)
    write_file(folder / SCHEMA_FILE, schema(), 0o644)
    write_file(config, commented(example).encode(), 0o644)
    Project.open(config).keys()
    ui.say(f"{config}: a new project")
    ui.info("next: edit it (access.admin.keys, tunnel.endpoint), then obsdimg check")
    return 0
