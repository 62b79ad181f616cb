"""The manifest F.json of a disk image: what it is, what it was made from, and what was looked at.

It is signed in F.json.sig with the project's image key, as an ISO's is; what is brought to a
machine is held against it first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from obsdimg.core.documents import from_json
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file, write_file
from obsdimg.core.hashing import sha256_file
from obsdimg.core.progress import Progress
from obsdimg.disk import bmap
from obsdimg.disk.content import UNIT, DiskImageError, Form, open_image
from obsdimg.disk.writing import WrittenImage
from obsdimg.signify.message import (
    Signature,
    SignifyPublicKey,
    SignifySecretKey,
    verify_detached,
)

_LARGEST = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImagePart(_Part):
    """The file and the disk in it; sizes in bytes."""

    name: str
    form: Form
    size: int
    sha256: str
    disk_size: int
    disk_sha256: str
    stored: int
    """Bytes of the disk that hold something, by units of 1 MiB."""


class IsoPart(_Part):
    """The ISO that was installed."""

    name: str
    sha256: str


class NetworkPart(_Part):
    """The names under which the server looks for its card."""

    interface: str
    also: list[str]


class DiskManifest(_Part):
    """Everything; nothing of it is secret."""

    format: Literal[1] = 1
    kind: Literal["disk"] = "disk"
    tool: str
    image: ImagePart
    iso: IsoPart
    release: str
    firmware: Literal["bios", "uefi", "both"]
    random_fill: bool
    kdf_rounds: int | None
    """Of the disk's passphrase, as the installation said; None: it did not."""
    network: NetworkPart | None
    """None: made without a project at hand."""
    accelerator: str
    checks: list[str]
    """What was looked at and found good."""
    proven: bool
    """Whether a copy of it was started and the tunnel used."""


def starts_by(manifest: DiskManifest, firmware: Literal["bios", "uefi"]) -> bool:
    """Whether `firmware` starts the disk."""
    return manifest.firmware in (firmware, "both")


def image_part(name: str, written: WrittenImage) -> ImagePart:
    """What the manifest says of a written image."""
    return ImagePart(
        name=name, form=written.form, size=written.size, sha256=written.sha256,
        disk_size=written.disk_size, disk_sha256=written.disk_sha256, stored=written.stored,
    )  # fmt: skip


def write_beside(
    path: Path, manifest: DiskManifest, written: WrittenImage, key: SignifySecretKey | None
) -> None:
    """Write F.json, F.json.sig (with `key`), F.sha256 and, but for qcow2, F.bmap beside `path`."""
    text = (json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False) + "\n").encode()
    signature, mapping = Path(f"{path}.json.sig"), Path(f"{path}.bmap")
    write_file(Path(f"{path}.json"), text)
    if key is None:
        signature.unlink(missing_ok=True)
    else:
        signed = key.sign(text, "verify with the image key of the project")
        write_file(signature, signed.text.encode())
    if written.form == "qcow2":
        mapping.unlink(missing_ok=True)
    else:
        write_file(mapping, bmap.encode(written.disk_size // UNIT, written.ranges))
    write_file(Path(f"{path}.sha256"), f"{written.sha256}  {path.name}\n".encode())


def read_manifest(path: Path, key: SignifyPublicKey | None) -> tuple[DiskManifest, bool]:
    """The manifest beside the image `path`, and whether `key` vouches for it.

    Raises DiskImageError: there is none, it is none, or its signature is wrong.
    """
    beside, signature = Path(f"{path}.json"), Path(f"{path}.json.sig")
    if not beside.is_file():
        raise DiskImageError(
            f"{path}: there is no manifest {beside.name} beside it",
            "give the image that `obsdimg disk` wrote, with the files beside it",
        )
    data = read_file(beside, "manifest")
    try:
        found = DiskManifest.model_validate(_plain(data))
    except (ValueError, ValidationError) as error:
        raise DiskImageError(f"{beside}: is no manifest of a disk") from error
    if key is None:
        return found, False
    if not signature.is_file():
        raise DiskImageError(
            f"{path}: there is no {signature.name}, which signs its manifest",
            "is it of another project?  Make the disk again",
        )
    try:
        verify_detached(data, Signature.parse(read_file(signature, "signature"), signature.name),
                        key)  # fmt: skip
    except ObsdimgError as error:
        raise DiskImageError(
            f"{path}: its manifest is not this project's: {error.message}", "make the disk again"
        ) from error
    return found, True


def _plain(data: bytes) -> Mapping[str, Any]:
    if len(data) > _LARGEST:
        raise ValueError("too large")
    value = from_json(data)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def check_file(path: Path, manifest: DiskManifest, progress: Progress) -> None:
    """Hold the file at `path` against its manifest.  Raises DiskImageError, FileError."""
    said = manifest.image
    digest, size = sha256_file(path, progress, f"Hashing {path.name}")
    if (size, digest) != (said.size, said.sha256):
        raise DiskImageError(
            f"{path}: is not the image that was made: its SHA-256 is {digest}, the manifest says"
            f" {said.sha256}",
            "copy it again, or make it again",
        )
    image = open_image(path)
    if (image.form, image.size) != (said.form, said.disk_size):
        raise DiskImageError(f"{path}: is not the {said.form} image that its manifest describes")
