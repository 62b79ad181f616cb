"""Which ISO a command is about: the one that is named, or the project's."""

from __future__ import annotations

from pathlib import Path

from obsdimg.cli.options import WithConfig
from obsdimg.cli.servers import open_project
from obsdimg.core.errors import ObsdimgError


class WhichIsoError(ObsdimgError):
    """No ISO is named, and there is no project whose ISO it could be."""


def project_iso(given: Path | None, options: WithConfig) -> Path:
    """The ISO `given`, else that of the project.

    Raises WhichIsoError, ConfigError.
    """
    if given is not None:
        path = given.expanduser()
    elif options.config.exists():
        project = open_project(options)
        path = project.images / project.image_name()
    else:
        raise WhichIsoError(
            "which ISO?", "name one, or run this in a project's folder (or give -c FILE)"
        )
    if not path.is_file():
        raise WhichIsoError(f"{path}: there is no such ISO", "`obsdimg build` makes it")
    return path
