"""A server's state for people, for JSON, and for a node exporter of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from obsdimg.core.errors import printable
from obsdimg.server.findings import ExpectedServer, Finding, Level, peer_names
from obsdimg.server.state import PeerState, ServerState

QUIET_SECONDS: Final = 180
"""A session is renewed every two minutes; after three without a handshake there is none."""
_MARKS: Final = {Level.FINE: "ok", Level.NOTE: "note", Level.WARN: "warn", Level.BAD: "BAD"}


def worst(findings: Sequence[Finding]) -> Level:
    return max((one.level for one in findings), default=Level.FINE)


def screen(
    name: str, state: ServerState, expected: ExpectedServer, findings: Sequence[Finding]
) -> str:
    """One screen: what is wrong first, then who is connected, then numbers."""
    head = f"{name}  OpenBSD {state.release or '?'}"
    if state.booted is not None and state.clock is not None:
        head += f", up {_days(state.clock - state.booted)}"
    if state.load:
        head += f", load {state.load}"
    level = worst(findings)
    lines = [head, f"{_MARKS[level]}: {_summary(findings)}"]
    for one in findings:
        lines.append(f"  {_MARKS[one.level]:4} {one.topic}: {one.text}")
        if one.remedy:
            lines.append(f"       -> {one.remedy}")
    lines += ["", *_peer_table(state.peers or (), expected.peers)]
    lines += ["", *_numbers(state, expected)]
    return "\n".join(printable(line) for line in lines)


def _summary(findings: Sequence[Finding]) -> str:
    count = {level: sum(one.level is level for one in findings) for level in Level}
    if worst(findings) <= Level.NOTE:
        return "nothing to do"
    parts = [
        f"{count[level]} {word}"
        for level, word in ((Level.BAD, "to act on now"), (Level.WARN, "to act on soon"))
        if count[level]
    ]
    return ", ".join(parts)


def _peer_table(peers: Sequence[PeerState], known: Mapping[str, str]) -> list[str]:
    names = peer_names(peers, known)
    rows = [("peer", "handshake", "from", "received", "sent")]
    for peer in sorted(peers, key=lambda one: (one.handshake is None, one.handshake or 0)):
        seen = "never" if peer.handshake is None else f"{_ago(peer.handshake)} ago"
        if peer.handshake is not None and peer.handshake < QUIET_SECONDS:
            seen += " *"
        rows.append(
            (
                names[peer.public_key],
                seen,
                peer.endpoint or "-",
                _bytes(peer.received),
                _bytes(peer.sent),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _numbers(state: ServerState, expected: ExpectedServer) -> list[str]:
    missing = "not known" if state.missing is None else str(len(state.missing))
    packages = "not known" if state.packages is None else str(len(state.packages))
    lines = [
        f"patches   {len(state.patches)} installed; missing: {missing}; packages to update:"
        f" {packages}",
        f"support   until {expected.support.until}"
        if expected.support.ended is None
        else f"support   ended {expected.support.ended}",
    ]
    if state.disks:
        parts = [f"{disk.mounted} {disk.part:.0%}" for disk in state.disks]
        lines.append(f"disk      {', '.join(parts)}")
    if state.pf_states is not None:
        lines.append(f"pf        {state.pf_states} states, limit {state.pf_limit or '?'}")
    area = "not seen" if state.boot_area is None else state.boot_area[:16]
    volume = f"{state.volume}, " if state.volume else ""
    lines.append(f"volume    {volume}boot area {area}")
    if state.upkeep:
        lines.append(f"upkeep    {state.upkeep[-1][:70]}")
    return lines


def as_dict(
    name: str, state: ServerState, expected: ExpectedServer, findings: Sequence[Finding]
) -> dict[str, Any]:
    """Plain values for JSON."""
    names = peer_names(state.peers or (), expected.peers)
    up = None if None in (state.booted, state.clock) else (state.clock or 0) - (state.booted or 0)
    return {
        "name": name,
        "level": worst(findings).name.lower(),
        "findings": [
            {"level": f.level.name.lower(), "topic": f.topic, "text": f.text, "remedy": f.remedy}
            for f in findings
        ],
        "release": state.release,
        "up_seconds": up,
        "kernel": {"running": state.running, "installed": state.installed},
        "port": state.port,
        "peers": [
            {
                "name": names[peer.public_key],
                "public_key": peer.public_key,
                "endpoint": peer.endpoint,
                "handshake_seconds_ago": peer.handshake,
                "received_bytes": peer.received,
                "sent_bytes": peer.sent,
            }
            for peer in state.peers or ()
        ],
        "patches": {
            "installed": list(state.patches),
            "missing": None if state.missing is None else list(state.missing),
        },
        "packages_to_update": None if state.packages is None else list(state.packages),
        "pf": {"enabled": state.pf_enabled, "states": state.pf_states, "limit": state.pf_limit},
        "disks": [{"mounted": d.mounted, "kib": d.size, "used_kib": d.used} for d in state.disks],
        "services_failed": list(state.failed),
        "boot_area_sha256": state.boot_area,
        "support_ended": expected.support.ended,
    }


def prometheus(
    name: str, state: ServerState, expected: ExpectedServer, findings: Sequence[Finding]
) -> str:
    """Prometheus' text format, for a node exporter's textfile folder."""
    out: list[str] = []
    server = f'server="{_label(name)}"'

    def metric(name: str, kind: str, help: str, values: Sequence[tuple[str, float | int]]) -> None:
        if not values:
            return
        out.append(f"# HELP obsdimg_{name} {help}")
        out.append(f"# TYPE obsdimg_{name} {kind}")
        for labels, value in values:
            more = f",{labels}" if labels else ""
            out.append(f"obsdimg_{name}{{{server}{more}}} {value}")

    def maybe(value: float | int | None) -> list[tuple[str, float | int]]:
        return [] if value is None else [("", value)]

    names = peer_names(state.peers or (), expected.peers)
    peers = [(f'peer="{_label(names[p.public_key])}"', p) for p in state.peers or ()]
    metric(
        "findings",
        "gauge",
        "What wants attention, by level.",
        [
            (f'level="{level.name.lower()}"', sum(f.level is level for f in findings))
            for level in (Level.NOTE, Level.WARN, Level.BAD)
        ],
    )
    metric("up_seconds", "gauge", "Seconds since the start.", maybe(_up(state)))
    metric(
        "peer_handshake_age_seconds",
        "gauge",
        "Seconds since the peer's last handshake.",
        [(label, p.handshake) for label, p in peers if p.handshake is not None],
    )
    metric(
        "peer_received_bytes_total",
        "counter",
        "Bytes that came from the peer.",
        [(label, p.received) for label, p in peers],
    )
    metric(
        "peer_sent_bytes_total",
        "counter",
        "Bytes that went to the peer.",
        [(label, p.sent) for label, p in peers],
    )
    missing = None if state.missing is None else len(state.missing)
    packages = None if state.packages is None else len(state.packages)
    metric("patches_missing", "gauge", "Patches that the mirror has.", maybe(missing))
    metric("packages_outdated", "gauge", "Packages with a newer version.", maybe(packages))
    metric("pf_states", "gauge", "States of the firewall.", maybe(state.pf_states))
    metric(
        "disk_used_ratio",
        "gauge",
        "Part of a file system that is in use.",
        [(f'mounted="{_label(d.mounted)}"', round(d.part, 4)) for d in state.disks],
    )
    return "\n".join(out) + "\n"


def _up(state: ServerState) -> int | None:
    if state.booted is None or state.clock is None:
        return None
    return state.clock - state.booted


def _label(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')


def _ago(seconds: int) -> str:
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {word}"
    return f"{seconds} s"


def _days(seconds: int) -> str:
    return f"{seconds // 86400} days" if seconds >= 2 * 86400 else _ago(max(seconds, 0))


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
