"""Outside of the sandbox: answers the stand-ins' calls, plays the console, watches the clock.

One loop over three files: the terminal's master side, and two FIFOs of requests (one for the
ramdisk, one for the installed system).  The sandbox's own files are only touched in its
request folders, through descriptors opened beforehand and without following links.
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import shlex
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.rehearsal.call import (
    REGISTRY,
    Call,
    Done,
    Exec,
    Exists,
    Phase,
    ReadFile,
    RefusedError,
    Shell,
    Stdin,
    Step,
    Steps,
    WriteFile,
    fail,
    text,
)
from obsdimg.rehearsal.machine import Operator
from obsdimg.rehearsal.sandbox import OURS, REPLY_SLOTS
from obsdimg.rehearsal.world import World

MENU = "(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? "
REFUSED_STATUS = 70
MAX_INPUT = 256 << 20
"""Bytes of a stand-in's input."""
MAX_TRANSCRIPT = 4 << 20
"""Bytes on the console; more is an endless loop."""
MAX_PRINTED = 8192
"""Bytes of output that the client prints without the help of cat(1)."""
REPLY_SECONDS = 2.0


class End(Enum):
    """Why the rehearsal ended."""

    REBOOT = "reboot"
    EXIT = "exit"
    MENU = "menu"
    REFUSED = "refused"
    WAITING = "waiting"
    LIMIT = "limit"
    FLOOD = "flood"


@dataclass
class _Phase:
    phase: Phase
    requests: int
    folder: int
    replies: int
    pending: bytes = b""


class Server:
    """Runs until the installer has ended, one way or another.  Close it after use."""

    def __init__(
        self,
        root: Path,
        world: World,
        operator: Operator,
        terminal: tuple[int, int],
        alive: Callable[[], bool],
    ) -> None:
        self.world = world
        self.operator = operator
        self.master, self.slave = terminal
        self.alive = alive
        self.transcript = bytearray()
        self.refused: list[str] = []
        self.calls: list[Call] = []
        self._running: dict[tuple[Phase, str], Steps] = {}
        self._fifos: dict[tuple[Phase, str], int] = {}
        self._menus = 0
        self._replied_at = 0
        self._replies = [0] * len(operator.answers)
        self._phases = [
            self._open(root / OURS, "ramdisk"),
            self._open(root / "mnt" / OURS, "installed"),
        ]

    @staticmethod
    def _open(ours: Path, phase: Phase) -> _Phase:
        return _Phase(
            phase,
            os.open(ours / "requests", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC),
            os.open(ours / "q", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
            os.open(ours / "reply", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
        )

    def close(self) -> None:
        """Close the descriptors."""
        for fifo in self._fifos.values():
            os.close(fifo)
        for phase in self._phases:
            os.close(phase.requests)
            os.close(phase.folder)
            os.close(phase.replies)

    def run(self, limit: float, quiet: float) -> End:
        """Serve for `limit` seconds at most; `quiet` seconds without a sign of life end it too."""
        deadline = time.monotonic() + limit
        last = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self.master, selectors.EVENT_READ, None)
            for phase in self._phases:
                selector.register(phase.requests, selectors.EVENT_READ, phase)
            while True:
                events = selector.select(0.1)
                for key, _ in events:
                    if key.data is None:
                        if not self._read_console():
                            return self._ended()
                    else:
                        self._read_requests(key.data)
                now = time.monotonic()
                if events:
                    last = now
                end = self._judge(now, last, deadline, quiet)
                if end is not None:
                    self._drain()
                    return end

    def _judge(self, now: float, last: float, deadline: float, quiet: float) -> End | None:
        if self.refused:
            return End.REFUSED
        if not self.alive():
            return self._ended()
        if self._menus > 1:
            return End.MENU
        if len(self.transcript) > MAX_TRANSCRIPT:
            return End.FLOOD
        if self.world.ended and now - last > 1:
            return End.REBOOT
        if now > deadline:
            return End.LIMIT
        return End.WAITING if now - last > quiet else None

    def _ended(self) -> End:
        self._drain()
        return End.REBOOT if self.world.ended else End.EXIT

    def _drain(self) -> None:
        """Read what is left on the terminal, for a moment at most."""
        os.set_blocking(self.master, False)
        until = time.monotonic() + 0.5
        while time.monotonic() < until and self._read_console():
            pass

    def _read_console(self) -> bool:
        try:
            data = os.read(self.master, 1 << 16)
        except OSError as error:
            return error.errno == errno.EINTR
        seen = max(len(self.transcript) - len(MENU) + 1, 0)
        self.transcript += data
        self._menus += self.transcript.count(MENU.encode(), seen)
        self._answer_prompt()
        return bool(data)

    def _answer_prompt(self) -> None:
        """Type what the operator would at a prompt that stands at the end of the output."""
        window = bytes(self.transcript[self._replied_at :][-4000:])
        shown = window.decode("utf-8", "replace").replace("\r", "")
        for number, reply in enumerate(self.operator.answers):
            found = re.search(f"(?:{reply.prompt})\\Z", shown)
            if found and self._replies[number] < reply.times:
                self._replies[number] += 1
                self._replied_at = len(self.transcript)
                typed = found.expand(reply.answer) if not reply.secret else reply.answer
                os.write(self.master, typed.encode() + b"\n")
                return

    def _read_requests(self, phase: _Phase) -> None:
        try:
            phase.pending += os.read(phase.requests, 1 << 16)
        except BlockingIOError:
            return
        *lines, phase.pending = phase.pending.split(b"\n")
        for line in lines:
            name, _, status = line.decode(errors="replace").partition(" ")
            if re.fullmatch(r"\d+\.\d+", name):
                self._serve(phase, name, status == "0")

    def _serve(self, phase: _Phase, name: str, succeeded: bool) -> None:
        key = (phase.phase, name)
        steps = self._running.pop(key, None)
        try:
            if steps is None:
                steps = self._begin(phase, name)
                step = next(steps)
            else:
                answer = self._get(phase, f"{name}.in") if succeeded else None
                step = steps.send(answer)
        except StopIteration as stop:
            code = self._finish(phase, name, stop.value)
        except RefusedError as error:
            self.refused.append(error.message)
            code = self._finish(phase, name, fail(f"obsdimg: {error.message}", REFUSED_STATUS))
        except ObsdimgError as error:  # a damaged ISO: what a program would call an I/O error
            code = self._finish(phase, name, fail(f"{error.message}: Input/output error"))
        else:
            self._running[key] = steps
            code = self._code(phase, name, step)
        self._apply_echo()
        self._reply(phase, name, code, last=key not in self._running)

    def _begin(self, phase: _Phase, name: str) -> Steps:
        words = self._get(phase, f"{name}.args").decode("utf-8", "surrogateescape").split("\0")
        call = Call(words[0], tuple(words[2:-1]), words[1], phase.phase)
        self.calls.append(call)
        function = REGISTRY.get((call.name, phase.phase))
        if function is None:
            raise RefusedError(f"there is no stand-in for: {' '.join((call.name, *call.args))}")
        return function(call, self.world)

    def _code(self, phase: _Phase, name: str, step: Step) -> str:
        """The ksh that does `step` in the sandbox; it sets `st`, 0 if all went well."""
        quote = shlex.quote
        match step:
            case Stdin():
                return "$H/cat >$q.in"
            case ReadFile(path):
                return f"st=1; [[ -f {quote(path)} ]] && $H/cat <{quote(path)} >$q.in && st=0"
            case Exists(path):
                return f">$q.in; [[ -e {quote(path)} ]] || st=1"
            case WriteFile(path, data, append, mode):
                self._put(phase, f"{name}.data", data)
                arrow = ">>" if append else ">"
                chmod = f" && $H/chmod {quote(mode)} {quote(path)}" if mode else ""
                todo = f"$H/cat $q.data {arrow}{quote(path)}{chmod}"
                return f">$q.in; {{ {todo}; }} 2>/dev/null || st=1"
            case Shell(script, words, data):
                self._put(phase, f"{name}.data", data)
                given = " ".join(quote(word) for word in words)
                return (
                    f"( set -- {given}; {script}; ) </dev/null >$q.in 2>/dev/null || st=1"
                    if words
                    else f"( {script}; ) </dev/null >$q.in 2>/dev/null || st=1"
                )

    def _finish(self, phase: _Phase, name: str, outcome: Done | Exec) -> str:
        if isinstance(outcome, Exec):
            words = " ".join(shlex.quote(word) for word in outcome.args)
            return f"POSIXLY_CORRECT=1 exec $H/{outcome.tool} {words}"
        out = self._output(phase, f"{name}.out", outcome.out, "")
        err = self._output(phase, f"{name}.err", outcome.err, "2")
        return f"{out}{err}exit {outcome.status}"

    def _output(self, phase: _Phase, name: str, data: bytes, to: str) -> str:
        """The ksh that writes `data`: a `print` for a short text, cat(1) for the rest."""
        if not data:
            return ""
        if len(data) <= MAX_PRINTED and b"\0" not in data:
            shown = shlex.quote(data.decode("utf-8", "surrogateescape"))
            return f"print -rn{'u2' if to else ''} -- {shown}; "
        self._put(phase, name, data)
        return f"$H/cat $q.{name.rpartition('.')[2]}{' >&2' if to else ''}; "

    def _reply(self, phase: _Phase, name: str, code: str, *, last: bool) -> None:
        """Hand the client its next piece of ksh.

        The FIFO stays open during the whole call: a client that opened it anew for each piece
        could meet the previous opening, not yet closed, and read its end.
        """
        self._put(phase, f"{name}.do", text(code))
        key = (phase.phase, name)
        fifo = self._fifos.pop(key, None)
        if fifo is None:
            fifo = self._open_fifo(phase, name)
        if fifo is None:  # the client is gone
            self._running.pop(key, None)
            return
        with suppress(OSError):
            os.write(fifo, b"go\n")
        if last:
            os.close(fifo)
        else:
            self._fifos[key] = fifo

    @staticmethod
    def _open_fifo(phase: _Phase, name: str) -> int | None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        slot = str(int(name.partition(".")[0]) % REPLY_SLOTS)
        until = time.monotonic() + REPLY_SECONDS
        while time.monotonic() < until:
            try:
                return os.open(slot, flags, dir_fd=phase.replies)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return None
                time.sleep(0.0003)
        return None

    def _put(self, phase: _Phase, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, 0o600, dir_fd=phase.folder), "wb") as stream:
                stream.write(data)
        except OSError:
            self.refused.append(f"the sandbox's request folder was tampered with ({name})")

    def _get(self, phase: _Phase, name: str) -> bytes:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, dir_fd=phase.folder), "rb") as stream:
                return stream.read(MAX_INPUT)
        except OSError:
            return b""

    def _apply_echo(self) -> None:
        """stty echo and -echo act on the real terminal line."""
        modes = termios.tcgetattr(self.slave)
        wanted = modes[3] | termios.ECHO if self.world.echo else modes[3] & ~termios.ECHO
        if wanted != modes[3]:
            modes[3] = wanted
            termios.tcsetattr(self.slave, termios.TCSANOW, modes)
