"""Damaged images: refused with an FfsError, or read right; never anything else."""

from __future__ import annotations

import functools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.ffs import DamagedError, FfsError, FileSystem, make_image
from support.genuine_installer import genuine_ramdisk

MB = 1 << 20


@functools.cache
def sample() -> bytes:
    fs = FileSystem(make_image(300_000, inodes=64))
    fs.mkdir("/etc")
    fs.write_file("/etc/motd", b"hello\n" * 100)
    fs.write_file("/bsd", bytes(60_000))
    fs.symlink("etc/motd", "/short")
    fs.symlink("x" * 200, "/long")
    return fs.image()


def structures(image: bytes) -> list[int]:
    """Byte offsets of everything but free space and the boot blocks."""
    sb, group, inodes, data = 8192, 48 * 512, 56 * 512, 72 * 512
    return [*range(sb, sb + 1376), *range(group, group + 512), *range(inodes, data + 4096)]


def exercise(image: bytes) -> None:
    """Open, read all, change something of each kind; any FfsError is fine."""
    try:
        fs = FileSystem(image)
    except FfsError as error:
        assert "\n" not in error.message
        return
    for path, stat in fs.walk():
        if stat.kind == "file":
            assert len(fs.read_file(path)) == stat.size
        elif stat.kind == "link":
            fs.readlink(path)
    for change in (
        lambda: fs.write_file("/new", b"n" * 70_000),
        lambda: fs.mkdir("/newdir"),
        lambda: fs.symlink("y" * 100, "/newdir/l"),
        lambda: fs.remove("/bsd"),
        lambda: fs.write_file("/etc/motd", b"other"),
    ):
        try:
            change()
        except FfsError:
            continue
    # What was accepted stays acceptable after changes.
    again = FileSystem(fs.image())
    assert [p for p, _ in again.walk()] == [p for p, _ in fs.walk()]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flips=st.lists(
        st.tuples(st.sampled_from(structures(b"")), st.integers(1, 255)), min_size=1, max_size=4
    )
)
def test_flipped_bytes_in_structures_are_refused_or_harmless(flips: list[tuple[int, int]]) -> None:
    image = bytearray(sample())
    for at, mask in flips:
        image[at] ^= mask
    exercise(bytes(image))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    at=st.sampled_from(structures(b"")[::4]),
    value=st.sampled_from([0, 1, -1, 2, 7, 8, 31, 511, 2**31 - 1, -(2**31), 65536, 4096, 599]),
)
def test_extreme_numbers_in_structures_are_refused_or_harmless(at: int, value: int) -> None:
    image = bytearray(sample())
    image[at : at + 4] = value.to_bytes(4, "little", signed=True)
    exercise(bytes(image))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(length=st.integers(0, 300_000))
def test_an_image_cut_anywhere_is_refused(length: int) -> None:
    image = sample()[:length]
    if length < 300_000 // 512 * 512:
        with pytest.raises(FfsError):
            FileSystem(image)


@pytest.mark.media
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_bytes_in_the_genuine_ramdisk_are_refused_or_harmless(data: st.DataObject) -> None:
    image = bytearray(genuine_ramdisk())
    for _ in range(data.draw(st.integers(1, 3))):
        # superblock, group and inodes of the 6.6 alpha image: 8192 to 80 fragments of 1024
        image[data.draw(st.integers(8192, 82 * 1024))] ^= data.draw(st.integers(1, 255))
    exercise(bytes(image))


def patched(at: int, new: bytes) -> bytes:
    image = sample()
    return image[:at] + new + image[at + len(new) :]


INODE = 56 * 512  # byte offset of inode 0 in the sample; each has 128 bytes
GROUP = 48 * 512


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda: patched(8192 + 48, b"\1"), "block size"),
        (lambda: patched(8192 + 188, b"\1"), "group size"),
        (lambda: patched(8192 + 152, b"\1\0\0\0"), "summary area"),
        (lambda: patched(8192 + 196, b"\1\0\0\0"), "totals"),
        (lambda: patched(GROUP + 4, b"\0"), "wrong magic"),
        (lambda: patched(GROUP + 28, b"\0\0"), "disagree"),
        (lambda: patched(GROUP + 96, b"\xff\0"), "overlap"),
        (lambda: patched(INODE + 2 * 128, b"\0\0"), "unknown type"),
        (lambda: patched(INODE + 2 * 128 + 2, b"\7"), "link count 7"),
        (lambda: patched(INODE + 2 * 128 + 40, b"\1\0\0\0"), "not in the data area"),
        (lambda: patched(INODE + 3 * 128 + 40, b"\xff\xff\xff\x7f"), "not in the data area"),
        (lambda: patched(INODE + 4 * 128 + 8, b"\xff" * 8), "larger than the file system"),
        (lambda: patched(INODE + 4 * 128 + 104, b"\1\0\0\0"), "count of blocks"),
        (lambda: patched(INODE + 9 * 128, b"\xa4\x81"), "marked free"),
    ],
)
def test_damage_is_named(image, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        FileSystem(image())
