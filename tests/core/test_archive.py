"""One tar and one gzip: the same bytes under every Python, and what other programs make of them."""

from __future__ import annotations

import gzip as reference
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import obsdimg
from obsdimg.core.archive import TarPathError, gzip, gzip_pieces, tar
from obsdimg.core.entry import Entry

BUILDER = Path(obsdimg.__file__).resolve().parents[1]
ENTRIES = [
    Entry("/etc/folder", mode=0o700, kind="dir"),
    Entry("/etc/folder/file", b"content\n" * 1000, 0o600),
    Entry("/etc/link", mode=0o777, kind="link", target="folder/file"),
    Entry("/" + "d" * 120 + "/name", b"", 0o755),
]
TAR_SHA256 = "5f0b751d426879348d3e5fd6d1d4af78e8e1b06c80a3cf166f72cfc6f85026f2"
PROGRAM = """
import hashlib
from obsdimg.core.archive import gzip, tar
from obsdimg.core.entry import Entry
entries = [Entry("/a", b"x" * 3000, 0o600), Entry("/b", mode=0o700, kind="dir"),
           Entry("/c", mode=0o777, kind="link", target="a")]
print(hashlib.sha256(gzip(tar(entries, 1571000000, "./"))).hexdigest())
"""


def pythons() -> list[str]:
    """Other Pythons of this machine, from 3.11 on."""
    names = [f"python3.{minor}" for minor in range(11, 20)]
    found = [path for name in names if (path := shutil.which(name)) is not None]
    found += [str(p) for p in Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python3")]
    # Some names only lead to a version manager that refuses.
    return [p for p in found if subprocess.run([p, "-c", ""], capture_output=True).returncode == 0]


def said_by(python: str) -> str:
    done = subprocess.run(
        [python, "-I", "-c", f"import sys; sys.path.insert(0, {str(BUILDER)!r})\n{PROGRAM}"],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_every_python_here_writes_the_same_bytes() -> None:
    others = pythons()
    if not others:
        pytest.skip("there is no other Python from 3.11 on")
    mine = said_by(sys.executable)
    for python in others:
        assert said_by(python) == mine, python


def test_the_bytes_of_the_tar_are_those_that_were_approved() -> None:
    """Of the gzip they also depend on the zlib library, of the tar on nothing."""
    assert hashlib.sha256(tar(ENTRIES, 1_571_000_000)).hexdigest() == TAR_SHA256


def test_the_gzip_header_says_nothing_of_this_machine() -> None:
    assert gzip(b"x")[:10] == bytes.fromhex("1f8b0800000000000003")


@given(st.lists(st.binary(max_size=5000), max_size=5), st.integers(0, 9))
def test_gzip_opens_what_is_packed(pieces: list[bytes], level: int) -> None:
    data = b"".join(pieces)
    assert reference.decompress(gzip(data, level)) == data
    assert b"".join(gzip_pieces(pieces, level)) == gzip(data, level)


@pytest.mark.parametrize("program", ["bsdtar", "tar"])
def test_other_programs_list_every_entry(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    words = [program, "-tvzf", "-", *(["--numeric-owner"] if program == "tar" else ["-n"])]
    done = subprocess.run(
        words, input=gzip(tar(ENTRIES, 0, "./")), capture_output=True, check=True, text=False
    )
    lines = done.stdout.decode().splitlines()
    assert [line[:10] for line in lines] == [
        "drwx------", "-rw-------", "lrwxrwxrwx", "-rwxr-xr-x",
    ]  # fmt: skip
    assert lines[1].endswith("./etc/folder/file")
    assert lines[2].endswith("./etc/link -> folder/file")


def test_owners_are_numbers_and_the_time_is_given() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar(ENTRIES, 42))) as archive:
        members = archive.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 42)}
    assert [m.name for m in members] == [e.path[1:] for e in ENTRIES]


def test_a_path_too_long_for_ustar_is_one_error_that_names_it() -> None:
    path = "/" + "x" * 101
    with pytest.raises(TarPathError, match=f"^{path}: does not fit into a ustar archive"):
        tar([Entry(path)])
