"""The guest's serial line: a log with times, and expectations that know what failure looks like.

pexpect does the matching.  What it sees is already clean: no terminal escapes, none of the
backspaces by which the boot loader's spinner turns.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from obsdimg.core.errors import ObsdimgError
from obsdimg.smoke.plan import Secret, mask

EVIDENCE_LINES = 40
RAW = 65536  # characters of unmasked text kept in memory, never shown
_Pattern = re.Pattern[str] | type[pexpect.EOF] | type[pexpect.TIMEOUT]

POLL = 0.5  # seconds between looks at the machine while the serial line is silent


@dataclass(frozen=True)
class Failure:
    """A text that means that it went wrong.  `pattern` is a regular expression."""

    name: str
    pattern: str
    source: str
    hint: str | None = None


@dataclass(frozen=True)
class Mark:
    """A text that the guest is known to print.

    `limit` is seconds with hardware acceleration, `source` where it is known from
    (docs/openbsd.md): for readers of the code, never shown.
    """

    name: str
    pattern: str
    source: str
    limit: float = 60.0
    failures: tuple[Failure, ...] = ()
    says: str = ""
    """The mark in words, for people."""


class ExpectationError(ObsdimgError):
    """The guest did not say what it should; carries what it said instead."""

    def __init__(
        self,
        message: str,
        hint: str | None,
        *,
        mark: Mark | None,
        failure: Failure | None,
        lines: tuple[str, ...],
        screenshot: bytes | None,
    ) -> None:
        super().__init__(message, hint)
        self.mark = mark
        self.failure = failure
        self.lines = lines
        self.screenshot = screenshot


@dataclass
class ConsoleLine:
    """One line of the console; `at` is seconds since the console was opened."""

    at: float
    text: str


@dataclass
class Cleaner:
    """Removes what only makes sense on a terminal, from text that arrives in pieces."""

    held: str = ""
    after_newline: bool = False
    _escape: re.Pattern[str] = field(
        default=re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][0-9A-Za-z]|[c=>78DEHMZ])"),
        repr=False,
    )

    def feed(self, piece: str) -> str:
        """The clean part of `piece`; what may still become an escape or a spinner is held."""
        text = self._escape.sub("", self.held + piece)
        text = re.sub(r"\r+\n", "\n", text.replace("\0", "").replace("\x07", ""))
        text = re.sub(r"\n\r+", "\n", text)  # the boot loader writes LF CR
        if self.after_newline:
            text = text.lstrip("\r")
        while "\b" in text:
            shorter = re.sub(r"[^\x08\n]\x08", "", text)
            text = text.replace("\b", "") if shorter == text else shorter
        tail = re.search(r"(?:\x1b[^@-~]*|\x1b\[[^@-~]*|[|/\\-]|\r)\Z", text)
        cut = tail.start() if tail else len(text)
        self.held = text[cut:]
        if cut:
            self.after_newline = text[cut - 1] == "\n"
        return text[:cut]

    def flush(self) -> str:
        """What was held back, now that nothing more came; a CR still waits for its LF."""
        if self.held in ("", "\r"):
            return ""
        held, self.held = self.held, ""
        self.after_newline = False
        return held


if TYPE_CHECKING:
    _Spawn = SocketSpawn[str]
else:
    _Spawn = SocketSpawn


class _Serial(_Spawn):
    """pexpect on a socket, with cleaned text."""

    def __init__(self, sock: socket.socket, arrived: Callable[[str], None]) -> None:
        super().__init__(sock, maxread=65536, encoding="latin-1")
        self.cleaner = Cleaner()
        self.arrived = arrived
        self.delaybeforesend = None

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        self.socket.settimeout(self.timeout if timeout == -1 else timeout)
        try:
            data = self.socket.recv(size)
        except (TimeoutError, BlockingIOError):
            text = self.cleaner.flush()
            if not text:
                raise pexpect.TIMEOUT("silence") from None
        except OSError as error:
            self.flag_eof = True
            raise pexpect.EOF("serial line lost") from error
        else:
            if not data:
                self.flag_eof = True
                raise pexpect.EOF("serial line closed")
            text = self.cleaner.feed(data.decode("latin-1"))
        self.arrived(text)
        return text


class Console:
    """A serial line that is being watched.

    `health` is called while waiting and raises when the machine itself is in trouble;
    `screenshot` takes the picture and `screen` the text that go with a failure; `slowness`
    multiplies limits.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        secrets: Sequence[Secret] = (),
        slowness: float = 1.0,
        health: Callable[[], None] = lambda: None,
        screenshot: Callable[[], bytes] | None = None,
        screen: Callable[[], list[str]] | None = None,
        on_line: Callable[[ConsoleLine], None] | None = None,
    ) -> None:
        self._serial = _Serial(sock, self._arrived)
        self._secrets = tuple(secrets)
        self._slowness = slowness
        self._health = health
        self._screenshot = screenshot
        self._screen = screen
        self._on_line = on_line
        self._start = time.monotonic()
        self._lines: list[ConsoleLine] = []
        self._partial = ""
        self._raw = ""
        self._said = ""
        self.failures: tuple[Failure, ...] = ()
        """Failures that every expectation carries on top of its own."""

    # -- log

    def _arrived(self, text: str) -> None:
        at = time.monotonic() - self._start
        self._raw = (self._raw + text)[-RAW:]
        *complete, self._partial = (self._partial + text).split("\n")
        for raw in complete:
            line = ConsoleLine(at, self._clean(raw))
            self._lines.append(line)
            if self._on_line:
                self._on_line(line)

    def _clean(self, raw: str) -> str:
        shown = [part for part in raw.split("\r") if part.strip()][-1:] or [""]  # overwritten
        printable = "".join(
            c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in shown[0]
        )
        return mask(printable.rstrip(), self._secrets)

    @property
    def lines(self) -> list[ConsoleLine]:
        """Everything so far, secrets masked, the unfinished last line included."""
        if not self._partial:
            return list(self._lines)
        return [
            *self._lines,
            ConsoleLine(time.monotonic() - self._start, self._clean(self._partial)),
        ]

    def note(self, text: str) -> None:
        """A line of our own in the log, marked as such: what was typed, what was done."""
        if self._partial.strip():
            self._arrived("\n")
        self._lines.append(
            ConsoleLine(time.monotonic() - self._start, f"«{mask(text, self._secrets)}»")
        )

    def last(self, count: int = EVIDENCE_LINES) -> tuple[str, ...]:
        """The last lines, as text."""
        return tuple(line.text for line in self.lines[-count:])

    def clock(self) -> float:
        """Seconds since the console was opened, as in the log."""
        return time.monotonic() - self._start

    # -- talking

    def send(self, text: str, *, end: str = "\r", pause: float = 0.0) -> None:
        """Type `text` and Enter on the serial line; the log shows it (secrets masked).

        `pause`: seconds between characters, for a reader without flow control.
        """
        self.note(f"typed: {text or '(Enter)'}")
        try:
            for piece in text + end if pause else [text + end]:
                self._serial.send(piece)
                time.sleep(pause)
        except OSError as error:
            self._health()
            raise self.failed("the serial line is closed", None, None, None) from error

    def expect(self, *marks: Mark, limit: float | None = None) -> Mark:
        """Wait for one of `marks` and return it.

        Raises ExpectationError: a failure text came, the limit (the longest of the marks',
        times the slowness) has passed, or the line was closed; and whatever `health` raises.
        """
        failures = (*(f for m in marks for f in m.failures), *self.failures)
        texts = [*(m.pattern for m in marks), *(f.pattern for f in failures)]
        patterns: list[_Pattern] = [re.compile(text, re.MULTILINE) for text in texts]
        seconds = (max(m.limit for m in marks) if limit is None else limit) * self._slowness
        wanted = " or ".join(m.says or m.name for m in (marks if len(marks) < 4 else marks[-1:]))
        end = time.monotonic() + seconds
        while True:
            try:
                left = max(0.0, end - time.monotonic())
                index = self._serial.expect_list(patterns, timeout=min(POLL, left))
            except pexpect.TIMEOUT:
                self._health()
                if time.monotonic() < end:
                    continue
                raise self.failed(
                    f"waited {seconds:.0f} s for {wanted}", None, marks[0], None
                ) from None
            except pexpect.EOF:
                self._health()
                raise self.failed(
                    f"the serial line was closed while waiting for {wanted}", None, marks[0], None
                ) from None
            if index < len(marks):
                return marks[index]
            failure = failures[index - len(marks)]
            self._said = self.matched()
            with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
                self._serial.expect_list([re.compile("\n")], timeout=1)  # the rest of the line
            raise self.failed(
                f"waiting for {wanted}, the guest said: {self._quote(failure)}",
                failure.hint,
                marks[0],
                failure,
            )

    def glimpse(self, mark: Mark, seconds: float) -> bool:
        """Whether `mark` comes within `seconds`; raises nothing."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            self._serial.expect_list([re.compile(mark.pattern, re.MULTILINE)], timeout=seconds)
            return True
        return False

    def matched(self) -> str:
        """The text that the last mark matched, secrets masked."""
        match = self._serial.match
        return self._clean(match.group(0)) if isinstance(match, re.Match) else ""

    def shown(self, secret: Secret) -> bool:
        """Whether the guest itself has printed `secret` on one line."""
        return secret.reveal() in self._raw

    def drain(self, seconds: float = 0.0) -> None:
        """Log what is there, without waiting longer than `seconds` for more."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            self._serial.expect_list([re.compile(r"\Zx")], timeout=seconds)

    def _quote(self, failure: Failure) -> str:
        said = self._said.strip().splitlines()[-1:] or [failure.name]
        return next((t.strip() for t in reversed(self.last()) if said[0] in t), said[0])

    def failed(
        self, message: str, hint: str | None, mark: Mark | None, failure: Failure | None
    ) -> ExpectationError:
        """The exception for `message`, with the last lines and the screen as evidence."""
        picture = None
        if self._screenshot:
            with contextlib.suppress(ObsdimgError, OSError):
                picture = self._screenshot()
        lines = self.last()
        last = next((text.strip() for text in reversed(lines) if text.strip()), "")
        where = ""
        if failure is None:
            where = f"; last line: {last}" if last else "; the guest printed nothing"
        return ExpectationError(
            message + where, hint, mark=mark, failure=failure,
            lines=(*lines, *self._on_screen(lines)), screenshot=picture,
        )  # fmt: skip

    def _on_screen(self, said: tuple[str, ...]) -> tuple[str, ...]:
        """What the screen shows, where the serial line has not said it: secrets masked."""
        shown: list[str] = []
        if self._screen:
            with contextlib.suppress(ObsdimgError, OSError):
                shown = [mask(line, self._secrets) for line in self._screen() if line.strip()]
        if not shown or shown[-1].strip() in (line.strip() for line in said):
            return ()
        return ("«the screen shows:»", *shown)
