"""Hashing speed against sha256sum, and a warm look into the cache.

    .venv/bin/python bench/bench_hash.py [MEGABYTES]

Prints seconds and MB/s (10^6 bytes) for a file of the size of an install ISO: sha256sum, our
hashing, the first (hashing) and the second (remembering) look through the cache.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builder"))

from obsdimg.core.hashing import sha256_file
from obsdimg.fetch.cache import Cache


def measure(title: str, size: int, action: Callable[[], str], rounds: int = 3) -> str:
    """Run `action` `rounds` times, print the best, return its result."""
    best, result = float("inf"), ""
    for _ in range(rounds):
        start = time.perf_counter()
        result = action()
        best = min(best, time.perf_counter() - start)
    print(f"{title:28} {best:8.4f} s {size / 1e6 / best:12.0f} MB/s")
    return result


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 470
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "install66.iso"
        block = bytes(range(256)) * 3906
        with path.open("wb") as stream:
            for _ in range(megabytes):
                stream.write(block)
        size = path.stat().st_size
        cache = Cache(Path(folder) / "cache")
        results = {measure("sha256_file", size, lambda: sha256_file(path)[0])}
        if tool := shutil.which("sha256sum"):
            words = [tool, str(path)]
            results.add(
                measure(
                    "sha256sum",
                    size,
                    lambda: subprocess.run(
                        words, capture_output=True, text=True, check=True
                    ).stdout.split()[0],
                )
            )
        with path.open("rb") as stream:

            def digest() -> str:
                stream.seek(0)
                return hashlib.file_digest(stream, "sha256").hexdigest()

            results.add(measure("hashlib.file_digest", size, digest))
        results.add(measure("cache, first look", size, lambda: cache.hash_file(path).sha256, 1))
        results.add(measure("cache, remembered", size, lambda: cache.hash_file(path).sha256))
        assert len(results) == 1, results


if __name__ == "__main__":
    main()
