"""Holds one program's life to its parent's: a stand-alone script, run by `machine.py`.

    python supervisor.py FOLDER DOOMED FDS PROGRAM [ARGUMENT...]

Starts PROGRAM with the file descriptors FDS (comma-separated numbers) and its output in
FOLDER/program.log, prints its exit status as one line on standard output when it ends, and
waits for the end of standard input.  That comes when the parent closes the pipe or dies,
by kill -9 too: then the program is killed and FOLDER removed, and DOOMED (a folder, or
empty), too, unless the parent has written a byte before: its sign of a proper end.  Uses the
standard library only, so that it starts within milliseconds (`python -I -S`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2), Linux


def die_with_parent() -> None:
    """Between fork and exec: SIGKILL when the supervisor goes first (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(argv: list[str]) -> int:
    folder, doomed, fds, words = Path(argv[1]), argv[2], argv[3], argv[4:]
    # Whatever PROGRAM starts holds this pipe's other end: it ends with the last of them.
    living, life = os.pipe()
    with (folder / "program.log").open("wb") as log:
        try:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[life, *(int(fd) for fd in fds.split(",") if fd)],
                preexec_fn=die_with_parent,  # single-threaded here: safe
            )
        except OSError as error:
            log.write(f"{words[0]}: {error.strerror}\n".encode())
            child = None
    for fd in fds.split(","):
        if fd:
            os.close(int(fd))  # so that the parent sees the end when the program ends
    os.close(life)
    print(child.pid if child else 0, flush=True)
    reporter = threading.Thread(target=report, args=(child,), daemon=True)
    reporter.start()
    proper = False
    while os.read(0, 1):
        proper = True
    if child:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
        select.select([living], [], [], 5)
    reporter.join(timeout=5)
    shutil.rmtree(folder, ignore_errors=True)
    if doomed and not proper:
        shutil.rmtree(doomed, ignore_errors=True)
    return 0


def report(child: subprocess.Popen[bytes] | None) -> None:
    """Print the exit status (negative: signal; 127: not started) once it is known."""
    status = child.wait() if child else 127
    with contextlib.suppress(OSError):
        print(status, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's to act on
    sys.exit(main(sys.argv))
