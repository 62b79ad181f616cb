"""Names and versions of OpenBSD packages: `stem-version[pN][vN][-flavor...]`.

Ordering and specifications follow packages-specs(7) as pkg_add of 6.6 implements them
(OpenBSD::PackageName): the epoch `vN` first, then the dewey number part by part, then `pN`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAME = re.compile(
    r"(?P<stem>[A-Za-z0-9][\w+.,-]*?)-(?P<version>\d[\w+.,]*)(?P<flavors>(?:-[\w+.,]+)*)", re.ASCII
)
_VERSION = re.compile(
    r"(?P<dewey>.*?)(?:p(?P<p>\d{1,18}))?(?:v(?P<v>\d{1,18}))?", re.ASCII | re.DOTALL
)
_PART = re.compile(r"(\d{1,18})(.*)", re.ASCII | re.DOTALL)
_SUFFIX = re.compile(r"(\d{1,18})(rc|alpha|beta|pre|pl)(\d{0,18})", re.ASCII)
_SUFFIX_ORDER = {"alpha": -3, "beta": -2, "pre": -1, "rc": -1, "": 0, "pl": 1}
_BOUND = re.compile(r"(>=|<=|>|<|=)(.+)")

_LONGEST = 250
"""Characters in a package's name: with `.tgz` it must fit into a file name."""

VersionKey = tuple[int, tuple[tuple[int, str], ...], int, int, int]
"""Compares as pkg_add does: epoch, dewey parts, suffix and its number, p."""


@dataclass(frozen=True)
class PackageName:
    """A package's full name, taken apart; `flavors` are sorted."""

    name: str
    stem: str
    version: str
    flavors: tuple[str, ...] = ()

    @classmethod
    def parse(cls, name: str) -> PackageName | None:
        """`bash-5.0.11p0` taken apart, or None for something else (a bare stem)."""
        match = _NAME.fullmatch(name) if len(name) < _LONGEST else None
        if match is None:
            return None
        flavors = tuple(sorted(filter(None, match["flavors"].split("-"))))
        return cls(name, match["stem"], match["version"], flavors)

    @property
    def order(self) -> VersionKey:
        return version_key(self.version)


def version_key(version: str) -> VersionKey:
    """What versions are compared by."""
    match = _VERSION.fullmatch(version)
    assert match is not None  # every group is optional and the first takes anything
    parts = match["dewey"].split(".")
    suffix, number = "", 0
    if found := _SUFFIX.fullmatch(parts[-1]):
        parts[-1], suffix, number = found[1], found[2], int(found[3] or 0)
    dewey = tuple(
        (int(part[1]), part[2]) if (part := _PART.fullmatch(text)) else (-1, text) for text in parts
    )
    p, v = (-1 if match[group] is None else int(match[group]) for group in ("p", "v"))
    return v, dewey, _SUFFIX_ORDER[suffix], number, p


def newest(names: Iterable[PackageName]) -> PackageName | None:
    """The newest of `names` by version; of equals, the first."""
    return max(names, key=lambda name: name.order, default=None)


def matches(name: PackageName, specification: str) -> bool:
    """Whether `name` fits a specification such as `bash-*` or `python->=3.7,<3.8|python-2.7.*`.

    Flavors are not looked at.  What is not understood does not match.
    """
    return any(_fits(name, one) for one in specification.split("|"))


def _fits(name: PackageName, specification: str) -> bool:
    stem, dash, rest = specification.partition(f"{name.stem}-")
    if stem or not dash:
        return False
    return all(_within(name, bound) for bound in rest.split(","))


def _within(name: PackageName, bound: str) -> bool:
    if bound == "*":
        return True
    if match := _BOUND.fullmatch(bound):
        own, other = name.order, version_key(match[2])
        return {
            ">=": own >= other,
            "<=": own <= other,
            ">": own > other,
            "<": own < other,
            "=": own == other,
        }[match[1]]
    if bound.endswith(".*"):
        return name.version.startswith(bound[:-1])
    return name.version == bound
