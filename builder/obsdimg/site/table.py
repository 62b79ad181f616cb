"""siteXX/files.toml: the table of the files that land on the server, as typed rows."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.resources import resource

TABLE = "files.toml"

Condition = Literal[
    "accounts", "audit", "blocked-names", "dhclient", "dhcpleased", "doas", "first-boot-key",
    "multi-hop", "no-sshd", "outside6", "own-dns", "own-mirror", "rescue", "serial-loader", "sshd",
    "unbound", "upkeep", "wg", "wireguard-go",
]  # fmt: skip
"""What a row may depend on.  Which of them hold is decided in site/plan.py."""

Daemon = Literal["tunnel", "next-server"]


class SiteTableError(ObsdimgError):
    """siteXX/files.toml is wrong: the installation of obsdimg is damaged."""


def _octal(value: object) -> object:
    return int(value, 8) if isinstance(value, str) else value


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    when: tuple[Condition, ...] = ()

    def applies(self, holding: frozenset[Condition]) -> bool:
        """Whether everything that this row depends on is among `holding`."""
        return holding.issuperset(self.when)


class FileRow(_Row):
    """A file or, without a template, a folder; columns as the table explains them."""

    path: str
    mode: Annotated[int, BeforeValidator(_octal)]
    template: str | None = None
    secret: bool = False
    each: Literal["interface"] | None = None
    daemon: Daemon | None = None


class PartRow(_Row):
    """A piece of /obsdimg.steps."""

    template: str


class SiteTable(BaseModel):
    """The whole table."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    files: tuple[FileRow, ...]
    install_site: str
    steps: str
    parts: tuple[PartRow, ...]


@cache
def site_table() -> SiteTable:
    """The table that is shipped.  Raises SiteTableError."""
    path = resource("siteXX", TABLE)
    try:
        return SiteTable.model_validate(tomllib.loads(path.read_text()))
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise SiteTableError(f"siteXX/{TABLE}: {first}", "reinstall obsdimg") from error
