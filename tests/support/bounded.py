"""Run the command line as a user does, and measure it: nothing foreign may eat the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MOST_SECONDS = 30.0
MOST_MEMORY = 256 << 20

# A process counts as as large as the one that started it, until it has grown beyond (getrusage(2),
# ru_maxrss is kept over execve): between a large pytest and the command stands a small one.
_FORK = """
import json, os, sys
told = int(os.environ.pop("TOLD"))
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
seconds = used.ru_utime + used.ru_stime
os.write(told, json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss]).encode())
"""


@dataclass(frozen=True)
class Measured:
    """What a command did: exit status, output, seconds of processor time, bytes of memory."""

    status: int
    out: str
    err: str
    seconds: float
    memory: int

    def check(self) -> None:
        """One line and a hint at most, in time, in little memory."""
        assert self.seconds < MOST_SECONDS, self
        assert self.memory < MOST_MEMORY, self
        assert "Traceback" not in self.err, self.err
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) <= 1, self.err


def run_measured(*words: object) -> Measured:
    """`obsdimg WORDS`; the processor time is counted, not the clock's: others may be busy."""
    new = tempfile.TemporaryFile
    with new() as out, new() as err, new() as told:
        child = subprocess.Popen(
            [sys.executable, "-c", _FORK, sys.executable, "-m", "obsdimg", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TOLD": str(told.fileno())},
            pass_fds=(told.fileno(),),
        )
        child.wait()
        told.seek(0)
        status, seconds, kilobytes = json.loads(told.read())
        out.seek(0)
        err.seek(0)
        return Measured(
            status,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
            seconds,
            kilobytes * 1024,
        )


def make_iso(folder: Path, target: Path) -> None:
    """An ISO with Rock Ridge names of what lies in `folder`; names of one inode share a place."""
    subprocess.run(
        ["genisoimage", "-quiet", "-R", "-l", "-D", "-cache-inodes", "-o", target, folder],
        check=True,
        capture_output=True,
    )
