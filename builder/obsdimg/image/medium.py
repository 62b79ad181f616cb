"""The upstream medium: what must be on an install ISO before anything is built from it.

Reads an open ISO against what the release file says; every way in which it can be the wrong
one has its own message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.iso import Iso, IsoEntry
from obsdimg.iso.standin import is_stand_in
from obsdimg.kernel.bootkernel import MAX_KERNEL, BootKernel
from obsdimg.releases.release import Port, Release
from obsdimg.signify import sha256list

BOOT_KERNEL = "bsd.auto"
"""Name of the changed kernel, beside the pristine bsd.rd."""
MAX_EFI_IMAGE = 16 << 20
"""Bytes; OpenBSD's has 350 KiB."""


class MediumError(ObsdimgError):
    """The ISO is not the install ISO of the release and port in the configuration."""


@dataclass(frozen=True)
class Medium:
    """What a build takes from the upstream ISO.

    `hashes`: of every file that the ISO's SHA256 lists and that is there, by name; `epoch`:
    the date of its ramdisk kernel, seconds since 1970.
    """

    directory: str
    boot_conf: str
    kernel: BootKernel = field(repr=False)
    hashes: dict[str, str] = field(repr=False)
    volume_id: str
    epoch: int
    sets: tuple[str, ...]
    unpacked: dict[str, int] = field(default_factory=dict, repr=False)
    """Bytes that each set and kernel takes on the disk."""


def built_on_stand_in(path: Path) -> bool:
    """Whether the ISO at `path` was built on obsdimg's stand-in medium, which installs nothing.

    Raises FileError.
    """
    return is_stand_in(path)


def read_medium(iso: Iso, release: Release, port: Port, *, hash_sets: bool) -> Medium:
    """Check the ISO against the release and read what is needed.

    `hash_sets`: the ISO itself was not verified, so its own list is checked against the sets.
    Raises MediumError, BootKernelError, MalformedList.
    """
    directory = f"/{port.directory}"
    names = {e.path: e for e in iso.entries()}
    _check_release(names, directory, release, port, iso.volume_id)
    kernel_path = f"{directory}/bsd.rd"
    if f"{directory}/{BOOT_KERNEL}" in names:
        raise MediumError(
            f"the ISO already holds {directory}/{BOOT_KERNEL}: it was made by obsdimg",
            "start from the ISO as OpenBSD made it",
        )
    if not iso.boot_entries:
        raise MediumError(
            "the ISO has no boot entry (El Torito): it cannot start a machine",
            f"take {port.iso}, not a copy of its files",
        )
    for name in (port.install_notes, "SHA256", "bsd", "bsd.rd"):
        if f"{directory}/{name}" not in names:
            raise MediumError(f"the ISO has no {directory}/{name}", f"take {port.iso}, whole")
    listed = sha256list.parse(
        iso.read(f"{directory}/SHA256", sha256list.LARGEST), f"{directory}/SHA256"
    )
    hashes = {n: h for n, h in listed.items() if f"{directory}/{n}" in names}
    unlisted = [s for s in (*port.sets, *port.kernels) if f"{directory}/{s}" in names]
    for name in unlisted:
        if hash_sets or name not in hashes:
            actual = _hash(iso, f"{directory}/{name}")
            if hashes.setdefault(name, actual) != actual:
                raise MediumError(
                    f"{directory}/{name}: its SHA256 differs from the list on the ISO",
                    "the ISO is damaged; download it again",
                )
    boot_conf = f"/{port.boot_conf}"
    return Medium(
        directory=directory,
        boot_conf=iso.read(boot_conf, 64 << 10).decode("ascii", "replace")
        if boot_conf in names
        else "",
        kernel=BootKernel.parse(iso.read(kernel_path, MAX_KERNEL)),
        hashes=hashes,
        volume_id=iso.volume_id,
        epoch=names[kernel_path].mtime,
        sets=tuple(s for s in port.sets if f"{directory}/{s}" in names),
        unpacked={
            name: _unpacked(iso, names[f"{directory}/{name}"])
            for name in (*port.sets, *port.kernels)
            if f"{directory}/{name}" in names
        },
    )


def efi_boot_image(path: Path) -> bytes | None:
    """The boot image for UEFI on the ISO at `path`, a FAT file system with OpenBSD's loader, in
    whole sectors of 512 bytes; None: it has none (before 7.5).  Raises IsoError, FileError."""
    with Iso.open(path) as iso:
        entry = next((e for e in iso.boot_entries if e.platform == "efi" and e.path), None)
        if entry is None or entry.path is None:
            return None
        data = iso.read(entry.path, MAX_EFI_IMAGE)
    return data.ljust(-(-len(data) // 512) * 512, b"\0")


def new_boot_conf(old: str, image: str, *, serial: bool, speed: int) -> bytes:
    """The ISO's boot.conf with `set image` to `image`; with `serial`, on com0 at `speed` bit/s.

    Other lines stay (boot.conf(8)).
    """
    kept = [
        line
        for line in old.splitlines()
        if line.strip()
        and not re.match(r"\s*(set\s+image|set\s+tty|stty)\b", line)
        and not re.match(r"\s*boot\b", line)
    ]
    console = [f"stty com0 {speed}", "set tty com0"] if serial else []
    return "".join(f"{line}\n" for line in (*console, *kept, f"set image {image}")).encode()


def _check_release(
    names: Collection[str], directory: str, release: Release, port: Port, volume: str
) -> None:
    if f"{directory}/bsd.rd" in names:
        return
    kernels = sorted(n for n in names if re.fullmatch(r"/\d\.\d/[a-z0-9]+/bsd\.rd", n))
    if kernels:
        there = ", ".join(k.removesuffix("/bsd.rd").strip("/") for k in kernels)
        raise MediumError(
            f"the ISO is of {there}, not of {port.directory}",
            f"set release.version and release.port, or take {port.iso}",
        )
    raise MediumError(
        f"the ISO ({volume or 'without a name'}) has no {directory}/bsd.rd:"
        " it is no install ISO of OpenBSD",
        f"take {port.iso} of OpenBSD {release.version}",
    )


def _unpacked(iso: Iso, entry: IsoEntry) -> int:
    """The size of a set's archive: the last four bytes of a gzip file, modulo 4 GB (RFC 1952).

    Where that cannot be right (a second member, more than 4 GB) three times the packed size.
    """
    if not entry.path.endswith(".tgz") or entry.size < 20:
        return entry.size
    with iso.open_file(entry.path) as stream:
        stream.seek(entry.size - 4)
        size = int.from_bytes(stream.read(4), "little")
    return size if size >= entry.size // 2 else 3 * entry.size


def _hash(iso: Iso, path: str) -> str:
    digest = hashlib.sha256()
    with iso.open_file(path) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
