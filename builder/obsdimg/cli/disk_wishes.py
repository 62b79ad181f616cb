"""What `obsdimg disk` is to make: where the image goes, its form, its size, what starts it."""

from __future__ import annotations

import re
from pathlib import Path

from obsdimg.cli.guest import GIB
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError
from obsdimg.disk.content import FORMS, Form
from obsdimg.image.medium import efi_boot_image
from obsdimg.project.folder import Project

DEFAULT_SIZE = 10 * GIB


class DiskUsageError(ObsdimgError):
    """The options do not fit each other, the ISO, or this machine."""


def destination(
    output: Path | None, form: str | None, iso: Path, firmware: str
) -> tuple[Path, Form]:
    """Where the image goes, and its form.  Raises DiskUsageError, FileError."""
    if output is None:
        chosen = form or "raw.zst"
        name = f"{iso.stem}{'' if firmware == 'bios' else f'-{firmware}'}.{chosen}"
        output = iso.with_name(name)
    by_name = next((one for one in FORMS if output.name.endswith(f".{one}")), None)
    if by_name is not None and form is not None and by_name != form:
        raise DiskUsageError(
            f"{output}: is called {by_name}, and --format says {form}", "leave one of them away"
        )
    found: Form | None = by_name or next((one for one in FORMS if one == form), None)
    if found is None:
        raise DiskUsageError(
            f"{output}: what form is that?", "name it .raw, .qcow2 or .raw.zst, or give --format"
        )
    if not output.parent.is_dir():
        raise FileError(f"{output.parent}: there is no such folder", "make it, or choose with -o")
    if output.exists() and not output.is_file():
        raise FileError(f"{output}: is not a regular file", "give the name of a file with -o")
    if output.exists() and output.samefile(iso):
        raise FileError(f"{output}: is the ISO itself", "choose another name with -o")
    return output, found


def uefi_loader(iso: Path, firmware: str) -> bytes | None:
    """What a disk for both kinds of firmware gets; None: for one.  Raises DiskUsageError."""
    if firmware == "bios":
        return None
    image = efi_boot_image(iso)
    if image is None:
        raise DiskUsageError(
            f"--firmware {firmware}: {iso.name} has no boot loader for UEFI",
            "that of 7.5 and newer releases has; or take --firmware bios",
        )
    return image if firmware == "both" else None


def size_of(given: int | None, project: Project | None) -> int:
    """Bytes of the disk: those given, else what the plan's name says (libvirt), else 10 GiB."""
    if given is not None:
        return given
    if project is not None:
        named = re.fullmatch(r"\d+c-\d+m-(\d{1,5})g", project.config.deploy.plan)
        if named:
            return int(named[1]) * GIB
    return DEFAULT_SIZE
