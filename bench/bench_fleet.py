"""Many servers from one upstream image: what `build --all` costs in time and disk for each.

The upstream image is a stand-in of real size.  Whether the ISOs share what is the same on the disk
is the file system's affair: XFS, Btrfs and APFS do (copy_file_range clones), ext4 does not.
`python bench/bench_fleet.py [--servers N] [--size MB] [--dir FOLDER-ON-THAT-FILE-SYSTEM]`
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builder"))

from bench_iso import make_source

CONFIG = """\
[release]
version = "6.6"
[packages]
carry = false
[access]
root_keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
"""
SERVER = """\
[servers.s{number}.tunnel]
endpoint = "s{number}.example.net"
ipv4 = "10.{number}.0.1/24"
"""
PASSPHRASE = "velvet orbit cactus mandolin seventeen"


def main() -> None:
    options = argparse.ArgumentParser(description="time and disk of many servers' ISOs")
    options.add_argument("--servers", type=int, default=50, help="1 to 250")
    options.add_argument("--size", type=int, default=470, help="megabytes of the upstream image")
    options.add_argument("--dir", type=Path, help="folder for the ISOs")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        measure(Path(name), arguments.servers, arguments.size)


def measure(folder: Path, servers: int, size: int) -> None:
    """Build for two servers, then for all, and print what each more costs."""
    environment = {
        **os.environ,
        "OBSDIMG_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "builder"),
    }
    source, phrase = folder / "install66.iso", folder / "passphrase"
    make_source(str(source), str(size * 1_000_000))
    phrase.touch(0o600)
    phrase.write_text(PASSPHRASE + "\n")
    project = folder / "project"
    project.mkdir()
    tables = "".join(SERVER.format(number=number) for number in range(1, servers + 1))
    (project / "obsdimg.toml").write_text(CONFIG + tables)
    command = [
        sys.executable, "-m", "obsdimg", "build", "-q", "-c", project / "obsdimg.toml",
        "--iso", source, "--unverified", "--offline", "--passphrase-file", phrase,
    ]  # fmt: skip
    print(f"upstream image: {source.stat().st_size / 1e6:.0f} MB; {os.cpu_count()} processors")
    for names in (["s1"], [f"s{n}" for n in range(1, servers + 1)]):
        words = [word for name in names for word in ("--server", name)]
        before, used, start = _processor(), _used(folder), time.monotonic()
        subprocess.run(
            [*command, *words], env=environment, check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.sync()
        seconds, processor = time.monotonic() - start, _processor() - before
        disk = (_used(folder) - used) / 1e6
        count = len(names)
        print(
            f"{count:3} ISOs: {seconds:6.1f} s, {processor:6.1f} s of processor,"
            f" {disk:8.1f} MB more"
            f" on the disk; each {seconds / count:.2f} s, {processor / count:.2f} s,"
            f" {disk / count:.1f} MB"
        )
    isos = sorted(project.glob("servers/*/images/*.iso"))
    print(f"{len(isos)} ISOs of {sum(iso.stat().st_size for iso in isos) / 1e6:.0f} MB together")


def _processor() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _used(folder: Path) -> int:
    """Bytes used on the file system."""
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


if __name__ == "__main__":
    main()
