"""`obsdimg disk --write` killed (SIGKILL): what is left here and there, and what comes next."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.core.progress import Progress
from obsdimg.disk.content import UNIT, open_image
from obsdimg.disk.manifest import DiskManifest, IsoPart, NetworkPart, image_part, write_beside
from obsdimg.disk.writing import write_image
from support.rescue_machine import RescueMachine, make_machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
FAR = 120.0
UNITS = 24
FILLED = {0, 1, 2, 20}
WHERE = "root@rescue.example:/dev/vda"


@pytest.fixture(scope="module")
def disk() -> bytes:
    source = random.Random(13)
    return b"".join(source.randbytes(UNIT) if n in FILLED else bytes(UNIT) for n in range(UNITS))


@pytest.fixture
def machine(tmp_path: Path, disk: bytes) -> Iterator[RescueMachine]:
    """A machine, and beside it the image vpn.raw."""
    image = tmp_path / "vpn.raw"
    (tmp_path / "plain").write_bytes(disk)
    with image.open("w+b") as stream:
        written = write_image(open_image(tmp_path / "plain"), "raw", stream, Progress())
    manifest = DiskManifest(
        tool="obsdimg", image=image_part(image.name, written),
        iso=IsoPart(name="x.iso", sha256="0" * 64), release="7.7", firmware="bios",
        random_fill=False, kdf_rounds=64, network=NetworkPart(interface="vio0", also=[]),
        accelerator="tcg", checks=[], proven=False,
    )  # fmt: skip
    write_beside(image, manifest, written, None)
    made = make_machine(tmp_path / "there", UNITS * UNIT)
    yield made
    with contextlib.suppress(FileNotFoundError):
        for pid in map(int, (made.here / "hangs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(_run(made))


def _start(machine: RescueMachine, *words: str) -> subprocess.Popen[bytes]:
    top = machine.here.parent
    own = {
        "PATH": f"{machine.bin}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XDG_RUNTIME_DIR": str(_run(machine)),
    }
    command = ["disk", "vpn.raw", "--write", WHERE, "--yes", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "obsdimg", *command], cwd=top, env={**os.environ, **own},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _run(machine: RescueMachine) -> Path:
    """A folder with a short name: ssh's control socket lies in it (a worker's own is too deep)."""
    name = hashlib.sha256(str(machine.here).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"obsdimg-test-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait(FAR)
    assert child.stdout is not None
    child.stdout.close()


def _until(reached: Path, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + FAR
    while not reached.exists():
        assert child.poll() is None, child.stdout and child.stdout.read().decode()
        assert time.monotonic() < end, reached
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _all_end(pids: list[int]) -> None:
    end = time.monotonic() + FAR
    while left := [pid for pid in pids if _lives(pid)]:
        assert time.monotonic() < end, left
        time.sleep(0.02)


def _pids(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def test_killed_while_it_reads_back(machine: RescueMachine, disk: bytes) -> None:
    """Nothing is left here; the disk does not start; the next run ends what still works there
    and goes on.  Should ssh not tell the machine, its scripts go on with what they were sent."""
    machine.flaw("hang:if=:20")
    child = _start(machine)
    _until(machine.here / "hangs", child)
    _kill(child)
    _all_end(_pids(machine.here / "local"))  # ssh
    left = [p for p in _run(machine).rglob("*") if p.is_file()]
    assert all(p.name in (".lock", "s") and p.stat().st_size == 0 for p in left), left
    assert machine.disk.read_bytes()[:UNIT] == bytes(UNIT)
    there = _pids(machine.here / "hangs")
    assert all(_lives(pid) for pid in there)
    again = _start(machine)
    said = again.communicate(timeout=FAR)[0].decode()
    assert again.returncode == 0, said
    assert "ended there: what a run that was broken off still did" in said
    assert "written and read back" in said
    _all_end(there)
    assert machine.disk.read_bytes() == disk
    assert list(_run(machine).glob("*/*")) == []


def test_killed_while_it_writes_by_the_systems_own_ssh(machine: RescueMachine, disk: bytes) -> None:
    """The login is told by its socket, and the connection ends with its run."""
    machine.by_ssh()
    machine.flaw("hang:of=:20")
    child = _start(machine)
    _until(machine.here / "hangs", child)
    _kill(child)
    _all_end(_pids(machine.here / "local"))
    assert machine.disk.read_bytes()[:UNIT] == bytes(UNIT)
    again = _start(machine)
    said = again.communicate(timeout=FAR)[0].decode()
    assert again.returncode == 0, said
    assert "ended there: what a run that was broken off still did" in said
    _all_end(_pids(machine.here / "local"))
    assert machine.disk.read_bytes() == disk


def test_killed_at_the_login(machine: RescueMachine) -> None:
    machine.flaw("login")
    child = _start(machine)
    _until(machine.here / "local", child)
    _kill(child)
    _all_end(_pids(machine.here / "local"))
    assert machine.disk.read_bytes() == b"\xa5" * UNITS * UNIT


def test_a_login_that_does_not_come_about_is_an_error(machine: RescueMachine) -> None:
    (machine.bin / "ssh").write_text("#!/bin/sh\necho Permission denied >&2\nexit 255\n")
    child = _start(machine)
    said = child.communicate(timeout=FAR)[0].decode()
    assert child.returncode == 1
    assert "Permission denied" in said and "root@rescue.example: cannot log in" in said


def test_what_does_not_end_there_is_named(machine: RescueMachine) -> None:
    """Nothing is written beside it."""
    text = machine.bin / "ssh"
    text.write_text(text.read_text().replace("exec sh -c", 'case $last in *busy*)'
                    ' echo "busy 4711"; echo end; exit 0 ;; esac\nexec sh -c'))  # fmt: skip
    child = _start(machine)
    said = child.communicate(timeout=FAR)[0].decode()
    assert child.returncode == 1
    assert "still works on it there (process 4711), and does not end" in said
    assert machine.disk.read_bytes() == b"\xa5" * UNITS * UNIT
