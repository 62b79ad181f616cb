"""The cache folder: downloads kept between runs, one writer at a time, hashes remembered.

The folder is the user's (`~/.cache/obsdimg` on Linux; OBSDIMG_CACHE overrides it) and mirrors the
layout of an OpenBSD mirror: `6.6/amd64/install66.iso`.  Two runs exclude each other file by file
with a lock that the kernel releases when a run is killed.

What is remembered is a file's SHA-256, by device, inode, size, mtime and ctime (nanoseconds), in
a private `hashes.json`: the comparison with the signed list is made anew in every run.  ctime
cannot be set by a user, so a file that was touched in any way is hashed again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from obsdimg.core.documents import from_json
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError, FileIdentity, describe, identity, private_dir, write_file
from obsdimg.core.hashing import sha256_file
from obsdimg.core.progress import Progress

_SETTLE = 0.1
"""Seconds that a file must have rested before its hash is remembered: coarser than any tick of
the kernel's file times, so that a change after hashing cannot leave the times as they were."""

_SETTLE_COARSE = 2.1
"""The same where times are whole seconds (FAT: every second one)."""

_MOST = 500
"""Entries kept in hashes.json; the oldest go first."""


class CacheError(ObsdimgError):
    """The cache folder cannot be used, or another run holds a file for too long."""


@dataclass(frozen=True)
class HashedFile:
    """A file's SHA-256 (hex) and size (bytes), and whether the hash was only remembered;
    `identity` is the file's as it was when it had that hash."""

    path: Path
    sha256: str
    size: int
    remembered: bool
    identity: FileIdentity


class Cache:
    """The folder `root`, made if missing (mode 0700)."""

    def __init__(self, root: Path) -> None:
        self.root = private_dir(root)

    @classmethod
    def default(cls) -> Cache:
        """OBSDIMG_CACHE, or the user's cache folder.  Raises FileError."""
        if override := os.environ.get("OBSDIMG_CACHE"):
            return cls(Path(override).expanduser().absolute())
        return cls(platformdirs.user_cache_path("obsdimg"))

    def path(self, *parts: str) -> Path:
        """The place of a file in the cache, its folder made; `parts` are relative names."""
        relative = Path(*parts)
        if relative.is_absolute() or ".." in relative.parts:
            raise CacheError(f"{relative}: not a name for the cache")
        private_dir((self.root / relative).parent)
        return self.root / relative

    @contextmanager
    def lock(
        self, path: Path, progress: Progress | None = None, timeout: float = 3600.0
    ) -> Iterator[None]:
        """Hold `path` against other runs; says so when it has to wait, `timeout` s at most.

        Raises CacheError.
        """
        from filelock import FileLock, Timeout  # brings logging; a warm build locks nothing

        lock = FileLock(path.with_name(f".{path.name}.lock"), mode=0o600)
        try:
            try:
                lock.acquire(timeout=0.2)
            except Timeout:
                (progress or Progress()).note(f"{path.name}: waiting for another run of obsdimg")
                lock.acquire(timeout=timeout)
        except Timeout as error:
            raise CacheError(
                f"{path}: another run of obsdimg has held it for {timeout:g} s",
                "end that run, or use another folder with OBSDIMG_CACHE",
            ) from error
        except OSError as error:
            raise CacheError(f"{path}: cannot be locked: {describe(error)}") from error
        try:
            yield
        finally:
            lock.release()

    def hash_file(
        self, path: Path, *, again: bool = False, progress: Progress | None = None
    ) -> HashedFile:
        """SHA-256 of `path`, remembered from an earlier run unless `again`.

        Raises FileError where it cannot be read, is no regular file, or changes meanwhile.
        """
        before = identity(path)
        if not again and (known := self._remembered().get(str(before))) is not None:
            return HashedFile(path, known, before.size, True, before)
        rested = time.time() - before.ctime_ns / 1e9
        settle = _SETTLE if before.ctime_ns % 10**9 else _SETTLE_COARSE
        if 0 <= rested < settle:
            time.sleep(settle - rested)
        digest, size = sha256_file(path, progress, f"Hashing {path.name}")
        if identity(path) != before or size != before.size:
            raise FileError(f"{path}: changed while it was read", "let whatever writes it finish")
        self._remember(str(before), digest)
        return HashedFile(path, digest, size, False, before)

    @property
    def _memory(self) -> Path:
        return self.root / "hashes.json"

    def _remembered(self) -> dict[str, str]:
        """Identity to hash, oldest first; an unreadable memory is an empty one."""
        try:
            if self._memory.stat().st_uid != os.getuid():
                return {}
            stored = from_json(self._memory.read_bytes())
            return {str(key): str(value) for key, value in stored["sha256"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _remember(self, key: str, digest: str) -> None:
        with self.lock(self._memory, timeout=60):
            known = self._remembered()
            known.pop(key, None)
            known[key] = digest
            kept = dict(list(known.items())[-_MOST:])
            write_file(self._memory, json.dumps({"sha256": kept}, indent=0).encode())
