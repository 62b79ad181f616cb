"""The manual pages: made from the tables of options and settings, judged by mandoc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from obsdimg.cli.main import COMMANDS, parser
from obsdimg.config.document import commented
from support import commands_manual as commands
from support import mdoc
from support import settings_manual as settings

MAN = Path(__file__).resolve().parents[2] / "packaging/man"
PAGES = {"man1/obsdimg.1": commands.manual, "man5/obsdimg.toml.5": settings.manual}
MANDOC = pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    if os.environ.get("OBSDIMG_REGENERATE"):
        (MAN / name).write_bytes(PAGES[name]())
    assert (MAN / name).read_bytes() == PAGES[name](), "OBSDIMG_REGENERATE=1 writes it anew"


def mandoc(data: bytes, *how: str) -> str:
    """What mandoc says or shows of a page."""
    done = subprocess.run(
        ["mandoc", *how], input=data, capture_output=True, timeout=60, check=False
    )
    return (done.stdout + done.stderr).decode()


def complaints(data: bytes) -> list[str]:
    """What `mandoc -Tlint` says, but that the other page is not installed here."""
    return [
        line
        for line in mandoc(data, "-Tlint", "-W", "all").splitlines()
        if not re.search(r"referenced manual not found: Xr obsdimg(\.toml 5| 1)$", line)
    ]


@MANDOC
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_to_say_of_the_page(name: str) -> None:
    assert complaints(PAGES[name]()) == []


@MANDOC
def test_mandoc_would_complain_of_a_page_that_is_wrong() -> None:
    page = PAGES["man1/obsdimg.1"]()
    assert complaints(page.replace(b".Sh DESCRIPTION", b".Sg DESCRIPTION"))
    assert complaints(page.replace(b".El", b"", 1))


@MANDOC
def test_the_reader_sees_every_command_and_every_option() -> None:
    shown = re.sub(r".\x08", "", mandoc(commands.manual(), "-Tutf8", "-Owidth=200"))
    for name in COMMANDS:
        section = re.split(rf"^   {name}$", shown, flags=re.M)[1]
        section = re.split(r"^(?:   )?\S", section, maxsplit=1, flags=re.M)[0]
        assert f"obsdimg {name}" in section
        (subparsers,) = (a for a in parser(name)._actions if a.dest == "command")
        assert isinstance(subparsers.choices, dict)
        for action in subparsers.choices[name]._actions:
            for word in set(action.option_strings) - {"-h", "--help", "-q", "--quiet", "--debug"}:
                assert re.search(rf"^     (?:\S+, )?{word}\b", section, re.M), (name, word)


@MANDOC
def test_the_reader_sees_every_setting() -> None:
    shown = re.sub(r".\x08", "", mandoc(settings.manual(), "-Tutf8", "-Owidth=200"))
    for line in commented().splitlines():
        if heading := re.fullmatch(r"(?:# )?(\[.*\])", line):
            assert f"\n   {heading[1]}\n" in shown, line
        elif setting := re.fullmatch(r"# (\w+) = .*", line):
            assert re.search(rf"^     {setting[1]}\b", shown, re.M), line


def test_text_is_never_taken_for_a_request_of_the_language() -> None:
    assert mdoc.prose("'a' and .b\\c") == ["\\&'a' and .b\\ec"]
    assert mdoc.prose("One. Two OpenBSD, three.") == ["One.", "Two", ".Ox ,", "three."]
    assert mdoc.word("Fl") == '"Fl"'
    assert mdoc.word('say "x"') == '"say ""x"""'


@MANDOC
def test_hostile_text_comes_out_as_it_went_in() -> None:
    text = ".Sh NOT A SECTION \\fBnot bold 'quoted' \"doubly\". 'Next one, and .Xr x 1."
    page = mdoc.page("x", 1, "a test", "November 26, 2026", [".Sh DESCRIPTION", *mdoc.prose(text)])
    shown = " ".join(re.sub(r".\x08", "", mandoc(page, "-Tascii", "-Owidth=200")).split())
    assert " ".join(text.split()) in shown
