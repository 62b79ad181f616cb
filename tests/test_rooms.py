"""Imports go one way: each room may use those named beside it, all of them above it in the table.

The same table stands in docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "builder" / "obsdimg"
ROOMS = {
    "core": "",
    "ffs": "core",
    "iso": "core",
    "kernel": "core ffs",
    "signify": "core",
    "tunnel": "core",
    "fetch": "core signify",
    "config": "core tunnel",
    "releases": "core iso signify fetch",
    "project": "core signify tunnel config",
    "site": "core tunnel config releases project",
    "response": "core config releases",
    "image": "core ffs iso kernel signify tunnel fetch config releases project site response",
    "overview": "core config releases site image",
    "standin": "core ffs iso kernel signify",
    "rehearsal": "core ffs iso kernel signify releases response",
    "console": "core tunnel",
    "smoke": "core tunnel project site image console",
    "disk": "core signify smoke",
    "server": "core tunnel config releases project site",
    "deploy": "core signify tunnel config project site image console disk",
    "cli": "core ffs iso signify tunnel fetch config releases project site response image overview"
    " standin rehearsal console smoke disk server deploy",
}


def uses(path: Path) -> set[str]:
    """The rooms that a module imports from, its own included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "obsdimg":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {n[1] for n in names if n[0] == "obsdimg" and len(n) > 1}
    return found - {"__version__"}


def test_every_room_uses_only_rooms_above_it() -> None:
    order = list(ROOMS)
    for room, allowed in ROOMS.items():
        assert all(order.index(one) < order.index(room) for one in allowed.split()), room
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0]
        if room in ROOMS:
            strangers = uses(path) - {room, *ROOMS[room].split()}
            wrong += [f"{path.relative_to(PACKAGE)} uses {one}" for one in sorted(strangers)]
    assert wrong == []


def test_every_folder_is_a_room_and_nothing_stands_in_the_hall() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    assert folders <= set(ROOMS)
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_only_cli_knows_argparse() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != "cli":
            assert not re.search(r"^\s*(?:import|from) argparse", path.read_text(), re.M), path


def test_no_two_modules_share_a_class_name() -> None:
    seen: dict[str, Path] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                own = path.relative_to(PACKAGE).parts[0] == "cli" and node.name == "Options"
                assert own or node.name not in seen, f"{node.name}: {path} and {seen[node.name]}"
                seen[node.name] = path


def test_the_architecture_page_has_this_table() -> None:
    page = (TOP / "docs" / "architecture.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|$", page, re.M))
    assert rows == {room: allowed or "nothing" for room, allowed in ROOMS.items()}
