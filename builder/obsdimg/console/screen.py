"""A screen of text: what stands where, in which colours."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple


class Kind(enum.Enum):
    """What a screen is."""

    TEXT = "text"
    BLANK = "blank"
    """One colour everywhere: switched off, or between two modes."""
    GRAPHICS = "graphics"
    """A picture, or text in an unknown font."""


class Cell(NamedTuple):
    """One character and its colours (0xRRGGBB)."""

    char: str
    ink: int
    paper: int


@dataclass(frozen=True)
class Screen:
    """`cells` row by row.  A serial line's screen has no font and no size in pixels."""

    kind: Kind
    cells: tuple[tuple[Cell, ...], ...] = field(default=(), repr=False)
    cursor: tuple[int, int] | None = None
    """Row and column."""
    font: str = ""
    width: int = 0
    height: int = 0
    unknown: int = 0
    """Cells that hold no known glyph."""

    @property
    def lines(self) -> list[str]:
        """The rows as text, blanks at their end removed."""
        return ["".join(cell.char for cell in row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        """The rows down to the last that holds something."""
        return "\n".join(self.lines).rstrip("\n")

    @property
    def columns(self) -> int:
        return len(self.cells[0]) if self.cells else 0

    @property
    def rows(self) -> int:
        return len(self.cells)
