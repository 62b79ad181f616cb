"""The page of `check --html`: it shows what pf does, holds no secret, and needs nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.config import parse
from obsdimg.overview.drawing import WIDTH, Box, draw
from obsdimg.overview.reach import ClientReach, ReachTable, ReachTarget, TargetKind, plan_reach
from obsdimg.overview.rules import EVERYBODY, explain
from obsdimg.project.folder import Project
from obsdimg.site.pf import statements
from support.pf_model import Packet, PfConf, World
from support.site_fixtures import RECIPE, UPSTREAM, content, planned

WORLD = World(
    {
        "vio0": ["203.0.113.5/24"], "vio1": ["172.16.1.3/24"], "tun0": ["10.0.0.1/24"],
        "tun1": ["10.9.0.2/24"], "lo0": ["127.0.0.1/8"],
    },
    "vio0",
)  # fmt: skip
SIX = (
    RECIPE.replace(
        'endpoint = "vpn.example.net"',
        'endpoint = "vpn.example.net"\nipv6 = "fd00:66::1/64"\nalso_ports = [443]',
    )
    .replace('"10.0.0.2"', '"10.0.0.2"\nipv6 = "fd00:66::2"')
    .replace('"10.0.0.3"', '"10.0.0.3"\nipv6 = "fd00:66::3"')
)
OUTSIDE6 = '[network]\nipv6 = "autoconf"\n' + SIX
SITES = (
    RECIPE
    + """internet = false
networks = ["192.168.40.0/24"]
reached_from = ["172.16.1.0/24"]
[[tunnel.peers]]
name = "tablet"
ipv4 = "10.0.0.4"
reach = ["192.168.40.0/24"]
"""
)
VARIANTS = {
    "recipe": RECIPE,
    "resolvers outside": RECIPE.replace("[tunnel]\n", '[tunnel]\ndns = ["9.9.9.9"]\n'),
    "clients meet": RECIPE.replace("[tunnel]\n", "[tunnel]\nclients_meet = true\n"),
    "split, no ssh": RECIPE + "internet = false\nssh = false\n",
    "multi-hop": RECIPE + UPSTREAM,
    "ssh from anywhere": RECIPE.replace(
        "[access.admin]", '[access]\nssh_from = "anywhere"\n[access.admin]'
    ),
    "window and rescue": RECIPE.replace(
        "[access.admin]", "[access]\nssh_window_minutes = 30\nrescue_minutes = 20\n[access.admin]"
    ),
    "IPv6": SIX,
    "IPv6 autoconfigured": OUTSIDE6,
    "a network behind a client": SITES,
    "an MTU of its own": RECIPE + "mtu = 1280\n",
    "no peer": RECIPE.partition("[[tunnel.peers]]")[0],
    "first boot": RECIPE.replace("[tunnel]\n", '[tunnel]\nkeys = "first-boot"\n'),
}  # fmt: skip


@pytest.mark.parametrize("version", ["6.6", "7.7"])
@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_every_rule_that_is_generated_has_its_sentence_and_none_is_lost(
    text: str, version: str
) -> None:
    plan = planned(text, version)
    pf_conf = content(plan, "/etc/pf.conf")
    groups = explain(pf_conf, plan.tunnel)
    assert [rule.text for g in groups for rule in g.rules if not rule.means] == []
    shown = sorted(rule.text for g in groups for rule in g.rules)
    assert shown == sorted(statements(pf_conf))


def test_a_clients_rules_stand_under_its_name_and_call_it_by_it() -> None:
    plan = planned()
    groups = explain(content(plan, "/etc/pf.conf"), plan.tunnel)
    assert [g.title for g in groups][:3] == ["laptop", "phone", EVERYBODY]
    assert [rule.means for rule in groups[0].rules] == [
        "laptop may log in to the server by ssh.",
        "laptop may reach the internet: every address that is not private.",
        "laptop may reach the network 172.16.1.0/24 behind the server.",
    ]
    assert "172.16.1.0/24" not in " ".join(rule.text for rule in groups[1].rules)


def test_a_rule_of_somebody_else_is_shown_without_a_sentence_under_the_client_it_names() -> None:
    plan = planned()
    own = 'pass in on $tunnel from 10.0.0.3 to 192.0.2.9 # a note\nload anchor x from "/etc/x"\n'
    (phone, rest) = explain(own, plan.tunnel)
    assert (phone.title, [r.text for r in phone.rules]) == (
        "phone", ["pass in on $tunnel from 10.0.0.3 to 192.0.2.9"],
    )  # fmt: skip
    assert {rule.means for rule in (*phone.rules, *rest.rules)} == {""}


@pytest.mark.parametrize(
    "text",
    [
        VARIANTS[name]
        for name in (
            "recipe",
            "resolvers outside",
            "clients meet",
            "split, no ssh",
            "a network behind a client",
        )
    ],
)
def test_the_table_says_what_pf_decides(text: str) -> None:
    plan = planned(text)
    table = plan_reach(parse(text.encode()), plan.tunnel)
    rules = PfConf(content(plan, "/etc/pf.conf"), WORLD)
    to = {
        TargetKind.INTERNET: ("192.0.2.7", "tcp", 443, "vio0"),
        TargetKind.SSH: ("10.0.0.1", "tcp", 22, None),
        TargetKind.RESOLVER: ("10.0.0.1", "udp", 53, None),
        TargetKind.CLIENTS: ("10.0.0.77", "tcp", 80, "tun0"),
    }
    networks = {
        "172.16.1.0/24": ("172.16.1.9", "tcp", 80, "vio1"),
        "192.168.40.0/24": ("192.168.40.9", "tcp", 80, "tun0"),
    }
    assert len(table.clients) >= 2
    for client in table.clients:
        for target, allowed in zip(table.targets, client.allowed, strict=True):
            address, protocol, port, out = networks.get(target.name) or to[target.kind]
            packet = Packet("in", "tun0", client.addresses[0], address, protocol, port)
            if out is None:
                passed = rules.decide(packet).passed
            else:
                first, second = rules.route(packet, out)
                passed = first.passed and second is not None and second.passed
            assert passed is allowed, (client.name, target)


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@pytest.mark.parametrize(("clients", "networks"), [(0, 0), (1, 0), (2, 1), (1, 6), (40, 3)])
def test_nothing_of_the_drawing_covers_another_or_leaves_the_picture(
    clients: int, networks: int
) -> None:
    targets = [
        ReachTarget(TargetKind.INTERNET, "the internet", "x"),
        *(ReachTarget(TargetKind.NETWORK, f"10.{n}.0.0/16", "vio1") for n in range(networks)),
        ReachTarget(TargetKind.SSH, "ssh"), ReachTarget(TargetKind.RESOLVER, "DNS"),
        ReachTarget(TargetKind.CLIENTS, "other clients"),
    ]  # fmt: skip
    table = ReachTable(
        tuple(targets),
        tuple(
            ClientReach(f"client-with-a-long-name-{n}", (f"10.0.0.{n + 2}",), True,
                        (True,) * len(targets))
            for n in range(clients)
        ),
    )  # fmt: skip
    drawing = draw(table, ("a" * 60, "OpenBSD 7.9"), ("WireGuard", "UDP 53"))
    boxes = [*drawing.clients, drawing.tunnel, drawing.server, *drawing.targets]
    for one, other in combinations(boxes, 2):
        assert not overlap(one, other), (one.title, other.title)
    for box in boxes:
        assert box.x >= 0 and box.x + box.width <= WIDTH
        assert box.y >= 0 and box.y + box.height <= drawing.height
    for chip in drawing.chips:
        assert drawing.server.x <= chip.x
        assert chip.x + chip.width <= drawing.server.x + drawing.server.width
    assert len(drawing.lines) == clients * (2 + networks)
    assert all(len(box.title) <= 24 for box in boxes)


class Outline(HTMLParser):
    """What a page refers to, and whether its elements are closed in order."""

    VOID = ("meta",)

    def __init__(self, page: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refers += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refers += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("p", "li", "tr", "td", "th"):
            while self.open and self.open[-1] in ("p", "li", "tr", "td", "th"):
                self.open.pop()
            assert self.open.pop() == tag
        elif tag in self.open:
            while self.open.pop() != tag:
                pass


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "obsdimg.toml").write_text(
        RECIPE.replace("[tunnel]", "[packages]\ncarry = false\n[tunnel]")
    )
    return tmp_path


def written(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    page = project / "page.html"
    assert main(["check", "-c", str(project / "obsdimg.toml"), "--html", str(page)]) == 0
    assert f"wrote {page}" in capsys.readouterr().err
    return page.read_text()


def test_the_page_is_whole_and_needs_nothing_else(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = written(project, capsys)
    outline = Outline(page)
    assert outline.open == []
    assert all(one.startswith("#") and one[1:] in outline.ids for one in outline.refers)
    assert "<script" not in page
    assert "url(" not in page
    assert "@import" not in page
    (svg,) = re.findall(r"<svg.*?</svg>", page, re.S)
    ET.fromstring(svg)
    for text in ("laptop", "172.16.1.0/24", "System hostname?", "/etc/pf.conf", "Ways in"):
        assert text in page
    assert written(project, capsys) == page, "the same project, the same bytes"


def test_the_page_holds_none_of_the_projects_secrets(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(project, capsys)
    keys = Project.open(project / "obsdimg.toml").keys()
    page = written(project, capsys)
    assert page == before, "with and without keys"
    assert "&lt;public key of laptop&gt; laptop" in page
    files = [path for path in (project / "secrets").iterdir() if path.suffix != ".pub"]
    assert len(files) >= 5
    for path in files:
        for line in path.read_text().splitlines():
            assert len(line) < 20 or "comment" in line or line not in page, path
    assert keys.server is not None
    assert keys.server_public is not None
    assert keys.server_public.text() not in page
    assert keys.server.reveal() not in page
    assert "/etc/hostname.wg0 " in page.replace("\n", " "), "sealed, and named"


def test_what_comes_from_the_overlay_is_text_and_never_markup(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    etc = project / "overlay" / "etc"
    etc.mkdir(parents=True)
    (etc / "motd").write_text("alert(1)")
    (etc / "ssh").mkdir()
    (etc / "ssh/ssh_host_ed25519_key").write_text("a key of the user's\n")
    (etc / "pf.conf").write_text('pass in from 10.0.0.2 # <b>\npass out label "<img src=x#1>"\n')
    page = written(project, capsys)
    assert "<script" not in page
    assert "&lt;img src=x#1&gt;" in page, "no comment begins in a label"
    assert "/etc/ssh/ssh_host_ed25519_key" in page
    assert "/etc/motd" in page
    assert "a key of the user" not in page, "named, and not shown"
    assert "alert(1)" not in page
    assert "<img" not in page
    assert "takes the place of the generated /etc/pf.conf" in page
    assert "no explanation" in page
    assert Outline(page).open == []


def test_a_page_that_cannot_be_written_is_one_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = project / "nowhere" / "page.html"
    assert main(["check", "-c", str(project / "obsdimg.toml"), "--html", str(page)]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_without_a_client_the_page_says_how_to_add_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "obsdimg.toml").write_text(VARIANTS["no peer"] + "[packages]\ncarry = false\n")
    page = written(project, capsys)
    assert "There is no client yet" in page
    assert Outline(page).open == []


def test_several_servers_have_a_page_each_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = RECIPE.partition("[[network.interfaces]]")[0].replace('name = "vpn"\n', "")
    (tmp_path / "obsdimg.toml").write_text(
        text + "[packages]\ncarry = false\n"
        '[servers.ams.tunnel]\nendpoint = "ams.example.net"\nipv4 = "10.1.0.1/24"\n'
        '[servers.fra.tunnel]\nendpoint = "fra.example.net"\nipv4 = "10.2.0.1/24"\n'
    )
    words = ["check", "-c", str(tmp_path / "obsdimg.toml"), "--all", "--html"]
    assert main([*words, str(tmp_path / "page.html")]) == 2
    assert "is one file for several servers" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
    assert main([*words, str(tmp_path / "{server}.html")]) == 0
    assert "10.1.0.1" in (tmp_path / "ams.html").read_text()
    assert "10.2.0.1" in (tmp_path / "fra.html").read_text()
