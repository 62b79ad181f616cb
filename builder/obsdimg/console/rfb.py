"""VNC's protocol (RFC 6143) by vncdotool, with bounds on what a server may make us do.

vncdotool's protocol class needs no network of its own: bytes go in, writes come out, and the
picture is painted here.  Everything that it waits for passes `expect`, everything that it paints
passes `_handleRectangle`: that is where the bounds are.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB
from twisted.logger import globalLogBeginner
from vncdotool.const import AuthTypes, Encoding
from vncdotool.rfb import PixelFormat, RFBClient

from obsdimg.console.errors import ConnectError, LoginError, ProtocolError
from obsdimg.console.picture import Picture
from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.core.secret import Secret

globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
"""Twisted keeps 65,536 log entries in memory until it is told where they go."""

LARGEST_SIDE = 16384
MOST_PIXELS = 4096 * 2304
"""Resolutions beyond this are no text console, and would cost 36 MB each."""
HANDSHAKE_BYTES = 1 << 16
SPARE_BYTES = 1 << 20
REPAINTS = 16
"""How often one update may paint the whole screen."""

RGBX = PixelFormat(32, 24, False, True, 255, 255, 255, 0, 8, 16)
_NAMES = {16: "Tight", 18: "TLS", 19: "VeNCrypt (TLS)", 20: "SASL", 30: "Apple", 129: "Unix login"}

QEMU_CLIENT_MESSAGE = 255
QEMU_KEY = 0


def challenge_response(password: str, challenge: bytes) -> bytes:
    """VNC's login (RFC 6143, 7.2.2): the challenge in DES, the password with its bits reversed.

    Not vncdotool's own, which uses a name that cryptography is going to remove.
    """
    key = password.encode("ascii")[:8].ljust(8, b"\0")
    reversed_bits = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    single = TripleDES(3 * reversed_bits)
    encryptor = Cipher(single, ECB()).encryptor()  # noqa: S305 (one block, as the RFC has it)
    return encryptor.update(challenge) + encryptor.finalize()


class RfbTransport:
    """Where the protocol class writes to."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.write = send

    def loseConnection(self) -> None:
        raise ProtocolError("the server's answer makes no sense")


with warnings.catch_warnings():
    # The painting methods' signatures may change in a later release: pyproject.toml bounds it.
    warnings.simplefilter("ignore", FutureWarning)

    class Rfb(RFBClient):  # type: ignore[misc]
        """One connection.  `feed` takes bytes; `updated` is called after each whole update."""

        SUPPORTED_AUTHS = {AuthTypes.NONE, AuthTypes.VNC_AUTHENTICATION}  # noqa: RUF012

        def __init__(
            self,
            label: str,
            send: Callable[[bytes], None],
            password: Callable[[], Secret | None],
            updated: Callable[[list[tuple[int, int, int, int]]], None],
            compressed: bool,
        ) -> None:
            super().__init__()
            self.label = label
            self.ready = False
            self.width = self.height = 0
            self.pixels = bytearray()
            self._password, self._updated = password, updated
            self._painted = 0
            self._zlib_stream: Any
            self._offered = [Encoding.ZRLE] if compressed else []
            self._offered += [
                Encoding.RAW,
                Encoding.COPY_RECTANGLE,
                Encoding.PSEUDO_DESKTOP_SIZE,
                Encoding.PSEUDO_LAST_RECT,
                Encoding.PSEUDO_QEMU_EXTENDED_KEY_EVENT,
            ]
            self.factory = SimpleNamespace(shared=1)
            self.makeConnection(RfbTransport(send))

        def feed(self, data: bytes) -> None:
            """Take bytes from the server.  Raises ConsoleError for what is not VNC."""
            try:
                self.dataReceived(data)
            except ObsdimgError as error:
                if self.label not in error.message:
                    error.message = f"{self.label}: {error.message}"
                raise
            except Exception as error:  # the parser's own stumbling over nonsense
                raise ProtocolError(
                    f"{self.label}: what it sends is not VNC ({type(error).__name__})",
                    "is that a VNC console's address?",
                ) from error

        def picture(self) -> Picture:
            return Picture(self.width, self.height, bytes(self.pixels))

        @property
        def has_scancodes(self) -> bool:
            """The server takes the keys' positions, whatever layout it believes in."""
            return Encoding.PSEUDO_QEMU_EXTENDED_KEY_EVENT in self.negotiated_encodings

        def send_key(self, keysym: int, scancode: int, down: bool) -> None:
            if self.has_scancodes and scancode:
                self.transport.write(
                    struct.pack("!BBHII", QEMU_CLIENT_MESSAGE, QEMU_KEY, down, keysym, scancode)
                )
            else:
                self.keyEvent(keysym, down)

        # -- bounds

        def expect(self, handler: Callable[..., None], size: int, *args: Any, **more: Any) -> None:
            most = self.width * self.height * 4 + SPARE_BYTES if self.ready else HANDSHAKE_BYTES
            if not 0 <= size <= most:
                raise ProtocolError(f"the server announces {size} bytes at once, more than it may")
            super().expect(handler, size, *args, **more)

        def _handleInitial(self) -> None:
            if not b"RFB ".startswith(bytes(self._packet[:4])):
                raise ProtocolError(
                    "there is something, but it is not VNC", "is that a VNC console's address?"
                )
            super()._handleInitial()

        def _handleSecurityTypes(self, block: bytes) -> None:
            if not set(block) & {int(kind) for kind in self.SUPPORTED_AUTHS}:
                kinds = ", ".join(_NAMES.get(kind, str(kind)) for kind in sorted(set(block)))
                raise ConnectError(
                    f"the console wants a login of another kind: {kinds}",
                    "known are none and VNC's own password; for TLS use wss:// or a tunnel"
                    " (ssh -L)",
                )
            super()._handleSecurityTypes(block)

        def _handleConnMessage(self, block: bytes) -> None:
            raise ConnectError(f"the console refuses: {_said(block)}")

        def _handleServerInit(self, block: bytes) -> None:
            width, height = struct.unpack_from("!HH", block)
            self._resize(width, height)
            super()._handleServerInit(block)

        def _handleRectangle(self, block: bytes) -> None:
            x, y, width, height, encoding = struct.unpack("!HHHHi", block)
            if self.rectangles and encoding not in self._offered:
                raise ProtocolError(f"an encoding that was not asked for ({encoding})")
            if encoding in (Encoding.RAW, Encoding.COPY_RECTANGLE, Encoding.ZRLE):
                if x + width > self.width or y + height > self.height:
                    raise ProtocolError(
                        f"a rectangle beyond the screen ({width}x{height} at {x},{y})"
                    )
                self._painted += width * height
                if self._painted > REPAINTS * self.width * self.height:
                    raise ProtocolError("one update paints the screen over and over")
            super()._handleRectangle(block)

        def _handleDecodeZRLEdata(
            self, block: bytes, x: int, y: int, width: int, height: int
        ) -> None:
            """Unpack by ourselves, so that a little cannot become a lot."""
            tiles = -(-width // 64) * -(-height // 64)
            most = width * height * 4 + tiles * (1 + 4 * 128)
            data = self._zlib_stream.decompress(block, most)
            if self._zlib_stream.unconsumed_tail:
                raise ProtocolError("a compressed rectangle is larger than it may be")
            stream, self._zlib_stream = self._zlib_stream, _Unpacked(data)
            try:
                super()._handleDecodeZRLEdata(block, x, y, width, height)
            finally:
                self._zlib_stream = stream

        def _handleServerCutText(self, block: bytes) -> None:
            self._skip(b"", struct.unpack("!xxxI", block)[0])

        def _skip(self, block: bytes, left: int) -> None:
            """Drop a text for the clipboard, in pieces."""
            if not left:
                self.expect(self._handleConnection, 1)
                return
            size = min(left, HANDSHAKE_BYTES)
            self.expect(self._skip, size, left - size)

        # -- what vncdotool tells

        def vncRequestPassword(self) -> None:
            secret = self._password()
            if secret is None:
                raise LoginError(
                    "the console wants a password",
                    "--password-file FILE, or OBSDIMG_CONSOLE_PASSWORD_FILE, or a terminal to"
                    " ask on",
                )
            text = secret.reveal()
            if not text.isascii():
                raise LoginError("the console's password holds a character that VNC cannot send")
            self.transport.write(challenge_response(text, self._challenge))

        def vncAuthFailed(self, reason: Any) -> None:
            said = reason if isinstance(reason, bytes) else str(reason).encode()
            raise LoginError(
                f"the console does not accept the password: {_said(said)}",
                "VNC compares its first 8 characters; a provider's may be valid for minutes only",
            )

        def vncProtocolError(self, reason: str) -> None:
            raise ProtocolError(f"what it sends is not VNC: {printable(reason)[:120]}")

        def vncConnectionMade(self) -> None:
            self.ready = True
            self.setPixelFormat(RGBX)
            self.setEncodings(self._offered)

        def beginUpdate(self) -> None:
            self._painted = 0

        def commitUpdate(self, rectangles: list[tuple[int, int, int, int]] | None = None) -> None:
            self._updated(rectangles or [])

        def updateRectangle(self, x: int, y: int, width: int, height: int, data: bytes) -> None:
            if width <= 0 or height <= 0 or len(data) != width * height * 4:
                if width == 0 or height == 0:
                    return
                raise ProtocolError("a rectangle without its pixels")
            clean = bytearray(data)
            clean[3::4] = bytes(width * height)
            self._paint(x, y, width, height, clean)

        def fillRectangle(self, x: int, y: int, width: int, height: int, color: bytes) -> None:
            if width > 0 and height > 0:
                self._paint(x, y, width, height, (color[:3] + b"\0") * (width * height))

        def copyRectangle(
            self, srcx: int, srcy: int, x: int, y: int, width: int, height: int
        ) -> None:
            if srcx + width > self.width or srcy + height > self.height:
                raise ProtocolError("a copy from beyond the screen")
            rows = [
                self.pixels[at : at + 4 * width]
                for at in range(
                    4 * (srcy * self.width + srcx),
                    4 * ((srcy + height) * self.width + srcx),
                    4 * self.width,
                )
            ]
            self._paint(x, y, width, height, b"".join(rows))

        def updateDesktopSize(self, width: int, height: int) -> None:
            self._resize(width, height)

        def _paint(self, x: int, y: int, width: int, height: int, data: Sequence[int]) -> None:
            if x + width > self.width or y + height > self.height:
                raise ProtocolError("a rectangle beyond the screen")
            view, row = memoryview(bytes(data)), 4 * width
            for n in range(height):
                at = 4 * ((y + n) * self.width + x)
                self.pixels[at : at + row] = view[n * row : (n + 1) * row]

        def _resize(self, width: int, height: int) -> None:
            if width > LARGEST_SIDE or height > LARGEST_SIDE or width * height > MOST_PIXELS:
                raise ProtocolError(
                    f"the console's screen has {width}x{height} pixels, too many for text",
                    "set a smaller resolution at the provider",
                )
            self.width, self.height = width, height
            self.pixels = bytearray(4 * width * height)


class _Unpacked:
    """Stands in for the zlib stream where the data are unpacked already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def decompress(self, _: bytes) -> bytes:
        return self._data


def _said(block: bytes) -> str:
    """A server's words, fit for one line."""
    return printable(block.decode("utf-8", "replace").strip())[:120] or "it does not say why"
