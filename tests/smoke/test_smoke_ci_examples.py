"""The CI examples call commands and options that exist, and never show the passphrase."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from obsdimg.cli import main as cli

FOLDER = Path(__file__).resolve().parents[2] / "examples/ci"
FILES = sorted(FOLDER.glob("*.yml"))


def test_there_is_one_for_github_and_one_for_gitlab() -> None:
    assert [f.name for f in FILES] == ["gitlab-ci.yml", "obsdimg.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_command_of_an_example_is_understood(path: Path) -> None:
    commands = re.findall(r"(?m)^\s*(?:- run:|run:|-) (obsdimg .*)$", path.read_text())
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)[1:]
        args = cli.parser(words[0]).parse_args(words)
        assert args.command == words[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_passphrase_is_never_an_argument_nor_an_artifact(path: Path) -> None:
    text = path.read_text()
    assert "--passphrase-file" not in text  # it comes by OBSDIMG_PASSPHRASE_FILE
    assert not re.search(r"echo[^\n]*PASSPHRASE\b(?!_)", text)
    artifacts = text[text.index("artifact") :]
    assert "secrets/" not in artifacts


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_an_example_is_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    assert isinstance(yaml.safe_load(path.read_text()), dict)
