"""ISO images from several programs, made once for the whole run."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support import iso_judges as judges

MEDIA = ("xorriso", "genisoimage", "relocated", "standin", "dirty", "genuine")


@pytest.fixture(scope="session")
def iso_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("isos")


@pytest.fixture(scope="session")
def sample_tree(iso_folder: Path) -> Path:
    return judges.sample_tree(iso_folder / "tree")


def make_iso(kind: str, folder: Path, tree: Path) -> Path:
    """The image of that kind, made if need be; skips where it cannot be had."""
    from obsdimg.standin import build_iso

    path = folder / f"{kind}.iso"
    if kind == "genuine":
        media = os.environ.get("OBSDIMG_MEDIA")
        if not media:
            pytest.skip("OBSDIMG_MEDIA is not set: no genuine media")
        return Path(media) / "cd66-alpha.iso"
    if path.exists():
        return path
    if kind == "xorriso":
        judges.xorriso_iso(path, tree, *judges.XORRISO_BOOT, *judges.XORRISO_EFI)
    elif kind == "genisoimage":
        judges.genisoimage_iso(path, tree, "-l", "-D")
    elif kind == "relocated":
        judges.genisoimage_iso(path, tree)
    elif kind == "standin":
        build_iso(path)
    elif kind == "small":
        build_iso(path, kernel=b"a small file for a kernel", efi=True)
    elif kind == "dirty":
        build_iso(path)
        sector = int(judges.boot_report(path)[0].split()[4])
        judges.dirty_catalog(path, b"\xff" + random.Random(66).randbytes(2000), sector)
    else:
        raise ValueError(kind)
    return path


@pytest.fixture(
    params=[pytest.param(k, marks=pytest.mark.media) if k == "genuine" else k for k in MEDIA]
)
def medium(request: pytest.FixtureRequest, iso_folder: Path, sample_tree: Path) -> Path:
    """One image of each kind."""
    return make_iso(request.param, iso_folder, sample_tree)


@pytest.fixture
def standin_iso(iso_folder: Path, sample_tree: Path) -> Path:
    return make_iso("standin", iso_folder, sample_tree)


@pytest.fixture
def xorriso_iso(iso_folder: Path, sample_tree: Path) -> Path:
    return make_iso("xorriso", iso_folder, sample_tree)


@pytest.fixture
def genuine_iso(iso_folder: Path, sample_tree: Path) -> Path:
    return make_iso("genuine", iso_folder, sample_tree)


@pytest.fixture
def small_iso(iso_folder: Path, sample_tree: Path) -> Path:
    """A stand-in without a kernel, and so small enough to be damaged many times."""
    return make_iso("small", iso_folder, sample_tree)
