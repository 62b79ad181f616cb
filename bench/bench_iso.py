"""Remastering a 470 MB ISO: obsdimg's ISO room against xorriso and cp; a table in Markdown.

Each row does the whole thing and ends with the bytes on the disk (fsync); the source is in the
page cache.  Rows are run in turns, and the median of the rounds counts.  Run it on a quiet
machine: `python bench/bench_iso.py [--size MB] [--rounds N] [--dir FOLDER]`.  Needs GNU time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builder"))

SETS = "/6.6/amd64"
NEW_KERNEL = 9_800_000
"""Bytes of bsd.auto: what 6.6 amd64's bsd.rd has."""


def main() -> None:
    options = argparse.ArgumentParser(description="compare ways to remaster an ISO")
    options.add_argument("--size", type=int, default=470, help="megabytes of the source")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--dir", type=Path, help="folder for some gigabytes of scratch files")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.one:
        one_run(*arguments.one)
        return
    if arguments.make:
        make_source(*arguments.make)
        return
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        compare(Path(folder), arguments.size, arguments.rounds)


def make_source(path: str, size: str) -> None:
    """A stand-in medium of about `size` bytes."""
    from obsdimg.standin import build_iso

    build_iso(Path(path), iso_size_padding=int(size) - 4_000_000)


def one_run(source: str, target: str) -> None:
    """Our remastering, in a process of its own so that its memory can be told apart."""
    from obsdimg.iso import Iso, remaster

    folder = Path(source).parent
    with Path(target).open("w+b") as stream, Iso.open(Path(source)) as iso:
        remaster(iso, stream, changes(folder), epoch=1_600_000_000)
        stream.flush()
        os.fsync(stream.fileno())


def changes(folder: Path) -> dict[str, bytes | Path]:
    return {
        f"{SETS}/bsd.auto": folder / "bsd.auto",
        f"{SETS}/site66.tgz": folder / "site66.tgz",
        f"{SETS}/SHA256": b"SHA256\n" * 200,
        f"{SETS}/SHA256.sig": b"SHA256\n" * 200,
        "/etc/boot.conf": f"set image {SETS}/bsd.auto\n".encode(),
    }


@dataclass(frozen=True)
class Run:
    """One run: seconds until the output is on the disk, seconds of processor time, peak memory
    in MiB."""

    seconds: float
    processor: float
    memory: int


def compare(folder: Path, size: int, rounds: int) -> None:
    source = folder / "source.iso"
    script = [sys.executable, str(Path(__file__))]
    subprocess.run([*script, "--make", str(source), str(size * 1_000_000)], check=True)
    for path, content in changes(folder).items():
        name = path.rpartition("/")[2]
        (folder / name).write_bytes(content if isinstance(content, bytes) else noise(name))
    ours: list[str | Path] = [*script, "--one", source, folder / "out"]
    rows: dict[str, list[str | Path]] = {
        "obsdimg, SHA-256 of the output included": ours,
        "xorriso -boot_image any replay -map": xorriso(source, folder),
        "cp": ["cp", source, folder / "out"],
    }
    rows = {title: argv for title, argv in rows.items() if shutil.which(str(argv[0]))}
    runs: dict[str, list[Run]] = {title: [] for title in rows}
    for turn in range(rounds + 1):  # the first turn warms up
        for title, argv in rows.items():
            (folder / "out").unlink(missing_ok=True)
            os.sync()
            run = measured(argv, folder / "out")
            if turn:
                runs[title].append(run)
    print(table(source.stat().st_size, runs))


def noise(name: str) -> bytes:
    return os.urandom(3_000_000 if name == "site66.tgz" else NEW_KERNEL)


def xorriso(source: Path, folder: Path) -> list[str | Path]:
    argv: list[str | Path] = ["xorriso", "-indev", source, "-outdev", folder / "out"]
    argv += ["-boot_image", "any", "replay"]
    for path in changes(folder):
        argv += ["-map", folder / path.rpartition("/")[2], path]
    return argv


def measured(argv: list[str | Path], output: Path) -> Run:
    """Run `argv` under GNU time, and sync its output.

    The kernel counts the memory of the parent at the start of a child too; GNU time's own is
    small, so it starts the program and not we.
    """
    note = output.with_name("usage")
    start = time.monotonic()
    words = ["/usr/bin/time", "-f", "%U %S %M", "-o", note, *argv]
    subprocess.run(
        [str(word) for word in words],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with output.open("rb") as stream:
        os.fsync(stream.fileno())
    seconds = time.monotonic() - start
    user, system, memory = note.read_text().split()
    return Run(seconds, float(user) + float(system), int(memory) // 1024)


def table(size: int, runs: dict[str, list[Run]]) -> str:
    copy = statistics.median(run.seconds for run in runs["cp"])
    lines = [
        f"Source: {size / 1e6:.0f} MB, in the page cache; median of {len(runs['cp'])} rounds, "
        f"{os.cpu_count()} processors.",
        "",
        "| | seconds | times cp | processor seconds | peak memory, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, row in runs.items():
        seconds = statistics.median(run.seconds for run in row)
        processor = statistics.median(run.processor for run in row)
        memory = max(run.memory for run in row)
        lines.append(
            f"| {title} | {seconds:.2f} | {seconds / copy:.1f} | {processor:.2f} | {memory} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
