"""A WireGuard session: IP packets to transport messages and back, without any I/O.

Source: WireGuard paper, sections 5.4.6 (transport messages) and 6 (timers); replay window
as RFC 6479 describes it, kept as one integer.
"""

from __future__ import annotations

from typing import Final

from obsdimg.tunnel.errors import HandshakeError, MessageError
from obsdimg.tunnel.messages import Transport
from obsdimg.tunnel.noise import TransportKeys
from obsdimg.tunnel.primitives import seal, unseal

PADDING_BYTES: Final = 16
REKEY_AFTER_SECONDS: Final = 120
"""An initiator makes a new session when the old one has this age."""
REJECT_AFTER_SECONDS: Final = 180
"""Neither side accepts anything of an older session."""
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
WINDOW: Final = 2048
"""How far behind the newest counter a message may be."""


class ReplayWindow:
    """Which of the last WINDOW counters were seen."""

    def __init__(self) -> None:
        self._next = 0
        self._seen = 0

    def fresh(self, counter: int) -> bool:
        """Whether `counter` is new and not too old; changes nothing."""
        if counter >= self._next:
            return True
        behind = self._next - 1 - counter
        return behind < WINDOW and not self._seen >> behind & 1

    def note(self, counter: int) -> None:
        """Remember an authenticated, fresh `counter`."""
        if counter >= self._next:
            ahead = counter + 1 - self._next
            moved = self._seen << ahead if ahead < WINDOW else 0
            self._seen = (moved | 1) & ((1 << WINDOW) - 1)
            self._next = counter + 1
        else:
            self._seen |= 1 << (self._next - 1 - counter)


class Session:
    """Both directions of one session; `local` is the index that the other side writes."""

    def __init__(self, keys: TransportKeys, born: float) -> None:
        """`born`: when the handshake was completed, in seconds of a monotonic clock."""
        self._keys = keys
        self._counter = 0
        self._window = ReplayWindow()
        self.local: Final = keys.local
        self.born: Final = born

    def wrap(self, packet: bytes) -> bytes:
        """The datagram that carries `packet` (an IP packet; b"" is a keepalive).

        Raises MessageError when the session has used up its counters.
        """
        if self._counter >= REJECT_AFTER_MESSAGES:
            raise MessageError("the session has sent as much as it may")
        padded = packet + bytes(-len(packet) % PADDING_BYTES)
        sealed = seal(self._keys.send, self._counter, padded, b"")
        message = Transport(self._keys.remote, self._counter, sealed)
        self._counter += 1
        return message.pack()

    def unwrap(self, message: Transport) -> bytes:
        """The packet inside, padding included (b"": a keepalive).

        Raises MessageError: for another session, replayed, or it does not open.
        """
        if message.receiver != self.local:
            raise MessageError("the message is for another session")
        counter = message.counter
        if counter >= REJECT_AFTER_MESSAGES or not self._window.fresh(counter):
            raise MessageError(f"message {counter} was seen before, or is too old")
        try:
            packet = unseal(self._keys.receive, counter, message.sealed, b"")
        except HandshakeError as error:
            raise MessageError(f"message {counter} does not open") from error
        self._window.note(counter)
        return packet

    def expired(self, now: float) -> bool:
        """Whether the session is past REJECT_AFTER_SECONDS."""
        return now - self.born >= REJECT_AFTER_SECONDS

    def wants_rekey(self, now: float) -> bool:
        """Whether the initiator should make a new session now."""
        return now - self.born >= REKEY_AFTER_SECONDS
