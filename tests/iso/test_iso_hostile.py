"""Images made to wear a reader out: one line, soon, in little memory."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_iso_damage import check

from obsdimg.iso import Iso, IsoError
from support import raw_iso
from support.raw_iso import ROOT, SECTOR, both32, image, record

LONGEST = 30
"""Seconds."""
MOST = 256 << 20
"""Bytes of memory."""


def names(count: int, *, reverse: bool = False) -> list[bytes]:
    """Names for one extent, in order or not."""
    records = [record(b"%05d" % n, 19, 1) for n in range(count)]
    return records[::-1] if reverse else records


def nested(entry: bytes) -> bytes:
    """A directory D whose only name is `entry`."""
    at = ROOT + 1
    dots = [record(b"\x00", at, SECTOR, True), record(b"\x01", ROOT, SECTOR, True)]
    return image([record(b"D", at, SECTOR, True)], tail=raw_iso.pack([*dots, entry]))


def ridge(sector: int, offset: int, length: int) -> bytes:
    """Rock Ridge that goes on elsewhere."""
    return b"CE\x1c\x01" + both32(sector) + both32(offset) + both32(length)


def continued(count: int) -> bytes:
    """Each record's continuation area is another sector, and each says it goes on there."""
    area = [ridge(ROOT + 200 + (n + 1) % count, 0, 28).ljust(SECTOR, b"\x00") for n in range(count)]
    use = [b"SP\x07\x01\xbe\xef\x00", *(ridge(ROOT + 200 + n, 0, 28) for n in range(1, count))]
    records = [record(b"%05d" % n, 19, 1, use=u) for n, u in enumerate(use)]
    body = raw_iso.pack(records)
    return image(records, tail=bytes(200 * SECTOR - len(body)) + b"".join(area))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "2,000 names on one extent": lambda: image(names(2000)),
    "as many names as are read, in reverse": lambda: image(names(3300, reverse=True)),
    "60,000 names": lambda: image(names(60_000)),
    "60,000 names in reverse": lambda: image(names(60_000, reverse=True)),
    "the same name 3,000 times": lambda: image([record(b"A", 19, 1)] * 3000),
    "a directory that holds the root": lambda: nested(record(b"E", ROOT, SECTOR, True)),
    "a directory that holds itself": lambda: nested(record(b"E", ROOT + 1, SECTOR, True)),
    "a root of 4 GB": lambda: image([], claimed=0xFFFFF800),
    "a path table of 4 GB": lambda: image([], table_size=0xFFFFFFFF),
    "a file of 4 GB": lambda: image([record(b"A", 19, 0xFFFFFFFF)]),
    "a file behind the end": lambda: image([record(b"A", 0xFFFFFFF0, 1)]),
    "10,000 descriptors": lambda: image([], descriptors=10_000),
    "Rock Ridge that goes on in a ring": lambda: continued(900),
    "nothing but zeros behind the descriptors": lambda: image([])[: 18 * SECTOR] + bytes(4 << 20),
}

CHILD = """
import sys, tempfile
from pathlib import Path
from obsdimg.iso import Iso, IsoError, remaster
try:
    with Iso.open(Path(sys.argv[1])) as iso, tempfile.TemporaryFile() as out:
        iso.entries()
        remaster(iso, out, {"/new/x": b"x"}, epoch=0)
except IsoError as error:
    print(error.message)
"""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_gives_one_line(kind: str, tmp_path: Path) -> None:
    """No image here has Rock Ridge as remastering wants it, so one line there is."""
    path = tmp_path / "hostile.iso"
    path.write_bytes(HOSTILE[kind]())
    builder = str(Path(__file__).parents[2] / "builder")
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST,
        env={"PYTHONPATH": builder},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST)),
    )
    assert time.monotonic() - before < LONGEST
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith(f"{path}: ")


def test_the_plain_image_of_these_tests_is_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "good.iso").write_bytes(image(names(1000)))
    with Iso.open(tmp_path / "good.iso") as iso:
        assert len(iso.entries()) == 1000


def test_an_image_cut_at_200_places_is_always_one_line(small_iso: Path, tmp_path: Path) -> None:
    whole = small_iso.read_bytes()
    path = tmp_path / "cut.iso"
    for n in range(200):
        path.write_bytes(whole[: len(whole) * n // 200])
        with pytest.raises(IsoError) as caught:
            Iso.open(path)
        assert "\n" not in caught.value.message


def test_an_image_flipped_at_200_places_is_right_or_one_line(small_iso: Path) -> None:
    whole = small_iso.read_bytes()
    chance = random.Random(66)
    head = 28 * SECTOR  # descriptors, path tables, directories, the boot catalog
    for n in range(200):
        damaged = bytearray(whole)
        at = chance.randrange(16 * SECTOR, head) if n % 4 else chance.randrange(len(whole))
        damaged[at] ^= 1 << chance.randrange(8)
        check(bytes(damaged))
