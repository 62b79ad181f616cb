"""What a build is decided from: the project's settings, keys and files, read once."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from obsdimg.config import Config
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file
from obsdimg.fetch.packages import VerifiedPackage
from obsdimg.project.folder import Project, ProjectKeys
from obsdimg.releases.release import Port, Release
from obsdimg.releases.support import support
from obsdimg.response.disklabel_template import validate as validate_template
from obsdimg.site.blocklists import read_block_lists
from obsdimg.site.overlay import read_overlay
from obsdimg.site.plan import PACKAGES, package_stems
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey


class BuildError(ObsdimgError):
    """An ISO cannot be built from this project."""


@dataclass(frozen=True)
class BuildInputs:
    """Everything that a build is decided from; no file of the project is read after it.

    `layout` is the disklabel template of [disk], if there is one; `mirrors` the bases from which
    packages and ISO come, best first, those of the command line and of the configuration included.
    """

    config: Config = field(repr=False)
    config_sha256: str
    release: Release = field(repr=False)
    port: Port = field(repr=False)
    keys: ProjectKeys = field(repr=False)
    mirrors: tuple[str, ...] = ()
    support: str | None = None
    """What is to be said of the release's support on this day, if anything."""
    overlay: tuple[Entry, ...] = ()
    blocked: tuple[str, ...] = field(default=(), repr=False)
    """Names that unbound does not resolve."""
    layout: bytes | None = field(default=None, repr=False)
    packages: tuple[Entry, ...] = ()
    """The package files that the site set carries."""

    @property
    def package_stems(self) -> tuple[str, ...]:
        """The packages that the server gets, e.g. `wireguard-go`."""
        return package_stems(self.config, self.release)

    @property
    def carries_packages(self) -> bool:
        """Whether the site set carries them, so that they are needed before the plan."""
        return self.config.packages.carry and bool(self.package_stems)

    def with_packages(self, packages: Sequence[VerifiedPackage]) -> BuildInputs:
        """The same with the packages to carry."""
        carried = [Entry(f"{PACKAGES}/{p.file_name}", p.data, 0o644, p.evidence) for p in packages]
        return replace(self, packages=tuple(carried))


def read_inputs(
    project: Project,
    release: Release,
    port: Port,
    mirrors: Sequence[str] = (),
    *,
    only_look: bool = False,
) -> BuildInputs:
    """Read the project; `mirrors` are tried before those that configuration and release name.

    Keys that are not there yet are made; with `only_look` nothing is written, and stand-ins take
    their place.  Raises BuildError, ProjectError, OverlayError, BlockListError, FileError and
    their like.
    """
    config = project.config
    keys = project.keys_for_looking() if only_look else project.keys()
    return BuildInputs(
        config=config,
        config_sha256=hashlib.sha256(read_file(project.config_path, "configuration")).hexdigest(),
        release=release,
        port=port,
        keys=keys,
        mirrors=release.mirror_urls((*mirrors, *config.release.mirrors)),
        support=support(release.version, datetime.date.today()).sentence,
        overlay=tuple(_overlay(project, keys)),
        blocked=read_block_lists(project.folder / p for p in config.tunnel.block_lists),
        layout=_layout(project, release),
    )


def _layout(project: Project, release: Release) -> bytes | None:
    layout = project.config.disk.layout
    if layout == "auto":
        return None
    path = project.folder / layout
    data = read_file(path, "disklabel template", 'disk.layout is "auto" or a file')
    validate_template(data, where=str(path), release=release)
    return data


def _overlay(project: Project, keys: ProjectKeys) -> list[Entry]:
    """The overlay, which lands on the server as it is: no secret of the project may be in it."""
    top = project.overlay.resolve()
    for private in (
        project.secrets.resolve(),
        project.clients.resolve(),
        project.client_secrets.resolve(),
    ):
        if private.is_relative_to(top) or top.is_relative_to(private):
            raise BuildError(
                f"site.overlay: {project.overlay} and {private} are one inside the other:"
                " the clients' keys and the image key would land on the server",
                "give the overlay a folder of its own",
            )
    files = read_overlay(project.overlay)
    own: list[tuple[str, WgPrivateKey | PresharedKey | None]] = [("server.key", keys.server)]
    for peer, held in keys.peers.items():
        own += [(f"{peer}.key", held.private), (f"{peer}.psk", held.preshared)]
    if keys.hop is not None:
        own.append(("the next server's psk", keys.hop.preshared))
    for name, key in own:
        for entry in files:
            if key is not None and key.reveal().encode() in entry.data:
                raise BuildError(
                    f"{entry.origin}: holds secrets/{name}, and would land on the server as it is",
                    "remove it: obsdimg puts the keys where they belong, for root only",
                )
    return files
