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
    for module in ("argparse", "pydantic", "cryptography", "rich", "jinja2", "pycdlib", "httpx"):
        assert f" {module}\n" not in done.stderr


def test_a_build_loads_nothing_that_only_a_download_or_a_screen_needs() -> None:
    for module in ("build", "check"):
        code = f"import sys, obsdimg.cli.{module}; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        loaded = set(done.stdout.split())
        strangers = {"ssl", "email", "httpx", "rich", "twisted", "PIL", "zxcvbn", "pexpect"}
        assert not loaded & strangers, module


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


class TestProjectFromASubfolder:
    """Commands find the project whose subfolder they are called in."""

    @pytest.fixture
    def inside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        assert main(["init", str(tmp_path / "vpn"), "-q"]) == 0
        folder = tmp_path / "vpn" / "overlay" / "etc"
        folder.mkdir()
        monkeypatch.chdir(folder)
        return tmp_path / "vpn"

    def test_it_is_found_and_named(self, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["check"]) == 0
        said = capsys.readouterr()
        assert said.err.startswith(f"project: {inside}\n")
        assert "/etc/hostname.wg0" in said.out
        assert main(["client", "phone", "-q"]) == 0
        assert capsys.readouterr().err.count("project:") == 0

    def test_one_that_is_named_is_not_looked_for_elsewhere(
        self, inside: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["check", "-c", "obsdimg.toml"]) == 1
        assert "obsdimg.toml: no configuration here" in capsys.readouterr().err

    def test_another_users_project_above_has_no_say(
        self,
        inside: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        assert main(["check"]) == 1
        assert "no configuration here" in capsys.readouterr().err


def test_options_may_stand_between_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "none.age", "--json", str(tmp_path)]) == 1
    assert "none.age: cannot read the backup" in capsys.readouterr().err


def test_a_mistyped_option_is_told_which_one_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--ofline"])
    assert "did you mean --offline?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["rehearse", "x.iso", "--disk", "4"],
        ["client", "a", "b", "c"],
        ["client", "show", "x", "--apply"],
        ["console", "--json"],
        ["release", "learn"],
        ["status", "--json", "--watch"],
        ["ssh", "--via", "x"],
        ["apply", "--confirm-within", "1"],
        ["init", "x", "--private", "1.2.3.4"],
        ["upload", "--url", "x", "--serve", "y"],
    ],
)
def test_words_that_do_not_fit_together_exit_2_wherever_they_are_typed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.iso").write_bytes(b"")
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2


def test_a_table_in_a_pipe_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from obsdimg.cli.ui import table_console

    table = Table(box=None)
    table.add_column("x", overflow="fold")
    table.add_row("a word " * 100)
    table_console().print(table)
    assert len(capsys.readouterr().out.splitlines()) == 2
