"""What a probe found: numbers, one verdict, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from obsdimg.tunnel.client import HandshakeLog
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.ip import Address


class Role(StrEnum):
    """Why an address is pinged."""

    SERVER = "server"
    """The server's own address in the tunnel."""
    OUTSIDE = "outside"
    """An address beyond the server, reached by its forwarding and NAT."""


class ProbeVerdict(StrEnum):
    """How far the probe came; each has its sentence and its remedy in this module."""

    WORKS = "works"
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    PORT_CLOSED = "port-closed"
    NO_ANSWER = "no-answer"
    UNDER_LOAD = "under-load"
    WRONG_PRESHARED_KEY = "wrong-preshared-key"
    NO_REPLY = "no-reply"
    SERVER_SILENT = "server-silent"
    NO_FORWARDING = "no-forwarding"
    REJECTED = "rejected"


@dataclass(frozen=True)
class TargetReport:
    """The pings to one address; times in milliseconds."""

    address: Address
    role: Role
    sent: int
    rtts_ms: tuple[float, ...]
    """One for each request answered, in the order of the answers."""
    duplicates: int = 0
    error: str | None = None
    """The last ICMP error about it, e.g. `host unreachable (from 10.0.0.1)`."""

    @property
    def received(self) -> int:
        return len(self.rtts_ms)

    @property
    def loss(self) -> float:
        """The part of the requests that was not answered, 0.0 to 1.0."""
        return 1.0 - self.received / self.sent if self.sent else 1.0

    def as_dict(self) -> dict[str, Any]:
        rtts = self.rtts_ms
        return {
            "address": str(self.address),
            "role": self.role.value,
            "sent": self.sent,
            "received": self.received,
            "duplicates": self.duplicates,
            "loss": round(self.loss, 4),
            "rtt_ms": {
                "min": round(min(rtts), 3),
                "avg": round(sum(rtts) / len(rtts), 3),
                "max": round(max(rtts), 3),
            }
            if rtts
            else None,
            "error": self.error,
        }

    def line(self) -> str:
        """One line for people."""
        text = f"{self.address} ({self.role}): {self.received} of {self.sent} answered"
        rtts = self.rtts_ms
        if rtts:
            average = sum(rtts) / len(rtts)
            text += f", {min(rtts):.1f}/{average:.1f}/{max(rtts):.1f} ms min/avg/max"
        if self.duplicates:
            text += f", {self.duplicates} duplicates"
        if self.error:
            text += f", {self.error}"
        return text


@dataclass(frozen=True)
class ProbeResult:
    """Everything that a probe found.  Holds no key."""

    verdict: ProbeVerdict
    endpoint: Endpoint
    handshake: HandshakeLog
    targets: tuple[TargetReport, ...] = ()
    detail: str | None = None
    """The system's words where a name or a route is missing."""

    @property
    def works(self) -> bool:
        return self.verdict is ProbeVerdict.WORKS

    @property
    def message(self) -> str:
        """The verdict in one line."""
        silent = [str(t.address) for t in self.targets if not t.received]
        values = {
            "endpoint": self.endpoint,
            "host": self.endpoint.host,
            "detail": self.detail,
            "attempts": self.handshake.attempts,
            "silent": " and ".join(silent),
            "errors": "; ".join(f"{t.address}: {t.error}" for t in self.targets if t.error),
        }
        return _MESSAGES[self.verdict].format_map(values)

    @property
    def hint(self) -> str | None:
        """What to look at; None where it works."""
        return _HINTS.get(self.verdict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        log = self.handshake
        return {
            "verdict": self.verdict.value,
            "works": self.works,
            "message": self.message,
            "hint": self.hint,
            "endpoint": str(self.endpoint),
            "address": log.address,
            "handshake": {
                "ms": None if log.seconds is None else round(log.seconds * 1000, 3),
                "attempts": log.attempts,
                "cookies": log.cookies,
                "unreadable": log.unreadable,
                "refused": log.refused,
                "strange": log.strange,
            },
            "targets": [target.as_dict() for target in self.targets],
        }


def judge_handshake(log: HandshakeLog) -> ProbeVerdict:
    """The verdict where no session came about, from what arrived instead."""
    if log.unreadable:
        return ProbeVerdict.WRONG_PRESHARED_KEY
    if log.cookies:
        return ProbeVerdict.UNDER_LOAD
    if log.refused:
        return ProbeVerdict.PORT_CLOSED
    if log.unreachable:
        return ProbeVerdict.UNREACHABLE
    return ProbeVerdict.NO_ANSWER


def judge_targets(targets: tuple[TargetReport, ...]) -> ProbeVerdict:
    """The verdict on a session, from the pings: every address has to answer at least once."""
    silent = [target for target in targets if not target.received]
    if not silent:
        return ProbeVerdict.WORKS
    if all(target.error for target in silent):
        return ProbeVerdict.REJECTED
    if len(silent) == len(targets):
        return ProbeVerdict.NO_REPLY
    if any(target.role is Role.SERVER for target in silent):
        return ProbeVerdict.SERVER_SILENT
    return ProbeVerdict.NO_FORWARDING


_MESSAGES: Final = {
    ProbeVerdict.WORKS: "{endpoint}: the tunnel works",
    ProbeVerdict.UNRESOLVED: "{detail}",
    ProbeVerdict.UNREACHABLE: "{endpoint}: no way to it from here: {detail}",
    ProbeVerdict.PORT_CLOSED: "{endpoint}: the machine answers, but nothing listens on this"
    " UDP port",
    ProbeVerdict.NO_ANSWER: "{endpoint}: no answer to {attempts} handshakes",
    ProbeVerdict.UNDER_LOAD: "{endpoint}: the server answers with cookies only: it is under load",
    ProbeVerdict.WRONG_PRESHARED_KEY: "{endpoint}: the server answers, with another pre-shared key",
    ProbeVerdict.NO_REPLY: "{endpoint}: the handshake succeeds, but nothing in the tunnel answers:"
    " {silent}",
    ProbeVerdict.SERVER_SILENT: "{endpoint}: the tunnel carries packets, but {silent} does not"
    " answer",
    ProbeVerdict.NO_FORWARDING: "{endpoint}: the tunnel works as far as the server; nothing from"
    " {silent}",
    ProbeVerdict.REJECTED: "{endpoint}: packets in the tunnel are refused: {errors}",
}

_HINTS: Final = {
    ProbeVerdict.UNRESOLVED: "check the name, or give the server's address with --endpoint",
    ProbeVerdict.UNREACHABLE: "check this machine's network; an IPv6 address needs IPv6 here",
    ProbeVerdict.PORT_CLOSED: "is the port right, and does WireGuard run there (6.6 and 6.7: rcctl"
    " check obsdimg_wg)? It holds the port only while its interface is up",
    ProbeVerdict.NO_ANSWER: "WireGuard is silent towards strangers: a filter on the way, the wrong"
    " server key, a client key that the server does not know, or a clock behind the client's"
    " last use all look like this",
    ProbeVerdict.UNDER_LOAD: "try again in a minute; if it stays, somebody floods the port",
    ProbeVerdict.WRONG_PRESHARED_KEY: "write the same pre-shared key on both sides, or none on"
    " either",
    ProbeVerdict.NO_REPLY: "does the server have this client's address in its AllowedIPs, its own"
    " address on the interface, and pass rules for the interface in pf.conf?",
    ProbeVerdict.SERVER_SILENT: "does pf.conf pass echo requests to the server's tunnel address,"
    " and does the interface have it?",
    ProbeVerdict.NO_FORWARDING: "check net.inet.ip.forwarding (IPv6: net.inet6.ip6.forwarding),"
    " the nat-to rule and the pass rules of pf.conf, and that the address answers pings at all",
    ProbeVerdict.REJECTED: "a router behind the tunnel, or pf with block return, refuses them:"
    " check routes and pass rules",
}
