"""The ISO, or the disk's image, on this machine, held against its manifest before a byte of it
leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obsdimg.core.documents import from_json
from obsdimg.core.files import FileError, describe, read_file
from obsdimg.core.progress import Progress
from obsdimg.deploy.provider import DeployError, Offer
from obsdimg.disk.content import Form
from obsdimg.disk.manifest import read_manifest
from obsdimg.image.medium import built_on_stand_in
from obsdimg.signify.message import Signature, SignifyPublicKey, verify_detached

BUFFER = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True)
class Image:
    """A file that is what its manifest says: sizes in bytes, checksums in hexadecimal."""

    path: Path
    size: int
    sha256: str
    sha512: str
    disk_size: int | None = None
    """Of the disk in it, where it is a disk's image."""


def check_image(path: Path, allow_secrets: bool) -> dict[str, Any]:
    """The manifest of the ISO at `path`, after everything that can be said without reading it all.

    Raises DeployError: no ISO of ours, built on the stand-in medium, or it holds a secret in clear
    and `allow_secrets` does not say that this is wanted.
    """
    manifest = _manifest(path)
    if built_on_stand_in(path):
        raise DeployError(
            f"{path}: was built on the stand-in medium: it is not OpenBSD and installs nothing",
            "build it on a real install ISO: obsdimg build",
        )
    if manifest["secrets_in_clear"] and not allow_secrets:
        raise DeployError(
            f"{path}: holds its passphrase in clear; whoever hosts it can read it",
            "build with disk.encryption = passphrase, or say --allow-secrets",
        )
    return manifest


def load_image(
    path: Path,
    allow_secrets: bool,
    progress: Progress | None = None,
    key: SignifyPublicKey | None = None,
) -> Image:
    """The ISO at `path`, hashed and compared with `path`.json, which `key` must have signed.

    Raises DeployError: what `check_image` raises, or changed since it was built; VerificationError.
    """
    manifest = check_image(path, allow_secrets)
    if key is not None:
        beside = Path(f"{path}.json")
        signature = Signature.parse(read_file(Path(f"{beside}.sig"), "signature of the manifest"))
        verify_detached(read_file(beside, "manifest"), signature, key, f"{beside.name}.sig")
    image = _hash(path, progress or Progress())
    iso = manifest["iso"]
    if (image.size, image.sha256) != (iso["size"], iso["sha256"]):
        raise DeployError(
            f"{path}: is not the ISO that {path.name}.json describes: changed since it was built",
            "build it again: obsdimg build",
        )
    return image


def load_disk(
    path: Path,
    forms: Sequence[Form],
    progress: Progress | None = None,
    key: SignifyPublicKey | None = None,
) -> Image:
    """The image of a disk at `path`, as load_image does for an ISO; the provider takes `forms`.

    Raises DeployError: of another form, not what was made; DiskImageError.
    """
    manifest, vouched = read_manifest(path, key)
    if not vouched:
        raise DeployError(
            f"{path}: nobody vouches for it: this project has no image key to judge it by",
            f"make the disk in this project: obsdimg disk --format {forms[0]}",
        )
    if manifest.image.form not in forms:
        raise DeployError(
            f"{path}: is {manifest.image.form}, and the provider takes {' and '.join(forms)}"
            " images only",
            f"obsdimg disk --format {forms[0]}; with --from installed where --keep kept the disk",
        )
    image = _hash(path, progress or Progress())
    if (image.size, image.sha256) != (manifest.image.size, manifest.image.sha256):
        raise DeployError(
            f"{path}: is not the disk that {path.name}.json describes",
            "make it again: obsdimg disk",
        )
    return replace(image, disk_size=manifest.image.disk_size)


def refuse_small_plan(offer: Offer, image: Image) -> None:
    """Raise DeployError where the disk in `image` is larger than that of the plan."""
    room = offer.disk * offer.gigabyte
    if image.disk_size is not None and room < image.disk_size:
        raise DeployError(
            f"deploy.plan: {offer.plan} has a disk of {room} bytes, the image needs"
            f" {image.disk_size}",
            f"choose a larger plan, or make it smaller: obsdimg disk --size {room >> 20}M",
        )


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest beside the ISO, with the values that are needed here checked for type."""
    beside = path.with_name(path.name + ".json")
    if not path.is_file():
        raise DeployError(f"{path}: there is no such ISO", "make it: obsdimg build")
    if not beside.is_file():
        raise DeployError(
            f"{path}: there is no manifest {beside.name}: not an ISO that obsdimg built here",
            "only what is known to hold no secret is uploaded: obsdimg build",
        )
    try:
        value = from_json(read_file(beside, "manifest"))
        assert str(value["tool"]).startswith("obsdimg ")
        assert isinstance(value["secrets_in_clear"], bool)
        assert isinstance(value["iso"]["size"], int)
        assert isinstance(value["iso"]["sha256"], str)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DeployError(
            f"{beside}: is no manifest of obsdimg", "build the ISO again: obsdimg build"
        ) from error
    return dict(value)


def _hash(path: Path, progress: Progress) -> Image:
    """Both checksums in one reading."""
    one, two = hashlib.sha256(), hashlib.sha512()
    size = 0
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as stream:
            total = os.fstat(stream.fileno()).st_size
            with progress.step(f"Hashing {path.name}", total=total) as step:
                while count := stream.readinto(buffer):
                    one.update(view[:count])
                    two.update(view[:count])
                    size += count
                    step.advance(count)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {describe(error)}") from error
    return Image(path, size, one.hexdigest(), two.hexdigest())
