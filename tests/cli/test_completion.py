"""Completion as a shell does it: the real shells, typing a Tab."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from obsdimg.cli import client, completing
from obsdimg.cli.main import COMMANDS, main
from obsdimg.cli.options import specs

TOP = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds; a busy machine starts Python slowly


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a laptop and a phone, and `obsdimg` in bin/."""
    project = tmp_path / "vpn"
    project.mkdir()
    shutil.copy(TOP / "examples/recipe/obsdimg.toml", project)
    program = tmp_path / "bin" / "obsdimg"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={TOP}/builder exec {sys.executable} -m obsdimg "$@"\n'
    )
    program.chmod(0o755)
    return project


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{folder.parent}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder.parent),
        "TERM": "dumb",
    }


@pytest.fixture
def bash(folder: Path, environment: dict[str, str]) -> Iterator[pexpect.spawn[str]]:
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], cwd=str(folder), env=environment,
        encoding="utf-8", timeout=PATIENCE, dimensions=(50, 200),
    )  # fmt: skip
    shell.sendline('PS1="$ "; bind "set enable-bracketed-paste off"')
    shell.sendline('eval "$(obsdimg completion bash)"; echo rea""dy')
    shell.expect("ready")
    yield shell
    shell.close(force=True)


def test_bash_completes_what_can_only_be_one_word(bash: pexpect.spawn[str]) -> None:
    for typed, becomes in (
        ("obsdimg che", "obsdimg check "),
        ("obsdimg client show l", "laptop "),
        ("obsdimg build --reh", "earse "),
        ("obsdimg check -c obs", "dimg.toml "),
        ("./../bin/obsdimg completion f", "ish "),
    ):
        bash.send(f"{typed}\t")
        bash.expect_exact(becomes)
        bash.send("\x15")  # Ctrl-U: the line is given up


def test_bash_lists_the_actions_and_this_projects_clients(bash: pexpect.spawn[str]) -> None:
    bash.send("obsdimg client \t")
    time.sleep(0.1)
    bash.send("\t\t")
    for word in ("laptop", "list", "phone", "rotate"):
        bash.expect(rf"\b{word}\b")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_offers_commands_clients_and_releases(
    folder: Path, environment: dict[str, str]
) -> None:
    lines = ("obsdimg re", "obsdimg client show ", "obsdimg init --release 7")
    script = "obsdimg completion fish | source; " + "; echo ---; ".join(
        f"complete -C '{line}'" for line in lines
    )
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=folder, env=environment, text=True,
        capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    commands, clients, releases = (
        [offered.split("\t")[0] for offered in part.split("\n") if offered]
        for part in done.stdout.split("---\n")
    )
    assert set(commands) == {name for name in COMMANDS if name.startswith("re")}
    assert clients == ["laptop", "phone"]
    assert "7.7" in releases


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_a_client(folder: Path, environment: dict[str, str]) -> None:
    shell = pexpect.spawn(
        "zsh", ["-f", "-i"], cwd=str(folder), env=environment, encoding="utf-8",
        timeout=PATIENCE, dimensions=(50, 200),
    )  # fmt: skip
    shell.sendline("PS1='$ '; autoload -Uz compinit && compinit -u -D")
    shell.sendline('eval "$(obsdimg completion zsh)"; echo rea""dy')
    shell.expect("ready")
    shell.send("obsdimg client show ph\t")
    shell.expect("one ")
    shell.close(force=True)


def test_the_shells_script_says_whom_it_asks(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, registers in {
        "bash": r"complete .*-F _python_argcomplete\S* obsdimg",
        "zsh": r"compdef .*obsdimg",
        "fish": r"complete --command obsdimg",
    }.items():
        assert main(["completion", shell]) == 0
        assert re.search(registers, capsys.readouterr().out), shell


def test_a_shell_that_is_not_known_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "ksh"])
    assert ended.value.code == 2
    assert "bash, zsh, fish" in capsys.readouterr().err.replace("'", "")


def asked(line: str, cwd: Path) -> str:
    """What one Tab brings, without a shell: the protocol itself."""
    out = cwd / "answer"
    environment = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "PYTHONPATH": str(TOP / "builder"),
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "obsdimg"], cwd=cwd, env=environment, timeout=PATIENCE, check=False
    )
    return out.read_text() if out.exists() else ""


def test_a_broken_configuration_offers_the_actions_and_says_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "obsdimg.toml").write_text("[tunnel\n")
    words = asked("obsdimg client ", tmp_path).split()
    assert sorted(words) == sorted(completing.ACTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer", "obsdimg.toml"]


def test_a_project_is_found_from_its_subfolder_and_so_are_its_servers(tmp_path: Path) -> None:
    (tmp_path / "obsdimg.toml").write_text(
        '[[tunnel.peers]]\nname = "laptop"\n[servers.ams.host]\nname = "a"\n'
        '[[servers.par.tunnel.peers]]\nname = "phone"\n'
    )
    below = tmp_path / "images"
    below.mkdir()
    assert asked("obsdimg client show ", below).split() == ["laptop", "phone"]
    (below / "answer").unlink()
    assert asked("obsdimg check --server ", below).split() == ["ams", "par"]


@pytest.mark.parametrize("text", ["tunnel = 3\nservers = []", "[tunnel]\npeers = [1, {name = 2}]"])
def test_a_configuration_of_another_form_offers_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "obsdimg.toml").write_text(text)
    assert asked("obsdimg client show ", tmp_path).split() == []


def test_every_word_of_the_tables_has_its_completer() -> None:
    for name in COMMANDS:
        for _, spec in specs(importlib.import_module(f"obsdimg.cli.{name}").Options):
            assert spec.complete is None or spec.complete in completing._WORDS, (name, spec)


def test_every_command_is_offered(tmp_path: Path) -> None:
    assert set(COMMANDS) <= set(asked("obsdimg ", tmp_path).split())


def test_the_actions_are_those_of_the_command() -> None:
    assert completing.ACTIONS == client.ACTIONS


@pytest.mark.parametrize(
    ("line", "command"),
    [("obsdimg", None), ("obsdimg client sh", "client"), ("obsdimg --version", None),
     ("obsdimg check -c 'a b", "check")],
)  # fmt: skip
def test_the_command_is_found_in_an_unfinished_line(line: str, command: str | None) -> None:
    assert completing.command_in(line) == command
