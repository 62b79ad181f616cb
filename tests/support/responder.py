"""A small WireGuard server in this process: for tests, and as a stand-in on loopback.

It answers handshakes and echo requests, to its own addresses and, as if it forwarded, to
any other.  It opens no tun device and forwards nothing.  `Faults` make it misbehave.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Self

from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import HandshakeError, MessageError, PacketError
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey
from obsdimg.tunnel.messages import Initiation, Transport
from obsdimg.tunnel.messages import parse as parse_message
from obsdimg.tunnel.noise import has_mac1
from obsdimg.tunnel.packets import Echo, build
from obsdimg.tunnel.packets import parse as parse_packet
from obsdimg.tunnel.primitives import mac
from obsdimg.tunnel.session import Session
from support.icmp_errors import build_error
from support.responder_handshake import has_mac2, make_cookie_reply, open_initiation, respond

_WAKE_SECONDS: Final = 0.2

Source = tuple[str, int]


@dataclass(frozen=True)
class ResponderPeer:
    """A client that the server knows, and the networks that it may send from."""

    public: WgPublicKey
    preshared: PresharedKey | None = None
    allowed: tuple[IPv4Network | IPv6Network, ...] = (
        IPv4Network("0.0.0.0/0"),
        IPv6Network("::/0"),
    )


@dataclass
class Faults:
    """How the server misbehaves; as it stands, not at all."""

    drop_initiations: int = 0
    """So many are dropped before the first is answered."""
    cookies: bool = False
    """Under load: a cookie reply to every initiation without a valid mac2."""
    cookies_only: bool = False
    """Under load for good: nothing but cookie replies."""
    server_silent: bool = False
    """Echo requests to the server's own addresses are dropped."""
    forwards: bool = True
    """Whether addresses outside answer."""
    reject: tuple[int, int] | None = None
    """ICMP type and code that answer what goes outside."""
    lose_every: int = 0
    """Every so manieth echo reply is lost; 0: none."""
    duplicate: bool = False
    """Echo replies are sent twice (each in a message of its own)."""
    replay: bool = False
    """Transport messages are sent twice, byte by byte the same."""
    corrupt: bool = False
    """The last byte of each transport message is changed."""
    forget_after: int = 0
    """After so many packets every session is forgotten once, as by a restart; 0: never."""


@dataclass
class Stats:
    """Counts of what the server took."""

    initiations: int = 0
    handshakes: int = 0
    packets: int = 0
    keepalives: int = 0
    dropped: int = 0


@dataclass
class _Known:
    peer: ResponderPeer
    newest: bytes = b""
    """The TAI64N timestamp of its last handshake."""


@dataclass
class ResponderCore:
    """The server without a socket: datagrams in, datagrams out, never an exception."""

    private: WgPrivateKey
    addresses: tuple[Address, ...]
    peers: tuple[ResponderPeer, ...]
    faults: Faults = field(default_factory=Faults)
    stats: Stats = field(default_factory=Stats)

    def __post_init__(self) -> None:
        self._public = self.private.public()
        self._known = {peer.public: _Known(peer) for peer in self.peers}
        self._sessions: dict[int, tuple[Session, ResponderPeer]] = {}
        self._secret = os.urandom(32)
        self._replies = 0
        self._forgot = False

    def handle(self, datagram: bytes, source: Source) -> list[bytes]:
        """The answers to one datagram from `source`; none where it is wrong in any way."""
        try:
            message = parse_message(datagram)
            if isinstance(message, Initiation):
                return self._initiation(message, source)
            if isinstance(message, Transport):
                return self._transport(message)
        except (MessageError, HandshakeError, PacketError):
            pass
        self.stats.dropped += 1
        return []

    def _initiation(self, message: Initiation, source: Source) -> list[bytes]:
        self.stats.initiations += 1
        if not has_mac1(message, self._public):
            raise HandshakeError("not for this server")
        if self.faults.drop_initiations > 0:
            self.faults.drop_initiations -= 1
            return []
        cookie = mac(self._secret, repr(source).encode())
        if self.faults.cookies_only or (self.faults.cookies and not has_mac2(message, cookie)):
            return [make_cookie_reply(message, cookie, self._public).pack()]
        opened = open_initiation(self.private, message)
        known = self._known.get(opened.static)
        if known is None:
            raise HandshakeError("an unknown client")
        if opened.timestamp <= known.newest:
            raise HandshakeError("a replayed initiation")
        response, keys = respond(opened, known.peer.preshared)
        known.newest = opened.timestamp
        self._sessions[keys.local] = (Session(keys, time.monotonic()), known.peer)
        self.stats.handshakes += 1
        return [response.pack()]

    def _transport(self, message: Transport) -> list[bytes]:
        session, peer = self._sessions.get(message.receiver, (None, None))
        if session is None or peer is None or session.expired(time.monotonic()):
            raise MessageError("no such session")
        inner = session.unwrap(message)
        if not inner:
            self.stats.keepalives += 1
            return []
        packet = parse_packet(inner)
        if not any(packet.source in network for network in peer.allowed):
            raise PacketError("a source address that is not the client's")
        self.stats.packets += 1
        if not self._forgot and 0 < self.faults.forget_after < self.stats.packets:
            self._forgot = True
            self._sessions.clear()
            for known in self._known.values():
                known.newest = b""
            return []
        if not isinstance(packet, Echo) or packet.reply:
            return []
        return self._spoil([session.wrap(answer) for answer in self._answers(packet, inner)])

    def _answers(self, request: Echo, inner: bytes) -> list[bytes]:
        """The packets that answer an echo request."""
        faults = self.faults
        if request.destination in self.addresses:
            if faults.server_silent:
                return []
        elif faults.reject is not None:
            own = [a for a in self.addresses if a.version == request.source.version]
            return [build_error(own[0], inner, *faults.reject)] if own else []
        elif not faults.forwards:
            return []
        self._replies += 1
        if faults.lose_every and self._replies % faults.lose_every == 0:
            return []
        answer = build(request.answer())
        return [answer, answer] if faults.duplicate else [answer]

    def _spoil(self, datagrams: list[bytes]) -> list[bytes]:
        if self.faults.corrupt:
            return [one[:-1] + bytes([one[-1] ^ 1]) for one in datagrams]
        return datagrams * 2 if self.faults.replay else datagrams


class Responder:
    """A ResponderCore behind a UDP socket on `host`, served by a thread, by `with`."""

    def __init__(self, core: ResponderCore, host: str = "127.0.0.1", port: int = 0) -> None:
        """`port` 0: any free one; see `endpoint`.  Raises OSError where it is taken."""
        self.core: Final = core
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(_WAKE_SECONDS)
        self.endpoint: Final = Endpoint(host, int(self._socket.getsockname()[1]))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="responder", daemon=True)

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                datagram, source = self._socket.recvfrom(65536)
                for answer in self.core.handle(datagram, source[:2]):
                    self._socket.sendto(answer, source)
            except OSError:
                continue  # a time-out, or an ICMP error about an earlier answer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10 * _WAKE_SECONDS)
        self._socket.close()
