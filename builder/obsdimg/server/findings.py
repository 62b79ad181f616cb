"""What of a server's state wants attention: pure, from its report and the project's plan."""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from obsdimg.releases.support import Support
from obsdimg.server.state import PeerState, ServerState

CLOCK_SECONDS: Final = 60
CLOCK_BAD_SECONDS: Final = 86400
DISK_WARN, DISK_BAD = 0.85, 0.95
STATES_WARN = 0.8


class Level(enum.IntEnum):
    """How bad it is; the exit status follows the worst."""

    FINE = 0
    NOTE = 1
    """Worth knowing; nothing to do."""
    WARN = 2
    """Somebody should act soon."""
    BAD = 3
    """Somebody should act now."""


@dataclass(frozen=True)
class Finding:
    """One sentence, and what to do about it."""

    level: Level
    topic: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class ExpectedServer:
    """What the project says the server should be."""

    release: str
    support: Support
    port: int
    peers: Mapping[str, str]
    """Names by public key."""
    files: Mapping[str, str]
    """SHA-256 by path, of the files that obsdimg keeps."""
    applied: Mapping[str, str]
    """SHA-256 by path as obsdimg wrote them last; empty: not known."""
    boot_area: str | None
    """Its hash when this project saw it first."""
    encrypted: bool


def judge(
    state: ServerState, expected: ExpectedServer, asked: float, answered: float
) -> list[Finding]:
    """Everything worth a line, worst first.

    `asked` and `answered`: this host's clock, seconds since 1970, around the report; a slow
    server's clock is somewhere in between.
    """
    findings = [
        *_updates(state),
        *_kernel(state),
        *_release(state, expected),
        *_peers(state, expected),
        *_firewall(state),
        *_disks(state),
        *_disk_secrets(state, expected),
        *_differences(state, expected),
        *_clock(state, asked, answered),
    ]
    if state.failed:
        findings.append(
            Finding(
                Level.BAD,
                "services",
                f"not running: {', '.join(state.failed)}",
                f"obsdimg ssh 'doas rcctl restart {state.failed[0]}'",
            )
        )
    return sorted(findings, key=lambda one: -one.level)


def _updates(state: ServerState) -> list[Finding]:
    found = []
    if state.missing is None:
        found.append(Finding(Level.NOTE, "patches", "whether patches are missing is not known"))
    elif state.missing:
        found.append(
            Finding(
                Level.WARN,
                "patches",
                f"{len(state.missing)} missing: {', '.join(state.missing[:4])}",
                "obsdimg ssh doas syspatch",
            )
        )
    if state.packages:
        found.append(
            Finding(
                Level.WARN,
                "packages",
                f"{len(state.packages)} to update: {', '.join(state.packages[:4])}",
                "obsdimg ssh doas pkg_add -u",
            )
        )
    return found


def _kernel(state: ServerState) -> list[Finding]:
    """The running kernel calls itself as /bsd does, up to the date of its build."""
    if not state.running or not state.installed:
        return []
    if state.running.startswith(state.installed.strip()):
        return []
    return [
        Finding(
            Level.WARN,
            "kernel",
            f"runs {_kernel_name(state.running)}, installed is {_kernel_name(state.installed)}",
            "restart it (an encrypted disk waits for its passphrase): obsdimg ssh doas reboot",
        )
    ]


def _kernel_name(text: str) -> str:
    match = re.match(r"OpenBSD (\S+) (\(\S+\) #\d+)", text)
    return f"{match[1]} {match[2]}" if match else text[:40]


def _release(state: ServerState, expected: ExpectedServer) -> list[Finding]:
    found = []
    if state.release and state.release != expected.release:
        found.append(
            Finding(
                Level.WARN,
                "release",
                f"runs {state.release}, the project says {expected.release}",
                "obsdimg upgrade, if it was upgraded there: it does what is left",
            )
        )
    if expected.support.ended is not None and state.release in (None, expected.release):
        sentence = expected.support.sentence or ""
        found.append(
            Finding(Level.BAD, "support", sentence, "obsdimg upgrade, or build the newest release")
        )
    return found


def _peers(state: ServerState, expected: ExpectedServer) -> list[Finding]:
    if state.peers is None:
        return [Finding(Level.BAD, "tunnel", "WireGuard tells nothing", "look at its interface")]
    there = {peer.public_key for peer in state.peers}
    missing = [name for key, name in expected.peers.items() if key not in there]
    strangers = [key[:8] for key in there if key not in expected.peers]
    found = []
    if missing:
        found.append(
            Finding(
                Level.WARN, "peers", f"not on the server: {', '.join(missing)}", "obsdimg apply"
            )
        )
    if strangers:
        found.append(
            Finding(
                Level.BAD,
                "peers",
                f"on the server, and not of this project: {', '.join(sorted(strangers))}",
                "obsdimg apply removes them; if nobody added them, ask who could",
            )
        )
    if state.port is not None and state.port != expected.port:
        found.append(
            Finding(
                Level.BAD,
                "tunnel",
                f"WireGuard is on port {state.port}, the project says {expected.port}",
                "obsdimg apply",
            )
        )
    return found


def _firewall(state: ServerState) -> list[Finding]:
    if state.pf_enabled is False:
        return [Finding(Level.BAD, "pf", "the firewall is off", "obsdimg ssh doas pfctl -e")]
    if state.pf_enabled is None:
        return [Finding(Level.BAD, "pf", "the firewall tells nothing", "look at pfctl -s info")]
    if state.pf_states and state.pf_limit and state.pf_states > STATES_WARN * state.pf_limit:
        return [
            Finding(
                Level.WARN,
                "pf",
                f"{state.pf_states} of {state.pf_limit} states are in use",
                "set limit states in pf.conf, or find who makes them",
            )
        ]
    return []


def _disks(state: ServerState) -> list[Finding]:
    return [
        Finding(
            Level.BAD if disk.part >= DISK_BAD else Level.WARN,
            "disk",
            f"{disk.mounted} is {disk.part:.0%} full",
            f"obsdimg ssh 'doas du -xk {disk.mounted} | sort -n | tail'",
        )
        for disk in state.disks
        if disk.part >= DISK_WARN
    ]


def _disk_secrets(state: ServerState, expected: ExpectedServer) -> list[Finding]:
    found = []
    if expected.encrypted and not state.encrypted:
        found.append(
            Finding(Level.BAD, "encryption", "there is no encrypted volume", "install it anew")
        )
    elif state.volume is not None and state.volume != "Online":
        found.append(Finding(Level.BAD, "encryption", f"the volume is {state.volume}"))
    if expected.boot_area and state.boot_area and expected.boot_area != state.boot_area:
        found.append(
            Finding(
                Level.BAD,
                "boot area",
                "the part of the disk that is in clear has changed: a boot loader could now ask"
                " for the passphrase and keep it",
                "an upgrade or a patch of the boot blocks explains it: then obsdimg status"
                " --accept-boot-area; else do not type the passphrase there again",
            )
        )
    return found


def _differences(state: ServerState, expected: ExpectedServer) -> list[Finding]:
    """Files that are not as the project would write them; and those that a hand has changed."""
    other: list[str] = []
    by_hand: list[str] = []
    for path, planned in expected.files.items():
        there = state.files.get(path)
        if there is None or there.sha256 == planned:
            continue
        applied = expected.applied.get(path)
        (by_hand if applied and there.sha256 != applied else other).append(path)
    found = []
    if by_hand:
        found.append(
            Finding(
                Level.WARN,
                "changed there",
                f"not as obsdimg left it: {', '.join(by_hand)}",
                "obsdimg apply shows the difference",
            )
        )
    if other:
        found.append(
            Finding(
                Level.WARN, "project", f"not as in the project: {', '.join(other)}", "obsdimg apply"
            )
        )
    return found


def _clock(state: ServerState, asked: float, answered: float) -> list[Finding]:
    if state.clock is None:
        return []
    off = max(asked - state.clock, state.clock - answered, 0.0)
    if off < CLOCK_SECONDS:
        return []
    shown = datetime.timedelta(seconds=round(off))
    return [
        Finding(
            Level.BAD if off >= CLOCK_BAD_SECONDS else Level.WARN,
            "clock",
            f"the server's and this computer's are {shown} apart",
            "one that is behind is refused by WireGuard and by certificates: check both",
        )
    ]


def peer_names(peers: Sequence[PeerState], known: Mapping[str, str]) -> dict[str, str]:
    """What to call each peer, by public key: its name, or the key's first eight characters."""
    return {
        peer.public_key: known.get(peer.public_key, f"unknown-{peer.public_key[:8]}")
        for peer in peers
    }
