"""OpenBSD packages with their dependencies, each verified by the signature inside it.

A package is a signed gzip archive of a tar whose first member, `+CONTENTS`, names the package
(`@name`), its port (`@arch`) and what it needs (`@depend pkgpath:specification:default`);
pkg_create(1), 6.6.  Folder listings are not signed: they only say what to ask for.  That a mirror
offers an older package that is just as genuine cannot be noticed.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError, describe, read_file, write_file
from obsdimg.core.progress import Progress
from obsdimg.core.unpack import ArchiveError, open_gzip, read_tar
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.download import Downloader, DownloadError
from obsdimg.fetch.http import Timeouts
from obsdimg.fetch.package_names import PackageName, matches, newest
from obsdimg.signify.archive import verify_archive
from obsdimg.signify.errors import VerificationError
from obsdimg.signify.message import SignifyPublicKey

_LISTED = re.compile(r"(?<![^\s\"'/>=])([A-Za-z0-9][\w+.,-]{0,249})\.tgz(?![^\s\"'<])", re.ASCII)
_LARGEST_LIST = 64 << 20
_LARGEST_PACKAGE = 512 << 20
_LARGEST_CONTENTS = 32 << 20


class PackageError(ObsdimgError):
    """A package is nowhere to be had, or needs something that is not."""


class WrongPackageError(VerificationError):
    """A genuine package, but not the one that was asked for, or of another port."""


@dataclass(frozen=True)
class Dependency:
    """An `@depend` line: specification (packages-specs(7)) and the package built against."""

    specification: str
    default: str


@dataclass(frozen=True)
class Contents:
    """What `+CONTENTS` says."""

    name: str
    arch: str
    depends: tuple[Dependency, ...]


@dataclass(frozen=True)
class VerifiedPackage:
    """A package whose every byte was checked with `key`; `origin` is its URL or path."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    key: SignifyPublicKey
    signed_on: str
    origin: str
    contents: Contents

    @property
    def file_name(self) -> str:
        return f"{self.name}.tgz"

    @property
    def evidence(self) -> str:
        """When and with which key it was signed, and where it came from: for the manifest."""
        return f"signed {self.signed_on} with {self.key}, from {self.origin}"


@dataclass(frozen=True)
class PackageSource:
    """Where the packages of a release and port are; of several folders the first wins.

    `directories` are below a mirror's base (`6.6/packages-stable/amd64`); `key` is the release's
    package key; `mirrors` are bases without a slash at the end, tried in this order.
    """

    release: str
    port: str
    directories: tuple[str, ...]
    key: SignifyPublicKey
    mirrors: tuple[str, ...]


def verify_package(
    data: bytes, key: SignifyPublicKey, name: str, port: str, origin: str
) -> VerifiedPackage:
    """`data`, if it is the package `name` for `port`, signed with `key`.

    Raises VerificationError (UnsignedArchiveError, WrongKeyError, BadSignatureError,
    HashMismatchError, TruncatedError,
    WrongPackageError).
    """
    archive = verify_archive(data, key, origin)
    contents = read_contents(data, origin)
    if contents.name != name:
        raise WrongPackageError(f"{origin}: genuine, but it is {contents.name} and not {name}")
    if contents.arch not in (port, "*"):
        raise WrongPackageError(f"{origin}: a package for {contents.arch}, not for {port}")
    digest = hashlib.sha256(data).hexdigest()
    return VerifiedPackage(name, data, digest, key, archive.signed_on, origin, contents)


def read_contents(data: bytes, where: str) -> Contents:
    """Name, port and dependencies in the packing list.  Raises WrongPackageError."""
    try:
        first = next(read_tar(open_gzip(io.BytesIO(data), 2 * _LARGEST_CONTENTS)), None)
        if first is None or first[0].name != "+CONTENTS" or first[0].size > _LARGEST_CONTENTS:
            raise WrongPackageError(f"{where}: no package, its archive has no +CONTENTS")
        text = first[1].read().decode()
    except (ArchiveError, UnicodeDecodeError) as error:
        raise WrongPackageError(f"{where}: no package, its archive cannot be read") from error
    words: dict[str, str] = {}
    depends = []
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        if keyword in ("@name", "@arch"):
            words.setdefault(keyword, value.strip())
        elif keyword == "@depend":
            parts = value.strip().split(":")
            if len(parts) != 3 or PackageName.parse(parts[2]) is None:
                raise WrongPackageError(f"{where}: +CONTENTS has an unknown form of @depend")
            depends.append(Dependency(parts[1], parts[2]))
    return Contents(words.get("@name", ""), words.get("@arch", ""), tuple(depends))


def parse_listing(text: str) -> frozenset[str]:
    """The packages (names without `.tgz`) in an index.txt or in a web server's listing."""
    return frozenset(_LISTED.findall(text))


def obtain_packages(
    source: PackageSource,
    names: Sequence[str],
    *,
    cache: Cache,
    folder: Path | None = None,
    offline: bool = False,
    optional: Sequence[str] = ("quirks",),
    limits: Timeouts | None = None,
    progress: Progress | None = None,
) -> tuple[VerifiedPackage, ...]:
    """The packages `names` (stems or full names) and all they depend on, dependencies first.

    From `folder` alone if given, else from the cache (`offline`) or a mirror of `source`, the
    first that answers.  `optional` ones are taken if they are there; pkg_add always looks
    for quirks.  Raises PackageError, VerificationError, DownloadError or FileError.
    """
    progress = progress or Progress()
    mine = "give a folder of packages with --packages DIR"
    hint = f"{mine}, or a mirror with --mirror URL"
    if offline:
        hint = f"run `obsdimg fetch` with the network, or {mine}"
    with Downloader(limits, progress, hint) as net:
        shelves: list[_Shelf]
        if folder is not None:
            shelves = [_Folder(folder)]
        elif offline:
            shelves = [_Folder(cache.path(d, "x").parent) for d in source.directories]
        else:
            last = source.directories[-1]
            shelves = [
                _Remote(d, source.mirrors, cache, net, progress, d == last)
                for d in source.directories
            ]
        resolver = _Resolver(source, [(shelf, shelf.names()) for shelf in shelves], progress)
        if not any(listed for _, listed in resolver.shelves):
            where = folder or ("the cache" if offline else "the mirror's folders")
            raise PackageError(f"no packages for OpenBSD {source.release} in {where}", hint)
        for name in names:
            resolver.want(resolver.find(name))
        for name in optional:
            if (found := resolver.look(name)) is not None:
                resolver.want(found)
        return tuple(resolver.chosen.values())


class _Shelf(Protocol):
    """A folder of packages, here or on mirrors."""

    def names(self) -> frozenset[str]:
        """The packages that are said to be there."""

    def take(self, name: str, check: Callable[[bytes, str], VerifiedPackage]) -> VerifiedPackage:
        """The package `name` as `check` (bytes and origin) makes it."""


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> frozenset[str]:
        try:
            return frozenset(p.stem for p in self.path.iterdir() if p.suffix == ".tgz")
        except OSError as error:
            raise FileError(f"{self.path}: cannot be listed: {describe(error)}") from error

    def take(self, name: str, check: Callable[[bytes, str], VerifiedPackage]) -> VerifiedPackage:
        path = self.path / f"{name}.tgz"
        return check(read_file(path, "package", largest=_LARGEST_PACKAGE), str(path))


class _Remote:
    def __init__(
        self,
        directory: str,
        bases: Sequence[str],
        cache: Cache,
        net: Downloader,
        progress: Progress,
        needed: bool,
    ) -> None:
        self.directory = directory
        self.urls = [f"{base}/{directory}" for base in bases]
        self.cache = cache
        self.net = net
        self.progress = progress
        self.needed = needed

    def names(self) -> frozenset[str]:
        """By index.txt, else by the listing that a web server makes.

        Not every release has every folder: one that is not needed may be empty.
        """
        urls = [url + tail for url in self.urls for tail in ("/index.txt", "/")]
        try:
            listed, _, _ = self.net.get(urls, f"list of {self.directory}", _LARGEST_LIST, _listed)
        except DownloadError as error:
            if self.needed or error.unreachable:
                raise
            self.progress.note(error.message)
            return frozenset()
        return listed

    def take(self, name: str, check: Callable[[bytes, str], VerifiedPackage]) -> VerifiedPackage:
        cached = self.cache.path(self.directory, f"{name}.tgz")
        with self.cache.lock(cached, self.progress):
            if cached.exists():
                try:
                    return check(
                        read_file(cached, "package", largest=_LARGEST_PACKAGE), str(cached)
                    )
                except VerificationError as error:
                    self.progress.note(f"{error.message}; fetched again")
            urls = [f"{url}/{name}.tgz" for url in self.urls]
            package, data, url = self.net.get(
                urls, f"{name}.tgz", _LARGEST_PACKAGE, lambda body: check(body, urls[0])
            )
            write_file(cached, data)
            return replace(package, origin=url)


def _listed(body: bytes) -> frozenset[str]:
    names = parse_listing(body.decode("utf-8", "replace"))
    if not names:
        raise VerificationError("lists no package")
    return names


@dataclass(frozen=True)
class _Found:
    shelf: _Shelf
    name: PackageName


@dataclass
class _Resolver:
    """Chooses packages, dependencies before what needs them."""

    source: PackageSource
    shelves: Sequence[tuple[_Shelf, frozenset[str]]]
    progress: Progress
    chosen: dict[str, VerifiedPackage] = field(default_factory=dict)
    _waiting: dict[str, PackageName] = field(default_factory=dict)
    """What was taken or is being taken, by full name."""

    def look(self, wanted: str, specification: str = "") -> _Found | None:
        """The newest package of the first shelf that has one: a full name, or a stem."""
        exact = PackageName.parse(wanted)
        for shelf, names in self.shelves:
            if exact is not None:
                if wanted in names:
                    return _Found(shelf, exact)
                continue
            fitting = [
                name
                for name in _parsed(names)
                if name.stem == wanted
                and not name.flavors
                and (not specification or matches(name, specification))
            ]
            if (best := newest(fitting)) is not None:
                return _Found(shelf, best)
        return None

    def find(self, wanted: str, needed_by: str = "") -> _Found:
        found = self.look(wanted)
        if found is None:
            because = f", which {needed_by} needs," if needed_by else ""
            raise PackageError(
                f"package {wanted}{because} is in none of the folders"
                f" ({', '.join(self.source.directories)})",
                "check its name, or give a folder of packages with --packages DIR",
            )
        return found

    def want(self, found: _Found) -> None:
        """Verify `found` and take it, after all that it depends on."""
        name = found.name.name
        if name in self.chosen or name in self._waiting:
            return
        self._waiting[name] = found.name
        package = found.shelf.take(
            name,
            lambda data, origin: verify_package(
                data, self.source.key, name, self.source.port, origin
            ),
        )
        for depend in package.contents.depends:
            if (other := self._depend(depend, name)) is not None:
                self.want(other)
        self.chosen[name] = package

    def _depend(self, depend: Dependency, needed_by: str) -> _Found | None:
        """What `depend` needs, or None if something already taken will do."""
        default = PackageName.parse(depend.default)
        assert default is not None  # read_contents saw to it
        if any(
            taken.stem == default.stem and matches(taken, depend.specification)
            for taken in self._waiting.values()
        ):
            return None
        stable = None if default.flavors else self.look(default.stem, depend.specification)
        return stable or self.find(depend.default, needed_by)


def _parsed(names: frozenset[str]) -> Iterator[PackageName]:
    for name in sorted(names):
        if (parsed := PackageName.parse(name)) is not None:
            yield parsed
