"""Other people's programs that make ISO images and judge ours: xorriso, genisoimage, bsdtar."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


def need(*programs: str) -> None:
    """Skip where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(a) for a in argv], capture_output=True, check=False, timeout=120, cwd=cwd
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@dataclass(frozen=True)
class Found:
    """A name as a judge sees it; `what` is a file's SHA-256 or a link's target."""

    kind: str
    mode: int
    mtime: int
    what: str


def tree_of(folder: Path) -> dict[str, Found]:
    found = {}
    for base, directories, files in os.walk(folder):
        for name in [*directories, *files]:
            path = Path(base) / name
            status = path.lstat()
            mode, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            if path.is_symlink():
                entry = Found("link", 0, 0, str(path.readlink()))
            elif path.is_dir():
                entry = Found("dir", mode, 0, "")
            else:
                entry = Found("file", mode, mtime, hashlib.sha256(path.read_bytes()).hexdigest())
            found["/" + str(path.relative_to(folder))] = entry
    return found


def by_xorriso(iso: Path, scratch: Path) -> dict[str, Found]:
    target = scratch / "xorriso"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", target)
    return tree_of(target)


def by_bsdtar(iso: Path, scratch: Path) -> dict[str, Found]:
    target = scratch / "bsdtar"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    run("bsdtar", "-xpf", iso, "-C", target)
    return tree_of(target)


def boot_report(iso: Path) -> list[str]:
    """What xorriso says of the boot catalog and its images."""
    text = run("xorriso", "-indev", iso, "-report_el_torito", "plain")
    return [line for line in text.splitlines() if line.startswith("El Torito")]


def iso_names(iso: Path) -> list[str]:
    """The plain ISO 9660 names, as isoinfo lists them."""
    return sorted(run("isoinfo", "-f", "-i", iso).split())


def volume_ids(iso: Path) -> list[str]:
    lines = run("isoinfo", "-d", "-i", iso).splitlines()
    return [line for line in lines if " id: " in line]


def sample_tree(folder: Path) -> Path:
    """A small install tree: boot images, a symbolic link, deep directories, a long name."""
    sets = folder / "7.8" / "amd64"
    sets.mkdir(parents=True)
    (sets / "cdbr").write_bytes(b"boot sector" * 186)
    (sets / "eficdboot").write_bytes(b"fat image" * 40000)
    (sets / "bsd.rd").write_bytes(b"kernel" * 1000)
    (sets / "empty").write_bytes(b"")
    (sets / "bsd").symlink_to("bsd.rd")
    (folder / "etc").mkdir()
    (folder / "etc" / "boot.conf").write_text("set image /7.8/amd64/bsd.rd\n")
    (folder / "etc" / "boot.conf").chmod(0o640)
    deep = folder.joinpath(*(f"d{n}" for n in range(1, 11)))
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_text("deep\n")
    (folder / ("n" * 200)).write_text("long\n")
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            os.utime(path, (1_500_000_000, 1_500_000_000))
    return folder


XORRISO_BOOT = (
    *("-b", "7.8/amd64/cdbr", "-c", "7.8/amd64/boot.catalog", "-no-emul-boot"),
    *("-boot-load-size", "4", "-boot-info-table"),
)
XORRISO_EFI = ("-eltorito-alt-boot", "-e", "7.8/amd64/eficdboot", "-no-emul-boot")


def xorriso_iso(output: Path, tree: Path, *options: str) -> Path:
    need("xorriso")
    run(
        *("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "OpenBSD/amd64   7.8 Install CD"),
        *(*options, "-o", output, tree),
    )
    return output


def genisoimage_iso(output: Path, tree: Path, *options: str) -> Path:
    need("genisoimage")
    run(
        *("genisoimage", "-quiet", "-R", "-T", "-V", "OpenBSD/amd64   7.8 Install CD"),
        *("-b", "7.8/amd64/cdbr", "-c", "7.8/amd64/boot.catalog", "-no-emul-boot"),
        *("-boot-load-size", "4", *options, "-o", output, tree),
    )
    return output


def dirty_catalog(iso: Path, junk: bytes, sector: int) -> None:
    """Write `junk` behind the only entry of a boot catalog, as OpenBSD's mkhybrid leaves some."""
    with iso.open("r+b") as stream:
        stream.seek(sector * 2048 + 64)
        stream.write(junk[: 2048 - 64])
