"""Searches a machine's disk image for what must not be readable in it.

The image (qcow2) is read in the guest's order, as the extents of `qemu-img map` say, so a
text is found wherever the file keeps it.  The search proves itself on what must be readable
on an encrypted OpenBSD disk: its boot loader and the softraid metadata.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.process import run
from obsdimg.smoke.result import SmokeCheck

STEP = 4 * 1024 * 1024  # bytes read at a time
SECTOR = 512
EFI_SYSTEM = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
"""C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it stands on the disk."""
MBR_EFI_SYSTEM = 0xEF
SAMPLE = 65536  # bytes between two looks at how random the disk is
PLAIN_START = 4 * 1024 * 1024
"""Bytes at the start of the disk that may be readable: partition table, label, boot loader
(softraid's metadata and boot area end 528 sectors into the partition, sys/dev/softraidvar.h)."""

MUST_BE_THERE = (("softraid metadata", b"marcCRAM"), ("the boot loader", b">> OpenBSD/"))
PLAIN_TEXTS = (
    ("password file", b"root:*:0:0:"),
    ("password file", b"daemon:*:1:1:"),
    ("scripts of the base system", b"#!/bin/ksh\n#"),
    ("scripts of the base system", b"#\t$OpenBSD: "),
    ("scripts of the base system", b"# $OpenBSD: "),
    ("an ssh host key", b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----"),
    ("WireGuard configuration", b"PrivateKey ="),
    ("WireGuard configuration", b"wgkey "),
)
"""Found in every installed system, and in no boot loader."""


class DiskSearchError(ObsdimgError):
    """The image cannot be read."""


@dataclass
class DiskExtent:
    """Bytes of the guest's disk that the file holds: `length` from `start`, at `offset`."""

    start: int
    length: int
    offset: int


@dataclass
class Findings:
    """What a search found: offsets in bytes from the start of the guest's disk."""

    size: int = 0
    stored: int = 0
    found: dict[str, list[int]] = field(default_factory=dict)
    samples: int = 0
    readable: list[int] = field(default_factory=list)
    """Samples that compress, although not empty: not random, so not encrypted."""

    def outside(self, areas: Sequence[tuple[int, int]]) -> list[int]:
        """The readable samples that lie in none of `areas`."""
        return [at for at in self.readable if not any(s <= at < e for s, e in areas)]


def extents(image: Path, timeout: float = 120.0) -> tuple[list[DiskExtent], int]:
    """The stored extents of `image` in the guest's order, and the disk's size in bytes.

    `-U`: also while a paused machine holds the image.  Raises ProcessError, DiskSearchError.
    """
    said = run(["qemu-img", "map", "-U", "-f", "qcow2", "--output=json", image], timeout=timeout)
    found, size = [], 0
    for entry in json.loads(said.stdout):
        size = max(size, entry["start"] + entry["length"])
        if not entry["data"] or entry.get("zero"):
            continue
        if "offset" not in entry:
            raise DiskSearchError(f"{image}: holds compressed clusters", "use an uncompressed one")
        # What lies in an image below has its offset there, and not always the image's name.
        if not entry["depth"]:
            found.append(DiskExtent(entry["start"], entry["length"], entry["offset"]))
    return found, size


def backing_file(image: Path) -> Path | None:
    """The image below `image`, if it is an overlay."""
    said = run(["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", image], timeout=60)
    name = json.loads(said.stdout).get("full-backing-filename")
    return Path(name) if name else None


def _pieces(
    image: Path, parts: Sequence[DiskExtent], keep: int
) -> Iterator[tuple[int, bytes, int]]:
    """Pieces of the disk in order: offset of the first byte, the bytes, and how many of them
    were already part of the piece before (so that no text is cut in two)."""
    tail, expected = b"", -1
    with image.open("rb") as stream:
        for part in parts:
            at = 0
            while at < part.length:
                stream.seek(part.offset + at)
                data = stream.read(min(STEP, part.length - at))
                if not data:
                    break
                start = part.start + at
                if start != expected:
                    tail = b""
                yield start - len(tail), tail + data, len(tail)
                at += len(data)
                expected = start + len(data)
                tail = (tail + data)[-keep:] if keep else b""


def search(
    image: Path,
    needles: Sequence[tuple[str, bytes]],
    advance: Callable[[int], None] = lambda count: None,
) -> Findings:
    """Look for every needle (a name and its bytes) and for samples that are not random.

    An overlay is searched together with what is below it.  `advance` is told of bytes read.
    Raises DiskSearchError, ProcessError.
    """
    findings = Findings()
    for name, _ in needles:
        findings.found.setdefault(name, [])
    keep = max((len(needle) for _, needle in needles), default=1) - 1
    below = image
    while True:
        parts, size = extents(below)
        findings.size = max(findings.size, size)
        for start, data, again in _pieces(below, parts, keep):
            _look(findings, needles, start, data, again)
            findings.stored += len(data) - again
            advance(len(data) - again)
        if (lower := backing_file(below)) is None:
            return findings
        below = lower


def read_at(image: Path, start: int, length: int) -> bytes:
    """Bytes of the guest's disk; what the file does not hold reads as zeros."""
    below: Path | None = image
    data = bytearray(length)
    filled = [False] * length
    while below is not None:
        parts, _ = extents(below)
        with below.open("rb") as stream:
            for part in parts:
                first, last = max(start, part.start), min(start + length, part.start + part.length)
                if first < last:
                    stream.seek(part.offset + first - part.start)
                    piece = stream.read(last - first)
                    for at, byte in enumerate(piece, first - start):
                        if not filled[at]:
                            data[at], filled[at] = byte, True
        below = backing_file(below)
    return bytes(data)


def plain_areas(image: Path) -> tuple[tuple[int, int], ...]:
    """Where an encrypted disk may be readable, (start, end) in bytes each.

    Its start and an EFI System partition; with a GPT also the boot area at the start of the others
    and the second copy of the table (UEFI 2.10, section 5.3).
    """
    head = read_at(image, 0, 34 * SECTOR)
    areas = [(0, PLAIN_START)]
    if head[SECTOR : SECTOR + 8] != b"EFI PART":
        for at in range(446, 510, 16):
            if head[at + 4] == MBR_EFI_SYSTEM and head[510:512] == b"\x55\xaa":
                first, count = struct.unpack_from("<II", head, at + 8)
                areas.append((first * SECTOR, (first + count) * SECTOR))
        return tuple(areas)
    alternate = int.from_bytes(head[SECTOR + 32 : SECTOR + 40], "little")
    areas.append(((alternate - 32) * SECTOR, (alternate + 1) * SECTOR))
    for at in range(2 * SECTOR, 34 * SECTOR, 128):
        entry = head[at : at + 128]
        if entry[:16] == bytes(16):
            continue
        first, last = (int.from_bytes(entry[n : n + 8], "little") * SECTOR for n in (32, 40))
        end = last + SECTOR if entry[:16] == EFI_SYSTEM else first + PLAIN_START
        areas.append((first, end))
    return tuple(areas)


def _look(
    findings: Findings, needles: Sequence[tuple[str, bytes]], start: int, data: bytes, again: int
) -> None:
    for name, needle in needles:
        at = data.find(needle, max(0, again - len(needle) + 1))
        while at >= 0 and len(findings.found[name]) < 100:
            findings.found[name].append(start + at)
            at = data.find(needle, at + 1)
    for at in range(again, len(data) - 511, SAMPLE):
        sample = data[at : at + 512]
        findings.samples += 1
        if sample.count(0) < 512 and len(zlib.compress(sample, 1)) < 480:
            findings.readable.append(start + at)


def check_disk(
    findings: Findings,
    secrets: Sequence[str],
    encrypted: bool,
    areas: Sequence[tuple[int, int]] = ((0, PLAIN_START),),
) -> list[SmokeCheck]:
    """What the findings mean; `secrets` are the names of needles that are secrets, `areas` what
    may be readable (plain_areas).

    Every other needle is one of MUST_BE_THERE or a plain text of the installed system.
    """
    required = {name for name, _ in MUST_BE_THERE}
    checks = []
    for name, places in findings.found.items():
        where = ", ".join(f"byte {at}" for at in places[:3]) + (" ..." if len(places) > 3 else "")
        if name in secrets:
            checks.append(SmokeCheck.of(f"{name} is not on the disk in clear", not places, where))
        elif not encrypted:
            continue
        elif name in required:
            detail = where or "not found: the search is blind, or this is no encrypted disk"
            checks.append(SmokeCheck.of(f"{name} is readable, as it must be", bool(places), detail))
        else:
            checks.append(SmokeCheck.of(f"{name}: not readable", not places, where))
    if encrypted:
        beyond = findings.outside(areas)
        detail = (
            f"{findings.samples} samples of {findings.stored} bytes stored,"
            f" {len(findings.readable)} readable, {len(beyond)} of them beyond the boot area"
        )
        checks.append(
            SmokeCheck.of("everything beyond the boot area looks random", not beyond, detail)
        )
    return checks
