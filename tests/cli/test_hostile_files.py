"""Files that are none, or hold what nobody means: one line, soon, wherever one is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.core.documents import LONGEST_LINE, from_json, from_toml
from obsdimg.core.files import FileError, read_file
from support.bounded import run_measured


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo", 0o600)
    return tmp_path / "fifo"


READERS: dict[str, Callable[[str], list[str]]] = {
    "configuration": lambda f: ["check", "-c", f],
    "backup": lambda f: ["restore", f, "--passphrase-file", "phrase"],
    "signature": lambda f: ["verify", "--key", "6.6-base", f],
    "key to verify with": lambda f: ["verify", "--key", f, "phrase"],
    "ssh key": lambda f: ["init", "-y", "new", "--ssh-key", f],
    "console's address": lambda f: ["console", "--text", f"@{f}"],
    "image of a disk": lambda f: ["disk", "--write", "root@127.0.0.1:/dev/vda", "--yes", f],
    "ISO": lambda f: ["inspect", f],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", ["a FIFO", "/dev/zero", "3 GB"])
def test_one_line_and_no_waiting(
    reader: str, what: str, fifo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("phrase").write_text("correct horse battery staple nine\n")
    Path("phrase").chmod(0o600)
    if what == "3 GB":
        with Path("large").open("wb") as stream:
            stream.truncate(3 << 30)
        Path("large").chmod(0o600)
    path = {"a FIFO": "fifo", "3 GB": "large"}.get(what, what)
    assert main(READERS[reader](path)) == 1
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert (len(errors) == 1 and Path(path).name in errors[0]) or reader == "console's address"


def test_a_file_in_the_overlay_that_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "-q", "-y", str(tmp_path / "p"), "--endpoint", "vpn.example.net"]) == 0
    with (tmp_path / "p/overlay/large").open("wb") as stream:
        stream.truncate(3 << 30)
    assert main(["check", "-c", str(tmp_path / "p/obsdimg.toml")]) == 1
    assert "large: has more than 64 MB" in capsys.readouterr().err


DOCUMENTS = {
    "arrays in arrays": b"a = " + b"[" * 200_000 + b"]" * 200_000,
    "tables in tables": b"a = " + b"{a=" * 100_000 + b"1" + b"}" * 100_000,
    "a key of many parts": b"[" + b"a." * 100_000 + b"a]",
    "a number of many digits": b"a = " + b"9" * 20_000,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_hostile_configuration(name: str, tmp_path: Path) -> None:
    (tmp_path / "obsdimg.toml").write_bytes(DOCUMENTS[name] + b"\n")
    done = run_measured("check", "-c", tmp_path / "obsdimg.toml")
    done.check()
    assert done.status == 1 and "obsdimg.toml: not TOML" in done.err, done.err


def test_what_is_wrong_is_a_value_error() -> None:
    for data in ("[" * 200_000, "9" * 100_000, "{", b"\xff"):
        with pytest.raises(ValueError):
            from_json(data)
    with pytest.raises(ValueError, match="line 2 has more than"):
        from_toml(b"a = 1\nb = '" + b"x" * LONGEST_LINE + b"'")
    assert from_toml(b"a = '" + b"x" * (LONGEST_LINE - 10) + b"'")


def test_a_manifest_of_a_disk_that_is_nested_too_deeply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v.raw").write_bytes(bytes(1 << 20))
    (tmp_path / "v.raw.json").write_text("[" * 20_000 + "]" * 20_000)
    assert main(["disk", "--write", "root@127.0.0.1:/dev/vda", "--yes", str(tmp_path / "v.raw")])
    assert "v.raw.json: is no manifest of a disk" in capsys.readouterr().err


def test_the_limit_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2 << 20))
    assert len(read_file(tmp_path / "f", "file", largest=2 << 20)) == 2 << 20
    with pytest.raises(FileError, match="has more than 1 MB, too much for a file"):
        read_file(tmp_path / "f", "file", largest=1 << 20)
    with pytest.raises(FileError, match="cannot read the file"):
        read_file(tmp_path, "file")
    shutil.copy(tmp_path / "f", tmp_path / "g")
    (tmp_path / "link").symlink_to("g")
    assert read_file(tmp_path / "link", "file")
