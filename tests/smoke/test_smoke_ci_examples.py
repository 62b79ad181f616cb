"""The CI examples call commands and options that exist, and never show the passphrase."""

from __future__ import annotations

import re
import shlex
import subprocess
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_obsdimg_comes_from_a_commit_and_from_no_index(path: Path) -> None:
    text = path.read_text()
    assert "pip install" not in text
    assert "uv.lock" in text
    assert re.search("(?i)commit", text)


def test_actions_are_pinned_by_commit_with_the_tag_they_were_read_as() -> None:
    uses = re.findall(r"(?m)^ *(?:- )?uses: (.*)$", (FOLDER / "obsdimg.yml").read_text())
    assert len(uses) == 6
    for line in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_expression_stands_in_a_line_of_shell() -> None:
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load((FOLDER / "obsdimg.yml").read_text())["jobs"]["server"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step]
    assert len(scripts) == 9
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize(
    ("commit", "taken"),
    [("a" * 40, True), ("main", False), ("a" * 39, False), ("v1.0", False), ("", False),
     ("a" * 39 + ";", False), ("A" * 40, False)],
)  # fmt: skip
def test_a_branch_or_tag_in_place_of_the_commit_is_refused(commit: str, taken: bool) -> None:
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load((FOLDER / "obsdimg.yml").read_text())["jobs"]["server"]["steps"]
    job = yaml.safe_load((FOLDER / "gitlab-ci.yml").read_text())["obsdimg"]
    gitlab = next(line for line in job["before_script"] if line.startswith("printf"))
    for script, name in ((steps[0]["run"], "COMMIT"), (gitlab, "OBSDIMG_COMMIT")):
        done = subprocess.run(
            ["bash", "-e", "-c", script], env={"PATH": "/usr/bin:/bin", name: commit}, check=False
        )
        assert (done.returncode == 0) is taken


def test_uv_is_pinned_with_its_hashes() -> None:
    text = (FOLDER.parents[1] / ".ci/uv.txt").read_text()
    assert re.search(r"(?m)^uv==\d+\.\d+\.\d+ ", text)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)) >= 10
    assert "--require-hashes" in (FOLDER.parents[1] / ".ci/setup.sh").read_text()
