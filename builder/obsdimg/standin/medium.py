"""Write the stand-in ISO: layout, names and identifiers of install66.iso, by pycdlib."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pycdlib
from pycdlib.dates import VolumeDescriptorDate

from obsdimg.core.files import PUBLIC_FILE, atomic_file
from obsdimg.iso import names as iso_names
from obsdimg.iso import transtbl
from obsdimg.iso.names import NameStyle
from obsdimg.iso.records import long_date, posix, stamp
from obsdimg.iso.standin import PUBLISHER
from obsdimg.iso.view import CHANGED, FIRST_DESCRIPTOR, SECTOR
from obsdimg.signify.keys import SignifySecretKey
from obsdimg.signify.sha256list import render
from obsdimg.signify.signing import ramdisk_key, sign_list
from obsdimg.standin.bootimage import boot_image
from obsdimg.standin.elf import standin_kernel
from obsdimg.standin.ramdisk import FillRamdisk, make_ramdisk, nobodys_key, standin_files
from obsdimg.standin.sets import NOT_OPENBSD, SET_NAMES, standin_set, write_padded_set

EPOCH = 1570838400
"""Seconds since 1970 of all dates: 12 October 2019, the day of 6.6's media."""

_STYLE = NameStyle(version=False, trailing_dot=False, dotted_directories=True)
_LISTING = transtbl.NAME.decode()
_READ_ONLY = {"cdbr", "cdboot", "eficdboot", _LISTING}
"""Files with mode 0444, as on genuine media; the others have 0644."""

Content = bytes | Path


@dataclass(frozen=True)
class StandIn:
    """What was written: the medium's SHA256 list, and the same signed if there was a key."""

    sha256: bytes
    sha256_sig: bytes | None


def build_iso(
    output: Path,
    *,
    version: str = "6.6",
    port: str = "amd64",
    sets: Mapping[str, bytes] | None = None,
    ramdisk_files: FillRamdisk | None = None,
    kernel: bytes | None = None,
    iso_size_padding: int = 0,
    signify_key: SignifySecretKey | None = None,
    efi: bool = False,
) -> StandIn:
    """Write a stand-in medium to `output`; the same arguments give the same bytes.

    `sets` replaces or adds files of the sets' folder by name (`base66.tgz`, `SHA256`).
    `ramdisk_files` fills the ramdisk in place of the stand-in's scripts; `kernel` is the whole
    `bsd.rd` instead.  `iso_size_padding` is a count of bytes that do not compress, put into the
    base set.  `signify_key`: its public half becomes the base key in the ramdisk, and the
    result holds a signed list.  `efi` adds a boot entry for UEFI, as later releases have.
    Raises FileError where `output` cannot be written.
    """
    if kernel is None:
        fill = ramdisk_files or standin_files(_base_key(signify_key, version), version, EPOCH)
        kernel = standin_kernel(make_ramdisk(fill, EPOCH), NOT_OPENBSD.encode())
    with ExitStack() as stack:
        stream = stack.enter_context(atomic_file(output, PUBLIC_FILE))
        files = _sets(version) | _texts_and_kernels(version, port, kernel, efi) | dict(sets or {})
        if iso_size_padding:
            scratch = tempfile.TemporaryDirectory(prefix=".obsdimg-", dir=output.parent)
            padded = Path(stack.enter_context(scratch)) / "base.tgz"
            base = f"base{_digits(version)}"
            write_padded_set(padded, base, iso_size_padding, EPOCH)
            files[f"{base}.tgz"] = padded
        hashes = {name: _sha256(content) for name, content in sorted(files.items())}
        files.setdefault("SHA256", render(hashes))
        _write(stream, files, version, port, efi)
    signed = None if signify_key is None else sign_list(hashes, signify_key, version)
    return StandIn(render(hashes), None if signed is None else signed.sha256_sig)


def _digits(version: str) -> str:
    return version.replace(".", "")


def _base_key(key: SignifySecretKey | None, version: str) -> bytes:
    if key is None:
        return nobodys_key(f"obsdimg {version} stand-in, not a key of OpenBSD")
    return ramdisk_key(key, version).text.encode()


def _sets(version: str) -> dict[str, Content]:
    names = [f"{name}{_digits(version)}" for name in SET_NAMES]
    return {f"{name}.tgz": standin_set(name, EPOCH) for name in names}


def _texts_and_kernels(version: str, port: str, kernel: bytes, efi: bool) -> dict[str, Content]:
    text = f"{NOT_OPENBSD}\n"
    files: dict[str, Content] = {
        "bsd": standin_kernel(None, NOT_OPENBSD.encode()),
        "bsd.mp": standin_kernel(None, NOT_OPENBSD.encode() + b" (mp)"),
        "bsd.rd": kernel,
        f"INSTALL.{port}": f"{text}\nHere the notes for OpenBSD {version} would be.\n".encode(),
        "cdboot": text.encode(),
        "cdbr": boot_image(f"\n{text}"),
    }
    if efi:
        files["eficdboot"] = text.encode().ljust(2 * SECTOR, b"\x00")
    return files


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(
    stream: BinaryIO, files: Mapping[str, Content], version: str, port: str, efi: bool
) -> None:
    folder = f"/{version}/{port}"
    catalog = f"{folder}/boot.catalog"
    tree: dict[str, Content] = {f"{folder}/{name}": data for name, data in files.items()}
    tree["/etc/boot.conf"] = f"set image {folder}/bsd.rd\n".encode()
    directories = [f"/{version}", folder, "/etc"]
    tree |= _listings([*tree, catalog], directories)
    with ExitStack() as stack:
        iso = stack.enter_context(closing(pycdlib.PyCdlib()))
        iso.new(
            interchange_level=3,
            sys_ident="OpenBSD",
            vol_ident=f"OpenBSD/{port}   {version} Install CD",
            app_ident_str=f"OpenBSD {version} {port} Install CD",
            pub_ident_str=PUBLISHER,
            preparer_ident_str="obsdimg",
            rock_ridge="1.09",
        )
        iso.interchange_level = 4  # pycdlib then takes the dot that mkhybrid leaves in `6.6`
        for path in directories:
            iso.add_directory(_iso_path(path, True), rr_name=_name(path), file_mode=0o40755)
        for path, data in tree.items():
            _add(iso, stack, path, data)
        iso.add_eltorito(
            _iso_path(f"{folder}/cdbr"),
            bootcatfile=_iso_path(catalog),
            rr_bootcatname=_name(catalog),
            boot_load_size=4,
        )
        if efi:
            iso.add_eltorito(_iso_path(f"{folder}/eficdboot"), efi=True, platform_id=0xEF)
        _date_all(iso)
        iso.write_fp(stream)
        # pycdlib writes the clock's.
        stream.seek(FIRST_DESCRIPTOR * SECTOR + CHANGED)
        stream.write(long_date(EPOCH))


def _date_all(iso: pycdlib.PyCdlib) -> None:
    """Give the image and every record on it one date, and directories mode 0755."""
    for field in ("volume_creation_date", "volume_effective_date"):
        date = VolumeDescriptorDate()
        date.parse(long_date(EPOCH))
        setattr(iso.pvd, field, date)
    pending = [iso.pvd.root_directory_record()]
    while pending:
        record = pending.pop()
        stamp(record, EPOCH)
        numbers = posix(record)
        if record.isdir and numbers is not None:
            numbers.posix_file_mode = 0o40755
        pending += record.children


def _add(iso: Any, stack: ExitStack, path: str, content: Content) -> None:
    mode = 0o100444 if _name(path) in _READ_ONLY else 0o100644
    if isinstance(content, bytes):
        source: BinaryIO = io.BytesIO(content)
        size = len(content)
    else:
        source = stack.enter_context(content.open("rb"))
        size = content.stat().st_size
    iso.add_fp(source, size, _iso_path(path), rr_name=_name(path), file_mode=mode)


def _listings(files: list[str], directories: list[str]) -> dict[str, bytes]:
    """TRANS.TBL for every directory, the root included."""
    tables: dict[str, bytes] = {}
    for folder in ("", *directories):
        entries = [("F", path) for path in files if path.rpartition("/")[0] == folder]
        entries += [("D", path) for path in directories if path.rpartition("/")[0] == folder]
        entries.sort(key=lambda entry: transtbl.sort_key(_identifier(entry[1], entry[0] == "D")))
        lines = [
            transtbl.line(kind, _identifier(path, kind == "D"), _name(path).encode())
            for kind, path in entries
        ]
        tables[f"{folder}/{_LISTING}"] = b"".join(lines)
    return tables


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _identifier(path: str, directory: bool = False) -> bytes:
    return iso_names.identifier(_name(path), directory, _STYLE, ())


def _iso_path(path: str, directory: bool = False) -> str:
    """The ISO 9660 path that pycdlib takes for an absolute Rock Ridge name."""
    folders = [_identifier(part, True) for part in path.split("/")[1:-1]]
    return "/" + b"/".join([*folders, _identifier(path, directory)]).decode()
