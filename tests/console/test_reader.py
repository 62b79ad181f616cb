from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.console.font import NAMES, UNKNOWN, fonts, load
from obsdimg.console.picture import Picture
from obsdimg.console.reader import Reader
from obsdimg.console.screen import Kind
from support.screens import BLACK, BLUE, GREY, WHITE, draw, font

PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "

PLACES = [
    # font, picture's width and height, first cell
    ("vga-9x16", 720, 400, 0, 0),
    ("vga-8x16", 640, 400, 0, 0),
    ("efi-8x19", 1280, 800, 0, 1),
    ("efi-8x19", 1280, 800, 320, 162),
    ("efi-8x19", 800, 600, 80, 62),
    ("spleen-8x16", 640, 480, 0, 0),
    ("spleen-8x16", 1024, 768, 0, 0),
    ("spleen-8x16", 1366, 768, 3, 0),
    ("spleen-12x24", 1280, 800, 4, 4),
    ("spleen-16x32", 1920, 1080, 0, 12),
    ("spleen-32x64", 3840, 2160, 0, 24),
]


def lines_of(text: str) -> list[str]:
    return text.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_every_font_has_all_of_ascii_a_source_and_a_licence(name: str) -> None:
    from importlib.resources import files

    glyphs = load(name).glyphs
    assert set(PRINTABLE) <= set(glyphs.values())
    text = files("obsdimg.console").joinpath("fonts", f"{name}.hex").read_text()
    assert "# source: " in text
    assert "# licence: " in text


@pytest.mark.parametrize("name", NAMES)
def test_no_two_characters_of_ascii_look_the_same(name: str) -> None:
    from importlib.resources import files

    text = files("obsdimg.console").joinpath("fonts", f"{name}.hex").read_text()
    ascii_lines = [line for line in text.splitlines() if line[:2] == "00" and line[2] in "234567"]
    shapes = [line[5:] for line in ascii_lines]
    assert len(set(shapes)) == len(shapes) >= 95


@pytest.mark.parametrize(("name", "width", "height", "left", "top"), PLACES)
def test_a_thousand_lines_are_read_without_an_error(
    name: str, width: int, height: int, left: int, top: int
) -> None:
    dice = random.Random(name)
    glyphs = font(name)
    columns, rows = (width - 2 * left) // glyphs.width, (height - 2 * top) // glyphs.height
    reader, read = Reader(), 0
    while read < 1000:
        lines = ["".join(dice.choices(PRINTABLE, k=columns)).rstrip() for _ in range(rows)]
        picture = draw(lines, glyphs, width, height, left=left, top=top)
        screen = reader.read(picture)
        assert screen.kind is Kind.TEXT
        assert screen.font == name
        assert screen.lines[:rows] == lines
        assert screen.unknown == 0
        read += rows if width < 800 else 200  # large pictures cost seconds to draw here


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(PRINTABLE, max_size=80), min_size=1, max_size=25),
    st.sampled_from([GREY, WHITE, 0xFFFF55, 0x00AA00]),
    st.sampled_from([BLACK, BLUE, 0x550000]),
)
def test_any_text_in_any_colours(lines: list[str], ink: int, paper: int) -> None:
    lines = [line.rstrip() for line in lines]
    picture = draw(lines, font("vga-9x16"), 720, 400, ink=ink, paper=paper)
    screen = Reader().read(picture)
    if not any(lines):
        assert screen.kind is Kind.BLANK
        return
    assert screen.text == "\n".join(lines).rstrip("\n")
    for row, line in zip(screen.cells, lines, strict=False):
        for cell, char in zip(row, line, strict=False):
            assert cell.paper == paper
            assert char == " " or cell.ink == ink


def test_colours_may_change_from_cell_to_cell() -> None:
    colours = {(0, n): (WHITE, BLUE) for n in range(5)} | {(1, 2): (BLACK, GREY)}
    screen = Reader().read(draw(["white", "inverse"], font("vga-9x16"), 720, 400, colours=colours))
    assert screen.lines[:2] == ["white", "inverse"]
    assert screen.cells[0][0] == ("w", WHITE, BLUE)
    assert screen.cells[1][2] == ("v", BLACK, GREY)
    assert screen.cells[1][3] == ("e", GREY, BLACK)


@pytest.mark.parametrize("char", [" ", "h", "i", "W"])
def test_the_cursor_hides_nothing(char: str) -> None:
    lines = ["Passphrase: ", "", "x" + char]
    picture = draw(lines, font("vga-9x16"), 720, 400, underline=(2, 1))
    screen = Reader().read(picture)
    assert screen.lines[2] == ("x" + char).rstrip()
    assert screen.unknown == 0
    assert screen.cursor == (2, 1)


def test_what_the_cursor_hides_is_not_guessed() -> None:
    picture = draw(["a word: ", "xq"], font("vga-9x16"), 720, 400, underline=(1, 1))
    screen = Reader().read(picture)  # `g` and `q` differ in the rows below the cursor's only
    assert screen.lines[1] == f"x{UNKNOWN}"
    assert screen.cursor == (1, 1)


def test_a_block_cursor_is_found() -> None:
    colours = {(1, 4): (BLACK, GREY)}
    screen = Reader().read(draw(["abc", "login"], font("spleen-8x16"), 640, 480, colours=colours))
    assert screen.cursor == (1, 4)
    assert screen.lines[:2] == ["abc", "login"]


def test_a_changed_resolution_and_font_are_followed() -> None:
    reader = Reader()
    for name, width, height, left, top in [*PLACES, *PLACES[::-1]]:
        lines = ["OpenBSD 7.7 (GENERIC) #1", "", "cpu0: (unknown)"]
        picture = draw(lines, font(name), width, height, left=left, top=top)
        screen = reader.read(picture)
        assert screen.text == "\n".join(lines)
        assert screen.font == name


def test_one_colour_is_a_blank_screen() -> None:
    for colour in (b"\0\0\0\0", b"\xff\xff\xff\0"):
        screen = Reader().read(Picture(800, 600, colour * 480000))
        assert screen.kind is Kind.BLANK
        assert screen.text == ""
    assert Reader().read(Picture(0, 0, b"")).kind is Kind.BLANK


def test_a_picture_is_no_text() -> None:
    noise = random.Random(1).randbytes(640 * 480 * 4)
    noise = bytes(0 if n % 4 == 3 else b for n, b in enumerate(noise))
    assert Reader().read(Picture(640, 480, noise)).kind is Kind.GRAPHICS
    stripes = (b"\xff\0\0\0" * 320 + b"\0\xff\0\0" * 320) * 480
    assert Reader().read(Picture(640, 480, stripes)).kind is not Kind.TEXT


def test_what_is_no_glyph_is_marked_and_the_rest_is_read() -> None:
    picture = draw(["before after and more"], font("vga-8x16"), 640, 400)
    pixels = bytearray(picture.pixels)
    for y in (3, 5, 8):  # scratches in the cell of the `a`
        at = 4 * (640 * y + 7 * 8 + y % 8)
        pixels[at : at + 4] = b"\xaa\xaa\xaa\0"
    screen = Reader().read(Picture(640, 400, bytes(pixels)))
    assert screen.lines[0] == f"before {UNKNOWN}fter and more"
    assert screen.unknown == 1


def test_line_graphics_go_on_in_the_ninth_column() -> None:
    screen = Reader().read(draw(["┌──┐ ok", "└──┘"], font("vga-9x16"), 720, 400))
    assert screen.lines[:2] == ["┌──┐ ok", "└──┘"]


def test_absurd_sizes_end_quickly() -> None:
    for width, height in ((1, 1), (7, 4000), (9000, 3)):
        pixels = b"\0\0\0\0" * (width * height - 1) + b"\xff\0\0\0"
        assert Reader().read(Picture(width, height, pixels)).kind in Kind


def test_fonts_are_loaded_once() -> None:
    assert fonts() is fonts()
