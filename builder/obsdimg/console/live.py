"""A console live in this terminal, by curses: works over ssh and in tmux.

The text goes to the terminal in the nearest of its colours, keys go to the machine; what the
machine sends never reaches the terminal as it is.
"""

from __future__ import annotations

import contextlib
import curses
import locale
import os
from collections.abc import Iterator

from obsdimg.console.errors import TypingError
from obsdimg.console.keys import ALT, NAMED, Chord, chord, control
from obsdimg.console.remote import RemoteConsole
from obsdimg.console.screen import Cell, Kind, Screen

LEAVE = "\x1d"
LEAVE_NAME = "Ctrl-]"
LOOK = 0.04
"""Seconds between two looks at the keyboard."""

_SPECIAL = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right", curses.KEY_HOME: "home", curses.KEY_END: "end",
    curses.KEY_PPAGE: "pageup", curses.KEY_NPAGE: "pagedown", curses.KEY_IC: "insert",
    curses.KEY_DC: "delete", curses.KEY_BACKSPACE: "backspace", curses.KEY_ENTER: "enter",
} | {curses.KEY_F0 + n: f"f{n}" for n in range(1, 13)}  # fmt: skip

_BASIC = (0x000000, 0xAA0000, 0x00AA00, 0xAA5500, 0x0000AA, 0xAA00AA, 0x00AAAA, 0xAAAAAA)
_BRIGHT = (0x555555, 0xFF5555, 0x55FF55, 0xFFFF55, 0x5555FF, 0xFF55FF, 0x55FFFF, 0xFFFFFF)


def show(console: RemoteConsole) -> None:
    """Show `console` until LEAVE is pressed.  Raises ConsoleError when it ends."""
    locale.setlocale(locale.LC_ALL, "")
    with _terminal() as window:
        LiveView(console, window).run()


@contextlib.contextmanager
def _terminal() -> Iterator[curses.window]:
    """The terminal in curses' hands; as it was before at the end, whatever happens."""
    os.environ.setdefault("ESCDELAY", "25")
    window = curses.initscr()
    try:
        curses.noecho()
        curses.raw()
        curses.nonl()
        window.keypad(True)
        window.timeout(int(LOOK * 1000))
        with contextlib.suppress(curses.error):
            curses.start_color()
            curses.use_default_colors()
        yield window
    finally:
        window.keypad(False)
        curses.noraw()
        curses.nl()
        curses.echo()
        curses.endwin()


class LiveView:
    """The part of a console's screen that fits the terminal, and a line of help below it."""

    def __init__(self, console: RemoteConsole, window: curses.window) -> None:
        self._console, self._window = console, window
        self._palette = Palette()
        self._shown: Screen | None = None
        self._note = ""
        self._resized = False

    def run(self) -> None:
        seen = -1
        while True:
            changes = self._console.changes
            if changes != seen:
                seen = changes
                self._draw(self._console.screen())
            else:
                self._console.wait(seen, 0)  # raises what has ended it
            try:
                key = self._window.get_wch()
            except curses.error:
                self._fit()
                continue
            if key == LEAVE:
                return
            if key == curses.KEY_RESIZE:
                self._afresh()
                self._resized = True
            else:
                self._press(key)

    def _fit(self) -> None:
        """While nothing is typed: whole and anew once more after a change of size, since terminals
        move their lines while it is drawn; and a change that no signal told of is seen, too."""
        resized, self._resized = self._resized, False
        with contextlib.suppress(OSError, curses.error):
            columns, lines = os.get_terminal_size(1)
            if (lines, columns) != self._window.getmaxyx():
                curses.resizeterm(lines, columns)
                resized = True
        if resized:
            self._afresh()

    def _afresh(self) -> None:
        """Draw everything, whatever curses believes to stand there."""
        self._shown = None
        self._window.clear()
        self._draw(self._console.screen())

    def _press(self, key: int | str) -> None:
        try:
            keys = self._keys(key)
        except TypingError as error:
            self._note = error.message
            curses.beep()
            return
        if keys:
            self._note = ""
            self._console.press(keys)

    def _keys(self, key: int | str) -> Chord:
        if isinstance(key, int):
            return (NAMED[_SPECIAL[key]],) if key in _SPECIAL else ()
        if key == "\x1b":
            self._window.timeout(0)
            try:
                following = self._window.get_wch()
            except curses.error:
                return chord(key)
            finally:
                self._window.timeout(int(LOOK * 1000))
            return (ALT, *self._keys(following))
        if key == "\x7f":
            return (NAMED["backspace"],)
        if key < " " and key not in "\t\r\n\b":
            return control(chr(ord(key) + 0x60) if key <= "\x1a" else chr(ord(key) + 0x40))
        return chord(key)

    def _draw(self, screen: Screen) -> None:
        height, width = self._window.getmaxyx()
        room = height - 1 if height > screen.rows or height > 10 else height
        top, left = viewport(screen, room, width)
        if self._shown is None or self._shown.kind is not screen.kind:
            self._window.erase()
        self._shown = screen
        with contextlib.suppress(curses.error):  # the last cell of the last line
            for y in range(room):
                cells = screen.cells[top + y] if top + y < screen.rows else ()
                self._row(y, cells[left : left + width], width)
        if screen.kind is not Kind.TEXT:
            with contextlib.suppress(curses.error):
                self._window.addnstr(room // 2, 2, words(screen), width - 3)
        if room < height:
            help_ = self._note or f"{LEAVE_NAME} leaves   {self._console.label}"
            with contextlib.suppress(curses.error):
                self._window.addnstr(height - 1, 0, help_.ljust(width), width - 1, curses.A_REVERSE)
        cursor = screen.cursor
        inside = cursor is not None and top <= cursor[0] < top + room
        with contextlib.suppress(curses.error):
            curses.curs_set(1 if inside else 0)
        if cursor is not None and inside:
            with contextlib.suppress(curses.error):
                self._window.move(cursor[0] - top, max(0, min(cursor[1] - left, width - 1)))
        self._window.refresh()

    def _row(self, y: int, cells: tuple[Cell, ...], width: int) -> None:
        """One row, runs of the same colours at once."""
        x = 0
        while x < len(cells):
            end = x
            while end < len(cells) and cells[end][1:] == cells[x][1:]:
                end += 1
            text = "".join(c.char if c.char.isprintable() else "?" for c in cells[x:end])
            self._window.addstr(y, x, text, self._palette.attribute(cells[x]))
            x = end
        if len(cells) < width:
            self._window.move(y, len(cells))
            self._window.clrtoeol()


class Palette:
    """Pairs of the terminal's colours for pairs of the machine's."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[int, int], int] = {}

    def attribute(self, cell: Cell) -> int:
        """curses' attribute for the colours of `cell`."""
        if not curses.has_colors():
            return curses.A_REVERSE if _light(cell.paper) > _light(cell.ink) else 0
        ink, bright = nearest(cell.ink)
        paper, _ = nearest(cell.paper)
        number = self._pairs.get((ink, paper))
        if number is None:
            number = len(self._pairs) + 1
            if number >= curses.COLOR_PAIRS:
                return 0
            curses.init_pair(number, ink, paper)
            self._pairs[ink, paper] = number
        return curses.color_pair(number) | (curses.A_BOLD if bright else 0)


def nearest(colour: int) -> tuple[int, bool]:
    """The terminal's basic colour (curses' numbers 0 to 7) next to 0xRRGGBB, and whether bright."""

    def distance(other: int) -> int:
        return sum(((colour >> s & 0xFF) - (other >> s & 0xFF)) ** 2 for s in (0, 8, 16))

    every = [*_BASIC, *_BRIGHT]
    best = min(range(16), key=lambda n: distance(every[n]))
    return best % 8, best >= 8


def viewport(screen: Screen, height: int, width: int) -> tuple[int, int]:
    """The first row and column to show where the screen is larger than the terminal."""
    lines = screen.lines
    lowest = max((n for n, line in enumerate(lines) if line), default=0)
    row, column = screen.cursor or (lowest, 0)
    top = max(0, min(max(row, 0) - height + 1, screen.rows - height))
    if screen.cursor is None:
        top = max(0, min(lowest - height + 1, screen.rows - height))
    left = 0 if column < width else max(0, min(column - width // 2, screen.columns - width))
    return top, left


def words(screen: Screen) -> str:
    """What to say about a screen without text."""
    if screen.kind is Kind.BLANK:
        return "(the screen is blank)"
    return f"(no text on the screen: {screen.width}x{screen.height} pixels; --screenshot shows it)"


def _light(colour: int) -> int:
    return sum(colour >> s & 0xFF for s in (0, 8, 16))
