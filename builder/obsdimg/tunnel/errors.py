"""What can go wrong in this room.  No message ever holds a key or a part of one."""

from __future__ import annotations

from obsdimg.core.errors import ObsdimgError


class TunnelError(ObsdimgError):
    """The base of every error of this room."""


class KeyTextError(TunnelError):
    """A text is not a usable key."""


class HandshakeError(TunnelError):
    """A handshake message does not open: another key, another peer, or damage."""


class MessageError(TunnelError):
    """A datagram is not a WireGuard message, or not one for this session."""


class PacketError(TunnelError):
    """Bytes are not the IPv4 or IPv6 packet that they should be."""


class ConfError(TunnelError):
    """A wg-quick configuration cannot be understood; names the file and the line."""


class EndpointError(TunnelError):
    """An endpoint is not HOST:PORT, or its name has no address."""


class ProbeError(TunnelError):
    """The probe was asked for something that cannot be done."""


class ProbeArgumentError(ProbeError):
    """A count, time limit or size that no probe takes; exit code 2, as for any wrong usage."""

    exit_code = 2
