"""Several processes of one kind, some at a time: what they say goes to one display."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final

from obsdimg.core.process import dies_with_us

_POLL_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 15.0
"""How long a process may clean up after SIGTERM."""
_LINE: Final = 2000
"""Bytes of a line that are shown."""


@dataclass
class Member:
    """One process: its name, and what is known of it by now."""

    name: str
    code: int | None = None
    """Exit code; negative: the signal that ended it; None: it waits or runs."""
    output: bytes = b""
    """Its standard output, complete once it has ended."""
    last: str = ""
    """The last line that it said on standard error."""
    started: float | None = None
    seconds: float = 0.0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _stdout: IO[bytes] | None = field(default=None, repr=False)
    _rest: bytes = field(default=b"", repr=False)


class CrowdDisplay:
    """Shows the members; this one shows nothing."""

    @contextmanager
    def shown(self, members: Sequence[Member]) -> Iterator[None]:
        yield

    def line(self, member: Member, text: str) -> None:
        """`member` has said a line."""

    def tick(self) -> None:
        """Time has passed, or a member's state has changed."""


class Crowd:
    """Runs processes, `jobs` at a time, without a terminal and each in a session of its own."""

    def __init__(
        self, jobs: int, environment: Mapping[str, str], display: CrowdDisplay | None = None
    ) -> None:
        self.jobs = jobs
        self.environment = dict(environment)
        self.display = display or CrowdDisplay()

    def run(self, commands: Mapping[str, Sequence[str]]) -> list[Member]:
        """Run every command, by name; the members in that order.

        When this is interrupted, those that run get SIGTERM, and SIGKILL if they do not end.
        """
        members = [Member(name) for name in commands]
        waiting = list(members)
        with selectors.DefaultSelector() as selector, self.display.shown(members):
            try:
                while waiting or selector.get_map():
                    while waiting and len(selector.get_map()) < self.jobs:
                        self._start(waiting[0], commands[waiting[0].name], selector)
                        del waiting[0]
                    self._listen(selector)
            finally:
                _end(members)
        return members

    def _start(
        self, member: Member, command: Sequence[str], selector: selectors.BaseSelector
    ) -> None:
        member._stdout = tempfile.TemporaryFile()  # noqa: SIM115 closed in _finish
        member.started = time.monotonic()
        member._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=member._stdout,
            stderr=subprocess.PIPE,
            env=self.environment,
            start_new_session=True,
            preexec_fn=dies_with_us(),
        )
        assert member._process.stderr is not None
        selector.register(member._process.stderr, selectors.EVENT_READ, member)

    def _listen(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(_POLL_SECONDS):
            member: Member = key.data
            data = os.read(key.fd, 65536)
            if data:
                self._heard(member, data)
            else:
                self._finish(member, selector)
        for key in list(selector.get_map().values()):
            # A process of its own may have kept the pipe: it does not hold up the others.
            process = key.data._process
            if process.poll() is not None and not selector.select(0):
                self._finish(key.data, selector)
        self.display.tick()

    def _heard(self, member: Member, data: bytes) -> None:
        *lines, member._rest = (member._rest + data).split(b"\n")
        member._rest = member._rest[:_LINE]
        for line in lines:
            text = line[:_LINE].decode("utf-8", "replace").strip()
            if text:
                member.last = text
                self.display.line(member, text)

    def _finish(self, member: Member, selector: selectors.BaseSelector) -> None:
        process, stdout = member._process, member._stdout
        assert process is not None and process.stderr is not None and stdout is not None
        selector.unregister(process.stderr)
        process.stderr.close()
        code = process.wait()
        if member._rest:
            self._heard(member, b"\n")
        with stdout:
            stdout.seek(0)
            member.output = stdout.read()
        member.seconds = time.monotonic() - (member.started or 0.0)
        member.code = code


def _end(members: Sequence[Member]) -> None:
    """End what still runs."""
    running = [m._process for m in members if m._process is not None and m.code is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
