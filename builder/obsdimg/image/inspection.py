"""What is in an ISO, ours or not: read, compared with its own pristine parts, and checked.

Nothing here trusts the ISO: every part that cannot be read becomes a failed check, not an end.
"""

from __future__ import annotations

import datetime
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from obsdimg.config.types import LOGIN_DISABLED
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, write_file
from obsdimg.core.progress import Progress
from obsdimg.core.unpack import ArchiveError, ArchiveLimits, open_gzip, read_tar
from obsdimg.ffs import FileSystem
from obsdimg.image.in_clear import in_clear
from obsdimg.image.ramdisk import RESPONSE
from obsdimg.iso import Iso
from obsdimg.iso.standin import is_stand_in
from obsdimg.kernel.bootkernel import MAX_KERNEL, BootKernel
from obsdimg.releases.release import known_releases
from obsdimg.releases.support import support
from obsdimg.response.hook import CONF, parse_conf
from obsdimg.signify import sha256list
from obsdimg.signify.message import SignifyPublicKey

T = TypeVar("T")
MASK = "<hidden>"
_MOST = 96 << 20
"""Bytes of a site set, unpacked, that are held in memory; `_MOST_MEMBERS` files."""
_MOST_MEMBERS = 50_000
_SECRET_ANSWER = re.compile(r"(\s*[^#=]*\bpass(?:word|phrase)\b[^=]*=\s*)(.+)", re.IGNORECASE)


@dataclass
class InspectionCheck:
    """One thing that was checked, and what came of it."""

    name: str
    passed: bool | None
    """None: could not be judged, or is only worth a note."""
    detail: str = ""


@dataclass
class Inspection:
    """All that was found; `as_dict` is what `--json` prints."""

    path: Path
    size: int = 0
    sha256: str = ""
    volume_id: str = ""
    stand_in: bool = False
    """Built on the stand-in medium: it installs nothing."""
    boot_entries: list[dict[str, Any]] = field(default_factory=list)
    boot_conf: str = ""
    boot_image: str = ""
    directory: str = ""
    kernels: list[dict[str, Any]] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    ramdisk_changes: list[dict[str, Any]] = field(default_factory=list)
    response: list[str] = field(default_factory=list)
    hook: dict[str, str] = field(default_factory=dict)
    site_set: list[dict[str, Any]] = field(default_factory=list)
    in_clear: list[str] = field(default_factory=list)
    """What everybody who has the ISO learns of the server."""
    support: str = ""
    """What to know of its release: that it gets no patches, say."""
    checks: list[InspectionCheck] = field(default_factory=list)
    extracts: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def passed(self) -> bool:
        return all(check.passed is not False for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the files for `--extract`."""
        shown = {k: v for k, v in vars(self).items() if k not in ("extracts", "checks", "path")}
        checks = [vars(c) for c in self.checks]
        return {"path": str(self.path), **shown, "checks": checks, "passed": self.passed}


def inspect(path: Path, progress: Progress | None = None) -> Inspection:
    """Read the ISO at `path`.  Raises IsoError where it is no ISO at all."""
    found = Inspection(path)
    with Iso.open(path) as iso:
        found.size = iso.size
        found.volume_id = iso.volume_id
        found.boot_entries = [
            {"platform": e.platform, "media": e.media, "lba": e.lba, "file": e.path}
            for e in iso.boot_entries
        ]
        if is_stand_in(path):
            found.stand_in = True
            found.checks.append(
                InspectionCheck("a medium of OpenBSD", None, "NO: the stand-in medium, for trials")
            )
        _check(found, "boot entry", bool(iso.boot_entries), "El Torito")
        _read_boot_conf(iso, found)
        _read_kernels(iso, found)
        _read_sets(iso, found, progress or Progress())
        _read_site_set(iso, found)
    found.in_clear = in_clear(found.response, found.hook, found.site_set)
    version = found.directory.strip("/").partition("/")[0]
    if version in known_releases():
        found.support = support(version, datetime.date.today()).sentence or ""
    return found


def extract(found: Inspection, folder: Path) -> list[Path]:
    """Write the response file, the changed files of the ramdisk and the site set to `folder`.

    It is made with mode 0700; files get 0600, whatever they hold.
    """
    private_dir(folder)
    written = []
    for name, data in sorted(found.extracts.items()):
        # As text: no link of this machine, and no `..` of a hostile ISO, has a say in it.
        path = folder / posixpath.normpath(f"/{name}").lstrip("/")
        private_dir(path.parent)
        write_file(path, data)
        written.append(path)
    return written


def masked(line: str) -> str:
    """A line of a response file, fit for the eye: passwords and passphrases are hidden."""
    match = _SECRET_ANSWER.fullmatch(line)
    return line if match is None or match[2].strip() == LOGIN_DISABLED else match[1] + MASK


def _read_boot_conf(iso: Iso, found: Inspection) -> None:
    if not iso.exists("/etc/boot.conf"):
        _check(found, "boot.conf", False, "there is no /etc/boot.conf")
        return
    found.boot_conf = iso.read("/etc/boot.conf", 64 << 10).decode("ascii", "replace")
    found.extracts["iso/etc/boot.conf"] = found.boot_conf.encode()
    images = re.findall(r"^\s*set\s+image\s+(\S+)", found.boot_conf, re.MULTILINE)
    found.boot_image = images[-1] if images else "/bsd"
    there = iso.exists(found.boot_image)
    _check(found, "boot.conf names a kernel that is there", there, found.boot_image)
    found.directory = str(Path(found.boot_image).parent)


def _read_kernels(iso: Iso, found: Inspection) -> None:
    stock = f"{found.directory}/bsd.rd"
    trees: dict[str, dict[str, tuple[str, bytes]]] = {}
    for path in dict.fromkeys((stock, found.boot_image)):
        if not iso.exists(path):
            continue
        try:
            kernel = BootKernel.parse(iso.read(path, MAX_KERNEL))
            system = FileSystem(kernel.ramdisk)
            trees[path] = dict(_tree(system))
            free = system.free()
        except ObsdimgError as error:
            _check(found, f"kernel {path}", False, error.message)
            continue
        found.kernels.append(
            {
                "path": path,
                "machine": kernel.machine,
                "gzip": kernel.gzipped,
                "ramdisk_located_by": kernel.located_by,
                "ramdisk_bytes": kernel.ramdisk_size,
                "ramdisk_free_bytes": free.bytes,
                "ramdisk_free_inodes": free.inodes,
            }
        )
    image, pristine = trees.get(found.boot_image), trees.get(stock)
    if image is None:
        return
    if pristine is not None and found.boot_image != stock:
        found.ramdisk_changes = list(_differences(pristine, image))
        for change in found.ramdisk_changes:
            if change["path"] in image and change["about"].startswith("file"):
                name = posixpath.normpath(change["path"])
                found.extracts[f"ramdisk{name}"] = image[change["path"]][1]
        changed_kernel = any(c["path"] == "/install.sub" for c in found.ramdisk_changes)
        _check(found, "the installer's own script is unchanged", not changed_kernel, "install.sub")
    if RESPONSE in image:
        text = image[RESPONSE][1].decode("utf-8", "replace")
        found.response = [masked(line) for line in text.splitlines()]
        _check(found, "the response file ends with a newline", text.endswith("\n"), RESPONSE)
        waiver = [a for a in found.response if re.match(r"(?i)[^#]*continue without verif", a)]
        _check(found, "no waiver of verification", not waiver, "; ".join(waiver))
    if CONF in image:
        found.hook = parse_conf(image[CONF][1])
        embedded = "disk.encryption = embedded" if "/obsdimg.key" in image else ""
        _check(found, "no passphrase in the ISO", not embedded, embedded)


def _tree(system: FileSystem) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Path to (kind and mode, content) of every file and link of a ramdisk."""
    for path, stat in system.walk():
        about = f"{stat.kind} {stat.mode:04o} {stat.uid}:{stat.gid}"
        if stat.kind == "file":
            yield path, (about, system.read_file(path))
        elif stat.kind == "link":
            yield path, (about, system.readlink(path).encode())
        else:
            yield path, (about, b"")


def _differences(
    old: dict[str, tuple[str, bytes]], new: dict[str, tuple[str, bytes]]
) -> Iterator[dict[str, Any]]:
    for path in sorted({*old, *new}):
        if path not in new:
            yield {"path": path, "change": "removed", "size": 0, "about": old[path][0]}
        elif path not in old or old[path] != new[path]:
            change = "changed" if path in old else "added"
            about, data = new[path]
            yield {"path": path, "change": change, "size": len(data), "about": about}


def _read_sets(iso: Iso, found: Inspection, progress: Progress) -> None:
    directory = found.directory
    listed: sha256list.ChecksumList | None = None
    signature = f"{directory}/SHA256.sig"
    if iso.exists(signature):
        listed = _signed_list(iso, found, signature)
    elif iso.exists(f"{directory}/SHA256"):
        _check(found, "the sets are signed", None, "only SHA256, as on a stock ISO")
        listed = _attempt(
            found,
            "SHA256 can be read",
            lambda: sha256list.parse(
                iso.read(f"{directory}/SHA256", sha256list.LARGEST), f"{directory}/SHA256"
            ),
        )
    if listed is None:
        return
    wanted = re.compile(rf"{re.escape(directory)}/([^/]+\.tgz|bsd|bsd\.mp|bsd\.rd)")
    entries = [e for e in iso.entries() if wanted.fullmatch(e.path)]
    with progress.step("Hashing the sets", total=sum(e.size for e in entries)) as step:
        hashes: dict[tuple[int, int], str] = {}  # many names may lie at one place
        hashed = 0
        for entry in entries:
            name = entry.path.rpartition("/")[2]
            place = (entry.extent, entry.size)
            if place not in hashes:
                digest = hashlib.sha256()
                with iso.open_file(entry.path) as stream:
                    while chunk := stream.read(1 << 20):
                        digest.update(chunk)
                        step.advance(len(chunk))
                hashes[place] = digest.hexdigest()
                hashed += entry.size
                if hashed > iso.size:
                    raise ObsdimgError(f"{found.path}: its files overlap", "no genuine ISO's do")
            state = "unlisted"
            if name in listed:
                state = "verified" if listed[name] == hashes[place] else "MISMATCH"
            found.sets.append({"name": name, "size": entry.size, "state": state})
    bad = [s["name"] for s in found.sets if s["state"] != "verified"]
    _check(found, "every set has the hash that the list says", not bad, ", ".join(bad))


def _signed_list(iso: Iso, found: Inspection, path: str) -> sha256list.ChecksumList | None:
    digits = found.directory.strip("/").split("/")[0].replace(".", "")
    key_file = f"/etc/signify/openbsd-{digits}-base.pub"

    def read() -> sha256list.ChecksumList:
        kernel = BootKernel.parse(iso.read(found.boot_image, MAX_KERNEL))
        data = FileSystem(kernel.ramdisk).read_file(key_file)
        key = SignifyPublicKey.parse(data, f"ramdisk {key_file}")
        return sha256list.read_signed_list(iso.read(path, sha256list.LARGEST), key, path)

    return _attempt(found, "SHA256.sig verifies with the ramdisk's key", read)


def _read_site_set(iso: Iso, found: Inspection) -> None:
    pattern = re.compile(rf"{re.escape(found.directory)}/site\d\d(-[a-z0-9-]+)?\.tgz")
    for entry in iso.entries():
        if pattern.fullmatch(entry.path):
            _attempt(found, "the site set can be read", partial(_list_site, iso, found, entry.path))


def _list_site(iso: Iso, found: Inspection, path: str) -> bool:
    try:
        with iso.open_file(path) as packed:
            archive = read_tar(open_gzip(packed, _MOST), ArchiveLimits(_MOST, _MOST_MEMBERS))
            for member, content in archive:
                kind = "dir" if member.isdir() else "link" if member.issym() else "file"
                found.site_set.append(
                    {
                        "path": f"/{member.name}",
                        "kind": kind,
                        "mode": f"{member.mode:04o}",
                        "owner": f"{member.uid}:{member.gid}",
                        "size": member.size,
                    }
                )
                if member.isreg():
                    name = posixpath.normpath(f"/{member.name}")
                    found.extracts[f"site{name}"] = content.read()
    except ArchiveError as error:
        raise ObsdimgError(f"{path}: damaged: {error.message}") from error
    foreign = [e["path"] for e in found.site_set if e["owner"] != "0:0"]
    _check(found, "everything in the site set is root's", not foreign, ", ".join(foreign))
    return True


def _check(found: Inspection, name: str, passed: bool | None, detail: str = "") -> None:
    found.checks.append(InspectionCheck(name, passed, detail))


def _attempt(found: Inspection, name: str, action: Callable[[], T]) -> T | None:
    try:
        result = action()
    except ObsdimgError as error:
        _check(found, name, False, error.message)
        return None
    _check(found, name, True)
    return result
