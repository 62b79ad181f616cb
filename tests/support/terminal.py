"""obsdimg on a terminal of its own, typed at by a test; what stands on it as text."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pexpect

TOP = Path(__file__).resolve().parents[2]
LIMIT = 300.0
"""Seconds for one command, on a machine that is busy."""


class Terminal:
    """A shell prompt in `folder`: `run` types a command and answers its questions."""

    def __init__(self, folder: Path, *, lines: int = 24, columns: int = 80, **env: str) -> None:
        self.folder, self.shown = folder, ""
        self.size = (lines, columns)
        bin_folder = folder.parent / "bin"
        bin_folder.mkdir(exist_ok=True)
        command = f"{shlex.quote(sys.executable)} -P -m obsdimg"
        script = bin_folder / "obsdimg"
        script.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(TOP / 'builder'))}")
        with script.open("a") as stream:
            stream.write(f' exec {command} "$@"\n')
        script.chmod(0o755)
        self.env = {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "OBSDIMG_CACHE": str(folder.parent / "cache"),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            **env,
        }

    def run(self, command: str, *answers: tuple[str, str]) -> int:
        """The exit code; `answers`: what is waited for, and what is typed then (`^D`: its end)."""
        self.shown += f"$ {command}\n"
        child = pexpect.spawn(
            "/bin/sh", ["-c", command], cwd=str(self.folder), env=self.env,
            encoding="utf-8", timeout=LIMIT, dimensions=self.size,
        )  # fmt: skip
        said: list[str] = []
        try:
            for question, answer in answers:
                child.expect_exact(question)
                said += [str(child.before), question]
                child.sendeof() if answer == "^D" else child.sendline(answer)
            child.expect(pexpect.EOF)
            said.append(str(child.before))
        finally:
            child.close()
        self.last = "".join(said).replace("\r\n", "\n")
        self.shown += self.last
        if child.exitstatus is None:
            raise AssertionError(f"{command}: ended by signal {child.signalstatus}")
        return child.exitstatus
