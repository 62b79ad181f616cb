"""kill -9 of a command that has started another program: that is gone, too, whatever it ignores."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
FAR = 60.0
PASSPHRASE = "correct horse battery staple nine"

STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
sys.stdout.write(">> OpenBSD/amd64 BOOT 3.65\\r\\nPassphrase: "); sys.stdout.flush()
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
if len(sys.argv) > 2:
    os.read(0, 1)
    open(sys.argv[2], "w").close()
while True:
    time.sleep(1)
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> list[str]:
    """A program that nothing but SIGKILL ends: its words; it writes its pid to ./pid."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    return [sys.executable, "-u", str(tmp_path / "stubborn.py"), str(tmp_path / "pid")]


def start(folder: Path, *words: str, terminal: int | None = None) -> subprocess.Popen[bytes]:
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder / "tmp")}
    own["OBSDIMG_CACHE"] = str(folder / "cache")
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, env={**os.environ, **own}, stderr=subprocess.PIPE,
        stdin=terminal or subprocess.DEVNULL, stdout=terminal or subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(path: Path, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + FAR
    while not path.exists():
        assert child.poll() is None, child.stderr and child.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    end = time.monotonic() + FAR
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait(FAR)
    assert child.stderr is not None
    child.stderr.close()


WAYS = {
    "a program that is waited for": "from obsdimg.core.process import run\nrun({0}, timeout=300)",
    "one of several": "import os\nfrom obsdimg.core.crowd import Crowd\n"
    "Crowd(1, os.environ).run({{'one': {0}}})",
    "a console's": "import time\nfrom obsdimg.console.address import SerialCommand\n"
    "from obsdimg.console.connect import CommandStream\n"
    "stream = CommandStream(SerialCommand(tuple({0})))\ntime.sleep(300)",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_started_does_not_go_on(tmp_path: Path, stubborn: list[str], way: str) -> None:
    child = start(tmp_path, "-c", WAYS[way].format(stubborn))
    wait_for(tmp_path / "pid", child)
    end(child)
    assert is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("moment", ["at the prompt", "after the passphrase"])
def test_unlock(tmp_path: Path, stubborn: list[str], moment: str) -> None:
    (tmp_path / "phrase").write_text(PASSPHRASE + "\n")
    (tmp_path / "phrase").chmod(0o600)
    address = "exec:" + shlex.join([*stubborn, str(tmp_path / "typed")])
    words = ("unlock", "-q", address, "--no-probe", "--passphrase-file", "phrase")
    child = start(tmp_path, "-m", "obsdimg", *words)
    wait_for(tmp_path / ("pid" if moment == "at the prompt" else "typed"), child)
    end(child)
    assert is_gone(int((tmp_path / "pid").read_text()))
    found = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "phrase"]
    assert not [p for p in found if PASSPHRASE.encode() in p.read_bytes()]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_console(tmp_path: Path, stubborn: list[str]) -> None:
    """While it is on the terminal."""
    ours, theirs = pty.openpty()
    address = "exec:" + shlex.join(stubborn)
    child = start(tmp_path, "-m", "obsdimg", "console", address, terminal=theirs)
    wait_for(tmp_path / "pid", child)
    end(child)
    assert is_gone(int((tmp_path / "pid").read_text()))
    assert list((tmp_path / "tmp").iterdir()) == []
    os.close(ours)
    os.close(theirs)
