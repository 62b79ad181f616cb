"""A bench for the server's own scripts: a folder for `/`, and programs that take notes.

The scripts run as they are generated, but for their absolute paths; OpenBSD's /bin/sh is a
ksh, so they run under mksh and lksh, and under what OBSDIMG_KSH names (an OpenBSD ksh, say).
awk is the one true awk (original-awk), as OpenBSD's, and mawk.  Every other program of the
base system is a stand-in that writes its arguments to a journal.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.openbsd_programs import INSTALL
from support.site_fixtures import RECIPE, content, planned

SHELLS = ["mksh", "lksh"] + ([os.environ["OBSDIMG_KSH"]] if "OBSDIMG_KSH" in os.environ else [])
AWKS = ["original-awk", "mawk"]

_PATHS = (
    "/etc /etc",
    "/etc/rc.d ",
    "/etc/rc.firsttime",
    "/etc/wireguard",
    "/etc/hostname.",
    "/etc/netstart",
    "/etc/installurl",
    "/etc/pf.conf",
    "/etc/ssh/",
    "/etc/doas.conf",
    "/usr/sbin/sshd",
    "/var/db/obsdimg",
    "/var/obsdimg",
    "/var/run/obsdimg",
    "/var/run/dmesg.boot",
    "/usr/bin/perl",
    "/dev/console",
    "/usr/local/sbin/obsdimg-",
    "/usr/local/sbin ",
)


def program(name: str) -> str:
    """The path of a program; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@dataclass
class ServerBench:
    """`root` holds what the scripts see as `/`; `run` runs one of them."""

    root: Path
    shell: str = "mksh"
    awk: str = "original-awk"

    def __post_init__(self) -> None:
        for folder in (
            "bin",
            "etc/wireguard",
            "var/db/obsdimg",
            "usr/local/sbin",
            "dev",
            "var/run",
        ):
            (self.root / folder).mkdir(parents=True)
        (self.root / "bin/awk").symlink_to(program(self.awk))
        (self.root / "bin/sh").symlink_to(program(self.shell))
        self.stand_in("install", INSTALL)

    def stand_in(self, name: str, body: str = ":") -> None:
        """A program: it notes its arguments, then does `body` ($T is the root)."""
        path = self.root / ("bin" if not name.startswith("obsdimg-") else "usr/local/sbin") / name
        path.write_text(f'#!/bin/sh\nT={self.root}\necho "{name} $*" >>$T/journal\n{body}\n')
        path.chmod(0o755)

    def install(self, path: str, text: str = RECIPE, version: str = "6.6") -> Path:
        """The generated file for `path`, with its absolute paths led into the root."""
        data = content(planned(text, version), path)
        for prefix in _PATHS:
            data = data.replace(prefix, f"{self.root}{prefix}")
        data = data.replace("PATH=/bin:", f"PATH={self.root}/bin:/usr/bin:/bin:", 1)
        target = self.root / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(data)
        target.chmod(0o755 if data.startswith("#!") else 0o600)
        return target

    def run(self, script: Path, code: int | None = 0) -> str:
        """Run `script`; what it printed on both channels.  `code`: the exit code it must have."""
        done = subprocess.run(
            [program(self.shell), str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
            env={"PATH": "/nowhere"},
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def journal(self) -> list[str]:
        """`PROGRAM ARGUMENTS` of every stand-in that ran, in order."""
        path = self.root / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def read(self, name: str) -> str:
        """A file under the root, or nothing."""
        path = self.root / name
        return path.read_text() if path.exists() else ""
