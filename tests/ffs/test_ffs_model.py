"""Sequences of operations against a plain dictionary, read back by dissect.ffs."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.ffs import FfsError, FileSystem, NoRoomError, make_image
from support.ffs_judges import Tree, makefs, problems, read_tree

MB = 1 << 20

Operation = tuple[str, str, int]  # what, path, a number (size, length, mode)

names = st.sampled_from(["a", "b", "c.d", "L" * 120, "M" * 255])
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
sizes = st.one_of(
    st.sampled_from([0, 1, 512, 513, 4096, 12 * 4096, 12 * 4096 + 1, 14 * 8192, 300_000]),
    st.integers(0, 20_000),
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), paths, sizes),
        st.tuples(st.just("mkdir"), paths, st.just(0o700)),
        st.tuples(st.just("symlink"), paths, st.sampled_from([1, 59, 60, 700])),
        st.tuples(st.just("remove"), paths, st.just(0)),
        st.tuples(st.just("chmod"), paths, st.integers(0, 0o7777)),
        st.tuples(st.just("crowd"), paths, st.integers(1, 20)),
    ),
    max_size=40,
)


@functools.cache
def many_groups() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        (tree := Path(name) / "tree").mkdir()
        return makefs(Path(name), tree, 3 * MB, bsize=8192, fsize=1024, maxbpcg=100, density=16384)


@functools.cache
def clusters() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        (tree := Path(name) / "tree").mkdir()
        return makefs(Path(name), tree, MB, bsize=4096, fsize=512)


IMAGES: dict[str, Callable[[], bytes]] = {
    "small": lambda: make_image(300_000, inodes=32),
    "one-group": clusters,
    "many-groups": many_groups,
}


class WrongError(Exception):
    """The model says that the operation must be refused."""


def content(size: int) -> bytes:
    return bytes(n * 7 % 256 for n in range(size))


def steps(operation: Operation) -> list[Operation]:
    """`crowd` makes many links in one directory, so that it grows; others are one step."""
    what, path, number = operation
    if what != "crowd":
        return [operation]
    return [("symlink", f"{path}/{'x' * 50}{n}", 10) for n in range(number)]


def on_model(tree: Tree, operation: Operation) -> Tree:
    """The tree after `operation`.  Raises WrongError."""
    what, path, number = operation
    parent = path.rpartition("/")[0]
    if parent and tree.get(parent, ("",))[0] != "dir":
        raise WrongError
    here = tree.get(path)
    if what == "write":
        if here and here[0] != "file":
            raise WrongError
        return {**tree, path: ("file", 0o640, content(number))}
    if what in ("mkdir", "symlink"):
        if here:
            raise WrongError
        made = ("dir", number, b"") if what == "mkdir" else ("link", 0o755, b"t" * number)
        return {**tree, path: made}
    if not here:
        raise WrongError
    if what == "remove":
        if any(p.startswith(path + "/") for p in tree):
            raise WrongError
        return {p: v for p, v in tree.items() if p != path}
    if here[0] == "link":
        raise WrongError  # it leads nowhere
    return {**tree, path: (here[0], number, here[2])}


def on_image(fs: FileSystem, operation: Operation) -> None:
    what, path, number = operation
    if what == "write":
        fs.write_file(path, content(number), mode=0o640)
    elif what == "mkdir":
        fs.mkdir(path, mode=number)
    elif what == "symlink":
        fs.symlink("t" * number, path)
    elif what == "remove":
        fs.remove(path)
    else:
        fs.chmod(path, number)


def ours(fs: FileSystem) -> Tree:
    read: dict[str, Callable[[str], bytes]] = {
        "file": fs.read_file,
        "link": lambda path: fs.readlink(path).encode(),
        "dir": lambda path: b"",
    }
    return {path: (s.kind, s.mode, read[s.kind](path)) for path, s in fs.walk()}


@pytest.mark.parametrize("name", sorted(IMAGES))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sequence=operations)
def test_any_sequence_of_operations_agrees_with_a_dictionary(
    name: str, sequence: list[Operation]
) -> None:
    given_image = IMAGES[name]()
    fs = FileSystem(given_image)
    start = fs.free()
    tree: Tree = {}
    for operation in [step for each in sequence for step in steps(each)]:
        try:
            after = on_model(tree, operation)
        except WrongError:
            with pytest.raises(FfsError):
                on_image(fs, operation)
            continue
        try:
            on_image(fs, operation)
        except NoRoomError:
            assert operation[2] > 0 or fs.free().inodes == 0 or fs.free().blocks == 0
            continue
        tree = after
    image = fs.image()
    assert len(image) == len(given_image)
    assert problems(image) == []
    assert read_tree(image) == tree
    assert ours(FileSystem(image)) == tree
    for path in sorted(tree, key=len, reverse=True):
        fs.remove(path)
    assert fs.free().inodes == start.inodes
    assert problems(fs.image()) == []
    assert read_tree(fs.image()) == {}
