"""docs/first-minutes.md: init, check, build on the stand-in, rehearse, as a new user types them.

`OBSDIMG_REGENERATE=1 ./test tests/cli/test_five_minutes.py` writes the page's transcript anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.terminal import TOP, Terminal

pytestmark = pytest.mark.slow  # builds an ISO and plays its installer

PAGE = TOP / "docs" / "first-minutes.md"
PHRASE = "plinth gecko ostrich trapeze bobbin spruce"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@laptop"


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    for pattern, word in (
        (r"warning: OpenBSD \S+ gets no patches.*\n", ""),
        (r"\[\d+\.\d\]", "[NEWEST]"),
        (r"\d+\.\d s", "N s"),
        (r"[0-9a-f]{64}", "HASH"),
        (r"    [a-z]+( [a-z]+){5}", "WORDS"),
        (r"\S*/vpn/", "/vpn/"),
        (r"\d{3,}", "N"),
        (r"[ \t]+", " "),
    ):
        text = re.sub(pattern, word, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def five_minutes(folder: Path) -> str:
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh" / "id_ed25519.pub").write_text(KEY + "\n")
    terminal = Terminal(folder)
    assert terminal.run(
        "obsdimg init vpn",
        ("[later]: ", "vpn.example.org"),
        ("id_ed25519.pub]: ", ""),
        ("[laptop phone operator]: ", ""),
        ("Release of OpenBSD [", "7.9"),
        ("or com0 [vga]: ", ""),
    ) == 0  # fmt: skip
    for line in nexts(terminal.last):
        assert terminal.run(line) == 0
    terminal.folder = folder / "vpn"
    assert terminal.run(
        "obsdimg build --stand-in",
        ("Passphrase: ", "too few"),
        ("Passphrase: ", ""),
        ("Passphrase: ", PHRASE),
        ("again: ", PHRASE),
    ) == 0  # fmt: skip
    assert nexts(terminal.last) == ["obsdimg rehearse"]
    assert terminal.run("obsdimg rehearse", ("is typed): ", PHRASE)) == 0
    return terminal.shown.replace(str(folder), "/home/you")


def nexts(text: str) -> list[str]:
    return re.findall(r"^next: (.+)$", text, re.MULTILINE)


def shortened(text: str) -> str:
    """For the page: of long lists the beginning and the end."""
    lines = [line.rstrip() for line in text.splitlines()]
    out: list[str] = []
    for command in "\n".join(lines).split("\n$ "):
        own = command.splitlines()
        if len(own) > 45:
            own = [*own[:16], "[...]", *own[-24:]]
        out.append("\n".join(own))
    return "\n$ ".join(out) + "\n"


def test_the_page_shows_what_a_new_user_sees(tmp_path: Path) -> None:
    seen = five_minutes(tmp_path / "home")
    text = PAGE.read_text()
    before, rest = text.split("```console\n", 1)
    shown, after = rest.split("```\n", 1)
    if os.environ.get("OBSDIMG_REGENERATE"):
        PAGE.write_text(f"{before}```console\n{shortened(seen)}```\n{after}")
        return
    found, at = normal(seen), 0
    assert len(normal(shown)) > 60
    for part in shown.split("[...]\n"):
        for line in normal(part):
            assert line in found[at:], line
            at = found.index(line, at) + 1
    assert PHRASE not in seen and "too few" not in seen.split("Passphrase: ")[1].split("\n")[0]


def test_on_a_terminal_errors_are_red_unless_no_color_is_set(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for env, red in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal = Terminal(tmp_path / "a", **{"TERM": "xterm", **env})
        assert terminal.run("obsdimg check") == 1
        assert ("\033[1;31merror:\033[0m obsdimg.toml" in terminal.last) is red
        assert ("\033[" in terminal.last) is red
    piped = Terminal(tmp_path / "a", TERM="xterm")
    assert piped.run("obsdimg check 2>&1 | cat") == 0
    assert "\033[" not in piped.last and "error: obsdimg.toml" in piped.last


def test_a_qr_code_that_does_not_fit_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    terminal = Terminal(home)
    init = "obsdimg init -q vpn --endpoint vpn.example.org --peer phone && cd vpn &&"
    assert terminal.run(f"{init} obsdimg client phone --qr") == 1
    assert "columns and" in terminal.last and "--png phone.png" in terminal.last
    assert "▄" not in terminal.last
    large = Terminal(home, lines=60, columns=100)
    assert large.run("cd vpn && obsdimg client phone --qr") == 0
    assert "▄" in large.last
    assert terminal.run("cd vpn && obsdimg client phone --qr | cat") == 0


def test_ctrl_d_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    terminal = Terminal(tmp_path / "a")
    assert terminal.run("obsdimg init vpn", ("[later]: ", "^D")) == 1
    assert "error: " in terminal.last and "Traceback" not in terminal.last
    assert not (tmp_path / "a/vpn").exists()
