"""Fonts as they appear on a screen: from a cell's pixels to a character, exactly.

The tables are text (`fonts/*.hex`): a line for each glyph, `CODEPOINT:ROWS` in hexadecimal, rows
padded to whole bytes, as GNU Unifont's .hex; a character may have several glyphs, for the
versions of a font.  Comment lines name source and licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files

NAMES = ("vga-8x16", "efi-8x19", "spleen-8x16", "spleen-12x24", "spleen-16x32", "spleen-32x64")

BLANK = " "
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands where a cell holds something that is no glyph of the font."""


@dataclass(frozen=True, eq=False)
class Font:
    """Glyphs of one size: numbers of `width * height` bits, the first pixel the highest."""

    name: str
    width: int
    height: int
    glyphs: dict[int, str] = field(repr=False)

    @property
    def full(self) -> int:
        """A cell of foreground only."""
        return (1 << self.width * self.height) - 1

    @cached_property
    def cursors(self) -> dict[int, str]:
        """Glyphs under an underline cursor: some whole rows of the lower half are foreground.

        Where it hides what tells two letters apart (`g` and `q`), the character is UNKNOWN.
        """
        found: dict[int, str] = {}
        row = (1 << self.width) - 1
        for start in range(self.height // 2, self.height):
            bar = 0
            for end in range(start, min(start + 4, self.height)):
                bar |= row << self.width * (self.height - 1 - end)
                for bits, char in self.glyphs.items():
                    found[bits | bar] = _either(found.get(bits | bar, char), char)
        return found


def _either(one: str, other: str) -> str:
    """What a shape is that two characters have under a cursor."""
    if one == other or BLANK in (one, other):
        return BLANK if BLANK in (one, other) else one
    if one.isascii() != other.isascii():
        return one if one.isascii() else other
    return UNKNOWN


@cache
def fonts() -> tuple[Font, ...]:
    """Every font, the most frequent first; VGA's also with its ninth column."""
    loaded = [load(name) for name in NAMES]
    return (nine_columns(loaded[0]), *loaded)


def load(name: str) -> Font:
    """The font in `fonts/NAME.hex`."""
    text = files("obsdimg.console").joinpath("fonts", f"{name}.hex").read_text("utf-8")
    width, height = map(int, name.rpartition("-")[2].split("x"))
    return Font(name, width, height, _index(parse(text, width, height)))


def parse(text: str, width: int, height: int) -> Iterator[tuple[str, int]]:
    """Characters and glyphs of a table; blank padding of the rows is dropped."""
    row_bytes = (width + 7) // 8
    spare = 8 * row_bytes - width
    for line in text.splitlines():
        code, colon, rows = line.partition(":")
        if line.startswith("#") or not colon:
            continue
        data, bits = bytes.fromhex(rows), 0
        assert len(data) == row_bytes * height, line
        for at in range(0, len(data), row_bytes):
            bits = bits << width | int.from_bytes(data[at : at + row_bytes], "big") >> spare
        yield chr(int(code, 16)), bits


def _index(glyphs: Iterator[tuple[str, int]]) -> dict[int, str]:
    """By glyph; where several characters look the same, ASCII wins."""
    index: dict[int, str] = {}
    for char, bits in glyphs:
        if bits not in index or (char.isascii() and not index[bits].isascii()):
            index[bits] = char
    index[0] = BLANK
    return index


def nine_columns(font: Font) -> Font:
    """An 8-pixel VGA font as text mode shows it: 9 pixels (line graphics repeat the eighth)."""
    index: dict[int, str] = {}
    for bits, char in font.glyphs.items():
        wide = 0
        for n in range(font.height):
            row = bits >> 8 * (font.height - 1 - n) & 0xFF
            wide = wide << 9 | row << 1 | (row & 1 if "\u2500" <= char <= "\u25ff" else 0)
        index[wide] = char
    return Font("vga-9x16", 9, font.height, index)
