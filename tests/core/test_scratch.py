"""Scratch folders: private, gone afterwards, and gone at the next run after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from obsdimg.core.scratch import remove_dead, run_folder


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
