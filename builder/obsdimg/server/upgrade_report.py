"""What a server says about an upgrade: the output of siteXX/remote/upgrade.sh as typed values.

As with state.py the server may be a liar or half broken: every section may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from obsdimg.core.errors import printable
from obsdimg.server.state import REPORT_BYTES, StateError, first_of, number_in, sections_of

MOST_FILES = 200
_FETCHED = re.compile(r"(?:INSTALL\.|bsd)[\w.]*|[\w.-]+\.tgz")
"""The names that sysupgrade(8) takes out of SHA256."""


@dataclass(frozen=True)
class Room:
    """The file system that holds a folder; KiB."""

    device: str
    mounted: str
    free: int


@dataclass(frozen=True)
class MirrorReport:
    """What the server's mirror has of the next release."""

    url: str
    files: tuple[str, ...] = ()
    """What sysupgrade would fetch; empty: the mirror has no signed list of it."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by name, where the mirror's index tells them."""
    said: str = ""
    """The words of ftp(1), where it got no list."""


@dataclass(frozen=True)
class UpgradeReport:
    """How far the server is; None and empty where it says nothing."""

    clock: int | None
    booted: int | None
    release: str | None
    running: str | None
    machine: str | None
    room: Mapping[str, Room]
    """By folder."""
    downloaded: int
    """KiB in sysupgrade's folder."""
    sets: frozenset[str]
    """Stems of the sets that are installed, but for base."""
    encrypted: bool
    key: str | None
    """The base key of the next release that is there, as base64."""
    packages: tuple[str, ...]
    applying: bool
    fetching: bool
    pending: bool
    """The next start is the upgrade."""
    first_start: bool
    """What runs once after an upgrade is not through yet."""
    result: str | None
    """What became of the last download: `fetched 7.8`, `failed 1`."""
    log: tuple[str, ...]
    leftovers: tuple[str, ...]
    """Files that sysmerge(8) could not merge."""
    mirror: MirrorReport

    def fetched(self, target: str) -> bool:
        """Whether the upgrade to `target` is verified and waits for the next start."""
        return self.pending and not self.fetching and self.result == f"fetched {target}"


def parse_upgrade(report: bytes) -> UpgradeReport:
    """The report in what upgrade.sh wrote.  Raises StateError where it is not its output."""
    text = report[:REPORT_BYTES].decode("utf-8", "replace")
    sections = sections_of(text)
    if "time" not in sections or "end" not in sections:
        raise StateError(
            "the server's report is cut off or not one at all",
            f"it begins: {printable(text[:80])}" if text.strip() else "nothing came back",
        )
    lines = sections.get
    work = lines("work", [])
    return UpgradeReport(
        clock=number_in(first_of(sections, "time")),
        booted=number_in(first_of(sections, "boot")),
        release=first_of(sections, "release"),
        running=first_of(sections, "running"),
        machine=first_of(sections, "machine"),
        room=_room(lines("room", [])),
        downloaded=number_in((first_of(sections, "downloaded") or "0").split()[0]) or 0,
        sets=frozenset(lines("sets", [])),
        encrypted=any(" CRYPTO" in line for line in lines("softraid", [])),
        key=first_of(sections, "key"),
        packages=tuple(lines("packages", [])),
        applying="applying" in work,
        fetching="fetching" in work,
        pending="pending" in work,
        first_start=any(line.startswith("first-start") for line in work),
        result=first_of(sections, "result"),
        log=tuple(lines("log", [])),
        leftovers=tuple(lines("leftovers", [])),
        mirror=_mirror(sections),
    )


def _room(lines: Sequence[str]) -> dict[str, Room]:
    """`FOLDER` and a line of df(1) each."""
    found = {}
    for line in lines:
        words = line.split()
        free = number_in(words[4]) if len(words) >= 7 else None
        if len(words) >= 7 and words[4].startswith("-"):
            free = 0  # what is kept for root is in use, too
        if free is not None:
            found[words[0]] = Room(words[1], words[6], free)
    return found


def _mirror(sections: Mapping[str, Sequence[str]]) -> MirrorReport:
    names = re.findall(r"^SHA256 \(([^)\s]+)\) = ", "\n".join(sections.get("list", [])), re.M)
    files = tuple(name for name in names[:MOST_FILES] if _FETCHED.fullmatch(name))
    sizes = {}
    for line in sections.get("index", []):
        words = line.split()
        size = number_in(words[4]) if len(words) > 5 else None
        if size is not None and words[-1] in files:
            sizes[words[-1]] = size
    said = " ".join(sections.get("list-said", []))
    return MirrorReport(first_of(sections, "mirror") or "", files, sizes, said)
