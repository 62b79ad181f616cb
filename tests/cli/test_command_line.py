"""The command line itself: usage, exit codes, start-up; what each command does is elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obsdimg.cli.main import COMMANDS, main


def test_without_a_word_it_explains_itself_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert all(f"    {name}" in said.err for name in COMMANDS)
    assert "Start with `obsdimg demo`" in said.err


@pytest.mark.parametrize(
    "words", [["fly"], ["build", "--fly"], ["client", "-c"], ["inspect", "-c"]]
)
def test_wrong_usage_exits_2_with_the_usage_of_that_command(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    name = f"obsdimg {words[0]}" if words[0] in COMMANDS else "obsdimg"
    assert capsys.readouterr().err.startswith(f"usage: {name} [-h]")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("biuld", "biuld: no such command; did you mean build?"),
        ("chekc", "did you mean check?"),
        ("fly", "fly: no such command; obsdimg --help lists them"),
    ],
)
def test_a_mistyped_command_is_told_which_one_was_meant(
    word: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: obsdimg {name} ")
    assert "--debug" in out


def test_the_version_needs_no_library(tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "obsdimg", "--version"]
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert time.monotonic() - start < 20
    assert done.stdout.startswith("obsdimg ")
    for library in ("pydantic", "cryptography", "rich", "jinja2", "pycdlib", "httpx"):
        assert f" {library}\n" not in done.stderr


def test_a_file_that_may_not_be_read_is_one_error_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(Path, "exists", refuse)
    assert main(["check", "-c", str(tmp_path / "obsdimg.toml")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: {tmp_path}/obsdimg.toml: permission denied"
    assert said[1].startswith("hint: ")
