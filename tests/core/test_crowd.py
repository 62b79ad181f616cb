"""Several processes at once: order, number, what they say, and their end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from obsdimg.core.crowd import Crowd, CrowdDisplay, Member

PYTHON = [sys.executable, "-c"]


def crowd(jobs: int, display: CrowdDisplay | None = None) -> Crowd:
    return Crowd(jobs, os.environ, display)


class Notes(CrowdDisplay):
    """What was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.most = 0
        self.members: list[Member] = []

    def line(self, member: Member, text: str) -> None:
        self.lines.append(f"{member.name}: {text}")


def test_output_comes_in_the_order_of_the_names_and_lines_with_theirs() -> None:
    notes = Notes()
    talk = (
        "import sys,time; time.sleep(float(sys.argv[1])); print(sys.argv[1]);"
        "print('x', file=sys.stderr)"
    )
    found = crowd(2, notes).run({"slow": [*PYTHON, talk, "0.5"], "quick": [*PYTHON, talk, "0"]})
    assert [(m.name, m.output, m.code) for m in found] == [
        ("slow", b"0.5\n", 0),
        ("quick", b"0\n", 0),
    ]
    assert notes.lines == ["quick: x", "slow: x"]


def test_no_more_run_at_a_time_than_is_said(tmp_path: Path) -> None:
    # Each counts the marks of those that run, its own included.
    script = (
        "import os,sys,time,pathlib; f=pathlib.Path(sys.argv[1]); m=f/sys.argv[2]; m.touch();"
        "time.sleep(0.1); print(len(list(f.iterdir()))); m.unlink()"
    )
    commands = {str(n): [*PYTHON, script, str(tmp_path), str(n)] for n in range(6)}
    found = crowd(2).run(commands)
    assert max(int(m.output) for m in found) <= 2
    assert [m.name for m in found] == [str(n) for n in range(6)]


def test_exit_codes_signals_and_unfinished_lines_are_kept() -> None:
    notes = Notes()
    commands: Mapping[str, list[str]] = {
        "three": [*PYTHON, "import sys; sys.stderr.write('error: no'); sys.exit(3)"],
        "killed": [*PYTHON, "import os; os.kill(os.getpid(), 9)"],
    }
    found = crowd(1, notes).run(commands)
    assert [m.code for m in found] == [3, -9]
    assert notes.lines == ["three: error: no"]


def test_one_whose_child_keeps_the_pipe_holds_up_nobody() -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    script = f"import subprocess,sys; print(subprocess.Popen({sleeper}).pid)"
    started = time.monotonic()
    (found,) = crowd(1).run({"parent": [*PYTHON, script]})
    os.kill(int(found.output), 9)
    assert found.code == 0
    assert time.monotonic() - started < 50


def test_when_it_is_interrupted_the_others_end_too(tmp_path: Path) -> None:
    class Impatient(CrowdDisplay):
        def line(self, member: Member, text: str) -> None:
            raise KeyboardInterrupt

    script = (
        "import sys,time,pathlib,os\n"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "print('here', file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    places = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(KeyboardInterrupt):
        crowd(2, Impatient()).run({p.name: [*PYTHON, script, str(p)] for p in places})
    for place in places:
        if place.exists() and place.read_text():
            with pytest.raises(ProcessLookupError):
                os.kill(int(place.read_text()), 0)
