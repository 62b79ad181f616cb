"""IP packets over WireGuard for hours: sessions that renew themselves while packets flow.

The calling side of the timers in the WireGuard paper, section 6, without threads and without
waiting: the owner of the loop hands in what came (`read`), asks what the clock demands
(`deadline`, `tick`), and sends (`send`).  Times are seconds of `time.monotonic`.
"""

from __future__ import annotations

import random
from typing import Final

from obsdimg.tunnel.client import REKEY_TIMEOUT_SECONDS, Caller, HandshakeAttempt
from obsdimg.tunnel.errors import HandshakeError, MessageError
from obsdimg.tunnel.link import Event, Received
from obsdimg.tunnel.messages import CookieReply, Initiation, Response, Transport, parse
from obsdimg.tunnel.noise import has_mac1
from obsdimg.tunnel.session import REKEY_AFTER_SECONDS, Session

KEEPALIVE_SECONDS: Final = 10.0
"""What came is acknowledged by an empty message, if by nothing else, after so long."""
SILENCE_SECONDS: Final = KEEPALIVE_SECONDS + REKEY_TIMEOUT_SECONDS
"""No answer for so long: the server has forgotten the session, or we have moved."""
JITTER_SECONDS: Final = 0.334


class Carrier:
    """Packets in both directions over the sessions of one caller."""

    def __init__(self, caller: Caller, session: Session, now: float, keepalive: float) -> None:
        """`session`: the caller's first; `keepalive`: seconds between messages, 0: only those
        that are due anyway (a filter or NAT on the way forgets an idle tunnel)."""
        self._caller: Final = caller
        self._session = session
        self._previous: Session | None = None
        self._every: Final = keepalive
        self._attempts: dict[int, HandshakeAttempt] = {}
        """The latest alone: whatever was offered before it the server has forgotten."""
        self._turn = 0
        self._retry_at: float | None = None
        self._sent = now
        self._unanswered: float | None = None
        """Since when something was sent that nothing has answered."""
        self._owed: float | None = None
        """Since when something has come that nothing sent has acknowledged."""
        self.handshakes = 1
        self._emit(b"", now)  # the server uses a session after its first message only

    def send(self, packet: bytes, now: float) -> None:
        """Send an IP packet; it is lost where no session is left, as on any network."""
        self._emit(packet, now)
        if self._unanswered is None:
            self._unanswered = now

    def _emit(self, packet: bytes, now: float) -> None:
        if self._session.expired(now):
            self.renew(now)
            return
        try:
            datagram = self._session.wrap(packet)
        except MessageError:
            self.renew(now)
            return
        self._caller.link.send(self._caller.which, datagram)
        self._sent = now
        self._owed = None

    def read(self, event: Event, now: float) -> bytes | None:
        """The IP packet in what came, padding included; None: there is none."""
        if not isinstance(event, Received):
            return None
        try:
            message = parse(event.datagram)
        except MessageError:
            return None
        if isinstance(message, Transport):
            return self._open(message, now)
        if isinstance(message, Response | CookieReply):
            self._answer(event, now)
        own = self._caller.identity.private.public()
        if isinstance(message, Initiation) and has_mac1(message, own):
            # The server calls us: it has lost the session. We call back.
            self.renew(now)
        return None

    def _open(self, message: Transport, now: float) -> bytes | None:
        session = self._session
        if message.receiver != session.local:
            if self._previous is None or message.receiver != self._previous.local:
                return None
            session = self._previous
        if session.expired(now):
            return None
        try:
            packet = session.unwrap(message)
        except MessageError:
            return None
        self._unanswered = None
        if packet and self._owed is None:
            self._owed = now
        return packet or None

    def _answer(self, event: Received, now: float) -> None:
        """An answer to our initiation: a new session, or a cookie for the next attempt."""
        try:
            outcome = self._caller.read(event, self._attempts)
        except HandshakeError:
            return
        if isinstance(outcome, Session):
            self._previous, self._session = self._session, outcome
            self._attempts.clear()
            self._turn = 0
            self._retry_at = None
            self.handshakes += 1
            self._unanswered = None
            self._emit(b"", now)
        elif outcome == "cookie":
            self._retry_at = now

    def renew(self, now: float) -> None:
        """Call for a new session, unless an attempt is under way."""
        if self._retry_at is None:
            self._retry_at = now

    def doubt(self, now: float) -> None:
        """No answer where one was due: call for a new session, unless this one is quite new."""
        if now - self._session.born >= REKEY_TIMEOUT_SECONDS:
            self.renew(now)

    def deadline(self) -> float:
        """When `tick` has something to do."""
        if self._retry_at is not None:
            return self._retry_at
        times = [self._session.born + REKEY_AFTER_SECONDS]
        if self._unanswered is not None:
            times.append(self._unanswered + SILENCE_SECONDS)
        if self._owed is not None:
            times.append(self._owed + KEEPALIVE_SECONDS)
        if self._every:
            times.append(self._sent + self._every)
        return min(times)

    def tick(self, now: float) -> None:
        """Act where a time has come: call for a session, or keep the present one alive."""
        if self._session.wants_rekey(now):
            self.renew(now)
        if self._unanswered is not None and now - self._unanswered >= SILENCE_SECONDS:
            self._unanswered = None
            if self._retry_at is None:
                self._caller.link.reopen()
            self.renew(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._call(now)
        owed = self._owed is not None and now - self._owed >= KEEPALIVE_SECONDS
        if owed or (self._every and now - self._sent >= self._every):
            self._owed = None
            self._sent = now
            self._emit(b"", now)

    def _call(self, now: float) -> None:
        usable = self._caller.link.usable()
        if usable:
            # First where it answered last, then the server's addresses in turn.
            turn = self._turn
            which = self._caller.which if turn == 0 else usable[turn % len(usable)]
            attempt = self._caller.call(which)
            self._attempts = {attempt.handshake.index: attempt}
            self._turn += 1
        else:
            self._caller.link.reopen()
        self._retry_at = now + REKEY_TIMEOUT_SECONDS + random.uniform(0, JITTER_SECONDS)  # noqa: S311
