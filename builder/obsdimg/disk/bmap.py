"""The map of an image: which parts of the disk hold something, with their SHA-256.

The format is that of bmap-tools, version 2.0 (bmaptool's own files, `bmaptool copy`): XML with
ranges of blocks, last one included, and a checksum of the file itself with that checksum's
digits set to 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from obsdimg.disk.content import UNIT

BLOCK = 4096
"""Bytes of a block, as bmaptool has them."""
_PER_UNIT = UNIT // BLOCK
_NOTHING = "0" * 64


@dataclass(frozen=True)
class MappedRange:
    """Units of the disk that hold something: from `first`, `count` of them; their SHA-256."""

    first: int
    count: int
    sha256: str


def encode(count: int, ranges: Sequence[MappedRange]) -> bytes:
    """The map of a disk of `count` units."""
    mapped = sum(one.count for one in ranges) * _PER_UNIT
    lines = [
        '<?xml version="1.0" ?>',
        "<!-- Made by obsdimg.  bmaptool copy writes the image by this map, and leaves the rest"
        " of the disk as it is. -->",
        '<bmap version="2.0">',
        f"    <ImageSize> {count * UNIT} </ImageSize>",
        f"    <BlockSize> {BLOCK} </BlockSize>",
        f"    <BlocksCount> {count * _PER_UNIT} </BlocksCount>",
        f"    <MappedBlocksCount> {mapped} </MappedBlocksCount>",
        "    <ChecksumType> sha256 </ChecksumType>",
        f"    <BmapFileChecksum> {_NOTHING} </BmapFileChecksum>",
        "    <BlockMap>",
        *(f'        <Range chksum="{r.sha256}"> {_span(r)} </Range>' for r in ranges),
        "    </BlockMap>",
        "</bmap>",
    ]
    text = "\n".join(lines) + "\n"
    return text.replace(_NOTHING, hashlib.sha256(text.encode()).hexdigest(), 1).encode()


def _span(one: MappedRange) -> str:
    return f"{one.first * _PER_UNIT}-{(one.first + one.count) * _PER_UNIT - 1}"
