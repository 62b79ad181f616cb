"""A fetch of an install ISO's size over loopback: seconds, memory, killed, resumed, warm.

    .venv/bin/python bench/bench_fetch.py [MEGABYTES]

The ISO is random bytes on the tests' loopback mirror; obsdimg runs as its own process.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "builder"), str(TOP / "tests")]

from standin_release import StandInRelease, standin_release  # noqa: E402


def timed(title: str, release: StandInRelease, *words: str) -> None:
    """Run a fetch, print its seconds."""
    start = time.perf_counter()
    done = release.fetch("--no-packages", "--quiet", *words)
    assert done.returncode == 0, done.stderr
    print(f"{title:34} {time.perf_counter() - start:7.2f} s")


def killed(release: StandInRelease, size: int) -> None:
    """Start a fetch and kill it (SIGKILL) once `size` bytes are there."""
    words = ("--release", "6.6", "--mirror", release.url, "--no-packages")
    child = release.start("fetch", *words)
    while not release.part.exists() or release.part.stat().st_size < size:
        time.sleep(0.002)
        assert child.poll() is None
    status = Path(f"/proc/{child.pid}/status")
    memory = status.read_text().split("VmHWM:")[1].split("\n")[0] if status.exists() else " ?"
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=10)
    print(f"killed at {release.part.stat().st_size} bytes; largest memory{memory}")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 470
    with tempfile.TemporaryDirectory() as folder, standin_release(Path(folder)) as release:
        iso = os.urandom(megabytes * 1_000_000)
        release.publish(iso, hashlib.sha256(iso).hexdigest())
        timed("fetch, verify", release)
        timed("warm", release)
        timed("warm, --reverify", release, "--reverify")
        release.iso.unlink()
        killed(release, megabytes * 500_000)
        timed("resumed, verify", release)
        print(f"ranges asked for: {release.mirror.asked('install66.iso')}")


if __name__ == "__main__":
    main()
