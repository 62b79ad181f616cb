"""kill -9 of a command, wherever it is: no process of it goes on, no secret of it lies about.

Each is killed on the stand-in medium; smoke, deploy, ssh and apply have tests of their own.  What
it starts becomes a child of this process when it dies (PR_SET_CHILD_SUBREAPER): nothing can hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.cli.main import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl(2)")
PASSPHRASE = "correct horse battery staple nine"
SETTINGS = """
[release]
version = "6.6"
[access.admin]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@x"]
[tunnel]
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
"""
FAR = 60.0
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "build": (("build", "--stand-in", "--passphrase-file", "phrase"), (0.4, 0.8)),
    "build --rehearse": (
        ("build", "--stand-in", "--rehearse", "--passphrase-file", "phrase"),
        (0.75,),
    ),
    "inspect": (("inspect", "--secrets", ".", "--passphrase-file", "phrase"), (0.6,)),
}
"""A command, and when it is killed: in parts of the time that it takes when it is left alone."""


def children() -> set[int]:
    """Pids of this process's children."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (task / "children").read_text().split()}
    return found


@pytest.fixture
def orphans() -> Iterator[None]:
    """Orphans come to this process while the test runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(36, 1, 0, 0, 0) == 0
    yield
    libc.prctl(36, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "obsdimg.toml").write_text(SETTINGS)
    (folder / "phrase").write_text(f"{PASSPHRASE}\n")
    (folder / "phrase").chmod(0o600)
    words = ["build", "--stand-in", "-q", "-c", str(folder / "obsdimg.toml")]
    assert main([*words, "--weak-passphrase", "--passphrase-file", str(folder / "phrase")]) == 0
    return folder


def secrets(project: Path) -> list[bytes]:
    """The passphrase, and every key as it stands in its file."""
    found = [PASSPHRASE.encode()]
    for path in (project / "secrets").iterdir():
        if path.suffix in (".key", ".psk", ".sec"):
            found.append(path.read_bytes().strip().splitlines()[-1])
    return found


def start(project: Path, tmp: Path, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
    env = {**os.environ, "TMPDIR": str(tmp), "OBSDIMG_CACHE": str(tmp / "cache")}
    argv = [sys.executable, "-m", "obsdimg", *words, *_more(words)]
    return subprocess.Popen(
        argv, cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _more(words: tuple[str, ...]) -> tuple[str, ...]:
    return ("--weak-passphrase",) if words[0] == "build" else ()


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_goes_on_and_nothing_lies_about(
    built: Path, tmp_path: Path, orphans: None, name: str
) -> None:
    words, moments = COMMANDS[name]
    began = time.monotonic()
    start(built, tmp_path, words).wait(FAR)
    whole = time.monotonic() - began
    known = {p for p in built.rglob("*") if p.is_file()}
    for moment in moments:
        before = children()
        child = start(built, tmp_path, words)
        time.sleep(whole * moment)
        child.send_signal(signal.SIGKILL)
        child.wait(FAR)
        until = time.monotonic() + FAR
        while left := children() - before - {child.pid}:
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            assert time.monotonic() < until, f"still there: {left}"
            time.sleep(0.05)
        places = [*tmp_path.rglob("*"), *(p for p in built.rglob("*") if p not in known)]
        for path in places:
            if path.is_file():
                data = path.read_bytes()
                assert not [s for s in secrets(built) if s in data], path
