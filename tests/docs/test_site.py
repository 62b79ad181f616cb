"""The documents: a site without warnings, commands that exist, messages that are said."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from obsdimg.cli.main import COMMANDS, parser
from obsdimg.cli.servers import BARE_NAMES

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"
MKDOCS = Path(sys.executable).parent / "mkdocs"
PAGES = sorted(DOCS.rglob("*.md"))


def build(configuration: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Not --quiet: that would hide warnings from --strict, too.
        [MKDOCS, "build", "--strict", "-f", configuration, "-d", site],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("site")
    done = build(TOP / "mkdocs.yml", where)
    assert done.returncode == 0, done.stderr
    assert not re.search("(?i)warning|deprecated", done.stderr), done.stderr
    return where


class Loaded(HTMLParser):
    """What a browser fetches when it shows the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") != "canonical":
            self.addresses.append(given.get("href") or "")


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in PAGES:
        built = site / page.relative_to(DOCS).with_suffix(".html")
        for address in Loaded(built.read_text()).addresses:
            assert not address.startswith(("http", "//")), (page, address)
            local = address.partition("?")[0]
            assert not local or (built.parent / local).exists(), (page, address)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (
            ["[x](nowhere.md)", "[y](index.md#nobody)", "![z](pictures/nothing.png)"],
            ["nowhere.md", "#nobody", "nothing.png"],
        ),
        (["[x](../NOWHERE.md)"], ["../NOWHERE.md: there is no such file"]),
    ],
)
def test_a_link_to_nothing_fails_the_build(
    texts: list[str], says: list[str], tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# A page\n\n" + "\n\n".join(texts) + "\n")
    (tmp_path / "docs/site_hook.py").write_text((DOCS / "site_hook.py").read_text())
    without_nav = re.sub(r"^nav:.*", "", (TOP / "mkdocs.yml").read_text(), flags=re.S | re.M)
    (tmp_path / "mkdocs.yml").write_text(without_nav)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    for text in says:
        assert text in done.stderr


def commands(page: Path) -> list[str]:
    """The lines of a page's code blocks that call obsdimg, without comments and redirections."""
    found = []
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(), re.S | re.M):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.sub(r"^(\$ |[*/0-9]+ [*] [*] [*] [*] +)", "", line.strip())
            if "<Tab>" in line:
                continue
            if not line.startswith(("obsdimg ", "./obsdimg ", "../obsdimg ")):
                continue
            line = re.split(r"\s+#|\s{2,}\(|\s*(?:\|\||\||&&|;|[12]?>>?|<\()", line)[0].strip()
            if not re.search(r"[\[\]…]| \.\.\.", line):  # a summary of its usage
                found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    servers = set(re.findall(r"\[servers\.(\w+)", page.read_text()))
    for command in commands(page):
        words = shlex.split(command)[1:]
        if words[0].startswith("-") or words[0] == "…":
            continue
        assert words[0] in COMMANDS, command
        if words[0] in BARE_NAMES:
            words[1:] = itertools.dropwhile(servers.__contains__, words[1:])
        try:
            parser(words[0]).parse_args(words)
        except SystemExit as ended:
            pytest.fail(f"{command}: exit {ended.code}")


def test_there_are_commands_to_look_at() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40
    assert "obsdimg check --html vpn.html" in commands(DOCS / "first-server.md")


OTHERS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED", "Permission denied (publickey)",
    "failed; check /tmp/ai/ai.log", "incorrect passphrase",
}  # fmt: skip
"""What ssh, the installer and the boot loader say."""


def test_what_the_page_of_symptoms_quotes_is_really_said() -> None:
    sources = [
        path.read_text()
        for folder in ("builder/obsdimg", "response", "siteXX")
        for path in (TOP / folder).rglob("*")
        if path.suffix in (".py", ".sh", ".j2", "") and path.is_file()
    ]
    # Strings of Python that are continued on the next line are one.
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources)).replace("$DISK", "sd0")
    for line in (DOCS / "troubleshooting.md").read_text().splitlines():
        if not line.startswith("| ") or line.startswith("| seen"):
            continue
        for quoted in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            if quoted in OTHERS or quoted in COMMANDS:
                continue
            for part in quoted.split("…"):
                assert part.strip() in said, quoted


@pytest.mark.parametrize("page", [*PAGES, *sorted(TOP.glob("*/README.md")), *TOP.glob("*.md")])
def test_a_file_of_the_project_that_a_page_names_is_there(page: Path) -> None:
    """Also in pages about tests, which a move of files does not reach."""
    text = page.read_text()
    folders = "tests|builder|siteXX|bench|examples|tools|images|response|docs"
    for path in re.findall(rf"`((?:{folders})/[A-Za-z0-9_./-]+)`", text):
        assert "NN" in path or (TOP / path).exists(), path
    for name in re.findall(r"\btest_[a-z0-9_]+\.py\b", text):
        assert any((TOP / "tests").rglob(name)), name
