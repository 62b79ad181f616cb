"""The upstream ISO: fetched or given, and verified before anything else looks at it.

Grades, best first: its hash is in SHA256.sig, signed with the release's base key; its hash is
pinned in the release file and was checked; unverified, which only `unverified=True` allows and
which has a type of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileIdentity, read_file, write_file
from obsdimg.core.progress import Progress
from obsdimg.fetch.cache import Cache, HashedFile
from obsdimg.fetch.download import Downloader, DownloadError
from obsdimg.fetch.http import Timeouts
from obsdimg.signify.errors import HashMismatchError, VerificationError
from obsdimg.signify.message import SignifyPublicKey
from obsdimg.signify.sha256list import VerifiedList, read_signed_list

LIST = "SHA256.sig"
_LIST_LARGEST = 1 << 20


class OfflineError(ObsdimgError):
    """Something is not in the cache, and the network may not be used."""


class PinnedHash(Protocol):
    """A hash from the release file; `checked` says whether it may stand alone."""

    @property
    def sha256(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def checked(self) -> bool: ...


@dataclass(frozen=True)
class IsoSource:
    """What upstream calls its ISO and how it can be told to be genuine.

    `directory` is the folder below a mirror's base (`6.6/amd64`); `key` the release's base key;
    `mirrors` are bases (folders that hold `6.6/`) without a slash at the end, tried in this order.
    """

    release: str
    directory: str
    name: str
    key: SignifyPublicKey
    pinned: PinnedHash | None
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class VerifiedIso:
    """An ISO on the host whose SHA-256 was shown to be genuine.

    `how` is `signed-list` or `pinned`; `evidence` says by which key or source, for the manifest;
    `identity` is the file's as it was when it had that hash.
    """

    path: Path
    sha256: str
    size: int
    how: str
    evidence: str
    identity: FileIdentity


@dataclass(frozen=True)
class UnverifiedIso:
    """An ISO that nobody vouches for; only `unverified=True` makes one."""

    path: Path
    sha256: str
    size: int
    evidence: str
    identity: FileIdentity
    how: str = "unverified"


@dataclass(frozen=True)
class Expected:
    """The hash that the ISO must have, and why that is believed."""

    sha256: str
    how: str
    evidence: str
    signed: VerifiedList | None = None


def obtain_iso(
    source: IsoSource,
    *,
    cache: Cache,
    iso: Path | None = None,
    offline: bool = False,
    unverified: bool = False,
    reverify: bool = False,
    limits: Timeouts | None = None,
    progress: Progress | None = None,
) -> VerifiedIso | UnverifiedIso:
    """The ISO of `source`: `iso` if given, else from the cache, else from a mirror; verified.

    `unverified` waives verification of a given `iso` altogether.  Raises VerificationError,
    DownloadError, OfflineError, CacheError or FileError.
    """
    progress = progress or Progress()
    if unverified:
        if iso is None:
            raise VerificationError(
                "--unverified needs --iso: a downloaded ISO is always verified",
                "give the file with --iso F",
            )
        found = cache.hash_file(iso, again=reverify, progress=progress)
        evidence = "--unverified: nobody vouches for this ISO"
        return UnverifiedIso(iso, found.sha256, found.size, evidence, found.identity)
    mine = "give the file with --iso F" if iso is None else f"put {LIST} beside {iso}"
    with Downloader(limits, progress, f"{mine}, or give a mirror with --mirror URL") as net:
        finder = _Finder(source, cache, None if offline else net, progress)
        if iso is None:
            return finder.fetch(reverify)
        return finder.given(iso, reverify)


class _Finder:
    """One search for an ISO; `net` is None when offline."""

    def __init__(
        self,
        source: IsoSource,
        cache: Cache,
        net: Downloader | None,
        progress: Progress,
    ) -> None:
        self.source = source
        self.cache = cache
        self.net = net
        self.progress = progress

    def fetch(self, reverify: bool) -> VerifiedIso:
        expected = self.expected(None)
        target = self.cache.path(self.source.directory, self.source.name)
        with self.cache.lock(target, self.progress):
            if target.exists():
                found = self.cache.hash_file(target, again=reverify, progress=self.progress)
                if found.sha256 == expected.sha256:
                    return _verified(found, expected)
                self.progress.note(f"{target}: damaged in the cache, fetched again")
                if self.net is not None:
                    target.unlink()
            if self.net is None:
                raise OfflineError(
                    f"{self.source.name} of OpenBSD {self.source.release} is not in the cache"
                    f" ({self.cache.root}), and --offline forbids to fetch it",
                    "run `obsdimg fetch` with the network, or give the file with --iso F",
                )
            self.net.download(
                self._urls(self.source.name), target, lambda part: self._check(part, expected)
            )
            return _verified(self.cache.hash_file(target, progress=self.progress), expected)

    def given(self, iso: Path, reverify: bool) -> VerifiedIso:
        expected = self.expected(iso.parent / LIST)
        found = self.cache.hash_file(iso, again=reverify, progress=self.progress)
        if found.sha256 != expected.sha256:
            raise HashMismatchError(
                f"{iso}: {_not_genuine(found.sha256, expected, self.source)}",
                "fetch it again, or check --release; --unverified uses it all the same",
            )
        return _verified(found, expected)

    def expected(self, beside: Path | None) -> Expected:
        """The hash that the ISO must have: by a signed list, else by a checked pin."""
        pinned = self.source.pinned
        try:
            signed, where = self._signed_list(beside)
        except (DownloadError, OfflineError) as error:
            if pinned is None or not pinned.checked:
                raise
            self.progress.note(f"{LIST} is not to be had; using the pinned hash instead")
            evidence = f"hash pinned in the release file ({pinned.source}); no {LIST}: {error}"
            return Expected(pinned.sha256, "pinned", evidence)
        sha256 = signed.expect(self.source.name)
        if pinned is not None and pinned.sha256 != sha256:
            words = f"{where}: lists {self.source.name} with another hash than the release file"
            if pinned.checked:
                raise HashMismatchError(words, "report this: one of the two is wrong")
            self.progress.note(f"{words}, whose hash was never checked; the signed list counts")
        return Expected(sha256, "signed-list", f"{where}, signed with {signed.key}", signed)

    def _signed_list(self, beside: Path | None) -> tuple[VerifiedList, str]:
        """The signed list beside the ISO, of the cache, or of a mirror, in that order."""
        key = self.source.key
        if beside is not None and beside.exists():
            data = read_file(beside, "checksum list")
            return read_signed_list(data, key, str(beside)), str(beside)
        cached = self.cache.path(self.source.directory, LIST)
        if cached.exists():
            try:
                data = read_file(cached, "checksum list")
                return read_signed_list(data, key, str(cached)), f"{self.source.directory}/{LIST}"
            except VerificationError as error:
                self.progress.note(f"{error.message}; fetched again")
        if self.net is None:
            mine = "give the file with --iso F" if beside is None else f"put {LIST} beside the ISO"
            raise OfflineError(
                f"{LIST} of OpenBSD {self.source.release} is not in the cache ({self.cache.root}),"
                " and --offline forbids to fetch it",
                f"run `obsdimg fetch` with the network, or {mine}",
            )
        signed, data, url = self.net.get(
            self._urls(LIST), LIST, _LIST_LARGEST, lambda body: read_signed_list(body, key)
        )
        write_file(cached, data)
        return signed, url

    def _check(self, path: Path, expected: Expected) -> None:
        found = self.cache.hash_file(path, progress=self.progress)
        if found.sha256 != expected.sha256:
            raise HashMismatchError(_not_genuine(found.sha256, expected, self.source))

    def _urls(self, name: str) -> list[str]:
        return [f"{base}/{self.source.directory}/{name}" for base in self.source.mirrors]


def _verified(found: HashedFile, expected: Expected) -> VerifiedIso:
    how, evidence = expected.how, expected.evidence
    return VerifiedIso(found.path, found.sha256, found.size, how, evidence, found.identity)


def _not_genuine(sha256: str, expected: Expected, source: IsoSource) -> str:
    """Why a file with `sha256` is not the ISO; names the file of the list that it is instead."""
    others = [name for name, known in (expected.signed or {}).items() if known == sha256]
    if others:
        return f"this is {others[0]}, not {source.name}"
    return f"not {source.name}: its SHA-256 is {sha256}, not {expected.sha256}"
