"""A medium that was verified is not hashed again, and must not have changed meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_build_command import medium, project, refused, result, words

from obsdimg.cli.main import main
from obsdimg.image import write

__all__ = ["medium", "project"]


def test_a_medium_touched_before_the_copy_is_refused(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = write.Iso.open

    def touched(path: Path) -> Any:
        os.utime(path, (1, 1))
        return genuine(path)

    monkeypatch.setattr(write.Iso, "open", touched)
    refused(capsys, project, words(project, medium), "changed while it was read")


def test_a_medium_touched_during_the_copy_is_refused_though_its_bytes_are_the_same(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = write.remaster

    def touching(iso: Any, *arguments: Any, **more: Any) -> Any:
        found = genuine(iso, *arguments, **more)
        before = medium.stat()
        os.utime(medium, ns=(before.st_atime_ns, before.st_mtime_ns))  # only ctime tells
        return found

    monkeypatch.setattr(write, "remaster", touching)
    refused(capsys, project, words(project, medium), "changed while it was read")


def test_a_medium_known_from_an_earlier_run_is_not_hashed_again(
    project: Path, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(project, medium)) == 0
    first = result(project).read_bytes()

    def hashed(*_: Any, **__: Any) -> Any:
        raise AssertionError("hashed again")

    monkeypatch.setattr("obsdimg.fetch.cache.sha256_file", hashed)
    assert main(words(project, medium)) == 0
    assert result(project).read_bytes() == first
