"""Outside of the sandbox: answers the stand-ins' calls, plays the console, watches the clock.

One loop over the sandboxes' terminals and request FIFOs.  What comes from in there is foreign:
every input has a size, every number of things an end, and a stand-in that a strange argument
drives into an exception ends the rehearsal as `refused`.
"""

from __future__ import annotations

import os
import selectors
import shlex
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.rehearsal.call import (
    REGISTRY,
    Call,
    Done,
    Exec,
    Exists,
    Installed,
    ReadFile,
    RefusedError,
    Shell,
    Spool,
    Stdin,
    Step,
    Steps,
    WriteFile,
    fail,
)
from obsdimg.rehearsal.channel import Channel, TamperedError
from obsdimg.rehearsal.inside import open_inside
from obsdimg.rehearsal.limits import MAX_ARGUMENTS, MAX_TEXT, RehearsalLimits
from obsdimg.rehearsal.machine import Operator
from obsdimg.rehearsal.programs.system import REBOOTED
from obsdimg.rehearsal.root import PACK, UNPACK, installed_sandbox
from obsdimg.rehearsal.sandbox import OURS, Sandbox
from obsdimg.rehearsal.terminal import Terminal, Typist
from obsdimg.rehearsal.world import World

MENU = "(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? "
REFUSED_STATUS = 70
KEPT = 32
"""Finished calls whose files are still there: the last piece may not be read yet."""
MAX_PRINTED = 8192
"""Bytes of output that the client prints without the help of cat(1)."""


class End(Enum):
    """Why the rehearsal ended."""

    REBOOT = "reboot"
    EXIT = "exit"
    MENU = "menu"
    REFUSED = "refused"
    EXCEEDED = "exceeded"
    WAITING = "waiting"
    LIMIT = "limit"
    FLOOD = "flood"


@dataclass
class _Room:
    """A sandbox that is being served."""

    sandbox: Sandbox
    channel: Channel
    terminal: Terminal
    running: dict[str, Steps] = field(default_factory=dict)
    spools: dict[str, Spool] = field(default_factory=dict)
    finished: deque[str] = field(default_factory=deque)

    def close(self) -> None:
        self.sandbox.stop()
        self.channel.close()
        self.sandbox.close()


@dataclass
class _Visit:
    """A `chroot /mnt` under way: who waits for it, its command, its sandbox once it has one.

    `waiting`: the caller has asked for its next piece; `output` is still to be handed to it.
    """

    name: str
    words: list[str]
    room: _Room | None = None
    waiting: bool = False
    output: bytearray = field(default_factory=bytearray)
    ended: bool = False


class Server:
    """Runs until the installer has ended, one way or another.  Close it after use."""

    def __init__(
        self, sandbox: Sandbox, world: World, operator: Operator, limits: RehearsalLimits
    ) -> None:
        self.world = world
        self.limits = limits
        self.host = sandbox.host
        self.transcript = bytearray()
        self.refused: list[str] = []
        self.exceeded = ""
        self.calls = 0
        self._arguments = 0
        self._typist = Typist(operator)
        self._menus = self._seen = 0
        self._worked: list[int] = []
        self._room = self._open(sandbox, installed=False)
        self._visit: _Visit | None = None
        self._selector = selectors.DefaultSelector()
        self._watch(self._room)

    def _open(self, sandbox: Sandbox, *, installed: bool) -> _Room:
        channel = Channel(sandbox, "installed" if installed else "ramdisk")
        terminal = Terminal(sandbox.master, sandbox.slave, self._typist, self.transcript)
        return _Room(sandbox, channel, terminal)

    def _watch(self, room: _Room) -> None:
        def console() -> None:
            if not room.terminal.read() and room is not self._room:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(room.sandbox.master)

        def requests() -> None:
            for name, succeeded in room.channel.read_requests():
                self._serve(room, name, succeeded)
                if self._over() or self.refused:
                    return

        read = selectors.EVENT_READ
        self._selector.register(room.sandbox.master, read, console)
        self._selector.register(room.channel.requests, read, requests)
        if room.sandbox.output_fd >= 0:
            self._selector.register(room.sandbox.output_fd, read, self._read_visit)

    def close(self) -> None:
        """End what runs, and close the descriptors."""
        if self._visit is not None and self._visit.room is not None:
            self._visit.room.close()
        self._selector.close()
        self._room.channel.close()

    def run(self) -> End:
        """Serve until it ends, or until a limit ends it."""
        now = time.monotonic()
        self._deadline = now + self.limits.seconds
        looked = last = now
        while True:
            events = self._selector.select(0.1)
            try:
                for key, _ in events:
                    handle: Callable[[], None] = key.data
                    handle()
                self._end_visit()
            except TamperedError as error:
                self.exceeded = error.message
            now = time.monotonic()
            if events:
                last = now
            if now - looked > self.limits.watch:
                looked = now
                if self._look():
                    last = now
            end = self._judge(now, last)
            if end is not None:
                self._drain()
                return end

    def _over(self) -> bool:
        return bool(self.exceeded) or time.monotonic() > self._deadline

    def _look(self) -> bool:
        """Whether the sandboxes keep to their limits; whether anything worked since the last
        look, which on a busy machine may be the only sign of life."""
        rooms = [self._room]
        if self._visit is not None and self._visit.room is not None:
            rooms.append(self._visit.room)
        used = [(room, room.sandbox.usage()) for room in rooms]
        for room, usage in used:
            self.exceeded = self.exceeded or room.sandbox.exceeded(usage)
        worked = [usage.ticks for _, usage in used]
        busy, self._worked = worked != self._worked, worked
        return busy

    def _judge(self, now: float, last: float) -> End | None:
        self._count_menus()
        if self.refused:
            return End.REFUSED
        if self.exceeded:
            return End.EXCEEDED
        if not self._room.sandbox.alive():
            return End.REBOOT if self.world.ended else End.EXIT
        if self._menus > 1:
            return End.MENU
        if len(self.transcript) > self.limits.output:
            return End.FLOOD
        if self.world.ended and (now - last > 1 or REBOOTED in self.transcript):
            # After an upgrade .profile would go on: here no machine has gone away.
            return End.REBOOT
        if now > self._deadline:
            return End.LIMIT
        return End.WAITING if now - last > self.limits.quiet else None

    def _count_menus(self) -> None:
        found = self.transcript.count(MENU.encode(), max(self._seen - len(MENU) + 1, 0))
        self._menus += found
        self._seen = len(self.transcript)

    def _drain(self) -> None:
        """Read what is left on the terminals, for a moment at most."""
        until = time.monotonic() + 0.5
        size = -1
        while time.monotonic() < until and size != len(self.transcript):
            size = len(self.transcript)
            if len(self.transcript) <= self.limits.output:
                self._room.terminal.read()

    def _serve(self, room: _Room, name: str, succeeded: bool) -> None:
        if self._visit is not None and room is self._room and name == self._visit.name:
            self._continue_visit(self._visit, succeeded)
            return
        steps = room.running.pop(name, None)
        try:
            if steps is None:
                steps = self._begin(room, name)
                step = next(steps)
            else:
                step = steps.send(self._answer(room, name, succeeded))
        except StopIteration as stop:
            if isinstance(stop.value, Installed):
                self._begin_visit(room, name, stop.value)
                return
            code = self._finish(room, name, stop.value)
        except RefusedError as error:
            self.refused.append(printable(error.message))
            code = self._finish(room, name, fail(f"obsdimg: {error.message}", REFUSED_STATUS))
        except TamperedError:
            raise
        except ObsdimgError as error:  # a damaged ISO: what a program would call an I/O error
            code = self._finish(room, name, fail(f"{error.message}: Input/output error"))
        except (ValueError, ArithmeticError, LookupError, OSError, MemoryError) as error:
            # Foreign arguments: numbers of a thousand digits, no text, and so on.
            what = f"a stand-in was called in a way that it cannot understand ({error})"
            self.refused.append(printable(what)[:300])
            code = self._finish(room, name, fail("obsdimg: not understood", REFUSED_STATUS))
        else:
            room.running[name] = steps
            code = self._code(room, name, step)
        room.terminal.set(self.world.echo, self.world.lines)
        last = name not in room.running
        if not room.channel.reply(name, code, last=last):
            room.running.pop(name, None)
        if last:
            self._forget(room, name)

    def _forget(self, room: _Room, name: str) -> None:
        spool = room.spools.pop(name, None)
        if spool is not None:
            spool.stream.close()
        room.finished.append(name)
        if len(room.finished) > KEPT:
            room.channel.forget(room.finished.popleft())

    def _answer(self, room: _Room, name: str, succeeded: bool) -> bytes | None:
        if not succeeded:
            return None
        spool = room.spools.get(name)
        if spool is not None and not spool.opened:
            spool.stream, spool.opened = room.channel.open(f"{name}.spool"), True
            return b""
        return room.channel.get(f"{name}.in", MAX_TEXT, "a stand-in's input")

    def _begin(self, room: _Room, name: str) -> Steps:
        raw = room.channel.get(f"{name}.args", MAX_ARGUMENTS, "a call's arguments")
        self.calls += 1
        self._arguments += len(raw)
        if self.calls > self.limits.calls or self._arguments > self.limits.arguments:
            raise TamperedError(f"more than {self.limits.calls} calls, or endless arguments")
        words = raw.decode("utf-8", "surrogateescape").split("\0")
        if len(words) < 3:
            raise TamperedError("a call without a name")
        call = Call(words[0], tuple(words[2:-1]), words[1], room.channel.phase)
        function = REGISTRY.get((call.name, call.phase))
        if function is None:
            shown = " ".join((call.name, *call.args))[:300]
            raise RefusedError(f"there is no stand-in for: {shown}")
        return function(call, self.world)

    def _code(self, room: _Room, name: str, step: Step) -> str:
        """The ksh that does `step` in the sandbox; it sets `st`, 0 if all went well."""
        quote = shlex.quote
        match step:
            case Stdin():
                return "$H/cat >$q.in"
            case Spool(path=path):
                room.spools[name] = step
                if not path:
                    return "$H/cat >$q.spool || st=1"
                return f"st=1; [[ -f {quote(path)} ]] && $H/cat <{quote(path)} >$q.spool && st=0"
            case ReadFile(path):
                return f"st=1; [[ -f {quote(path)} ]] && $H/cat <{quote(path)} >$q.in && st=0"
            case Exists(path):
                return f">$q.in; [[ -e {quote(path)} ]] || st=1"
            case WriteFile(path, data, append, mode):
                room.channel.put(f"{name}.data", data)
                arrow = ">>" if append else ">"
                chmod = f" && $H/chmod {quote(mode)} {quote(path)}" if mode else ""
                todo = f"$H/cat $q.data {arrow}{quote(path)}{chmod}"
                return f">$q.in; {{ {todo}; }} 2>/dev/null || st=1"
            case Shell(script, words):
                given = " ".join(quote(word) for word in words)
                setting = f"set -- {given}; " if words else ""
                return f"( {setting}{script}; ) </dev/null >$q.in 2>/dev/null || st=1"

    def _finish(self, room: _Room, name: str, outcome: Done | Exec) -> str:
        if isinstance(outcome, Exec):
            words = " ".join(shlex.quote(word) for word in outcome.args)
            return f"POSIXLY_CORRECT=1 exec $H/{outcome.tool} {words}"
        spooled = "$H/cat $q.spool; " if outcome.spool else ""
        out = self._output(room, f"{name}.out", outcome.out, "")
        err = self._output(room, f"{name}.err", outcome.err, "2")
        clean = "$H/rm -f $q.spool; " if name in room.spools else ""
        return f"{spooled}{out}{err}{clean}exit {outcome.status}"

    def _output(self, room: _Room, name: str, data: bytes, to: str) -> str:
        """The ksh that writes `data`: a `print` for a short text, cat(1) for the rest."""
        if not data:
            return ""
        if len(data) <= MAX_PRINTED and b"\0" not in data:
            shown = shlex.quote(data.decode("utf-8", "surrogateescape"))
            return f"print -rn{'u2' if to else ''} -- {shown}; "
        room.channel.put(name, data)
        return f"$H/cat $q.{name.rpartition('.')[2]}{' >&2' if to else ''}; "

    # chroot /mnt: another sandbox, for one command.

    def _begin_visit(self, room: _Room, name: str, outcome: Installed) -> None:
        if self._visit is not None or room is not self._room:
            raise TamperedError("a chroot inside of a chroot")
        self._visit = _Visit(name, list(outcome.words))
        if not room.channel.reply(name, PACK, last=False):
            self._visit = None

    def _continue_visit(self, visit: _Visit, succeeded: bool) -> None:
        """The caller has done its piece, and asks for the next."""
        visit.waiting = True
        if visit.room is not None:
            return
        channel = self._room.channel
        environment = channel.get(f"{visit.name}.env", MAX_TEXT, "exported variables")
        with channel.open(f"{visit.name}.in") as archive:
            sandbox = installed_sandbox(
                self.host, self.limits, archive.fileno(), environment, visit.words
            )
        channel.forget(visit.name)
        visit.room = self._open(sandbox, installed=True)
        self._watch(visit.room)
        sandbox.release()

    def _read_visit(self) -> None:
        visit = self._visit
        if visit is None or visit.room is None:
            return
        try:
            data = os.read(visit.room.sandbox.output_fd, 4096)
        except OSError:
            data = b""
        if not data:
            visit.ended = True
            with suppress(KeyError, ValueError):
                self._selector.unregister(visit.room.sandbox.output_fd)
        visit.output += data
        if len(visit.output) > self.limits.output:
            self.exceeded = "endless output"

    def _end_visit(self) -> None:
        """Hand on what the new system's command wrote; at its end, fetch the files back."""
        visit = self._visit
        if visit is None or visit.room is None or not visit.waiting:
            return
        channel = self._room.channel
        if visit.output:
            data = bytes(visit.output)
            visit.output.clear()
            visit.waiting = False
            channel.put(f"{visit.name}.out", data)
            channel.reply(visit.name, "$H/cat $q.out", last=False)
            return
        sandbox = visit.room.sandbox
        if sandbox.alive():
            return
        visit.room.terminal.read()
        for fd in (sandbox.master, visit.room.channel.requests, sandbox.output_fd):
            with suppress(KeyError, ValueError):
                self._selector.unregister(fd)
        status = sandbox.child.returncode
        try:
            fd = open_inside(sandbox.folder, f"{OURS}/out")
        except OSError:
            code = ""
        else:
            try:
                channel.put_from(f"{visit.name}.data", fd, self.limits.disk)
            finally:
                os.close(fd)
            code = f"( {UNPACK} ) </dev/null >/dev/null 2>&1; "
        visit.room.close()
        self._visit = None
        channel.reply(visit.name, f"{code}$H/rm -f $q.*; exit {status}", last=True)
