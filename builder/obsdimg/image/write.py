"""From a plan and the upstream ISO to files: the ISO, its manifest, its checksum, the clients'.

Nothing gets its name before everything is written, and the ISO is the last: a run that is killed
leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from obsdimg.core.archive import tar
from obsdimg.core.entry import Entry
from obsdimg.core.files import PRIVATE_FILE, FileError, atomic_file, identity, write_file
from obsdimg.core.passphrase import MAX_LENGTH
from obsdimg.core.progress import Progress
from obsdimg.core.secret import Secret
from obsdimg.fetch.install_iso import UnverifiedIso, VerifiedIso
from obsdimg.image.inputs import BuildError
from obsdimg.image.manifest import encode, manifest
from obsdimg.image.medium import BOOT_KERNEL, Medium, new_boot_conf, read_medium
from obsdimg.image.plan import BuildPlan
from obsdimg.image.ramdisk import RESPONSE, TEMPLATE, edit_ramdisk, key_path
from obsdimg.image.space import needed_mb
from obsdimg.iso import Iso, copy, remaster
from obsdimg.project.folder import Project
from obsdimg.response import hook
from obsdimg.response.disklabel_template import validate as validate_template
from obsdimg.signify.signing import ramdisk_key, sign_list
from obsdimg.site.clients import write_client
from obsdimg.site.files import site_set, with_directories
from obsdimg.site.plan import SEALED, install_site
from obsdimg.site.sealing import pack, seal

_SPARE = 32 << 20
"""Bytes beside the upstream ISO and the site set: the changed kernel, lists, the manifest."""

_LAST_SECOND = (1 << 31) - 1
"""Of the times in an FFS1 inode, signed in 32 bits (sys/ufs/ufs/dinode.h 6.6)."""


@dataclass(frozen=True)
class Built:
    """The files that a build wrote, and the manifest as plain values."""

    iso: Path
    sha256: str
    size: int
    manifest: Mapping[str, Any] = field(repr=False)
    clients: tuple[Path, ...]


def write(
    project: Project,
    plan: BuildPlan,
    upstream: VerifiedIso | UnverifiedIso,
    output: Path,
    ask: Callable[[], Secret | None],
    progress: Progress,
) -> Built:
    """Write `output`, `output.sha256`, `output.json`, `output`'s install.conf and clients/.

    `ask` gives the passphrase that seals the secrets, where `plan.needs_passphrase`; it is called
    once, when everything that can fail without it is done.  Raises BuildError, MediumError,
    IsoError, FfsError, FileError.
    """
    _check_output(output, upstream.path)
    verified = isinstance(upstream, VerifiedIso)
    with Iso.open(upstream.path) as iso:
        _check_unchanged(iso, upstream)
        medium = read_medium(iso, plan.inputs.release, plan.inputs.port, hash_sets=not verified)
        plan = replace(plan, hook=replace(plan.hook, need_mb=needed_disk(plan, medium)))
        epoch = _epoch(medium)
        with (
            ThreadPoolExecutor(max_workers=1) as pool,
            atomic_file(output, PRIVATE_FILE) as stream,
        ):
            _check_room(output, upstream.path, plan)
            with progress.step("Editing the ramdisk"):
                # A passphrase that goes into the ramdisk takes as much room as the longest.
                longest = Secret("x" * MAX_LENGTH) if plan.needs_passphrase else None
                kernel = _boot_kernel(medium, plan, ramdisk_files(plan, longest), epoch)
                tar(with_directories(site_files(plan, None, epoch)), epoch)
                pack(plan.site.sealed.values(), epoch)
            passphrase = ask()
            if plan.needs_passphrase and passphrase is None:
                raise BuildError("a passphrase is needed to seal the server's secrets")
            # Sealing is slow by design, and nothing before the site set needs it.
            sealing = pool.submit(site_files, plan, passphrase, epoch)
            ramdisk = ramdisk_files(plan, passphrase)
            if plan.hook.mode is hook.Mode.EMBEDDED:
                kernel = _boot_kernel(medium, plan, ramdisk, epoch)
            with progress.step("Copying the upstream ISO"):
                copy(iso, stream)
            with progress.step("Sealing the secrets and packing the site set"):
                site = sealing.result()
                packed = site_set(site, epoch)
            changes = iso_files(plan, medium, packed, kernel)
            # Those of clients that are gone are left alone.
            clients = tuple(write_client(project.clients, client) for client in plan.clients)
            contents = {entry.path: entry.data for entry in changes}
            result = remaster(iso, stream, contents, progress=progress, epoch=epoch, copied=True)
            _check_unchanged(iso, upstream)
            written = manifest(
                plan,
                upstream,
                output.name,
                result,
                changes=changes,
                ramdisk=ramdisk,
                site=with_directories(site),
            )
            text = encode(written)
            write_file(Path(f"{output}.json"), text)
            signature = plan.inputs.keys.image.sign(
                text, "verify with the image key of the project"
            )
            write_file(Path(f"{output}.json.sig"), signature.text.encode())
            line = f"{result.sha256}  {output.name}\n"
            write_file(Path(f"{output}.sha256"), os.fsencode(line))
            write_file(output.with_name(f"{output.stem}.install.conf"), plan.response.data)
    return Built(output, result.sha256, result.size, written, clients)


def needed_disk(plan: BuildPlan, medium: Medium) -> int:
    """MB of disk for the sets that get installed, kernels and site set included."""
    left_out = plan.inputs.config.sets.leave_out
    chosen = {
        name: size
        for name, size in medium.unpacked.items()
        if not any(fnmatchcase(name, pattern) for pattern in left_out)
    }
    chosen["the site set"] = sum(len(entry.data) for entry in plan.site.files)
    # As it lands, and the sealed file that it comes from.
    chosen["sealed files"] = 2 * sum(len(entry.data) for entry in plan.site.sealed.values())
    layout = plan.inputs.layout
    template = None
    if layout is not None:
        template = validate_template(layout, where="disk.layout", release=plan.inputs.release)
    return needed_mb(chosen, template)


def _check_unchanged(iso: Iso, upstream: VerifiedIso | UnverifiedIso) -> None:
    """Raise BuildError unless the open ISO is the file that was hashed, untouched since."""
    if identity(iso.fd) != upstream.identity:
        raise BuildError(
            f"{upstream.path}: changed while it was read", "leave it alone and build again"
        )


def site_files(plan: BuildPlan, passphrase: Secret | None, epoch: int) -> list[Entry]:
    """The files of the site set: those of the plan, the sealed archive, and install.site; what is
    sealed is dated `epoch`."""
    files = list(plan.site.files)
    sealed = None
    if plan.site.sealed and passphrase is not None:
        sealed = seal(
            plan.site.sealed.values(),
            passphrase,
            salt_key=plan.inputs.keys.seal,
            rounds=plan.sealing_rounds,
            epoch=epoch,
        )
        files.append(Entry(SEALED, sealed, 0o600, "sealed with the passphrase"))
    files.append(install_site(sealed))
    return files


def ramdisk_files(plan: BuildPlan, passphrase: Secret | None) -> list[Entry]:
    """The files to put into the ramdisk, by path."""
    inputs = plan.inputs
    embedded = passphrase if plan.hook.mode is hook.Mode.EMBEDDED else None
    key = ramdisk_key(inputs.keys.image, inputs.release.version).text
    files = [
        Entry(RESPONSE, plan.response.data, 0o600, "response/install.conf.j2"),
        Entry(key_path(inputs.release.digits), key.encode(), 0o644, "secrets/image.sec"),
        *hook.ramdisk_files(plan.hook, embedded),
    ]
    if inputs.layout is not None:
        files.append(Entry(TEMPLATE, inputs.layout, 0o644, "disk.layout"))
    return sorted(files, key=lambda entry: entry.path)


def iso_files(plan: BuildPlan, medium: Medium, site: bytes, kernel: bytes) -> list[Entry]:
    """The files to put on the ISO: the changed kernel, the site set, what vouches for the sets."""
    release, keys, host = plan.inputs.release, plan.inputs.keys, plan.inputs.config.host
    directory = medium.directory
    name = f"site{release.digits}.tgz"
    hashes = {**medium.hashes, name: hashlib.sha256(site).hexdigest()}
    signed = sign_list(hashes, keys.image, release.version)
    image = f"{directory}/{BOOT_KERNEL}"
    boot_conf = new_boot_conf(
        medium.boot_conf, image, serial=host.console == "com0", speed=host.console_speed
    )
    ramdisk = f"{directory}/bsd.rd, with a changed ramdisk"
    hashed = "hashes of the upstream list, and the site set's"
    return [
        Entry(image, kernel, origin=ramdisk),
        Entry(f"{directory}/{name}", site, origin="site set"),
        Entry(f"{directory}/SHA256", signed.sha256, origin=hashed),
        Entry(f"{directory}/SHA256.sig", signed.sha256_sig, origin="signed with secrets/image.sec"),
        Entry("/etc/boot.conf", boot_conf, origin="upstream's, with another image"),
    ]


def _boot_kernel(medium: Medium, plan: BuildPlan, files: Sequence[Entry], epoch: int) -> bytes:
    digits = plan.inputs.release.digits
    return medium.kernel.with_ramdisk(edit_ramdisk(medium.kernel.ramdisk, digits, files, epoch))


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


def _check_room(output: Path, source: Path, plan: BuildPlan) -> None:
    """Raise FileError where the ISO does not fit beside what is there."""
    site = (*plan.site.files, *plan.site.sealed.values())
    needed = source.stat().st_size + sum(len(e.data) for e in site) + _SPARE
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise FileError(
            f"{output.parent}: {free >> 20} MB free, {needed >> 20} MB needed for the ISO",
            "free some space, or choose another place with -o",
        )


def _check_output(output: Path, source: Path) -> None:
    if not output.parent.is_dir():
        raise FileError(f"{output.parent}: there is no such folder", "make it, or choose with -o")
    if output.is_dir():
        raise FileError(f"{output}: is a folder", "give a file name with -o")
    if output.exists() and output.samefile(source):
        raise FileError(f"{output}: is the upstream ISO itself", "choose another name with -o")
