"""An ISO held against what it should be: its manifest and image key, and the upstream ISO.

What a provider can change on the way is every byte, the public key and the signatures included.
So nothing in the ISO vouches for itself: the manifest does (F.json, signed in F.json.sig with the
project's image key), and the upstream ISO for what obsdimg does not touch.  What cannot be judged
is said to be so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from obsdimg.core.documents import from_json
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file
from obsdimg.core.hashing import sha256_file
from obsdimg.core.progress import Progress
from obsdimg.core.resources import resource
from obsdimg.core.secret import read_private
from obsdimg.ffs import FileSystem
from obsdimg.image.medium import BOOT_KERNEL
from obsdimg.image.ramdisk import RESPONSE, TEMPLATE, key_path
from obsdimg.iso import BootEntry, Iso, IsoError, layout
from obsdimg.kernel.bootkernel import MAX_KERNEL, BootKernel
from obsdimg.response.hook import CONF, KEY, SCRIPT, hooked
from obsdimg.signify import sha256list
from obsdimg.signify.message import (
    Signature,
    SignifyPublicKey,
    SignifySecretKey,
    verify_detached,
)

_PIECE = 1 << 20
_LARGEST_MANIFEST = 16 << 20


@dataclass(frozen=True)
class Comparison:
    """One thing that was compared: `passed` None means that it could not be judged."""

    name: str
    passed: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Standing:
    """What is known of an ISO as a whole before anything of it is used.

    `built`: it is byte for byte what the manifest says, and the manifest is signed with the
    project's image key.  `matches`: it is what the manifest says, and nobody says whose manifest
    that is.  `changed`: it is not what the manifest says, or the signature is wrong.  `unknown`:
    there is no manifest.
    """

    state: Literal["built", "matches", "changed", "unknown"]
    detail: str
    sha256: str = ""
    manifest: Mapping[str, Any] | None = None


class ChangedIsoError(ObsdimgError):
    """The ISO is not the one that was built."""


def image_key(project: Path) -> SignifyPublicKey | None:
    """The public half of the image key of the project in the folder `project`, if it has one.

    Nothing is made.  Raises SecretFileError for loose modes.
    """
    path = project / "secrets" / "image.sec"
    if not path.exists():
        return None
    text = read_private(path, "image key").decode("ascii", "replace")
    return SignifySecretKey.parse(text, where=str(path)).public()


def standing(
    iso: Path, key: SignifyPublicKey | None, progress: Progress, manifest: Path | None = None
) -> Standing:
    """Hash the ISO at `iso` and hold it against `manifest` (default: `iso`.json).

    `key`: of the project, if it is at hand.  Raises FileError.
    """
    beside = manifest or Path(f"{iso}.json")
    if not beside.is_file():
        return Standing("unknown", f"there is no manifest {beside.name}")
    data = read_file(beside, "manifest")
    value = _manifest(data)
    if value is None:
        return Standing("changed", f"{beside.name} is no manifest of obsdimg")
    signed = _signature(beside, data, key)
    if signed is not None and signed != "":
        return Standing("changed", signed, manifest=value)
    digest, size = sha256_file(iso, progress, f"Hashing {iso.name}")
    if (size, digest) != (value["iso"]["size"], value["iso"]["sha256"]):
        return Standing(
            "changed",
            f"its SHA-256 is {digest}, the manifest says {value['iso']['sha256']}",
            digest,
            value,
        )
    if signed is None:
        why = "no project at hand to say whose manifest it is" if key is None else "not signed"
        return Standing("matches", why, digest, value)
    return Standing("built", f"signed with {key}", digest, value)


def require_built(found: Standing, iso: Path) -> None:
    """Raise ChangedIsoError unless the ISO is what its manifest says."""
    if found.state == "changed":
        raise ChangedIsoError(
            f"{iso}: is not the ISO that was built: {found.detail}",
            "do not use it; build it again: obsdimg build",
        )


def _manifest(data: bytes) -> dict[str, Any] | None:
    try:
        value = from_json(data[:_LARGEST_MANIFEST])
        assert str(value["tool"]).startswith("obsdimg ")
        assert isinstance(value["iso"]["size"], int) and isinstance(value["iso"]["sha256"], str)
        assert isinstance(value["image_key"], str)
        for part in ("files", "ramdisk", "site_set"):
            assert all(isinstance(e["path"], str) for e in value[part])
    except (ValueError, KeyError, TypeError, AssertionError):
        return None
    return dict(value)


def _signature(manifest: Path, data: bytes, key: SignifyPublicKey | None) -> str | None:
    """None: not judged; empty: it verifies; else what is wrong."""
    path = Path(f"{manifest}.sig")
    if key is None:
        return None
    if not path.is_file():
        return f"there is no {path.name}, which signs the manifest"
    try:
        verify_detached(data, Signature.parse(read_file(path, "signature"), path.name), key)
    except ObsdimgError as error:
        return error.message
    return ""


# --- in detail ---------------------------------------------------------------------------------


def against_manifest(
    iso: Iso, manifest: Mapping[str, Any], site: Mapping[str, bytes] | None
) -> Iterator[Comparison]:
    """Every file that the manifest names, on the ISO, in the ramdisk and in the site set.

    `site`: content of the site set's files by path, None where it cannot be read.
    """
    image = next((e["path"] for e in manifest["files"] if e["path"].endswith(BOOT_KERNEL)), "")
    yield _all_as_listed(
        "files on the ISO are those of the manifest",
        manifest["files"],
        lambda path: _sha256(iso, path) if iso.exists(path) else None,
    )
    system = _ramdisk(iso, image)
    if system is None:
        yield Comparison("the ramdisk is that of the manifest", False, f"{image} cannot be read")
    else:
        yield _all_as_listed(
            "files in the ramdisk are those of the manifest",
            manifest["ramdisk"],
            lambda path: _hash(system.read_file(path)) if system.exists(path) else None,
        )
    if site is not None:
        yield _all_as_listed(
            "the site set is that of the manifest",
            [e for e in manifest["site_set"] if e.get("kind") == "file"],
            lambda path: _hash(site[path]) if path in site else None,
        )
        listed = {e["path"] for e in manifest["site_set"]}
        more = sorted(set(site) - listed)
        yield Comparison("the site set holds nothing else", not more, ", ".join(more[:5]))


def against_upstream(iso: Iso, upstream: Iso, progress: Progress) -> Iterator[Comparison]:
    """What differs from the ISO as OpenBSD made it, to the last file, loader and byte of the
    kernel outside the ramdisk; in the ramdisk, to the last file."""
    found = re.search(r"/(\d)\.(\d)/([a-z0-9]+)/bsd\.rd$", _stock_kernel(upstream) or "")
    if found is None:
        yield Comparison("the upstream ISO is one of OpenBSD", False, "it has no bsd.rd")
        return
    directory, digits = f"/{found[1]}.{found[2]}/{found[3]}", found[1] + found[2]
    replaced = {"/etc/boot.conf", f"{directory}/SHA256"}
    added = {f"{directory}/{n}" for n in (BOOT_KERNEL, f"site{digits}.tgz", "SHA256.sig")}
    yield _unchanged_files(iso, upstream, replaced, progress)
    names = {e.path for e in upstream.entries()}
    more = sorted(
        e.path
        for e in iso.entries()
        if e.path not in names | added and not e.path.endswith("/TRANS.TBL")
    )
    yield Comparison("nothing else is on the ISO", not more, ", ".join(more[:5]))
    yield _boot_entries(iso, upstream)
    yield Comparison(
        "the system area is upstream's",
        iso.pread(0, layout.SYSTEM_AREA) == upstream.pread(0, layout.SYSTEM_AREA),
    )
    yield from _layout(iso, upstream)
    yield _boot_conf(iso, upstream, f"{directory}/{BOOT_KERNEL}")
    yield _lists(iso, upstream, directory, digits)
    yield from _kernels(iso, upstream, directory, digits)
    yield Comparison(
        "the response file, the settings and the site set",
        None,
        "nobody says here what they should be: keep the manifest beside the ISO",
    )


def _stock_kernel(iso: Iso) -> str | None:
    return next(
        (e.path for e in iso.entries() if re.search(r"/\d\.\d/[a-z0-9]+/bsd\.rd$", e.path)), None
    )


def _unchanged_files(iso: Iso, upstream: Iso, replaced: set[str], progress: Progress) -> Comparison:
    wrong: list[str] = []
    entries = [
        e
        for e in upstream.entries()
        if e.path not in replaced and not e.path.endswith("/TRANS.TBL")
    ]
    total = sum(e.size for e in entries if e.kind == "file")
    with progress.step("Comparing with upstream", total=total) as step:
        for entry in entries:
            own = iso.entry(entry.path)
            if own is None:
                wrong.append(f"{entry.path} is missing")
            elif (own.kind, own.target) != (entry.kind, entry.target):
                wrong.append(entry.path)
            elif entry.kind == "file":
                if own.size != entry.size:
                    wrong.append(entry.path)
                    continue
                with iso.open_file(entry.path) as one, upstream.open_file(entry.path) as two:
                    if not _same(one, two, step.advance):
                        wrong.append(entry.path)
    return Comparison("every file of upstream is there, unchanged", not wrong, ", ".join(wrong[:5]))


def _same(one: BinaryIO, two: BinaryIO, advance: Any) -> bool:
    while True:
        first, second = one.read(_PIECE), two.read(_PIECE)
        if first != second:
            return False
        if not first:
            return True
        advance(len(first))


def _boot_entries(iso: Iso, upstream: Iso) -> Comparison:
    """All of them, wherever firmware may find one; their files may lie in other places."""

    def told(one: Iso) -> list[BootEntry]:
        return [replace(entry, lba=0) for entry in one.boot_entries]

    behind = layout.behind_catalog(iso)
    return Comparison(
        "the boot entries are upstream's",
        told(iso) == told(upstream)
        and (not behind.strip(b"\0") or behind == layout.behind_catalog(upstream)),
    )


def _layout(iso: Iso, upstream: Iso) -> Iterator[Comparison]:
    """That boot loader, kernel and firmware see what was compared, and nothing else is there."""
    same = [d[:1] for d in layout.descriptors(iso)] == [d[:1] for d in layout.descriptors(upstream)]
    rest = [[d for d in layout.descriptors(one) if d[:1] != b"\1"] for one in (iso, upstream)]
    yield Comparison("the volume descriptors are upstream's", same and rest[0] == rest[1])
    wrong = [f"{path} is there twice" for path in layout.names_twice(iso)]
    for entry in iso.entries():
        theirs = upstream.entry(entry.path)
        expected = entry.path.rpartition("/")[2].upper() if theirs is None else theirs.iso_name
        own = entry.iso_name if theirs else entry.iso_name.partition(";")[0].rstrip(".")
        if own != expected and entry.kind != "dir":
            wrong.append(f"{entry.path} is {entry.iso_name} to the boot loader")
    wrong += [f"path table: {fault}" for fault in layout.path_table_faults(iso)]
    yield Comparison("the boot loader and the kernel see the same files", not wrong, _few(wrong))
    name = "what belongs to no file is upstream's"
    try:
        strange = layout.unaccounted(iso, upstream)
    except IsoError as error:
        yield Comparison(name, False, error.message)
    else:
        yield Comparison(name, not strange, _few([f"sector {number}" for number in strange]))


def _few(found: list[str]) -> str:
    return ", ".join(found[:5])


def _boot_conf(iso: Iso, upstream: Iso, image: str) -> Comparison:
    """Only the image and the console may differ."""

    def rest(one: Iso) -> list[str]:
        text = one.read("/etc/boot.conf", 64 << 10).decode("ascii", "replace")
        return [
            line
            for line in text.splitlines()
            if not re.fullmatch(
                r"\s*(set\s+image\s+\S+|stty\s+com0\s+\d+|set\s+tty\s+com0|)\s*", line
            )
        ]

    text = iso.read("/etc/boot.conf", 64 << 10).decode("ascii", "replace")
    images = re.findall(r"^\s*set\s+image\s+(\S+)\s*$", text, re.M)
    good = images == [image] and rest(iso) == rest(upstream)
    return Comparison("boot.conf starts our kernel and says nothing else", good, image)


def _lists(iso: Iso, upstream: Iso, directory: str, digits: str) -> Comparison:
    path = f"{directory}/SHA256"
    try:
        own = dict(sha256list.parse(iso.read(path, sha256list.LARGEST), path))
        theirs = dict(sha256list.parse(upstream.read(path, sha256list.LARGEST), path))
    except ObsdimgError as error:
        return Comparison("SHA256 is upstream's, with the site set", False, error.message)
    own.pop(f"site{digits}.tgz", None)
    wrong = sorted(n for n in own if theirs.get(n, own[n]) != own[n])
    return Comparison("SHA256 is upstream's, with the site set", not wrong, ", ".join(wrong))


def _kernels(iso: Iso, upstream: Iso, directory: str, digits: str) -> Iterator[Comparison]:
    try:
        stock = BootKernel.parse(upstream.read(f"{directory}/bsd.rd", MAX_KERNEL))
        ours = BootKernel.parse(iso.read(f"{directory}/{BOOT_KERNEL}", MAX_KERNEL))
        old, new = FileSystem(stock.ramdisk), FileSystem(ours.ramdisk)
        before, after = _tree(old), _tree(new)
    except ObsdimgError as error:
        yield Comparison("the boot kernel can be read", False, error.message)
        return
    place = (stock.ramdisk_offset, stock.ramdisk_size)
    blank = bytes(stock.ramdisk_size)
    yield Comparison(
        "the boot kernel is upstream's outside its ramdisk",
        place == (ours.ramdisk_offset, ours.ramdisk_size)
        and _hash(stock.with_ramdisk(blank)) == _hash(ours.with_ramdisk(blank)),
        f"{directory}/{BOOT_KERNEL}",
    )
    expected = {RESPONSE, CONF, SCRIPT, TEMPLATE, KEY, key_path(digits), "/install.md"}
    wrong = sorted(
        path for path in {*before, *after} - expected if before.get(path) != after.get(path)
    )
    yield Comparison("nothing else in the ramdisk was changed", not wrong, ", ".join(wrong[:5]))
    script = after.get(SCRIPT, ("", b""))[1]
    yield Comparison(
        "the encryption step is this obsdimg's own",
        script == resource("response", "obsdimg.sh").read_bytes(),
        SCRIPT if script else f"there is no {SCRIPT}",
    )
    install_md = after.get("/install.md", ("", b""))[1]
    yield Comparison(
        "install.md is upstream's with the line that starts it",
        install_md == hooked(before.get("/install.md", ("", b""))[1]),
        "/install.md",
    )


def _tree(system: FileSystem) -> dict[str, tuple[str, bytes]]:
    """Path to (kind, mode and owner; content).  Directories' link counts are no content."""
    found = {}
    for path, stat in system.walk():
        about = f"{stat.kind} {stat.mode:04o} {stat.uid}:{stat.gid}"
        data = b""
        if stat.kind == "file":
            data = system.read_file(path)
        elif stat.kind == "link":
            data = system.readlink(path).encode()
        found[path] = (about, data)
    return found


def _all_as_listed(name: str, listed: Any, actual: Any) -> Comparison:
    wrong, judged = [], 0
    for entry in listed:
        if entry.get("sha256") is None:
            continue
        judged += 1
        if actual(entry["path"]) != entry["sha256"]:
            wrong.append(entry["path"])
    if not judged:
        return Comparison(name, None, "it names none")
    return Comparison(name, not wrong, _few(wrong) if wrong else f"{judged} files")


def _ramdisk(iso: Iso, path: str) -> FileSystem | None:
    try:
        return FileSystem(BootKernel.parse(iso.read(path, MAX_KERNEL)).ramdisk)
    except ObsdimgError:
        return None


def _sha256(iso: Iso, path: str) -> str:
    digest = hashlib.sha256()
    with iso.open_file(path) as stream:
        while chunk := stream.read(_PIECE):
            digest.update(chunk)
    return digest.hexdigest()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
