"""The genuine 6.6 installer, taken from the alpha CD at test time (OBSDIMG_MEDIA), for judging.

Read with pycdlib and dissect.ffs, not with our own readers: the judge stays independent.
"""

from __future__ import annotations

import functools
import gzip
import io
import os
from pathlib import Path

import pycdlib
import pytest
from dissect.ffs import FFS

_MAGIC = (0x011954).to_bytes(4, "little")
_MAGIC_AT = 8192 + 1372
_IMAGE_SIZE = 2_940_928  # MINIROOTSIZE of alpha 6.6 in bytes


def media(name: str) -> Path:
    """A genuine medium by file name; skips the test where there is none."""
    folder = os.environ.get("OBSDIMG_MEDIA")
    if not folder or not (path := Path(folder) / name).is_file():
        pytest.skip(f"{name} is not at hand: set OBSDIMG_MEDIA to the folder of genuine media")
    return path


@functools.cache
def genuine_ramdisk() -> bytes:
    """The FFS1 image of the ramdisk in the 6.6 alpha CD's kernel."""
    iso = pycdlib.PyCdlib()
    iso.open(str(media("cd66-alpha.iso")))
    kernel = io.BytesIO()
    iso.get_file_from_iso_fp(kernel, iso_path="/6.6/ALPHA/BSD.GZ")
    iso.close()
    raw = gzip.decompress(kernel.getvalue())
    start = raw.index(_MAGIC) - _MAGIC_AT
    return raw[start : start + _IMAGE_SIZE]


@functools.cache
def genuine_file(path: str) -> bytes:
    """A file of that ramdisk, e.g. `/install.sub`."""
    return bytes(FFS(io.BytesIO(genuine_ramdisk())).get(path).open().read())


def genuine_function(name: str) -> str:
    """The text of a shell function of install.sub."""
    text = genuine_file("/install.sub").decode()
    start = text.index(f"\n{name}() {{\n") + 1
    return text[start : text.index("\n}\n", start) + 3]
