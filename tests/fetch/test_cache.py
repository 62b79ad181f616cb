"""The cache folder: remembered hashes, locks, damage."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obsdimg.core.files import FileError
from obsdimg.fetch.cache import Cache, CacheError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(b"x" * 100_000)
    return path


def test_a_hash_is_computed_once_and_then_remembered(cache: Cache, big: Path) -> None:
    first, second = cache.hash_file(big), cache.hash_file(big)
    assert first.sha256 == second.sha256 == hashlib.sha256(b"x" * 100_000).hexdigest()
    assert (first.remembered, second.remembered) == (False, True)
    assert Cache(cache.root).hash_file(big).remembered, "another run knows it too"


def test_reverify_hashes_again(cache: Cache, big: Path) -> None:
    cache.hash_file(big)
    assert not cache.hash_file(big, again=True).remembered


def test_a_change_that_keeps_size_and_mtime_is_noticed(cache: Cache, big: Path) -> None:
    before = cache.hash_file(big)
    times = big.stat()
    with big.open("r+b") as stream:
        stream.write(b"y")
    os.utime(big, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert big.stat().st_mtime_ns == times.st_mtime_ns
    after = cache.hash_file(big)
    assert not after.remembered and after.sha256 != before.sha256


def test_a_change_right_after_hashing_is_noticed(cache: Cache, tmp_path: Path) -> None:
    for turn in range(20):
        path = tmp_path / f"f{turn}"
        path.write_bytes(b"a" * 10)
        first = cache.hash_file(path)
        path.write_bytes(b"b" * 10)
        assert cache.hash_file(path).sha256 != first.sha256


def test_another_file_in_its_place_is_hashed(cache: Cache, big: Path, tmp_path: Path) -> None:
    cache.hash_file(big)
    other = tmp_path / "other"
    other.write_bytes(b"z" * 100_000)
    other.replace(big)
    assert not cache.hash_file(big).remembered


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"sha256": []}', b'{"sha256": {}}'])
def test_a_spoiled_memory_is_forgotten(cache: Cache, big: Path, content: bytes) -> None:
    cache.hash_file(big)
    (cache.root / "hashes.json").write_bytes(content)
    assert not cache.hash_file(big).remembered
    assert cache.hash_file(big).remembered


def test_the_memory_does_not_grow_without_end(cache: Cache, big: Path) -> None:
    cache.hash_file(big)
    memory = cache.root / "hashes.json"
    memory.write_text(json.dumps({"sha256": {f"{n}": "0" for n in range(5000)}}))
    cache.hash_file(big)
    assert len(json.loads(memory.read_text())["sha256"]) <= 500
    assert cache.hash_file(big).remembered


def test_folder_and_memory_are_private(cache: Cache, big: Path) -> None:
    cache.hash_file(big)
    assert cache.root.stat().st_mode & 0o777 == 0o700
    assert (cache.root / "hashes.json").stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        cache.hash_file(tmp_path / "gone")
    with pytest.raises(FileError, match="not a regular file"):
        cache.hash_file(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_names_cannot_leave_the_folder(cache: Cache, name: str) -> None:
    with pytest.raises(CacheError):
        cache.path(name)


def test_obsdimg_cache_overrides_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "elsewhere"))
    assert Cache.default().root == tmp_path / "elsewhere"
    monkeypatch.delenv("OBSDIMG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert Cache.default().root == tmp_path / "xdg" / "obsdimg"


HOLDER = """
import sys, time
from pathlib import Path
from obsdimg.fetch.cache import Cache
with Cache(Path(sys.argv[1])).lock(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_file_is_held_by_one_run_and_freed_when_that_run_is_killed(cache: Cache) -> None:
    path = cache.path("6.6", "amd64", "install66.iso")
    words = [sys.executable, "-c", HOLDER, str(cache.root), str(path)]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE, env={"PYTHONPATH": "builder"})
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(CacheError, match="another run"), cache.lock(path, timeout=0.3):
            pass
        holder.kill()
        holder.wait(timeout=10)
        start = time.monotonic()
        with cache.lock(path, timeout=5):
            assert time.monotonic() - start < 5
    finally:
        holder.kill()
        holder.wait(timeout=10)
