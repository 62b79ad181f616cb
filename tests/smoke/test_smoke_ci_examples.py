"""The CI examples call commands and options that exist, and never show the passphrase."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from obsdimg.cli import main as cli

FOLDER = Path(__file__).resolve().parents[2] / "examples/ci"
FILES = sorted(FOLDER.glob("*.yml"))
BIN = Path(sys.executable).parent


def load(name: str) -> dict[str, Any]:
    value = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(value, dict)
    return value


def action_scripts() -> list[str]:
    return [step["run"] for step in load("action.yml")["runs"]["steps"] if "run" in step]


def test_there_is_an_action_a_workflow_that_calls_it_and_a_job_for_gitlab() -> None:
    assert [f.name for f in FILES] == [
        "action.yml", "github-fleet.yml", "github.yml", "gitlab-ci.yml", "gitlab-fleet.yml",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["github.yml", "github-fleet.yml"])
def test_the_workflow_gives_the_action_what_it_takes(name: str) -> None:
    inputs = load("action.yml")["inputs"]
    (step,) = (step for step in load(name)["jobs"]["server"]["steps"] if "OWNER" in step["uses"])
    assert step["uses"] == "OWNER/obsdimg/examples/ci@" + 40 * "0"
    assert set(step["with"]) <= set(inputs)
    assert {name for name, one in inputs.items() if one.get("required")} <= set(step["with"])


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("action.yml", ["vendor.github-actions"]),
        ("github.yml", ["vendor.github-workflows"]),
        ("github-fleet.yml", ["vendor.github-workflows"]),
        ("gitlab-ci.yml", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
        ("gitlab-fleet.yml", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
)
def test_the_schema_of_its_maker_takes_the_file(
    name: str, schema: list[str], tmp_path: Path
) -> None:
    """SchemaStore's schemas, which check-jsonschema carries along: nothing is downloaded."""
    good = FOLDER / name
    bad = tmp_path / name
    bad.write_text(good.read_text().replace("runs:", "rums:").replace("runs-on:", "runs-in:")
                   .replace("script:\n    - obsdimg", "scrpt:\n    - obsdimg"))  # fmt: skip
    for path, code in ((good, 0), (bad, 1)):
        words = [BIN / "check-jsonschema", "--builtin-schema", *schema, path]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout


def test_zizmor_finds_nothing_in_action_and_workflow(tmp_path: Path) -> None:
    words = [BIN / "zizmor", "--offline", "--persona", "pedantic", "--no-progress"]
    files = [FOLDER / name for name in ("action.yml", "github.yml", "github-fleet.yml")]
    done = subprocess.run(
        [*words, *files], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "action.yml"
    bad.write_text(
        files[0].read_text().replace('"$SMOKE_OPTIONS"', '"${{ inputs.smoke-options }}"')
    )
    done = subprocess.run([*words, bad], capture_output=True, text=True, check=False, timeout=120)
    assert "template-injection" in done.stdout


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say_of_the_scripts() -> None:
    scripts = [*action_scripts(), *load("gitlab-ci.yml")["obsdimg"]["before_script"]]
    for script in scripts:
        done = subprocess.run(
            ["shellcheck", "-s", "bash", "-"], input=script, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["action.yml", "gitlab-ci.yml", "gitlab-fleet.yml"])
def test_every_command_of_an_example_is_understood(name: str) -> None:
    commands = re.findall(
        r"""(?m)^\s*(?:run: '|- )?(?:"\$RUNNER_TEMP/)?obsdimg"? ([a-z].*?)'?$""",
        (FOLDER / name).read_text(),
    )
    assert [command.split()[0] for command in commands] == ["check", "build", "smoke"]
    for command in commands:
        filled = command.replace('"${options[@]}"', "--uefi").replace('"${server[@]}"', "")
        words = shlex.split(filled.replace("$SERVER", "ams"))
        args = cli.parser(words[0]).parse_args(words)
        assert args.command == words[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_passphrase_is_never_an_argument_nor_an_artifact(path: Path) -> None:
    text = path.read_text()
    assert "--passphrase-file" not in text  # it comes by OBSDIMG_PASSPHRASE_FILE
    assert not re.search(r"echo[^\n]*PASSPHRASE\b(?!_)", text)
    if "artifact" in text:
        assert "secrets/" not in text[text.index("artifact") :].replace("secrets/ of the", "")


@pytest.mark.parametrize("name", ["action.yml", "gitlab-ci.yml"])
def test_obsdimg_comes_from_a_commit_and_from_no_index(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert "pip install" not in text
    assert "uv.lock" in text
    assert re.search("(?i)commit", text)


def test_actions_are_pinned_by_commit_with_the_tag_they_were_read_as() -> None:
    uses = [
        line
        for name in ("action.yml", "github.yml", "github-fleet.yml")
        for line in re.findall(r"(?m)^ *(?:- )?uses: (.*)$", (FOLDER / name).read_text())
        if not line.startswith("OWNER/")
    ]
    assert len(uses) == 6
    for line in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_expression_stands_in_a_line_of_shell() -> None:
    scripts = action_scripts()
    assert len(scripts) == 9
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize(
    ("commit", "taken"),
    [("a" * 40, True), ("main", False), ("a" * 39, False), ("v1.0", False), ("", False),
     ("a" * 39 + ";", False), ("A" * 40, False)],
)  # fmt: skip
def test_a_branch_or_tag_in_place_of_the_commit_is_refused(commit: str, taken: bool) -> None:
    job = load("gitlab-ci.yml")["obsdimg"]
    gitlab = next(line for line in job["before_script"] if line.startswith("printf"))
    for script, name in ((action_scripts()[0], "COMMIT"), (gitlab, "OBSDIMG_COMMIT")):
        done = subprocess.run(
            ["bash", "-e", "-c", script], env={"PATH": "/usr/bin:/bin", name: commit}, check=False
        )
        # No ref at all: the action lies in the caller's own repository.
        expected = taken or (commit == "" and name == "COMMIT")
        assert (done.returncode == 0) is expected


def test_the_actions_wrapper_runs_the_tool_of_the_actions_own_commit(tmp_path: Path) -> None:
    """The step "Install obsdimg" with a tree whose `obsdimg` says what it was given."""
    tool = tmp_path / "the tool" / "obsdimg"
    (tool.parent / "examples/ci").mkdir(parents=True)
    tool.write_text('#!/bin/sh\necho "ran with $*"\n')
    tool.chmod(0o755)
    (script,) = (script for script in action_scripts() if "realpath" in script)
    environment = {
        "PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path),
        "ACTION": f"{tool.parent}/examples/ci",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "ran with --version\n"
    again = subprocess.run(
        [tmp_path / "obsdimg", "check", "a b"], check=True, capture_output=True, text=True
    )
    assert again.stdout == "ran with check a b\n"


def test_uv_is_pinned_with_its_hashes() -> None:
    text = (FOLDER.parents[1] / ".ci/uv.txt").read_text()
    assert re.search(r"(?m)^uv==\d+\.\d+\.\d+ ", text)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)) >= 10
    assert "--require-hashes" in (FOLDER.parents[1] / ".ci/setup.sh").read_text()
