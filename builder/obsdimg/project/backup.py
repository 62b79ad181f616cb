"""A project as one encrypted file, and back: what cannot be made again, and nothing else.

An age file (age-encryption.org/v1, with a passphrase: scrypt) that holds a gzip-compressed ustar
archive, so that `age -d FILE | tar xzf -` opens it, too.  ISOs are left out: `obsdimg build` makes
them from what is in here.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import pyrage

from obsdimg.config import Config
from obsdimg.config.keyfiles import key_files
from obsdimg.config.load import parse_table
from obsdimg.core.archive import gzip, tar
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import (
    PRIVATE_FILE,
    describe,
    open_regular,
    private_dir,
    read_file,
    write_file,
)
from obsdimg.core.secret import Secret, check_private_folder
from obsdimg.core.unpack import ArchiveError, ArchiveLimits, open_gzip, read_tar
from obsdimg.project.folder import Project

SUFFIX: Final = ".backup.age"
LARGEST: Final = 256 << 20
"""Bytes of a backup, and of what is in it: an overlay may hold more than keys."""
LIMITS: Final = ArchiveLimits(unpacked=LARGEST, members=20_000)
_MAGIC: Final = b"age-encryption.org/v1\n"
_CONFIG: Final = "obsdimg.toml"
_PRIVATE: Final = ("secrets", "clients", "deploy")
_FILES: Final = ("known_hosts", "known_server.json", "obsdimg.schema.json", ".gitignore")


class BackupError(ObsdimgError):
    """There is nothing to keep, or a backup cannot be used."""


@dataclass(frozen=True)
class Restored:
    """What putting a backup back did: names of files, relative to the project."""

    written: tuple[str, ...]
    same: tuple[str, ...]
    """Were there already, with the same content."""


def collect(project: Project, *others: Project) -> tuple[list[Entry], list[str]]:
    """The files to keep, and the names of those that the configuration uses from elsewhere.

    `others`: the further servers of the same file.
    Raises LostKeysError, BackupError, SecretFileError, FileError.
    """
    servers = (project, *others)
    for one in servers:
        one.refuse_lost_keys()
    if not any((one.secrets / "image.sec").exists() for one in servers):
        raise BackupError(
            f"{project.secrets}: there are no keys yet, so nothing that could be lost",
            "`obsdimg build` makes them",
        )
    for one in servers:
        if one.secrets.exists():
            check_private_folder(one.secrets)
    data = read_file(project.config_path, "configuration")
    keys = key_files(parse_table(data, str(project.config_path)))
    named = list(dict.fromkeys([*(n for one in servers for n in _named(one.config)), *keys]))
    folder = project.folder
    inside = [
        name for name in named
        if not name.startswith("~") and (folder / name).resolve().is_relative_to(folder)
    ]  # fmt: skip
    own = [
        f"servers/{one.server}/{name}"
        for one in servers
        if one.server is not None
        for name in (*_PRIVATE, *_FILES)
    ]
    found: dict[str, Entry] = {}
    mode = stat.S_IMODE(project.config_path.stat().st_mode)
    found[_CONFIG] = Entry(f"/{_CONFIG}", data, mode & 0o777)
    for name in (*_PRIVATE, *_FILES, *own, *inside):
        for entry in _below(folder / name, name.strip("/")):
            found.setdefault(entry.path[1:], entry)
    if sum(len(entry.data) for entry in found.values()) > LARGEST // 2:
        raise BackupError(
            f"{folder}: more than {LARGEST >> 21} MB to keep", "keep large files elsewhere"
        )
    return list(found.values()), sorted(set(named) - set(inside))


def _named(config: Config) -> list[str]:
    """The files and folders beside the configuration that it uses."""
    layout = [] if config.disk.layout == "auto" else [config.disk.layout]
    return [config.site.overlay, *config.tunnel.block_lists, *layout]


def _is_private(name: str) -> bool:
    """Whether the path, relative to the project, is for nobody else's eyes: a folder of the
    project's own or of one of its servers', not one of that name in the overlay."""
    parts = name.split("/")
    own = parts[2:] if parts[0] == "servers" else parts
    return bool(own) and own[0] in _PRIVATE


def _below(path: Path, name: str) -> Iterator[Entry]:
    """`path` and what is in it, without locks and half-written files (hidden ones)."""
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            yield Entry(f"/{name}", read_file(path, "backup", largest=LARGEST), mode)
        elif stat.S_ISLNK(status.st_mode):
            yield Entry(f"/{name}", mode=0o777, kind="link", target=str(path.readlink()))
        elif stat.S_ISDIR(status.st_mode):
            private = _is_private(name)
            mode = 0o700 if private else stat.S_IMODE(status.st_mode) & 0o777
            yield Entry(f"/{name}", mode=mode, kind="dir")
            for one in sorted(path.iterdir()):
                if not (private and one.name.startswith(".")):
                    yield from _below(one, f"{name}/{one.name}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise BackupError(f"{path}: cannot be read: {describe(error)}") from error


def encrypt(entries: Iterable[Entry], passphrase: Secret) -> bytes:
    """The backup's bytes.  Raises TarPathError for a path that is too long."""
    packed = gzip(tar(sorted(entries, key=lambda e: e.path)))
    encrypted: bytes = pyrage.passphrase.encrypt(packed, passphrase.reveal())
    return encrypted


def read(path: Path) -> bytes:
    """The bytes of the backup at `path`.  Raises BackupError: it is none."""
    try:
        with open_regular(path) as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise BackupError(f"{path}: cannot read the backup: {describe(error)}") from error
    if not data.startswith(_MAGIC) or len(data) > LARGEST:
        raise BackupError(f"{path}: is no backup of obsdimg", f"give the file NAME{SUFFIX}")
    return data


def decrypt(data: bytes, passphrase: Secret, where: str) -> list[Entry]:
    """What is in a backup.  Raises BackupError: wrong passphrase, damaged, or not of obsdimg."""
    try:
        packed = pyrage.passphrase.decrypt(data, passphrase.reveal())
    except pyrage.DecryptError as error:
        raise BackupError(
            f"{where}: the passphrase does not open it, or it is damaged",
            "it is the passphrase that was given to `obsdimg backup`",
        ) from error
    return unpack(packed, where)


def unpack(packed: bytes, where: str) -> list[Entry]:
    """The entries of the archive `packed`.  Raises BackupError."""
    found: list[Entry] = []
    links: set[str] = set()
    try:
        for member, content in read_tar(open_gzip(io.BytesIO(packed), LARGEST), LIMITS):
            name = member.name.rstrip("/")
            _check_name(name, links, where)
            mode = member.mode & 0o777
            if member.isdir():
                found.append(Entry(f"/{name}", mode=mode, kind="dir"))
            elif member.issym():
                links.add(name)
                found.append(Entry(f"/{name}", mode=0o777, kind="link", target=member.linkname))
            elif member.isreg():
                found.append(Entry(f"/{name}", content.read(), mode))
            else:
                raise BackupError(f"{where}: {name!r} is neither file, folder nor link")
    except ArchiveError as error:
        raise BackupError(f"{where}: is damaged: {error.message}", error.hint) from error
    if all(entry.path != f"/{_CONFIG}" for entry in found):
        raise BackupError(f"{where}: holds no {_CONFIG}", "is it a backup of obsdimg?")
    return found


def _check_name(name: str, links: set[str], where: str) -> None:
    parts = PurePosixPath(name).parts
    above = {str(parent) for parent in PurePosixPath(name).parents}
    if not parts or name.startswith("/") or ".." in parts or above & links:
        raise BackupError(f"{where}: {name!r} leads out of the project", "nothing was restored")


def restore(entries: Sequence[Entry], root: Path) -> Restored:
    """Write what is missing below `root`; what is there and the same stays.

    Raises BackupError, and nothing is written, where a file is there with other content.
    """
    other, same, missing = [], [], []
    for entry in entries:
        path = root / entry.path[1:]
        if not _inside(path, root):
            raise BackupError(f"{path}: leads out of {root}", "move the link away")
        if entry.kind == "dir":
            continue
        if not (path.exists() or path.is_symlink()):
            missing.append(entry)
        elif _is_same(path, entry):
            same.append(entry.path[1:])
        else:
            other.append(entry.path[1:])
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise BackupError(
            f"{root}: is not as in the backup: {', '.join(other[:3])}{more}",
            "nothing was restored; move them away, or restore into an empty folder",
        )
    private_dir(root)
    folders = [entry for entry in entries if entry.kind == "dir"]
    made = [entry for entry in folders if not (root / entry.path[1:]).exists()]
    for entry in folders:
        private_dir(root / entry.path[1:])
    for entry in missing:
        path = root / entry.path[1:]
        private_dir(path.parent)
        if entry.kind == "link":
            path.symlink_to(entry.target)
        else:
            private = _is_private(entry.path[1:])
            write_file(path, entry.data, PRIVATE_FILE if private else entry.mode)
    # Modes of folders are what an overlay lands with; last, since one may be read-only.
    for entry in made:
        if not _is_private(entry.path[1:]):
            (root / entry.path[1:]).chmod(entry.mode)
    return Restored(tuple(entry.path[1:] for entry in missing), tuple(same))


def _inside(path: Path, root: Path) -> bool:
    return path.parent.resolve().is_relative_to(root.resolve())


def _is_same(path: Path, entry: Entry) -> bool:
    if entry.kind == "link":
        return path.is_symlink() and str(path.readlink()) == entry.target
    if path.is_symlink() or not path.is_file():
        return False
    return read_file(path, "file", largest=LARGEST) == entry.data
