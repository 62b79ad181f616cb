"""OpenBSD checksum lists: `SHA256 (base66.tgz) = <64 hex digits>`, one line a file.

Parsing is strict, since the list decides what gets installed: LF line ends, names without
folder or blank, lower-case digits.  A name may be listed twice with the same hash (the genuine
list of 7.6 does that with install76.iso) but not with two.  Format: sha256(1), as read by
`signify -C` and by the installer's install.sub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from obsdimg.core.hashing import sha256_file
from obsdimg.core.progress import Progress
from obsdimg.signify.errors import (
    HashMismatchError,
    MalformedListError,
    MissingFromListError,
    TruncatedError,
)
from obsdimg.signify.message import SignifyPublicKey, VerifiedMessage, verify_embedded

LARGEST = 1 << 20
"""Bytes of a list; genuine ones have about two thousand."""
_LINE = re.compile(r"SHA256 \(([^()/\s]+)\) = ([0-9a-f]{64})")


class ChecksumList(Mapping[str, str]):
    """File name to SHA-256 (64 lower-case hex digits), in the order of the list; unverified."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = MappingProxyType(dict(hashes))

    def __getitem__(self, name: str) -> str:
        return self._hashes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} files)"


class VerifiedList(ChecksumList):
    """A checksum list whose signature was checked with `key`; read_signed_list makes it."""

    def __init__(self, hashes: Mapping[str, str], key: SignifyPublicKey, where: str) -> None:
        super().__init__(hashes)
        self.key = key
        self.where = where

    def expect(self, name: str) -> str:
        """The hash of `name`.  Raises MissingFromListError."""
        try:
            return self[name]
        except KeyError:
            raise MissingFromListError(
                f"{self.where}: does not list {name}",
                "check release, port and file name",
            ) from None


@dataclass(frozen=True)
class VerifiedFile:
    """A file on the host whose bytes had the hash of a signed list when they were read."""

    path: Path
    name: str
    sha256: str
    size: int
    key: SignifyPublicKey


def parse(data: bytes, where: str = "SHA256") -> ChecksumList:
    """The entries of a checksum list.  Raises MalformedListError or Truncated, with the line."""
    if not data:
        raise TruncatedError(f"{where}: the checksum list is empty")
    if not data.endswith(b"\n"):
        raise TruncatedError(f"{where}: the last line of the checksum list is cut off")
    try:
        lines = data.decode("ascii").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise MalformedListError(f"{where}: byte {error.start} is not ASCII") from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or match[1] in (".", "..") or not match[1].isprintable():
            raise MalformedListError(
                f"{where}:{number}: not a line `SHA256 (name) = 64 hex digits`"
            )
        if hashes.setdefault(match[1], match[2]) != match[2]:
            raise MalformedListError(
                f"{where}:{number}: {match[1]} is listed with two different hashes"
            )
    return ChecksumList(hashes)


def render(hashes: Mapping[str, str]) -> bytes:
    """The list as sha256(1) writes it, sorted by name.

    Raises MalformedListError for a bad entry.
    """
    text = "".join(f"SHA256 ({name}) = {hashes[name]}\n" for name in sorted(hashes))
    data = text.encode("utf-8")
    if hashes:
        parse(data, "new SHA256")
    return data


def verified_list(message: VerifiedMessage, where: str = "SHA256.sig") -> VerifiedList:
    """The entries of a list whose signature was checked.  Raises MalformedListError, Truncated."""
    return VerifiedList(parse(message.data, where), message.key, where)


def read_signed_list(data: bytes, key: SignifyPublicKey, where: str = "SHA256.sig") -> VerifiedList:
    """Verify a SHA256.sig (embedded signature) with `key`, then parse it.

    Raises MalformedSignatureError, TruncatedError, WrongKeyError, BadSignatureError or
    MalformedListError.
    """
    return verified_list(verify_embedded(data, key, where), where)


def verify_file(
    path: Path, checksums: VerifiedList, name: str | None = None, progress: Progress | None = None
) -> VerifiedFile:
    """Hash `path` and compare it with the entry `name` (default: the file's own name).

    Raises MissingFromListError, HashMismatchError, or FileError where the file cannot be read.
    """
    name = path.name if name is None else name
    expected = checksums.expect(name)
    found, size = sha256_file(path, progress, f"Verifying {name}")
    if found != expected:
        raise HashMismatchError(
            f"{path}: its SHA-256 is {found}, the list signed by {checksums.key} says {expected}",
            "the file was changed, damaged or cut short: fetch it again",
        )
    return VerifiedFile(path, name, found, size, checksums.key)
