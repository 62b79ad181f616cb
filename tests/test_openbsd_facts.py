"""docs/openbsd.md has what the code cites, and its marks stay in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from obsdimg.smoke import expectations
from obsdimg.smoke.console import Console, Failure, Mark

TOP = Path(__file__).resolve().parents[1]
FACTS = (TOP / "docs/openbsd.md").read_text()
SECTIONS = set(re.findall(r"(?m)^##+ (\d+(?:\.\d+)?)\.? ", FACTS))
FILES = sorted(
    path
    for room in ("builder", "response", "siteXX", "images", "tests", "docs")
    for path in (TOP / room).rglob("*")
    if path.is_file() and path.suffix in (".py", ".sh", ".md", ".toml", ".j2")
)
CITED = r"openbsd\.md`?,?\s+sections?\s+(\d[\d.]*(?:(?:,\s*|\s+and\s+|\s+to\s+)\d[\d.]*)*)"


def cited(text: str) -> list[str]:
    """The sections of the facts that `text` names; a citation may go on in the next line."""
    found = re.findall(CITED, re.sub(r"\n\s*#?\s*", " ", text))
    return [number.rstrip(".") for one in found for number in re.findall(r"\d[\d.]*", one)]


def test_citations_are_found() -> None:
    assert cited("openbsd.md sections 0, 4 and\n13: x; openbsd.md section 2.1).") == [
        "0", "4", "13", "2.1",
    ]  # fmt: skip
    total = sum(len(cited(path.read_text())) for path in FILES if path.name != Path(__file__).name)
    assert total >= 15


def test_every_section_that_is_cited_exists() -> None:
    assert {"0", "2.1", "13", "16"} <= SECTIONS
    missing = [
        f"{path.relative_to(TOP)}: section {number}"
        for path in FILES
        if path.name != Path(__file__).name
        for number in cited(path.read_text())
        if number not in SECTIONS
    ]
    assert not missing


def marks() -> list[Mark | Failure]:
    return [value for value in vars(expectations).values() if isinstance(value, Mark | Failure)]


def test_the_sources_of_what_a_guest_says_are_known() -> None:
    assert len(marks()) > 20
    for mark in marks():
        for word in mark.source.split():
            assert word in (SECTIONS if word.isdigit() else expectations.SOURCES), mark.name


@pytest.mark.parametrize("mark", marks(), ids=lambda m: m.name)
def test_no_source_is_shown_when_a_guest_does_not_answer(mark: Mark | Failure) -> None:
    console = object.__new__(Console)
    console._screenshot = None
    console._screen = None
    console.last = lambda *_: ("booting",)  # type: ignore[method-assign]
    named = {"mark": mark, "failure": None} if isinstance(mark, Mark) else {
        "mark": None, "failure": mark,
    }  # fmt: skip
    error = console.failed("waited 9 s", mark.hint if isinstance(mark, Failure) else None, **named)  # type: ignore[arg-type]
    shown = f"{error.message} {error.hint}"
    assert not re.search(r"\b[ERAS](?:66|19|77)\b|\[[A-Z]", shown)


def test_the_facts_name_no_path_of_a_machine() -> None:
    assert not re.search(r"/work/|/root/(?:wt|notes|private)|/home/|\.mirror", FACTS)
