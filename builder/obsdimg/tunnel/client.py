"""The calling side of a tunnel: handshakes with retries and cookies, over a Link.

Timers as the paper has them (section 6.1), except that the first two retries come sooner:
a probe is watched by somebody.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Final

from obsdimg.tunnel.errors import HandshakeError, MessageError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.link import Event, Link, Refused, Unreachable
from obsdimg.tunnel.messages import CookieReply, Response, parse
from obsdimg.tunnel.noise import (
    Clock,
    InitiatorHandshake,
    UnreadableResponseError,
    open_cookie,
    with_mac2,
)
from obsdimg.tunnel.session import Session

RETRY_SECONDS: Final = (1.0, 2.0)
REKEY_TIMEOUT_SECONDS: Final = 5.0
COOKIE_SECONDS: Final = 120.0
AFTER_COOKIE_SECONDS: Final = 0.25
"""A responder takes no more than 50 initiations a second of one client (wireguard-go)."""
UNREADABLE_ENOUGH: Final = 2
"""So many unreadable responses in a row settle that the pre-shared keys differ."""


@dataclass
class HandshakeLog:
    """What happened while a client called; counts of datagrams."""

    attempts: int = 0
    seconds: float | None = None
    """Round trip of the attempt that was answered; None: none was."""
    cookies: int = 0
    unreadable: int = 0
    refused: int = 0
    strange: int = 0
    """Datagrams that were no answer to us."""
    unreachable: str | None = None
    address: str | None = None
    """The server's address that answered."""


@dataclass(frozen=True)
class Identity:
    """Who calls whom."""

    private: WgPrivateKey
    server: WgPublicKey
    preshared: PresharedKey | None = None


@dataclass
class HandshakeAttempt:
    """An initiation that was sent; `which`: to which of the server's addresses."""

    handshake: InitiatorHandshake
    mac1: bytes
    which: int
    sent: float


@dataclass
class Caller:
    """One client on one link.  `which` is the server's address in use after a handshake."""

    link: Link
    identity: Identity
    log: HandshakeLog = field(default_factory=HandshakeLog)
    which: int = 0
    _clock: Clock = field(default_factory=Clock)
    _cookies: dict[int, tuple[float, bytes]] = field(default_factory=dict)
    _no_way: dict[int, str] = field(default_factory=dict)

    def handshake(self, deadline: float) -> Session | None:
        """A new session, or None at the deadline (seconds of `time.monotonic`).

        Each retry is a fresh initiation with a later timestamp; the server's addresses
        take turns.  Only the answer to the latest counts: with each initiation that it takes
        the server forgets the session that it had offered before.  Gives up early when two
        responses in a row cannot be read.
        """
        attempts: dict[int, HandshakeAttempt] = {}
        unreadable = 0
        for number, wait in enumerate(chain(RETRY_SECONDS, repeat(REKEY_TIMEOUT_SECONDS))):
            usable = self.link.usable()
            until = deadline
            if usable and time.monotonic() < deadline:
                attempt = self.call(usable[number % len(usable)])
                attempts = {attempt.handshake.index: attempt}
                until = min(deadline, attempt.sent + wait)
            while (event := self.link.receive(until)) is not None:
                outcome = self.read(event, attempts)
                if isinstance(outcome, Session):
                    return outcome
                unreadable += outcome == "unreadable"
                if unreadable >= UNREADABLE_ENOUGH:
                    return None
                if outcome is not None:
                    until = min(until, time.monotonic() + AFTER_COOKIE_SECONDS)
                if len(self._no_way) == len(self.link.addresses):
                    self.log.unreachable = self._no_way[0]
                    if not usable:
                        return None
            if time.monotonic() >= deadline:
                return None
        return None

    def call(self, which: int) -> HandshakeAttempt:
        """Send a fresh initiation to the server's address number `which`."""
        handshake = InitiatorHandshake(
            self.identity.private,
            self.identity.server,
            self.identity.preshared,
            self._clock.stamp(),
        )
        message = handshake.initiation
        now = time.monotonic()
        born, cookie = self._cookies.get(which, (0.0, b""))
        if cookie and now - born < COOKIE_SECONDS:
            message = with_mac2(message, cookie)
        self.link.send(which, message.pack())
        self.log.attempts += 1
        return HandshakeAttempt(handshake, message.mac1, which, now)

    def read(self, event: Event, attempts: dict[int, HandshakeAttempt]) -> Session | str | None:
        """A session; "unreadable" or "cookie", which call for another attempt; or None."""
        if isinstance(event, Refused):
            self.log.refused += 1
            return None
        if isinstance(event, Unreachable):
            self._no_way[event.which] = event.reason
            return None
        self._no_way.pop(event.which, None)
        try:
            message = parse(event.datagram)
        except MessageError:
            self.log.strange += 1
            return None
        if not isinstance(message, Response | CookieReply):
            self.log.strange += 1
            return None
        attempt = attempts.get(message.receiver)
        if attempt is None or attempt.which != event.which:
            self.log.strange += 1
            return None
        try:
            if isinstance(message, CookieReply):
                cookie = open_cookie(message, attempt.mac1, self.identity.server)
                self._cookies[event.which] = (time.monotonic(), cookie)
                self.log.cookies += 1
                return "cookie"
            keys = attempt.handshake.finish(message)
        except UnreadableResponseError:
            self.log.unreadable += 1
            return "unreadable"
        except HandshakeError:
            self.log.strange += 1
            return None
        now = time.monotonic()
        self.log.seconds = now - attempt.sent
        self.log.address = str(self.link.addresses[event.which])
        self.which = event.which
        return Session(keys, now)
