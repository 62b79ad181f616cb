"""siteXX/files.toml: every file in use, every condition decided, the README shows what it says.

`OBSDIMG_REGENERATE=1 ./test tests/site/test_site_table.py` writes the README's table anew.
"""

from __future__ import annotations

import os
import re
from typing import get_args

import pytest

from obsdimg.config import parse
from obsdimg.core.resources import resource
from obsdimg.site import table
from obsdimg.site.plan import PACKAGES, Materials
from obsdimg.site.table import Condition, FileRow, SiteTableError, site_table
from support.site_fixtures import RECIPE, UPSTREAM, content, planned

TOP = resource("siteXX")
BEGIN, END = "<!-- from files.toml -->\n", "<!-- end -->\n"


def shown(rows: tuple[FileRow, ...]) -> str:
    """The rows as the README shows them."""
    lines = ["| lands at | mode | made from | when | holds |", "|---|---|---|---|---|"]
    for row in rows:
        made = f"`{row.template}`" if row.template else "(a folder)"
        when = " and ".join(row.when) or "always"
        how = "the server's keys" if row.secret else ""
        path = row.path + (row.each.upper() if row.each else "")
        lines.append(f"| `{path}` | {row.mode:04o} | {made} | {when} | {how} |")
    return "".join(f"{line}\n" for line in lines)


def test_the_readme_shows_the_table() -> None:
    path = TOP / "README.md"
    text = path.read_text()
    head, rest = text.split(BEGIN)
    before, tail = rest.split(END)
    wanted = shown(site_table().files)
    if os.environ.get("OBSDIMG_REGENERATE"):
        path.write_text(head + BEGIN + wanted + END + tail)
        before = wanted
    assert before == wanted
    for condition in get_args(Condition):
        assert f"`{condition}`" in tail, f"what {condition} means is not explained"


def test_every_template_is_in_the_table_and_every_line_has_its_file() -> None:
    found = site_table()
    used = {row.template for row in found.files if row.template}
    used |= {part.template for part in found.parts} | {found.install_site, found.steps}
    others = {"README.md", "base-directories", table.TABLE}
    there = {str(p.relative_to(TOP)) for p in TOP.rglob("*") if p.is_file()} - others
    there = {path for path in there if not path.startswith("remote/")}  # sent when it is needed
    assert used == there
    rows = [(row.path, row.when) for row in found.files]
    assert len(rows) == len(set(rows)), "none twice"
    assert [path for path, _ in rows] == sorted(path for path, _ in rows), "in order"


@pytest.mark.parametrize("version", ["6.6", "7.5"])
@pytest.mark.parametrize("text", [RECIPE, RECIPE + UPSTREAM], ids=["one hop", "two hops"])
def test_no_server_gets_a_file_twice(text: str, version: str) -> None:
    holding = frozenset(get_args(Condition)) - {"wg" if version == "6.6" else "wireguard-go"}
    holding -= set() if "upstream" in text else {"multi-hop"}
    paths = [row.path for row in site_table().files if row.applies(holding)]
    assert len(paths) == len(set(paths))


def test_a_file_ends_in_j2_if_and_only_if_it_has_something_to_fill_in() -> None:
    for folder in ("siteXX", "response"):
        for path in resource(folder).rglob("*"):
            if path.is_file() and path.suffix not in (".md", ".toml"):
                syntax = re.search(r"\{\{|\{%|(?<!\$)\{#", path.read_text()) is not None
                assert syntax == (path.suffix == ".j2"), path


def test_every_condition_is_used() -> None:
    found = site_table()
    used = {c for row in (*found.files, *found.parts) for c in row.when}
    assert used == set(get_args(Condition))


def test_only_secret_files_are_made_with_the_private_key() -> None:
    for row in site_table().files:
        if row.template is None:
            assert not row.secret
        elif not row.secret:
            assert b"server_private_key" not in (TOP / row.template).read_bytes(), row.path


def test_a_row_applies_when_all_its_conditions_hold() -> None:
    resolvers = '[network]\ndns = ["9.9.9.9"]\n'
    recipe = RECIPE.replace("[[network.interfaces]]", f"{resolvers}[[network.interfaces]]")
    old, new = set(planned(recipe, "6.6").sealed), set(planned(recipe, "7.7").sealed)
    assert "/etc/dhclient.conf" in old - new
    assert "/etc/dhcpleased.conf" in new - old
    neither = set(planned(RECIPE, "6.6").sealed)
    assert not neither & {"/etc/dhclient.conf", "/etc/dhcpleased.conf"}
    assert "/usr/local/sbin/obsdimg-upkeep" in neither
    never = set(planned('[upkeep]\nschedule = "never"\n' + RECIPE).sealed)
    assert neither - never == {"/usr/local/sbin/obsdimg-upkeep"}


def test_names_mirror_and_packages_land_where_the_table_says() -> None:
    given = Materials(blocked=("ads.example", "x.example"), installurl="https://mirror.example/pub")
    plan = planned(materials=given)
    assert content(plan, "/etc/installurl") == "https://mirror.example/pub\n"
    assert content(plan, "/var/unbound/etc/block.conf") == (
        'local-zone: "ads.example" always_nxdomain\nlocal-zone: "x.example" always_nxdomain\n'
    )
    assert 'include: "/var/unbound/etc/block.conf"' in content(
        plan, "/var/unbound/etc/unbound.conf"
    )
    assert not any(f.path.startswith(PACKAGES) for f in plan.files)
    assert parse(RECIPE.encode()).tunnel.peers[0].name in content(plan, "/etc/wireguard/names")


def test_a_damaged_table_is_one_error(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("siteXX")
    for text in ("files = [", 'files = [{ path = "/x", mode = "9" }]\n', "x = 1\n"):
        (folder / "files.toml").write_text(text)
        monkeypatch.setattr(table, "resource", lambda *parts: folder / parts[-1])
        site_table.cache_clear()
        with pytest.raises(SiteTableError, match=r"siteXX/files\.toml: ") as caught:
            site_table()
        assert "\n" not in caught.value.message
    site_table.cache_clear()
