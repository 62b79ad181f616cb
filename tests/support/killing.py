"""kill -9 at a chosen moment, the same on every machine: before the N-th change of a file.

A process that has everything imported forks for each run; an audit hook (PEP 578) counts what
changes files and starts programs, and kills the run before number N.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FORKER = r"""
import importlib, json, os, signal, sys
from obsdimg.cli.commands import COMMANDS
from obsdimg.cli.main import main
for name in COMMANDS:
    importlib.import_module(f"obsdimg.cli.{name}")
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
changes = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate",
           "os.symlink", "subprocess.Popen", "socket.connect"}

def play(job, tell):
    count = 0
    def hook(event, args):
        nonlocal count
        if event == "open":
            path, flags = args[0], args[2]
            if isinstance(path, int) or not (isinstance(flags, int) and flags & writing):
                return
            if os.fspath(path).startswith(("/dev/", "/proc/")):
                return
        elif event not in changes:
            return
        count += 1
        os.write(tell, b".")
        if count == job["at"]:
            os.kill(os.getpid(), signal.SIGKILL)
    os.setsid()
    os.chdir(job["cwd"])
    null = os.open(os.devnull, os.O_RDWR)
    said = os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(null, 0), os.dup2(said, 1), os.dup2(said, 2)
    sys.addaudithook(hook)
    os._exit(main(job["words"]))

for line in sys.stdin:
    job = json.loads(line)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        play(job, theirs)
    os.close(theirs)
    count = 0
    while data := os.read(ours, 65536):
        count += len(data)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, count]), flush=True)
"""


class Played(NamedTuple):
    """Of one run: its exit code (-9: killed), how many changes it began, and what it said."""

    code: int
    changes: int
    said: str


class Forker:
    """Runs commands of obsdimg in forks of one process."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment["OBSDIMG_CACHE"] = str(folder / "cache")
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, cwd: Path, *words: str, at: int = 0) -> Played:
        """Run `words` in `cwd`, killed before change `at` (from 1; 0: never)."""
        assert self._process.stdin is not None and self._process.stdout is not None
        job = {"words": words, "cwd": str(cwd), "at": at, "said": str(self._said)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code, changes = json.loads(self._process.stdout.readline())
        return Played(code, changes, self._said.read_text())

    def close(self) -> None:
        self._process.communicate()
