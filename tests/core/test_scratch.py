"""Scratch folders: private, gone afterwards, and gone at the next run after kill -9."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from obsdimg.core.files import FileError
from obsdimg.core.scratch import LONGEST_BASE, remove_dead, run_folder, runtime_folder


def test_a_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with run_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "disk").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_at_the_next_and_what_lives_stays(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from obsdimg.core.scratch import run_folder\n"
        "with run_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'disk').write_text('secret'); print(folder, flush=True); input()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    left = Path(child.stdout.readline().strip())
    remove_dead(tmp_path)
    assert (left / "disk").exists()
    child.send_signal(signal.SIGKILL)
    child.wait()
    with run_folder(tmp_path) as folder:
        assert [p for p in tmp_path.iterdir() if p != folder] == []


def test_a_folder_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run-somebody-else").mkdir()
    remove_dead(tmp_path)
    assert (tmp_path / "run-somebody-else").exists()


@pytest.mark.parametrize("moment", ["it is being removed", "it is gone"])
def test_a_folder_that_another_run_takes_for_dead_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between its making and its lock."""
    genuine, calls = fcntl.flock, 0

    def late(lock: int, how: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            shutil.rmtree(next(tmp_path.glob("run-*")))
            if moment == "it is being removed":
                raise BlockingIOError
        genuine(lock, how)

    monkeypatch.setattr("obsdimg.core.scratch.fcntl.flock", late)
    with run_folder(tmp_path) as folder:
        assert (folder / ".lock").exists() and calls == 2
    assert list(tmp_path.iterdir()) == []


def test_the_folder_for_sockets_is_this_users_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="obsdimg-test-", dir="/tmp") as name:
        _is_ours_alone(Path(name), monkeypatch)
    long = "/tmp/" + "x" * LONGEST_BASE
    monkeypatch.setattr("tempfile.tempdir", long)
    assert runtime_folder() == Path(f"/tmp/obsdimg-{os.getuid()}")


def _is_ours_alone(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    assert runtime_folder() == short / "obsdimg"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/" + "x" * LONGEST_BASE)
    monkeypatch.setattr("tempfile.tempdir", str(short))
    found = runtime_folder()
    assert found == short / f"obsdimg-{os.getuid()}" and runtime_folder() == found
    found.chmod(0o755)
    with pytest.raises(FileError, match="not a folder that only this user may use"):
        runtime_folder()
    found.rmdir()
    found.symlink_to(short)
    with pytest.raises(FileError, match="not a folder that only this user may use"):
        runtime_folder()
