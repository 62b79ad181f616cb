"""The wheel, made from the sdist as a packager makes it, in an environment of its own.

Nothing is downloaded: the libraries come from the environment of the tests.
"""

from __future__ import annotations

import ast
import email.message
import email.parser
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]


def hatchling(folder: Path, target: str, where: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(where)],
        cwd=folder, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (made,) = where.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatchling(TOP, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return hatchling(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def prefix(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; it sees the tests' libraries behind its own."""
    made = tmp_path_factory.mktemp("prefix")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", str(made), "install", "-q"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True, timeout=300)
    packages = next(made.glob("lib/python3*/site-packages"))
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def run(prefix: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(prefix / "bin/obsdimg"), *words], cwd=cwd, capture_output=True, text=True,
        timeout=600, check=False, env={"PATH": "/usr/bin:/bin", "HOME": str(cwd)},
    )  # fmt: skip


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def test_the_metadata_says_what_somebody_looks_for(wheel: Path) -> None:
    said = metadata(wheel)
    for key in ("Summary", "Author", "Keywords", "Requires-Python", "Description-Content-Type"):
        assert said[key], key
    assert said["License-Expression"] == "ISC"
    assert said["License-File"] == "LICENSE"
    assert len(said.get_all("Requires-Dist") or []) == len(PROJECT["dependencies"])
    assert any(one.startswith("Operating System") for one in said.get_all("Classifier") or [])
    assert "# obsdimg" in str(said.get_payload())


def test_every_library_that_is_imported_is_a_dependency() -> None:
    wanted = {re.split(r"[<>=\[;]", one)[0].lower() for one in PROJECT["dependencies"]}
    owners = packages_distributions()
    for path in (TOP / "builder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )  # fmt: skip
            for name in names:
                top = name.split(".")[0]
                if top in sys.stdlib_module_names or top in ("obsdimg", "keyring"):
                    continue  # keyring: used where it is installed (deploy/credentials.py)
                assert {one.lower() for one in owners[top]} & wanted, f"{path.name}: {name}"


def test_the_wheel_brings_every_shipped_file_and_the_manual_pages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for folder in ("siteXX", "response", "images"):
            for path in (TOP / folder).rglob("*"):
                if path.is_file():
                    inside = f"obsdimg/data/{path.relative_to(TOP)}"
                    assert archive.read(inside) == path.read_bytes(), inside
    code = {p for p in (TOP / "builder/obsdimg").rglob("*") if p.is_file()}
    code = {p for p in code if "__pycache__" not in p.parts}
    assert {str(p.relative_to(TOP / "builder")) for p in code} <= names
    assert not [name for name in names if "test" in name.lower() or "secret" in name.split("/")]


def test_the_sdist_has_what_builds_and_tests_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "uv.lock", "test", "obsdimg", ".ci/setup.sh"} <= names
    assert "tests/packaging/test_installed.py" in names
    assert not [name for name in names if name.startswith((".venv/", ".git/")) or ".iso" in name]


def test_the_installed_tool_runs_the_demo(prefix: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [prefix / "bin/python", "-c", "import obsdimg; print(obsdimg.__file__)"],
        check=True, capture_output=True, text=True, timeout=60, cwd=tmp_path,
    ).stdout  # fmt: skip
    assert where.startswith(str(prefix)), "not the tree's, the installed one"
    done = run(prefix, tmp_path, "demo")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "obsdimg-demo/images/demo-66-amd64.iso").stat().st_size > 1 << 20
    checked = run(prefix, tmp_path, "check", "-c", "obsdimg-demo/obsdimg.toml")
    assert checked.returncode == 0
    assert "System hostname?" in checked.stdout


def test_the_manual_pages_are_where_man_looks(prefix: Path) -> None:
    assert (prefix / "share/man/man1/obsdimg.1").is_file()
    assert (prefix / "share/man/man5/obsdimg.toml.5").is_file()
