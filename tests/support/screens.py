"""Pictures of text, drawn as firmware and kernels draw it: the opposite of console/reader.py."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from obsdimg.console.font import Font, fonts
from obsdimg.console.picture import Picture

GREY, BLACK, BLUE, WHITE = 0xAAAAAA, 0x000000, 0x0000AA, 0xFFFFFF


def font(name: str) -> Font:
    return next(f for f in fonts() if f.name == name)


def draw(
    lines: Sequence[str],
    font: Font,
    width: int,
    height: int,
    *,
    left: int = 0,
    top: int = 0,
    ink: int = GREY,
    paper: int = BLACK,
    border: int = BLACK,
    colours: Mapping[tuple[int, int], tuple[int, int]] | None = None,
    underline: tuple[int, int] | None = None,
    rows_of_cursor: tuple[int, int] = (13, 14),
    fill: bool = True,
) -> Picture:
    """`lines` in `font` from (left, top) on; `colours` are those of single cells.

    `fill`: all the cells that fit have `paper`; `underline` is the cell with the cursor.
    """
    shapes = {char: bits for bits, char in font.glyphs.items()}
    columns, rows = (width - left) // font.width, (height - top) // font.height
    margin = _pixel(border)
    canvas = [bytearray(margin * width) for _ in range(height)]
    for row in range(rows if fill else len(lines)):
        line = lines[row] if row < len(lines) else ""
        shown = line.ljust(columns) if fill else line
        cells = [
            _cell(font, shapes[char], *(colours or {}).get((row, column), (ink, paper)))
            for column, char in enumerate(shown)
        ]
        for y in range(font.height):
            pixels = b"".join([cell[y] for cell in cells])
            canvas[top + row * font.height + y][4 * left : 4 * left + len(pixels)] = pixels
    if underline is not None:
        row, column = underline
        for y in range(rows_of_cursor[0], rows_of_cursor[1] + 1):
            x = 4 * (left + column * font.width)
            canvas[top + row * font.height + y][x : x + 4 * font.width] = _pixel(ink) * font.width
    return Picture(width, height, b"".join(canvas))


@functools.lru_cache(4096)
def _cell(font: Font, bits: int, front: int, back: int) -> list[bytes]:
    """The rows of pixels of one cell."""
    pair = (_pixel(back), _pixel(front))
    rows = [bits >> font.width * (font.height - 1 - n) for n in range(font.height)]
    return [
        b"".join(pair[row >> font.width - 1 - i & 1] for i in range(font.width)) for row in rows
    ]


def _pixel(colour: int) -> bytes:
    return bytes((colour >> 16, colour >> 8 & 0xFF, colour & 0xFF, 0))
