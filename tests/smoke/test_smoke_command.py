"""`obsdimg smoke`: what it refuses before anything boots, and a whole run with the stand-in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from obsdimg import cli
from smoke import scripted_guest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a program called qemu-system-x86_64: the scripted guest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OBSDIMG_PASSPHRASE_FILE", raising=False)
    tools = tmp_path / "bin"
    tools.mkdir()
    imports = os.pathsep.join(sys.path)
    fake = tools / "qemu-system-x86_64"
    words = f'"{sys.executable}" "{scripted_guest.__file__}" $SCRIPTED_BRANCH'
    fake.write_text(f'#!/bin/sh\nPYTHONPATH="{imports}" exec {words} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPTED_BRANCH", "good")
    return tmp_path


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["smoke", *words]) == 1
    return capsys.readouterr().err


def test_no_iso_and_no_project_is_a_question(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "which ISO?" in _refused(capsys)


def test_a_missing_iso_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.iso: there is no such ISO" in _refused(capsys, "none.iso")


def test_a_file_that_is_no_iso_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.iso").write_bytes(bytes(100000))
    assert "error:" in _refused(capsys, "x.iso")
    assert not (folder / "cache/smoke").exists()


def test_no_qemu_is_said_with_the_packages(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    said = _refused(capsys, "x.iso")
    assert "qemu-system-x86_64 is not installed" in said and "Homebrew" in said


@pytest.mark.parametrize("size", ["0G", "4", "x", "-1G", "1.5G"])
def test_a_size_that_is_none_is_wrong_usage(folder: Path, size: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["smoke", "x.iso", "--disk-size", size])
    assert caught.value.code == 2
