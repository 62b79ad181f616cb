"""A VNC connection that stays up to date by itself: the newest picture, and keys.

A thread reads; the caller waits for changes.  A server that says nothing is asked for one pixel
now and then, and is lost when it does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from obsdimg.console.connect import Stream
from obsdimg.console.errors import ConsoleError, LostError, ProtocolError
from obsdimg.console.keys import QUICK, Chord
from obsdimg.console.picture import Picture
from obsdimg.console.rfb import Rfb
from obsdimg.core.secret import Secret

SILENCE = 15.0
"""Seconds without a byte until the server is asked for a pixel; as many again, and it is lost."""
NEAR_INTERVAL, FAR_INTERVAL = 0.03, 0.1
"""Seconds between two requests for changes."""
HANDSHAKE_TOTAL = 1 << 18


class Vnc:
    """A connected VNC console."""

    def __init__(
        self,
        stream: Stream,
        password: Callable[[], Secret | None] = lambda: None,
        seconds: float = 20.0,
    ) -> None:
        """Log in and wait for the first picture.  Raises ConsoleError, the stream then closed."""
        self.label = stream.label
        self.updates = 0
        self._stream = stream
        self._interval = NEAR_INTERVAL if stream.near else FAR_INTERVAL
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._corner = 0
        self._due: float | None = None
        self._error: ConsoleError | None = None
        self._closed = False
        self._rfb = Rfb(stream.label, self._send, password, self._updated, not stream.near)
        self._thread = threading.Thread(target=self._pump, daemon=True, name="vnc")
        try:
            self._log_in(time.monotonic() + seconds)
            self._rfb.framebufferUpdateRequest()
            self._thread.start()
            if not self.wait(0, seconds):
                raise LostError(f"{self.label}: it sends no picture")
        except BaseException:
            self.close()
            raise

    def _log_in(self, end: float) -> None:
        total = 0
        while not self._rfb.ready:
            left = end - time.monotonic()
            if left <= 0:
                raise LostError(
                    f"{self.label}: it does not answer as a VNC console does",
                    "is that a VNC console's address?",
                )
            data = self._stream.receive(min(left, 1.0))
            total += len(data)
            if total > HANDSHAKE_TOTAL:
                raise ProtocolError(f"{self.label}: too much before the login")
            self._rfb.feed(data)

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._stream.send(data)

    def _updated(self, rectangles: list[tuple[int, int, int, int]]) -> None:
        """A whole update has arrived; called by the reading thread, which holds the lock."""
        self.updates += 1
        if any(x == 0 and y == 0 and w and h for x, y, w, h in rectangles):
            self._corner += 1
        self._due = time.monotonic() + self._interval
        self._changed.notify_all()

    def _pump(self) -> None:
        heard, asked = time.monotonic(), False
        try:
            while not self._closed:
                now = time.monotonic()
                if self._due is not None and now >= self._due:
                    self._due = None
                    self._rfb.framebufferUpdateRequest(incremental=True)
                if now - heard > SILENCE and not asked:
                    self._rfb.framebufferUpdateRequest(0, 0, 1, 1)
                    asked = True
                if now - heard > 2 * SILENCE:
                    raise LostError(f"{self.label}: it has stopped answering")
                pause = 0.5 if self._due is None else max(0.0, self._due - now)
                data = self._stream.receive(min(pause, 0.5))
                if data:
                    heard, asked = time.monotonic(), False
                    with self._changed:
                        self._rfb.feed(data)
        except ConsoleError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def check(self) -> None:
        """Raise what ended the connection, if something did."""
        if self._error is not None:
            raise self._error

    def picture(self) -> Picture:
        """The screen as it is now.  Raises ConsoleError when the connection has ended."""
        with self._changed:
            self.check()
            return self._rfb.picture()

    def wait(self, after: int, seconds: float) -> bool:
        """Whether there are more than `after` updates, within `seconds`.  Raises ConsoleError."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.updates > after or self._error is not None, max(0.0, seconds)
            )
            if self.updates > after:
                return True
            self.check()
            return False

    def press(self, keys: Chord, pace: float = QUICK) -> None:
        """Press the keys in order, let go in reverse, each after `pace` seconds; at the end the
        server has taken them.
        """
        self.check()
        for key in keys:
            self._rfb.send_key(key.keysym, key.scancode, True)
        time.sleep(pace)
        for key in reversed(keys):
            self._rfb.send_key(key.keysym, key.scancode, False)
        self.fence()
        time.sleep(pace)

    def fence(self, seconds: float = 5.0) -> None:
        """Wait until the server has read all that was sent: it is asked for a pixel and answers.

        Without this a delay on the way would make a burst of keys, which a BIOS's buffer of 15
        does not take.
        """
        with self._changed:
            before = self._corner
            self._rfb.framebufferUpdateRequest(0, 0, 1, 1)
            self._changed.wait_for(
                lambda: self._corner > before or self._error is not None, seconds
            )
            self.check()

    def close(self) -> None:
        self._closed = True
        self._stream.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(3)
