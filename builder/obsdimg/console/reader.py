"""From a picture to text, exactly: a cell's pixels are a glyph of the font, or unknown.

Where cells begin is found by trying what firmware and kernel do: VGA text mode fills the screen
from its corner, OpenBSD's rasops(9) and UEFI's console centre as many cells as fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from obsdimg.console.font import BLANK, UNKNOWN, Font, fonts
from obsdimg.console.picture import Picture
from obsdimg.console.screen import Cell, Kind, Screen

MOST_CELLS = 1 << 16
FEW = 8
"""Unknown cells that a screen may have anyway: a cursor, a mouse pointer."""
TOLERANCE = 0.05
CACHE = 1 << 15
BANDS = 256
EFI_SIZES = ((80, 25), (80, 50), (100, 31), (128, 40))
"""Text modes of UEFI's console beside the one that fills the screen (edk2, GraphicsConsole.c)."""


@dataclass(frozen=True)
class CellLayout:
    """A font, and where its cells are: the first one's corner, and how many."""

    font: Font
    left: int
    top: int
    columns: int
    rows: int


@dataclass(frozen=True)
class _Found:
    cell: Cell
    cursor: bool
    known: bool
    """False: more than two colours, or no glyph."""
    filled: bool
    """It shows something: no blank."""


class Reader:
    """Reads pictures of one console; remembers the last layout and the cells it has seen."""

    def __init__(self) -> None:
        self._layout: CellLayout | None = None
        self._seen: dict[str, dict[bytes, _Found]] = {}
        self._bands: dict[bytes, tuple[_Found, ...]] = {}
        self._last: tuple[Picture, Screen] | None = None

    def read(self, picture: Picture) -> Screen:
        """The text in `picture`; Kind.GRAPHICS where no font fits."""
        if self._last is None or self._last[0] != picture:
            self._last = (picture, self._read(picture))
        return self._last[1]

    def _read(self, picture: Picture) -> Screen:
        width, height = picture.width, picture.height
        if _one_colour(picture):
            return Screen(Kind.BLANK, width=width, height=height)
        candidates = list(layouts(width, height))
        if self._layout in candidates:
            candidates.remove(self._layout)
            candidates.insert(0, self._layout)
        best: tuple[int, CellLayout, list[tuple[_Found, ...]]] | None = None
        for layout in candidates:
            rows = self._rows(picture, layout)
            if rows is None:
                continue
            score = sum((1 if found.known else -3) for row in rows for found in row if found.filled)
            if best is None or score > best[0]:
                best = (score, layout, rows)
            if layout == self._layout and score > FEW:
                break
        if best is None or best[0] <= 0:
            return Screen(Kind.GRAPHICS, width=width, height=height)
        _, layout, rows = best
        if layout != self._layout:
            self._layout = layout
            self._bands.clear()
        return Screen(
            Kind.TEXT,
            tuple(tuple(found.cell for found in row) for row in rows),
            _cursor(rows),
            layout.font.name,
            width,
            height,
            sum(not found.known for row in rows for found in row),
        )

    def _rows(self, picture: Picture, layout: CellLayout) -> list[tuple[_Found, ...]] | None:
        """What the cells hold; None as soon as it is clear that the layout does not fit."""
        known = unknown = 0
        rows = []
        remember = layout == self._layout
        if len(self._bands) > BANDS:
            self._bands.clear()
        height = layout.font.height * 4 * picture.width
        for n in range(layout.rows):
            start = layout.top * 4 * picture.width + n * height
            band = picture.pixels[start : start + height]
            row = self._bands.get(band) if remember else None
            if row is None:
                row = tuple(self._cells(band, 4 * picture.width, layout))
                if remember:
                    self._bands[band] = row
            for found in row:
                unknown += not found.known
                known += found.known and found.filled
            if unknown > FEW and unknown > TOLERANCE * known:
                return None
            rows.append(row)
        return rows

    def _cells(self, band: bytes, stride: int, layout: CellLayout) -> Iterator[_Found]:
        """The cells of one row of text; `band` holds its rows of pixels, `stride` bytes each."""
        font = layout.font
        seen = self._seen.setdefault(font.name, {})
        if len(seen) > CACHE:
            seen.clear()
        wide = 4 * font.width
        first = 4 * layout.left
        last = first + wide * layout.columns
        lines = [band[at + first : at + last] for at in range(0, len(band), stride)]
        for at in range(0, last - first, wide):
            pixels = b"".join([line[at : at + wide] for line in lines])
            found = seen.get(pixels)
            if found is None:
                found = seen[pixels] = _recognise(pixels, font)
            yield found


def layouts(width: int, height: int) -> Iterator[CellLayout]:
    """Where the cells of each font may be on a screen of this size."""
    for font in fonts():
        columns, rows = width // font.width, height // font.height
        if not columns or not rows or columns * rows > MOST_CELLS:
            continue
        left, top = width - columns * font.width, height - rows * font.height
        places = {(0, 0, columns, rows), (left // 2, top // 2, columns, rows)}
        if font.name.startswith("efi"):
            places |= {
                ((width - c * font.width) // 2, (height - r * font.height) // 2, c, r)
                for c, r in EFI_SIZES
                if c <= columns and r <= rows
            }
        if font.name.startswith("vga-9") and (left or top):
            continue
        # Where several fit as well, the smallest: its first row is the text's first row.
        for place in sorted(places, key=lambda p: p[2] * p[3]):
            yield CellLayout(font, *place)


def _recognise(pixels: bytes, font: Font) -> _Found:
    """What the pixels of one cell are."""
    values = memoryview(pixels).cast("I")
    colours = set(values)
    if len(colours) == 1:
        colour = _rgb(values[0])
        return _Found(Cell(BLANK, colour, colour), False, True, False)
    if len(colours) > 2:
        return _Found(Cell(UNKNOWN, 0xFFFFFF, 0), False, False, True)
    one, other = sorted(colours)
    bits = 0
    for value in values:
        bits = bits << 1 | (value == one)
    # The ink is the rarer colour, unless only the other way round is a glyph.
    ways = sorted(((bits, one, other), (bits ^ font.full, other, one)), key=_ink)
    for table, cursor in ((font.glyphs, False), (font.cursors, True)):
        for shape, ink, paper in ways:
            char = table.get(shape)
            if char is not None:
                return _Found(Cell(char, _rgb(ink), _rgb(paper)), cursor, char != UNKNOWN, True)
    shape, ink, paper = ways[0]
    return _Found(Cell(UNKNOWN, _rgb(ink), _rgb(paper)), False, False, True)


def _ink(way: tuple[int, int, int]) -> int:
    return way[0].bit_count()


def _rgb(value: int) -> int:
    """A pixel (red in the lowest byte of memory) as 0xRRGGBB."""
    red, green, blue, _ = value.to_bytes(4, "little")
    return red << 16 | green << 8 | blue


def _cursor(rows: list[tuple[_Found, ...]]) -> tuple[int, int] | None:
    """The underlined cell, or the only one that is inverse or solid; None: hidden, or unclear."""
    places = [(r, c) for r, row in enumerate(rows) for c, found in enumerate(row) if found.cursor]
    if len(places) == 1:
        return places[0]
    papers = Counter(found.cell.paper for row in rows for found in row)
    rare = {paper for paper, count in papers.items() if count == 1}
    places = [
        (r, c)
        for r, row in enumerate(rows)
        for c, found in enumerate(row)
        if found.known and found.cell.paper in rare
    ]
    return places[0] if len(places) == 1 else None


def _one_colour(picture: Picture) -> bool:
    if not picture.pixels:
        return True
    return picture.pixels == picture.pixels[:4] * (picture.width * picture.height)
