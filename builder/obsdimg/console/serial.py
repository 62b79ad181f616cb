"""A serial line as a screen: pyte draws what comes, a terminal of 80 columns and 25 rows.

What comes may be hostile: sequences that never end, and those that no screen needs, are dropped
before pyte sees them.
"""

from __future__ import annotations

import codecs
import re
import threading
import time

import pyte

from obsdimg.console.connect import Stream
from obsdimg.console.errors import ConsoleError, NoTextError
from obsdimg.console.keys import QUICK, Chord, bytes_of
from obsdimg.console.screen import Cell, Kind, Screen

COLUMNS, ROWS = 80, 25
LONGEST_SEQUENCE = 256
KEY_PAUSE = 0.06
"""Seconds between keys: the BIOS looks at its serial mirror 18 times a second and keeps 15."""

_STRINGS = re.compile("\x1b[\\]PX^_].*?(?:\x07|\x1b\\\\)", re.DOTALL)
_PRIVATE = re.compile("\x1b\\[[=<>][0-9;]*[a-zA-Z]|\x1b[=>]|[\x80-\x9f]")
_OPEN = re.compile("\x1b(?:\\[[0-?]*[ -/]*|[ -/]*|[\\]PX^_][^\x07\x1b]*\x1b?)\\Z", re.DOTALL)
_STRING_END = re.compile("\x07|\x1b\\\\")

_INK = {
    "black": 0x000000, "red": 0xAA0000, "green": 0x00AA00, "brown": 0xAA5500, "blue": 0x0000AA,
    "magenta": 0xAA00AA, "cyan": 0x00AAAA, "white": 0xAAAAAA, "default": 0xAAAAAA,
    "brightblack": 0x555555, "brightred": 0xFF5555, "brightgreen": 0x55FF55,
    "brightbrown": 0xFFFF55, "brightyellow": 0xFFFF55, "brightblue": 0x5555FF,
    "brightmagenta": 0xFF55FF, "brightcyan": 0x55FFFF, "brightwhite": 0xFFFFFF,
}  # fmt: skip


class Sequences:
    """Removes from text, which comes in pieces, what only costs or harms."""

    def __init__(self) -> None:
        self._held = ""
        self._skipping = False

    def clean(self, text: str) -> str:
        """The part of `text` that may be drawn now."""
        text, self._held = self._held + text, ""
        if self._skipping:
            end = _STRING_END.search(text)
            if end is None:
                self._held = "\x1b" if text.endswith("\x1b") else ""
                return ""
            text, self._skipping = text[end.end() :], False
        text = _PRIVATE.sub("", _STRINGS.sub("", text))
        start = self._open_at(text)
        if start is not None:
            tail, text = text[start:], text[:start]
            if len(tail) <= LONGEST_SEQUENCE:
                self._held = tail
            else:
                self._skipping = tail[1] in "]PX^_"
        return text

    @staticmethod
    def _open_at(text: str) -> int | None:
        """Where a sequence begins that is not complete yet."""
        at = text.rfind("\x1b")
        while at >= 0:
            if _OPEN.match(text, at) is None:
                return None
            before = text.rfind("\x1b", 0, at)
            if before < 0 or _OPEN.match(text, before) is None:
                return at
            at = before
        return None


class SerialConsole:
    """A serial line, drawn as it comes by a thread of its own."""

    def __init__(self, stream: Stream) -> None:
        self.label = stream.label
        self.changes = 0
        self._stream = stream
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._drawing = pyte.Stream(self._screen)
        self._sequences = Sequences()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._changed = threading.Condition()
        self._error: ConsoleError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._pump, daemon=True, name="serial")
        self._thread.start()

    def _pump(self) -> None:
        try:
            while not self._closed:
                data = self._stream.receive(0.5)
                if data:
                    self._draw(data)
        except ConsoleError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _draw(self, data: bytes) -> None:
        text = self._sequences.clean(self._decode.decode(data))
        with self._changed:
            try:
                self._drawing.feed(text)
            except Exception:  # pyte stumbled over nonsense: go on with an empty parser
                self._drawing = pyte.Stream(self._screen)
            self.changes += 1
            self._changed.notify_all()

    def screen(self) -> Screen:
        """What stands on the screen now.  Raises ConsoleError when the line has ended."""
        with self._changed:
            if self._error is not None:
                raise self._error
            rows = []
            for number in range(self._screen.lines):
                line = self._screen.buffer[number]
                rows.append(tuple(_cell(line[x]) for x in range(self._screen.columns)))
            cursor = self._screen.cursor
            shown = None if cursor.hidden else (cursor.y, min(cursor.x, COLUMNS - 1))
        blank = all(cell.char == " " for row in rows for cell in row)
        return Screen(Kind.BLANK if blank else Kind.TEXT, tuple(rows), shown)

    def wait(self, after: int, seconds: float) -> bool:
        """Whether there are more than `after` changes, within `seconds`.  Raises ConsoleError."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.changes > after or self._error is not None, max(0.0, seconds)
            )
            if self.changes > after:
                return True
            if self._error is not None:
                raise self._error
            return False

    def press(self, keys: Chord, pace: float = QUICK) -> None:
        """Send what the keys send, and give the other side time to take it."""
        self._stream.send(bytes_of(keys))
        time.sleep(max(KEY_PAUSE, pace))

    def png(self) -> bytes:
        """A serial line has no picture.  Raises NoTextError."""
        raise NoTextError(
            f"{self.label}: a serial line has no picture", "--text prints what stands there"
        )

    def close(self) -> None:
        self._closed = True
        self._stream.close()
        if self._thread is not threading.current_thread():
            self._thread.join(3)


def _cell(char: pyte.screens.Char) -> Cell:
    ink = _INK.get(char.fg, 0xAAAAAA) if char.fg in _INK else _hex(char.fg, 0xAAAAAA)
    paper = 0 if char.bg == "default" else _INK.get(char.bg, _hex(char.bg, 0))
    if char.reverse:
        ink, paper = paper, ink
    return Cell(char.data[:1] or " ", ink, paper)


def _hex(colour: str, otherwise: int) -> int:
    try:
        return int(colour, 16)
    except ValueError:
        return otherwise
