"""docs/releases.md says of each release what its file in images/ says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from obsdimg.core.resources import resource
from obsdimg.releases.release import load_release, read_release
from support.release_page import BEGIN, END, proven_table, with_table

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs/releases.md"


def table() -> str:
    files = sorted(resource("images").glob("[0-9][0-9].toml"))
    return proven_table(read_release(path) for path in files)


def test_the_page_is_current() -> None:
    page = PAGE.read_text()
    expected = with_table(page, table())
    if os.environ.get("OBSDIMG_REGENERATE"):
        PAGE.write_text(expected)
        return
    assert page == expected


def test_a_release_that_was_not_run_says_so() -> None:
    release = load_release("7.7")
    unrun = release.model_copy(update={"proven": ()})
    assert "| 7.7 | nothing | two sources agree | two sources agree |" in proven_table([unrun])
    first, second, *_ = release.proven
    assert f"| 7.7 | {first}<br>{second}" in proven_table([release])


def test_a_hash_that_is_missing_or_has_one_source_says_so() -> None:
    assert proven_table([load_release("6.6")]).endswith("| two sources agree | one source |\n")
    assert proven_table([load_release("6.7")]).endswith("| not known |\n")


def test_what_stands_around_the_table_stays_and_a_page_without_marks_is_refused() -> None:
    assert with_table(f"a\n{BEGIN}old\n{END}b\n", "new\n") == f"a\n{BEGIN}new\n{END}b\n"
    with pytest.raises(ValueError, match="lacks"):
        with_table("nothing here", "new\n")
    with pytest.raises(ValueError, match="lacks"):
        with_table(BEGIN, "new\n")
