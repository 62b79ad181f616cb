"""The one place where the tool starts other programs and waits for them."""

from __future__ import annotations

import functools
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core.errors import ObsdimgError

_COMPLAINT = 1 << 16


class ProcessError(ObsdimgError):
    """A program is missing, failed, or did not end in time; carries the evidence."""

    def __init__(
        self, message: str, hint: str | None = None, result: Completed | None = None
    ) -> None:
        super().__init__(message, hint)
        self.result = result


@dataclass(frozen=True)
class Completed:
    """A program that has ended: exit code (negative: signal) and what it wrote."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Completed:
    """Run `argv` in a process group of its own with `stdin`, for `timeout` seconds at most.

    Secrets go through `stdin`, never through `argv` or `env`.  On a time-out the whole group
    is killed.  Raises ProcessError when the program is missing, overdue, or (`check`) fails.
    """
    words = tuple(str(a) for a in argv)
    try:
        child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
            preexec_fn=dies_with_us(),
        )
    except FileNotFoundError as error:
        raise ProcessError(f"{words[0]}: program not found", "install it, or see docs/") from error
    except OSError as error:
        raise ProcessError(f"{words[0]}: cannot be started: {error.strerror}") from error
    try:
        out, err = child.communicate(stdin, timeout=timeout)
    except BaseException as error:
        kill_group(child)
        if isinstance(error, subprocess.TimeoutExpired):
            raise ProcessError(f"{words[0]}: not finished after {timeout:g} s, ended") from error
        raise
    result = Completed(words, child.returncode, out, err)
    if check and result.returncode != 0:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ProcessError(f"{words[0]}: exit {result.returncode}: {last[0]}", result=result)
    return result


def pour(
    argv: Sequence[str | Path], sink: Callable[[bytes], object], *, timeout: float
) -> Completed:
    """Run `argv`, and give `sink` what it writes: it never lies in a file, nor whole in memory.

    `stdout` of the result is empty; of its complaints the last 64 KiB are kept.  Raises
    ProcessError as `run` does, but not for an exit code.
    """
    words = tuple(str(a) for a in argv)
    try:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=dies_with_us(),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ProcessError(f"{words[0]}: program not found", "install it, or see docs/") from error
    except OSError as error:
        raise ProcessError(f"{words[0]}: cannot be started: {error.strerror}") from error
    assert child.stdout is not None and child.stderr is not None
    complaint, end = b"", time.monotonic() + timeout
    try:
        with child.stdout, child.stderr, selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            selector.register(child.stderr, selectors.EVENT_READ)
            while selector.get_map():
                if (left := end - time.monotonic()) <= 0:
                    raise subprocess.TimeoutExpired(words, timeout)
                for key, _ in selector.select(left):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is child.stdout:
                        sink(data)
                    else:
                        complaint = (complaint + data)[-_COMPLAINT:]
        child.wait(max(0.0, end - time.monotonic()))
    except BaseException as error:
        kill_group(child)
        if isinstance(error, subprocess.TimeoutExpired):
            raise ProcessError(f"{words[0]}: not finished after {timeout:g} s, ended") from error
        raise
    return Completed(words, child.returncode, b"", complaint)


def dies_with_us() -> Callable[[], None] | None:
    """For Popen's `preexec_fn`: what is started is killed when this process dies (kill -9).

    Linux only.  It is the death of the thread that counts, so none for threads that may end
    before the program does.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    return _asks_for_death()


@functools.cache
def _asks_for_death() -> Callable[[], None]:
    """Made beforehand: between fork and exec nothing that could be locked may be used."""
    import ctypes

    pr_set_pdeathsig = 1  # prctl(2)
    return functools.partial(ctypes.CDLL(None).prctl, pr_set_pdeathsig, signal.SIGKILL)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child's whole process group (it leads its own session) and reap the child."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        child.wait()
