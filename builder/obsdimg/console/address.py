"""Addresses of consoles: one line of text to one typed value.

vnc://HOST:PORT  vnc+unix:///PATH  ws://HOST/PATH  wss://HOST/PATH
serial+unix:///PATH  serial:///dev/TTY  exec:COMMAND WORD...
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obsdimg.console.errors import AddressError
from obsdimg.core.errors import printable
from obsdimg.core.files import describe, open_regular

VNC_PORT = 5900
LONGEST = 8192
"""Bytes of an address: a WebSocket's may carry a ticket of some thousand."""

FORMS = (
    "vnc://HOST:PORT, vnc+unix:///PATH, ws://… or wss://…, serial+unix:///PATH, serial:///dev/TTY"
    " or exec:COMMAND"
)


@dataclass(frozen=True)
class VncTcp:
    """A VNC server on a TCP port."""

    host: str
    port: int

    @property
    def label(self) -> str:
        return f"vnc://{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class VncUnix:
    """A VNC server on a Unix socket."""

    path: Path

    @property
    def label(self) -> str:
        return f"vnc+unix://{self.path}"


@dataclass(frozen=True)
class VncWebSocket:
    """VNC inside a WebSocket.  `url` may hold a ticket: it is a key and is never shown."""

    url: str = field(repr=False)
    host: str
    secure: bool

    @property
    def label(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{bracketed(self.host)}/…"


@dataclass(frozen=True)
class SerialUnix:
    """A serial line on a Unix socket, such as QEMU's `-serial unix:…`."""

    path: Path

    @property
    def label(self) -> str:
        return f"serial+unix://{self.path}"


@dataclass(frozen=True)
class SerialDevice:
    """A terminal device of this host: a pty, or a real serial port."""

    path: Path

    @property
    def label(self) -> str:
        return f"serial://{self.path}"


@dataclass(frozen=True)
class SerialCommand:
    """A program whose input and output are the serial line: `ssh HOST virsh console NAME`."""

    words: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"exec:{self.words[0]}"


@dataclass(frozen=True)
class VncCommand:
    """A program whose input and output are a VNC server: `ssh -W 127.0.0.1:5900 HOST`."""

    words: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"vnc+exec:{self.words[0]}"


Address = VncCommand | VncTcp | VncUnix | VncWebSocket | SerialUnix | SerialDevice | SerialCommand


def is_serial(address: Address) -> bool:
    """Whether it is a line of text, which shows nothing of what was said before."""
    return isinstance(address, SerialUnix | SerialDevice | SerialCommand)


def parse(text: str) -> Address:
    """The address in `text`.  Raises AddressError, without a ticket or password in it."""
    text = text.strip()
    if not text or len(text) > LONGEST or not text.isprintable():
        raise AddressError("the console's address is empty, too long or no text", FORMS)
    scheme = text.partition(":")[0].lower()
    if scheme == "exec":
        return SerialCommand(_words(text.partition(":")[2]))
    if scheme == "vnc+exec":
        return VncCommand(_words(text.partition(":")[2]))
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressError(f"the console's address is no URL: {error}", FORMS) from error
    if parts.password is not None or (parts.username and scheme in ("vnc", "ws", "wss")):
        raise AddressError(
            "the console's address holds a user name or password",
            "leave it away; --password-file FILE, or the prompt, takes the password",
        )
    if scheme in ("vnc+unix", "serial+unix", "serial"):
        path = Path(unquote(parts.path))
        if host or not path.is_absolute():
            raise AddressError(f"{scheme}: an absolute path is needed", f"{scheme}:///PATH")
        if scheme == "vnc+unix":
            return VncUnix(path)
        return SerialUnix(path) if scheme == "serial+unix" else SerialDevice(path)
    if scheme == "vnc":
        if not host or parts.path not in ("", "/") or parts.query:
            raise AddressError("vnc: a host and a port are needed", "vnc://HOST:PORT")
        return VncTcp(host, VNC_PORT if port is None else port)
    if scheme in ("ws", "wss"):
        if not host:
            raise AddressError(f"{scheme}: a host is needed", f"{scheme}://HOST/PATH")
        return VncWebSocket(text, host, scheme == "wss")
    if scheme in ("http", "https"):
        raise AddressError(
            f"{bracketed(host)}: that is a web page, not a console",
            "give the address of its WebSocket (wss://…): a browser's network view shows it",
        )
    shown = printable(text.partition("?")[0])[:60]
    raise AddressError(f"{shown!r} is no address of a console", FORMS)


def is_address(text: str) -> bool:
    """Whether `text` is meant as an address rather than as a name."""
    return ":" in text or text.startswith("@")


def from_argument(text: str) -> Address:
    """`text`, or with `@FILE` the line in a file: an address with a ticket is a secret.

    Raises AddressError.
    """
    if not text.startswith("@"):
        return parse(text)
    path = Path(text[1:]).expanduser()
    try:
        with open_regular(path) as stream:
            data = stream.read(LONGEST + 1)
    except OSError as error:
        raise AddressError(f"{path}: cannot read the address: {describe(error)}") from error
    return parse(data.decode("utf-8", "replace"))


def bracketed(host: str) -> str:
    """`host` as in a URL."""
    return f"[{host}]" if ":" in host else host


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise AddressError(f"exec: {str(error).lower()}", "quote it as for a shell") from error
    if not words:
        raise AddressError("exec: the command is missing", "exec:ssh HOST virsh console NAME")
    return words
