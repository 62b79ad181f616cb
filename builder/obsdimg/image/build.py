"""From a project and a verified ISO to the ISO that installs the server.

`plan` decides everything and is nearly pure (it reads the project's files); `write` streams
the ISO and puts the manifest, the checksum and the clients' files beside it, the ISO itself
last: a run that is killed leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsdimg.config.rules import warnings
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import (
    PRIVATE_FILE,
    FileError,
    atomic_file,
    private_dir,
    read_file,
    write_file,
)
from obsdimg.core.passphrase import Secret
from obsdimg.core.progress import Progress
from obsdimg.fetch.install_iso import UnverifiedIso, VerifiedIso
from obsdimg.ffs import FileSystem
from obsdimg.image.manifest import encode, manifest
from obsdimg.image.medium import BOOT_KERNEL, Medium, new_boot_conf, read_medium
from obsdimg.image.ramdisk import (
    RESPONSE,
    TEMPLATE,
    RamdiskFile,
    check_ramdisk,
    edit_ramdisk,
    key_path,
    summary,
)
from obsdimg.iso import Iso, remaster
from obsdimg.project.folder import Project, ProjectKeys
from obsdimg.releases.release import Port, Release
from obsdimg.response import hook
from obsdimg.response.disklabel_template import validate as validate_template
from obsdimg.response.install_conf import CheckedResponse, check_response
from obsdimg.signify.signing import ramdisk_key, sign_list
from obsdimg.site.blocklists import read_block_lists
from obsdimg.site.clients import client_conf
from obsdimg.site.files import SiteFile, site_set, with_directories
from obsdimg.site.overlay import read_overlay
from obsdimg.site.plan import SEALED, Materials, SitePlan, install_site, plan_site
from obsdimg.site.sealing import seal
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey

DEFAULT_MIRROR = "https://cdn.openbsd.org/pub/OpenBSD"
"""What the installer itself writes to /etc/installurl."""

_LAST_SECOND = (1 << 31) - 1
"""Of the times in an FFS1 inode, signed in 32 bits (sys/ufs/ufs/dinode.h 6.6)."""


class BuildError(ObsdimgError):
    """An ISO cannot be built from this project."""


@dataclass(frozen=True)
class Plan:
    """What will be in the ISO, decided before any byte of it is written."""

    site: SitePlan = field(repr=False)
    response: CheckedResponse
    hook: hook.HookSettings
    template: bytes | None
    warnings: tuple[str, ...]
    packages: tuple[str, ...]
    """Stems of the packages that the server gets."""
    carried: bool
    """Whether the site set carries them."""

    @property
    def needs_passphrase(self) -> bool:
        """Whether something gets sealed, or the passphrase goes into the ISO."""
        return bool(self.site.sealed) or self.hook.mode is hook.Mode.EMBEDDED


@dataclass(frozen=True)
class Built:
    """The files that a build wrote, and the manifest as plain values."""

    iso: Path
    sha256: str
    size: int
    manifest: Mapping[str, Any] = field(repr=False)
    clients: tuple[Path, ...]


def plan(
    project: Project,
    release: Release,
    port: Port,
    keys: ProjectKeys,
    packages: Sequence[SiteFile] = (),
) -> Plan:
    """Decide the response file, the hook's settings and the files of the site set.

    Raises ResponseError, OverlayError, BlockListError, SitePlanError and their like.
    """
    config = project.config
    template = _template(project, release)
    materials = Materials(
        packages=packages,
        block_list=read_block_lists(project.root / p for p in config.tunnel.block_lists),
        overlay=_overlay(project, keys),
        installurl=_installurl(project, release),
    )
    site = plan_site(config, release, keys, materials)
    with_directories((*site.files, install_site(config, None)))
    response = check_response(config, release, port, template is not None)
    settings = hook_settings(project)
    notes = (*hook.warnings(settings), *warnings(config), *response.remarks)
    stems = (*release.wireguard.packages, *config.packages.names)
    return Plan(site, response, settings, template, notes, stems, config.packages.carry)


def hook_settings(project: Project) -> hook.HookSettings:
    """The settings of the encryption step, from [disk]."""
    disk = project.config.disk
    return hook.HookSettings(
        mode=hook.Mode(disk.encryption),
        disk=disk.device,
        rounds=None if disk.rounds == "auto" else disk.rounds,
        random_fill=disk.random_fill,
        overwrite=disk.overwrite,
        keydisk=disk.key_disk,
        after=hook.After(disk.after),
    )


def write(
    project: Project,
    release: Release,
    port: Port,
    keys: ProjectKeys,
    plan: Plan,
    upstream: VerifiedIso | UnverifiedIso,
    output: Path,
    passphrase: Secret | None,
    progress: Progress,
) -> Built:
    """Write `output`, `output.sha256`, `output.json`, `output`'s install.conf and clients/.

    `passphrase` seals the secrets; needed if `plan.needs_passphrase`.  Raises BuildError,
    MediumError, IsoError, FfsError, FileError.
    """
    if plan.needs_passphrase and passphrase is None:
        raise BuildError("a passphrase is needed to seal the server's secrets")
    _check_output(output, upstream.path)
    with Iso.open(upstream.path) as iso:
        verified = isinstance(upstream, VerifiedIso)
        medium = read_medium(iso, release, port, hash_sets=not verified)
    epoch = _epoch(medium)
    with progress.step("Sealing the secrets and packing the site set"):
        site_files = _site_files(project, keys, plan, passphrase)
        site = site_set(site_files, epoch)
    with progress.step("Editing the ramdisk"):
        ramdisk_files = _ramdisk_files(plan, keys, release, passphrase)
        kernel = _boot_kernel(medium, release, ramdisk_files, epoch)
    changes = _changes(project, release, medium, keys, site, kernel)
    clients = _write_clients(project, keys)
    digest = hashlib.sha256()
    with atomic_file(output, PRIVATE_FILE) as stream:
        result = remaster(
            upstream.path, stream, changes, progress=progress, epoch=epoch, digests=(digest,)
        )
        if digest.hexdigest() != upstream.sha256:
            raise BuildError(
                f"{upstream.path}: changed while it was read", "leave it alone and build again"
            )
        written = manifest(
            name=output.name,
            config_digest=hashlib.sha256(
                read_file(project.config_path, "configuration")
            ).hexdigest(),
            release=release.version,
            port=port.name,
            upstream={
                "name": upstream.path.name,
                "sha256": upstream.sha256,
                "size": upstream.size,
                "verified": upstream.how,
                "evidence": upstream.evidence,
            },
            result=result,
            ramdisk=summary(ramdisk_files),
            site=with_directories(site_files),
            sealed=list(plan.site.sealed),
            hook=hook.describe(plan.hook),
            image_key=keys.image.public().base64,
            origins=_origins(medium, release),
            warnings=plan.warnings,
        )
        write_file(Path(f"{output}.json"), encode(written))
        line = f"{result.sha256}  {output.name}\n"
        write_file(Path(f"{output}.sha256"), os.fsencode(line))
        write_file(output.with_name(f"{output.stem}.install.conf"), plan.response.data)
    return Built(output, result.sha256, result.size, written, clients)


def _site_files(
    project: Project, keys: ProjectKeys, plan: Plan, passphrase: Secret | None
) -> list[SiteFile]:
    files = list(plan.site.files)
    sealed = None
    if plan.site.sealed and passphrase is not None:
        sealed = seal(plan.site.sealed, passphrase, salt_key=keys.seal)
        files.append(SiteFile(SEALED, sealed, 0o600, "sealed with the passphrase"))
    files.append(install_site(project.config, sealed))
    return files


def _ramdisk_files(
    plan: Plan, keys: ProjectKeys, release: Release, passphrase: Secret | None
) -> dict[str, RamdiskFile]:
    embedded = passphrase if plan.hook.mode is hook.Mode.EMBEDDED else None
    key = ramdisk_key(keys.image, release.version).text
    files = {
        RESPONSE: RamdiskFile(0o600, plan.response.data, "response/install.conf.j2"),
        key_path(release.digits): RamdiskFile(0o644, key.encode(), "secrets/image.sec"),
    }
    for path, (mode, data) in hook.ramdisk_files(plan.hook, embedded).items():
        files[path] = RamdiskFile(mode, data, "response/obsdimg.sh")
    if plan.template is not None:
        files[TEMPLATE] = RamdiskFile(0o644, plan.template, "disk.layout")
    return files


def _boot_kernel(
    medium: Medium, release: Release, files: Mapping[str, RamdiskFile], epoch: int
) -> bytes:
    image = medium.kernel.ramdisk
    check_ramdisk(FileSystem(image), release.digits)
    return medium.kernel.with_ramdisk(edit_ramdisk(image, files, epoch))


def _changes(
    project: Project,
    release: Release,
    medium: Medium,
    keys: ProjectKeys,
    site: bytes,
    kernel: bytes,
) -> dict[str, bytes | Path]:
    """The files to put on the ISO, by path."""
    host = project.config.host
    name = f"site{release.digits}.tgz"
    hashes = {**medium.hashes, name: hashlib.sha256(site).hexdigest()}
    signed = sign_list(hashes, keys.image, release.version)
    image = f"{medium.directory}/{BOOT_KERNEL}"
    boot_conf = new_boot_conf(
        medium.boot_conf, image, serial=host.console == "com0", speed=host.console_speed
    )
    return {
        image: kernel,
        f"{medium.directory}/{name}": site,
        f"{medium.directory}/SHA256": signed.sha256,
        f"{medium.directory}/SHA256.sig": signed.sha256_sig,
        "/etc/boot.conf": boot_conf,
    }


def _origins(medium: Medium, release: Release) -> dict[str, str]:
    directory = medium.directory
    return {
        f"{directory}/{BOOT_KERNEL}": f"{directory}/bsd.rd, with a changed ramdisk",
        f"{directory}/site{release.digits}.tgz": "site set",
        f"{directory}/SHA256": "hashes of the upstream list, and the site set's",
        f"{directory}/SHA256.sig": "signed with secrets/image.sec",
        "/etc/boot.conf": "upstream's, with another image",
    }


def _write_clients(project: Project, keys: ProjectKeys) -> tuple[Path, ...]:
    """clients/NAME.conf of every peer; those of peers that are gone are left alone."""
    paths = []
    for peer in project.config.tunnel.peers:
        private_dir(project.clients)
        path = project.clients / f"{peer.name}.conf"
        write_file(path, client_conf(project.config, keys, peer))
        paths.append(path)
    return tuple(paths)


def _template(project: Project, release: Release) -> bytes | None:
    layout = project.config.disk.layout
    if layout == "auto":
        return None
    path = project.root / layout
    data = read_file(path, "disklabel template", 'disk.layout is "auto" or a file')
    validate_template(data, where=str(path), release=release)
    return data


def _overlay(project: Project, keys: ProjectKeys) -> list[SiteFile]:
    """The overlay, which anybody may read in the ISO: no secret may be in it."""
    top = project.overlay.resolve()
    for private in (project.secrets.resolve(), project.clients.resolve()):
        if private.is_relative_to(top) or top.is_relative_to(private):
            raise BuildError(
                f"site.overlay: {project.overlay} and {private} are one inside the other:"
                " secrets would be in the ISO in clear",
                "give the overlay a folder of its own",
            )
    files = read_overlay(project.overlay)
    own: list[tuple[str, WgPrivateKey | PresharedKey | None]] = [("server.key", keys.server)]
    for peer, held in keys.peers.items():
        own += [(f"{peer}.key", held.private), (f"{peer}.psk", held.preshared)]
    for name, key in own:
        for entry in files:
            if key is not None and key.reveal().encode() in entry.data:
                raise BuildError(
                    f"{entry.origin}: holds secrets/{name}, and anybody may read the overlay"
                    " in the ISO",
                    "remove it: obsdimg puts the keys where they belong, sealed",
                )
    return files


def _installurl(project: Project, release: Release) -> str:
    """The mirror for the installed system: the user's first, else one that keeps old releases."""
    mirrors = [*project.config.release.mirrors, *(m.url for m in release.mirrors)]
    first = mirrors[0].rstrip("/") if mirrors else DEFAULT_MIRROR
    return "" if first == DEFAULT_MIRROR else first


def _epoch(medium: Medium) -> int:
    """The time of everything new: SOURCE_DATE_EPOCH, else the date of the upstream kernel."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return medium.epoch
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > _LAST_SECOND:
        raise BuildError(
            f"SOURCE_DATE_EPOCH={text[:40]!r} is not a number of seconds since 1970",
            f"from 0 to {_LAST_SECOND}, which the file system of the ramdisk can hold; or unset it",
        )
    return int(text)


def _check_output(output: Path, source: Path) -> None:
    if not output.parent.is_dir():
        raise FileError(f"{output.parent}: there is no such folder", "make it, or choose with -o")
    if output.is_dir():
        raise FileError(f"{output}: is a folder", "give a file name with -o")
    if output.exists() and output.samefile(source):
        raise FileError(f"{output}: is the upstream ISO itself", "choose another name with -o")
