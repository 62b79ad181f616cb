"""What will be in the ISO, decided before any byte of it is written.

Pure: the inputs in, a plan out.  It holds every byte but those that depend on the upstream ISO
and on the passphrase (image/write.py adds these).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from obsdimg.config import Config
from obsdimg.config.rules import asks_on_com0, warnings
from obsdimg.core.errors import ObsdimgError
from obsdimg.image.inputs import BuildInputs
from obsdimg.releases.release import Release
from obsdimg.response import hook
from obsdimg.response.disklabel_template import validate as validate_template
from obsdimg.response.install_conf import CheckedResponse, check_response
from obsdimg.site.clients import plan_clients
from obsdimg.site.files import with_directories
from obsdimg.site.pf import shut_out
from obsdimg.site.plan import Materials, SitePlan, install_site, plan_site
from obsdimg.site.sealing import rounds_for
from obsdimg.tunnel.identity import TunnelClient

DEFAULT_MIRROR = "https://cdn.openbsd.org/pub/OpenBSD"
"""What the installer itself writes to /etc/installurl."""


@dataclass(frozen=True)
class BuildPlan:
    """The response file, the settings of the encryption step, the files of the site set.

    `sealing_rounds`: of bcrypt_pbkdf, for what is sealed."""

    inputs: BuildInputs = field(repr=False)
    site: SitePlan = field(repr=False)
    response: CheckedResponse
    hook: hook.HookSettings
    clients: tuple[TunnelClient, ...]
    warnings: tuple[str, ...]
    sealing_rounds: int

    @property
    def needs_passphrase(self) -> bool:
        """Whether something gets sealed, or the passphrase goes into the ISO."""
        return bool(self.site.sealed) or self.hook.mode is hook.Mode.EMBEDDED


NOTHING_SEALED = (
    'nothing is sealed, since tunnel.keys = "first-boot" needs no passphrase: whoever has the ISO'
    " reads names, password hashes, ssh keys, peers' names and public keys, networks and overlay;"
    " a passphrase at build time (--passphrase-file) seals them"
)


def plan_build(inputs: BuildInputs, *, with_passphrase: bool = False) -> BuildPlan:
    """Decide.  `with_passphrase`: one is given, so that files are sealed although they need not be.

    Raises ResponseError, SitePlanError, SiteSetError, PlanError, HookError and their like.
    """
    config, release = inputs.config, inputs.release
    materials = Materials(
        packages=inputs.packages,
        blocked=inputs.blocked,
        overlay=inputs.overlay,
        installurl=_installurl(inputs),
    )
    embedded = config.disk.encryption == "embedded"
    site = plan_site(
        *(config, release, inputs.keys, materials), with_passphrase=with_passphrase or embedded
    )
    _require_root_for(site, inputs)
    # Raises where two are in conflict.
    with_directories((*site.files, *site.sealed.values(), install_site(None)))
    response = check_response(config, release, inputs.port, inputs.layout is not None)
    settings = hook_settings(config, release)
    about = (inputs.support,) if inputs.support else ()
    shown = () if site.sealed else (NOTHING_SEALED,)
    outside = shut_out(config, site.tunnel, (*site.files, *site.sealed.values()))
    notes = (
        *(*about, *shown, *hook.warnings(settings)),
        *(*warnings(config), *outside, *response.remarks),
    )
    clients = plan_clients(config, inputs.keys)
    rounds = rounds_for(settings.rounds)
    return BuildPlan(inputs, site, response, settings, clients, notes, rounds)


class PlanError(ObsdimgError):
    """Settings that are right one by one and do not go together."""


ROOT_SYSTEM = 200
"""MB of `/` for the system itself: kernels, /bin, /sbin, /etc, and some to spare."""


def _require_root_for(site: SitePlan, inputs: BuildInputs) -> None:
    """Raise PlanError where disk.layout's `/` is too small for what is sealed: at the end of the
    installation it lies there twice (install.site), and the disk is erased by then."""
    if inputs.layout is None or not site.sealed:
        return
    template = validate_template(inputs.layout, where="disk.layout", release=inputs.release)
    root = sum(e.min_kb for e in template.entries if e.mount_point == "/") // 1024
    sealed = 2 * sum(len(entry.data) for entry in site.sealed.values()) >> 20
    if sealed and root < ROOT_SYSTEM + sealed:
        raise PlanError(
            f"disk.layout: `/` has {root} MB, {ROOT_SYSTEM + sealed} MB are needed: what is sealed"
            f" takes {sealed} MB of it for a moment",
            "make `/` larger, or the overlay smaller",
        )


def hook_settings(config: Config, release: Release) -> hook.HookSettings:
    """The settings of the encryption step, from [disk]."""
    disk = config.disk
    mode = hook.Mode(disk.encryption)
    return hook.HookSettings(
        mode=mode,
        disk=disk.device,
        rounds=None if disk.rounds == "auto" else disk.rounds,
        random_fill=disk.random_fill,
        overwrite=disk.overwrite,
        keydisk=disk.key_disk,
        after=hook.After(disk.after),
        fdisk_gpt=release.installer.fdisk_gpt,
        loader_speed=config.host.console_speed if asks_on_com0(config) else None,
    )


def _installurl(inputs: BuildInputs) -> str:
    """The mirror for the installed system: the user's first, else one that keeps old releases."""
    mirrors = inputs.release.mirror_urls(inputs.config.release.mirrors)
    first = mirrors[0] if mirrors else DEFAULT_MIRROR
    return "" if first == DEFAULT_MIRROR else first
