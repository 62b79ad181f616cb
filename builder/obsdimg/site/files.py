"""The site set: files that the installer unpacks over the new system, last of all sets.

The installer runs `tar -zxphf - -C /mnt` as root (install.sub 6.6), so owners, modes and
directory entries of the archive all count.  Written as ustar (POSIX.1-1988), root:wheel by
number, one fixed time, directories only where the base system has none; gzip without name
or time.  Same files, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from obsdimg.core.archive import gzip, tar
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.resources import resource

BASE_DIRECTORIES = frozenset(
    line
    for line in resource("siteXX", "base-directories").read_text().splitlines()
    if line.startswith("/")
) | {"/"}
"""Directories of a fresh system: the site set must not set their modes."""


class SiteSetError(ObsdimgError):
    """A file cannot be part of a site set."""


def site_set(files: Iterable[Entry], epoch: int) -> bytes:
    """The archive siteXX.tgz; `epoch` (seconds since 1970) is the time of every entry.

    Directories that the base system lacks get an entry (0755 unless `files` says otherwise).
    Raises SiteSetError for a path given twice or not absolute, TarPathError for one too long.
    """
    return gzip(tar(with_directories(files), epoch))


def with_directories(files: Iterable[Entry]) -> list[Entry]:
    """`files` sorted by path, with entries for the directories that the base system lacks."""
    given: dict[str, Entry] = {}
    for entry in files:
        check_path(entry.path)
        if entry.path in given:
            other = given[entry.path]
            raise SiteSetError(f"{entry.path}: comes from both {other.origin} and {entry.origin}")
        given[entry.path] = entry
    for path in list(given):
        for parent in PurePosixPath(path).parents:
            name = str(parent)
            above = given.get(name)
            if above is not None and above.kind != "dir":
                raise SiteSetError(f"{path}: {name} is a {above.kind}, from {above.origin}")
            if above is None and name not in BASE_DIRECTORIES:
                given[name] = Entry(name, mode=0o755, kind="dir", origin="obsdimg")
    return [given[path] for path in sorted(given)]


def check_path(path: str) -> None:
    """Refuse what is not a plain absolute path.  Raises SiteSetError."""
    parts = path.split("/")
    if not path.startswith("/") or any(p in ("", ".", "..") for p in parts[1:]):
        raise SiteSetError(f"{path}: not a plain absolute path")
    if not path.isprintable():
        raise SiteSetError(f"{path!r}: the name holds characters that cannot be printed")
