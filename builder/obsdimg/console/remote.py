"""One interface for every console: a screen of text that stays up to date, and keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from obsdimg.console.address import Address, VncCommand, VncTcp, VncUnix, VncWebSocket
from obsdimg.console.connect import Stream, open_stream
from obsdimg.console.keys import CAREFUL, QUICK, Chord, chord
from obsdimg.console.reader import Reader
from obsdimg.console.screen import Screen
from obsdimg.console.serial import SerialConsole
from obsdimg.core.secret import Secret

if TYPE_CHECKING:
    from obsdimg.console.vnc import Vnc

CONNECT_SECONDS = 20.0


class RemoteConsole(Protocol):
    """A connected console.  Every method but `close` raises ConsoleError when it has ended."""

    label: str

    @property
    def changes(self) -> int:
        """How often something came so far."""
        ...

    def screen(self) -> Screen: ...
    def wait(self, after: int, seconds: float) -> bool:
        """Whether there are more than `after` changes, within `seconds`."""
        ...

    def press(self, keys: Chord, pace: float = QUICK) -> None:
        """Press keys together; `pace` is how long they are down, and the time after them."""
        ...

    def png(self) -> bytes: ...
    def close(self) -> None: ...


class VncConsole:
    """A VNC console and the text on its screen."""

    def __init__(self, vnc: Vnc) -> None:
        self.label = vnc.label
        self._vnc = vnc
        self._reader = Reader()

    @property
    def changes(self) -> int:
        return self._vnc.updates

    def screen(self) -> Screen:
        return self._reader.read(self._vnc.picture())

    def wait(self, after: int, seconds: float) -> bool:
        return self._vnc.wait(after, seconds)

    def press(self, keys: Chord, pace: float = QUICK) -> None:
        self._vnc.press(keys, pace)

    def png(self) -> bytes:
        return self._vnc.picture().png()

    def close(self) -> None:
        self._vnc.close()


def open_console(
    address: Address,
    password: Callable[[], Secret | None] = lambda: None,
    seconds: float = CONNECT_SECONDS,
    ca_file: Path | None = None,
) -> RemoteConsole:
    """Connect within `seconds`; `password` is asked where the console wants one.

    Raises ConsoleError.
    """
    stream: Stream = open_stream(address, seconds, ca_file)
    if isinstance(address, VncCommand | VncTcp | VncUnix | VncWebSocket):
        from obsdimg.console.vnc import Vnc  # Twisted, which a serial line does not need

        return VncConsole(Vnc(stream, password, seconds))
    return SerialConsole(stream)


def type_text(console: RemoteConsole, text: str, pace: float = CAREFUL) -> None:
    """Type `text`, a key at a time.  Raises TypingError before the first key."""
    for keys in [chord(character) for character in text]:
        console.press(keys, pace)
