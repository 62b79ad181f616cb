"""What README and the "next:" lines tell a user to type works as it is printed."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from obsdimg.cli import main as cli
from obsdimg.cli.ui import as_typed
from support.terminal import TOP

NEEDS = {
    "build": "the network",
    "inspect --secrets": "an ISO: in test_five_minutes.py",
    "rehearse": "an ISO: in test_five_minutes.py",
    "smoke": "QEMU",
    "backup": "a terminal",
    "probe": "a server",
    "status": "a server",
    "unlock": "a server",
    "client add": "a server",
}
"""Lines that are only parsed here, and what they would need."""


def readme() -> list[str]:
    """The commands in README's blocks, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```$", (TOP / "README.md").read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.strip()]


def is_only_parsed(line: str) -> bool:
    words = " ".join(shlex.split(line)[1:])
    return any(words.startswith(start) for start in NEEDS)


class Checkout:
    """A folder with the script `obsdimg`, as a checkout has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = folder / "obsdimg"
        script.write_text(
            "#!/bin/sh\n"
            f"PYTHONPATH={shlex.quote(str(TOP / 'builder'))}\n"
            'export PYTHONPATH OBSDIMG_CALLED_AS="$0"\n'
            f'exec {shlex.quote(sys.executable)} -P -m obsdimg "$@"\n'
        )
        script.chmod(0o755)
        self.env = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/opt/homebrew/bin",
            "HOME": str(folder),
            "OBSDIMG_CACHE": str(folder / "cache"),
        }
        self.place = "."

    def type(self, line: str) -> str:
        """What it said; it worked.  `cd` lasts."""
        done = subprocess.run(
            ["/bin/sh", "-c", f"cd {self.place} && {line}"],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if line.startswith("cd ") and "&&" not in line:
            self.place = f"{self.place}/{line[3:]}"
        return done.stdout + done.stderr


def nexts(said: str) -> list[str]:
    return re.findall(r"^next: (.+)$", said, re.MULTILINE)


@pytest.mark.slow  # plays an installer
def test_the_lines_of_the_readme_and_those_they_print_work(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    typed = 0
    for line in readme():
        if is_only_parsed(line):
            cli._parsed(shlex.split(line)[1:])
            continue
        said = checkout.type(line)
        typed += 1
        if line == "./obsdimg demo":
            assert len(said.splitlines()) <= 22 and "NOT_OPENBSD" not in said
            assert "upload" not in said, "nobody uploads a stand-in"
        found = nexts(said)
        assert found or "demo" not in line or "inspect" in line
        for follows in found:
            assert follows.startswith(("./obsdimg ", "../obsdimg ", "cd vpn && ../obsdimg "))
            checkout.type(follows)
            typed += 1
    assert typed >= 8


def test_every_next_line_in_the_code_is_a_command_with_options_that_it_has() -> None:
    found = 0
    for path in (TOP / "builder/obsdimg").rglob("*.py"):
        text = path.read_text()
        assert path.name == "ui.py" or not re.search(r'info\(f?"next:', text), path
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr != "next" or ast.unparse(node.func.value) != "ui":
                continue
            words = [w.value if isinstance(w, ast.Constant) else "x" for w in node.args
                     if not isinstance(w, ast.Starred)]  # fmt: skip
            cli._parsed([str(word) for word in words])
            found += 1
    assert found >= 9


def test_installed_it_calls_itself_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OBSDIMG_CALLED_AS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "my vpn"]) == 0
    assert nexts(capsys.readouterr().err) == ["cd 'my vpn' && obsdimg check"]
    monkeypatch.setenv("OBSDIMG_CALLED_AS", "../obsdimg")
    assert cli.main(["init", "other"]) == 0
    assert nexts(capsys.readouterr().err) == ["cd other && ../../obsdimg check"]
    monkeypatch.setenv("OBSDIMG_CALLED_AS", "obsdimg")
    assert cli.main(["init", "third"]) == 0
    assert nexts(capsys.readouterr().err) == ["cd third && obsdimg check"]


def test_the_script_of_a_checkout_says_how_it_was_called() -> None:
    assert 'export OBSDIMG_CALLED_AS="$0"' in (TOP / "obsdimg").read_text()


def test_a_call_that_a_hint_names_is_written_as_it_is_typed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBSDIMG_CALLED_AS", "../obsdimg")
    assert cli.main(["check"]) == 1
    assert "make one with `../obsdimg init`" in capsys.readouterr().err
    assert as_typed("see `obsdimg client add`; obsdimg.toml, ./obsdimg check, obsdimg inittab") == (
        "see `../obsdimg client add`; obsdimg.toml, ./obsdimg check, obsdimg inittab"
    )
    monkeypatch.delenv("OBSDIMG_CALLED_AS")
    assert cli.main(["check"]) == 1
    assert "make one with `obsdimg init`" in capsys.readouterr().err
