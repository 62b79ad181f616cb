"""What goes wrong between here and a console far away."""

from __future__ import annotations

from obsdimg.core.errors import ObsdimgError


class ConsoleError(ObsdimgError):
    """Something about a console; the base of this room."""


class AddressError(ConsoleError):
    """The address of a console cannot be understood."""


class ConnectError(ConsoleError):
    """There is no console there, or it cannot be reached."""


class LoginError(ConsoleError):
    """The console wants a password, or not this one."""


class ProtocolError(ConsoleError):
    """What the other side sends is not the protocol, or more than it may send."""


class LostError(ConsoleError):
    """The connection ended, or the other side has stopped answering."""


class NoTextError(ConsoleError):
    """The screen shows something, but no text in a known font."""


class TypingError(ConsoleError):
    """A character that cannot be typed on that keyboard."""
