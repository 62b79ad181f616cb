"""How a sandbox's clients and the rehearsal outside talk: files and FIFOs in one folder.

A client writes its arguments into a file and the file's name into the FIFO `requests`; each
reply is a file with a piece of ksh, announced by a line in the client's own FIFO.  The folder
is the sandbox's: everything in it is opened from a descriptor, without following links, without
waiting, and read up to a limit.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from typing import BinaryIO

from obsdimg.core.errors import ObsdimgError
from obsdimg.rehearsal.call import Phase, text
from obsdimg.rehearsal.inside import open_inside
from obsdimg.rehearsal.root import REPLY_SLOTS, copy_descriptor
from obsdimg.rehearsal.sandbox import OURS, Sandbox

REPLY_SECONDS = 5.0
"""For a client to open its FIFO: a busy machine may not let it run for a while."""
_NAME = re.compile(r"\d{1,9}\.\d{1,9}")
MAX_WAITING = 64
"""Calls that wait for their next piece at a time."""


class TamperedError(ObsdimgError):
    """The sandbox's request folder is not as the clients leave it, or floods us."""


def _tampered(name: str) -> TamperedError:
    return TamperedError(f"the sandbox's request folder was tampered with: {name}")


class Channel:
    """The requests of one sandbox.  Close it after use."""

    def __init__(self, sandbox: Sandbox, phase: Phase) -> None:
        self.phase = phase
        self.host = sandbox.host
        ours = os.open(OURS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=sandbox.folder)
        folder = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            self.requests = os.open("requests", flags, dir_fd=ours)
            self.folder = os.open("q", folder, dir_fd=ours)
            self.replies = os.open("reply", folder, dir_fd=ours)
        finally:
            os.close(ours)
        self._fifos: dict[str, int] = {}
        self._pending = b""

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (*self._fifos.values(), self.requests, self.folder, self.replies):
            os.close(fd)
        self._fifos.clear()

    def read_requests(self) -> list[tuple[str, bool]]:
        """Requests that have come: a call's name, and whether its last piece went well."""
        with suppress(BlockingIOError):
            self._pending += os.read(self.requests, 1 << 14)
        *lines, self._pending = self._pending.split(b"\n")
        if len(self._pending) > 1 << 12:
            raise TamperedError("the sandbox's requests are no lines")
        found = []
        for line in lines:
            name, _, status = line.decode(errors="replace").partition(" ")
            if _NAME.fullmatch(name):
                found.append((name, status == "0"))
        return found

    def put(self, name: str, data: bytes) -> None:
        """Write a file of the folder.  Raises TamperedError."""
        with os.fdopen(self._create(name), "wb") as stream:
            try:
                stream.write(data)
                stream.flush()
            except OSError as error:
                raise TamperedError(f"the sandbox has no room left: {error.strerror}") from error

    def put_from(self, name: str, source: int, limit: int) -> None:
        """Copy at most `limit` bytes of an open file into one of the folder.  Raises
        TamperedError."""
        with os.fdopen(self._create(name), "wb") as stream:
            try:
                copy_descriptor(source, stream.fileno(), limit)
            except OSError as error:
                raise TamperedError(f"the sandbox has no room left: {error.strerror}") from error

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with self.host.owner():
                fd = os.open(name, flags, 0o600, dir_fd=self.folder)
        except OSError as error:
            raise TamperedError(
                f"the sandbox's request folder was tampered with: {name}"
            ) from error
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise _tampered(name)

    def get(self, name: str, limit: int, what: str) -> bytes:
        """A file of the folder, empty where there is none.  Raises TamperedError if it holds
        more than `limit` bytes (`what` it is, for the message)."""
        with self.open(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise TamperedError(f"{what}: more than {limit} bytes")
        return data

    def open(self, name: str) -> BinaryIO:
        """A file of the folder, for reading; an empty one where there is none."""
        try:
            return os.fdopen(open_inside(self.folder, name), "rb")
        except OSError:
            return open(os.devnull, "rb")  # noqa: PTH123

    def forget(self, name: str) -> None:
        """Remove what a finished call no longer needs."""
        for kind in ("args", "in", "data", "env", "spool", "out", "err", "do"):
            with suppress(OSError), self.host.owner():
                os.unlink(f"{name}.{kind}", dir_fd=self.folder)

    def reply(self, name: str, code: str, *, last: bool) -> bool:
        """Hand the client its next piece of ksh; False if the client is gone.

        The FIFO stays open during the whole call: a client that opened it anew for each piece
        could meet the previous opening, not yet closed, and read its end.
        """
        self.put(f"{name}.do", text(code))
        fifo = self._fifos.pop(name, None)
        if fifo is None:
            fifo = self._open_fifo(name)
        if fifo is None:
            return False
        with suppress(OSError):
            os.write(fifo, b"go\n")
        if last:
            os.close(fifo)
        else:
            self._fifos[name] = fifo
        if len(self._fifos) > MAX_WAITING:
            raise TamperedError(f"more than {MAX_WAITING} calls at a time")
        return True

    def _open_fifo(self, name: str) -> int | None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        slot = str(int(name.partition(".")[0]) % REPLY_SLOTS)
        until = time.monotonic() + REPLY_SECONDS
        while time.monotonic() < until:
            try:
                fd = os.open(slot, flags, dir_fd=self.replies)
            except FileNotFoundError:
                return None
            except OSError:
                time.sleep(0.0003)
                continue
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise TamperedError("the sandbox's replies are no FIFOs")
        return None
