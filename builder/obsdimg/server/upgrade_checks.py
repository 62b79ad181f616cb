"""What has to hold before a server is upgraded, and afterwards: pure, a line each."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from obsdimg.core.errors import printable
from obsdimg.releases.release import Release
from obsdimg.server.change import Change
from obsdimg.server.findings import ExpectedServer, Finding, Level, judge
from obsdimg.server.next_release import ReleaseFiles
from obsdimg.server.state import ServerState
from obsdimg.server.upgrade_report import MirrorReport, UpgradeReport

MIB: Final = 1 << 20
UNKNOWN_SETS: Final = 900 * MIB
"""Bytes of all sets, where the mirror tells no sizes: more than any release up to 7.9 has."""
UNPACKED: Final = 3.5
"""How much larger a set is when it is unpacked; base of 7.7: 3.4."""
GROWTH: Final = 0.35
"""What a set that is there already grows by at most, as a part of its packed size."""
SPARE: Final = 64 * MIB
_PLACES: Final = {"x": "/usr/X11R6", "": "/usr"}
_WAITED_FOR: Final = ("support", "patches", "packages", "release", "project", "changed there")
"""Findings of `status` that an upgrade mends, or that have a line of their own here."""


class CheckMark(enum.StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing in the way."""
    FAILED = "FAILED"


@dataclass(frozen=True)
class UpgradeCheck:
    """One line."""

    topic: str
    mark: CheckMark
    text: str
    remedy: str = ""


def failed(checks: Sequence[UpgradeCheck]) -> list[UpgradeCheck]:
    return [one for one in checks if one.mark is CheckMark.FAILED]


def topics(checks: Sequence[UpgradeCheck]) -> str:
    """What `checks` are about, each once."""
    return ", ".join(dict.fromkeys(one.topic for one in checks))


def _check(topic: str, good: bool, text: str, remedy: str = "") -> UpgradeCheck:
    return UpgradeCheck(
        topic, CheckMark.OK if good else CheckMark.FAILED, text, "" if good else remedy
    )


@dataclass(frozen=True)
class Beforehand:
    """Everything that the checks before an upgrade look at.  Holds secrets; shows none."""

    report: UpgradeReport
    state: ServerState
    expected: ExpectedServer
    change: Change
    """What differs between the server and the project at the old release."""
    files: ReleaseFiles
    old: Release
    target: Release
    port: str
    asked: float
    answered: float
    """This host's clock around the report, seconds since 1970."""
    way: str
    """How the server was reached."""


def check_beforehand(seen: Beforehand) -> list[UpgradeCheck]:
    """Every line, in the order of what can be mended first."""
    report, old, target = seen.report, seen.old, seen.target
    return [
        UpgradeCheck("tunnel", CheckMark.OK, seen.way),
        _check(
            "release",
            report.release == old.version,
            f"runs {report.release}; {target.version} is the next",
        ),
        _kernel(seen.state, old.version),
        _check(
            "port",
            report.machine == seen.port,
            f"{report.machine}",
            f"the project says {seen.port} (release.port)",
        ),
        _mirror(report.mirror, target),
        _key(report.key, target),
        *_room(report),
        *_files(seen.change),
        _check(
            "other changes",
            not report.applying,
            "a change is being applied" if report.applying else "none is under way",
            "try again in a minute or two",
        ),
        *_findings(judge(seen.state, seen.expected, seen.asked, seen.answered)),
        *_packages(report, seen.files),
    ]


def _kernel(state: ServerState, version: str) -> UpgradeCheck:
    """sysupgrade takes snapshots where the kernel is not a release's."""
    running, installed = state.running or "", (state.installed or "").strip()
    match = re.match(r"OpenBSD (\S+) \((\S+)\) (#\d+)", running)
    if match is None or match[1] != version:
        return UpgradeCheck(
            "kernel",
            CheckMark.FAILED,
            f"runs {printable(running[:40]) or 'an unknown one'}, which is none of the release",
            "sysupgrade would take a snapshot: look at it there (obsdimg ssh)",
        )
    if installed and not running.startswith(installed):
        return UpgradeCheck(
            "kernel",
            CheckMark.NOTE,
            "another one is installed than runs: a patch that waits for a restart",
        )
    return UpgradeCheck("kernel", CheckMark.OK, f"{match[1]} ({match[2]}) {match[3]}")


def _mirror(mirror: MirrorReport, target: Release) -> UpgradeCheck:
    base = f"base{target.digits}.tgz"
    if base in mirror.files and "bsd.rd" in mirror.files:
        known = _sizes_known(mirror)
        size = f"{sum(mirror.sizes.values()) / MIB:,.0f} MB" if known else "size unknown"
        text = f"{mirror.url} has {target.version}: {len(mirror.files)} files, {size}"
        return UpgradeCheck("mirror", CheckMark.OK, text)
    others = [url for url in target.mirror_urls() if url != mirror.url]
    said = f" ({printable(mirror.said[-160:])})" if mirror.said else ""
    return UpgradeCheck(
        "mirror",
        CheckMark.FAILED,
        f"{mirror.url} has no signed list of {target.version}{said}",
        f"--mirror URL takes another, for instance {' or '.join(others[:3])}",
    )


def _sizes_known(mirror: MirrorReport) -> bool:
    return bool(mirror.files) and all(name in mirror.sizes for name in mirror.files)


def _key(key: str | None, target: Release) -> UpgradeCheck:
    wanted = target.keys.base.key
    place = f"/etc/signify/openbsd-{target.digits}-base.pub"
    if key is None:
        text, remedy = f"{place}: is not there", "the base set brings it: is this server whole?"
    else:
        text = f"{place}: is another key than obsdimg knows for {target.version}"
        remedy = "somebody changed it there, or the release file is wrong: do not upgrade"
    good = f"{place}: the one that obsdimg knows"
    return _check("key", key == wanted, good if key == wanted else text, remedy)


def needed_room(report: UpgradeReport) -> dict[str, int]:
    """Bytes that the upgrade takes below each folder, at most."""
    mirror = report.mirror
    known = _sizes_known(mirror)
    total = sum(mirror.sizes.values()) if known else UNKNOWN_SETS
    kernels = sum(mirror.sizes.get(name, 0) for name in ("bsd", "bsd.mp", "bsd.rd"))
    ramdisk = mirror.sizes.get("bsd.rd", 0)
    need = {
        "/home": max(total - report.downloaded * 1024, 0) + SPARE // 4,
        "/": (kernels + ramdisk if known else SPARE) + SPARE // 2,
        "/var": SPARE,
        "/tmp": SPARE // 4,  # noqa: S108
        "/usr": SPARE,
        "/usr/X11R6": 0,
    }
    for name in mirror.files:
        stem = re.sub(r"\d+\.tgz$", "", name)
        if stem == name:
            continue
        there = stem == "base" or stem in report.sets
        share = int(mirror.sizes.get(name, 0) * (GROWTH if there else UNPACKED))
        need[_PLACES["x" if stem.startswith("x") else ""]] += share
    if not known:
        need["/usr"] += 300 * MIB
    return need


def _room(report: UpgradeReport) -> list[UpgradeCheck]:
    """A line for each file system that gets something."""
    wanted: dict[str, int] = {}
    free: dict[str, int] = {}
    for folder, size in needed_room(report).items():
        room = report.room.get(folder)
        if room is None:  # a folder that is not there lies in the one above
            room = report.room.get("/usr" if folder.startswith("/usr/") else "/")
        if room is None:
            continue
        wanted[room.mounted] = wanted.get(room.mounted, 0) + size
        free[room.mounted] = room.free * 1024
    if not wanted:
        return [
            UpgradeCheck("room", CheckMark.FAILED, "df tells nothing", "look there: obsdimg ssh df")
        ]
    return [
        _check(
            "room",
            free[mounted] >= size,
            f"{mounted}: {free[mounted] / MIB:,.0f} MB free, {size / MIB:,.0f} MB needed at most",
            f"make room: obsdimg ssh 'doas du -xk {mounted} | sort -n | tail'",
        )
        for mounted, size in sorted(wanted.items())
    ]


def _files(change: Change) -> list[UpgradeCheck]:
    if change.empty:
        return [UpgradeCheck("files", CheckMark.OK, "as in the project")]
    if change.by_hand:
        text = f"changed there, not by obsdimg: {', '.join(change.by_hand)}"
    else:
        count = len(change.files)
        text = f"{count} file{'s are' if count != 1 else ' is'} not as in the project"
    return [
        UpgradeCheck("files", CheckMark.FAILED, text, "obsdimg apply shows it, and makes them one")
    ]


def _findings(findings: Sequence[Finding]) -> list[UpgradeCheck]:
    """What `status` finds, as far as it is in the way."""
    lines = [
        UpgradeCheck(
            one.topic,
            CheckMark.FAILED if one.level is Level.BAD or one.topic == "clock" else CheckMark.NOTE,
            one.text,
            one.remedy,
        )
        for one in findings
        if one.level >= Level.WARN
        and one.topic not in (*_WAITED_FOR, "kernel")
        and not (one.topic == "disk" and one.level is Level.WARN)
    ]
    return lines or [UpgradeCheck("state", CheckMark.OK, "nothing that `obsdimg status` calls bad")]


def _packages(report: UpgradeReport, files: ReleaseFiles) -> list[UpgradeCheck]:
    lines = []
    if files.switches:
        was, now = files.before.tunnel.interface, files.after.tunnel.interface
        lines.append(
            UpgradeCheck(
                "WireGuard",
                CheckMark.NOTE,
                f"moves from wireguard-go ({was}) into the kernel ({now}) with the same keys and"
                " port, after the upgrade; no client needs a new file",
            )
        )
    if words := files.in_words():
        lines.append(UpgradeCheck("new release", CheckMark.NOTE, f"files there: {words}"))
    count = len(report.packages)
    text = f"{count} installed; pkg_add -u brings those of the new release" if count else "none"
    lines.append(UpgradeCheck("packages", CheckMark.OK, text))
    return lines


# ---- afterwards


@dataclass(frozen=True)
class Afterwards:
    """What the checks after an upgrade look at."""

    report: UpgradeReport
    state: ServerState
    expected: ExpectedServer
    target: str
    inside: Mapping[str, tuple[bool, str]]
    """The questions of the smoke test: whether the answer was right, and what it was."""
    hygiene: Sequence[str]
    """Those of them that say nothing about the upgrade."""
    asked: float
    answered: float


def check_afterwards(seen: Afterwards) -> list[UpgradeCheck]:
    """Every line; what is FAILED leaves the project at the old release."""
    report, state = seen.report, seen.state
    running, installed = state.running or "", (state.installed or "").strip()
    findings = judge(state, seen.expected, seen.asked, seen.answered)
    lines = [
        _check("release", report.release == seen.target, f"runs {report.release}"),
        _check(
            "kernel",
            running.startswith(f"OpenBSD {seen.target} ") and running.startswith(installed),
            printable(running.partition(": ")[0]),
            f"installed is {printable(installed)}: restart it once more (obsdimg ssh doas reboot)",
        ),
        _check(
            "first start",
            not report.first_start,
            "what runs once is through" if not report.first_start else "rc.firsttime still runs",
            "obsdimg upgrade again when it has ended: obsdimg ssh 'ls /etc/rc.firsttime*'",
        ),
    ]
    for name, (good, answer) in seen.inside.items():
        bad = CheckMark.NOTE if name in seen.hygiene else CheckMark.FAILED
        lines.append(
            UpgradeCheck("inside", CheckMark.OK, name)
            if good
            else UpgradeCheck(
                "inside",
                bad,
                f"not so: {name} ({printable(answer) or 'no answer'})",
                "look there: obsdimg ssh; obsdimg status shows more",
            )
        )
    lines += [
        UpgradeCheck(one.topic, CheckMark.FAILED, one.text, one.remedy)
        for one in findings
        if one.level is Level.BAD and one.topic not in ("support", "boot area", "disk")
    ]
    by_hand = [one for one in findings if one.topic in ("changed there", "project")]
    lines.append(
        _check(
            "files",
            not by_hand,
            "; ".join(one.text for one in by_hand) or "obsdimg's are as they were",
            "obsdimg apply makes them so; then obsdimg upgrade again",
        )
    )
    if report.leftovers:
        lines.append(
            UpgradeCheck(
                "sysmerge",
                CheckMark.NOTE,
                f"left for you: {', '.join(printable(one) for one in report.leftovers[:8])}",
                "it asks what to do with each: obsdimg ssh, then doas sysmerge",
            )
        )
    else:
        lines.append(UpgradeCheck("sysmerge", CheckMark.OK, "merged all by itself"))
    return lines
