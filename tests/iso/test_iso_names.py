"""Identifiers and listings in the style of a medium."""

from __future__ import annotations

import pytest

from obsdimg.iso import names as iso_names
from obsdimg.iso import transtbl
from obsdimg.iso.names import NameStyle
from obsdimg.iso.transtbl import sort_key

MKHYBRID = NameStyle(version=False, trailing_dot=False, dotted_directories=True)
STRICT = NameStyle(version=True, trailing_dot=True, dotted_directories=False)


@pytest.mark.parametrize(
    ("name", "directory", "mkhybrid", "strict"),
    [
        ("bsd.auto", False, b"BSD.AUTO", b"BSD.AUTO;1"),
        ("site66.tgz", False, b"SITE66.TGZ", b"SITE66.TGZ;1"),
        ("SHA256", False, b"SHA256", b"SHA256.;1"),
        ("SHA256.sig", False, b"SHA256.SIG", b"SHA256.SIG;1"),
        ("site66-wg.example.tgz", False, b"SITE66_WG_EXAMPLE.TGZ", b"SITE66_WG_EXAMPLE.TGZ;1"),
        ("6.6", True, b"6.6", b"6_6"),
        ("etc", True, b"ETC", b"ETC"),
        (".profile", False, b"_PROFILE", b"_PROFILE.;1"),
        ("dot.", False, b"DOT_", b"DOT_.;1"),
        ("Grüße.txt", False, b"GR_SSE.TXT", b"GR_SSE.TXT;1"),
        ("x" * 40, False, b"X" * 30, b"X" * 30 + b".;1"),
        ("x" * 40 + ".tgz", False, b"X" * 27 + b".TGZ", b"X" * 27 + b".TGZ;1"),
        ("y" * 40, True, b"Y" * 31, b"Y" * 31),
        ("a.verylongextension", False, b"A.VERYLONG", b"A.VERYLONG;1"),
    ],
)
def test_identifiers_follow_the_style(
    name: str, directory: bool, mkhybrid: bytes, strict: bytes
) -> None:
    assert iso_names.identifier(name, directory, MKHYBRID, ()) == mkhybrid
    assert iso_names.identifier(name, directory, STRICT, ()) == strict


def test_names_that_look_alike_get_numbers() -> None:
    taken: list[bytes] = []
    for name in ("a-b.tgz", "a_b.tgz", "A+B.tgz"):
        taken.append(iso_names.identifier(name, False, STRICT, taken))
    assert taken == [b"A_B.TGZ;1", b"A_B000.TGZ;1", b"A_B001.TGZ;1"]


def test_the_style_is_read_off_the_medium() -> None:
    assert iso_names.style_of([b"BSD", b"BSD.RD"], [b"6.6", b"ETC"]) == MKHYBRID
    assert iso_names.style_of([b"BSD.;1", b"BSD.RD;1"], [b"6_6", b"ETC"]) == STRICT
    assert iso_names.style_of([], []) == NameStyle(False, False, False)


TABLE = (
    b"D 6.6                               \t6.6\n"
    b"F BSD                               \tbsd\n"
    b"F BSD.RD                            \tbsd.rd\n"
)


def test_a_listing_gets_its_new_line_in_order() -> None:
    """TABLE is the root's TRANS.TBL of the 6.6 alpha CD."""
    lines = TABLE.splitlines(keepends=True)
    new = b"F BSD.AUTO                          \tbsd.auto\n"
    assert transtbl.insert(TABLE, "F", b"BSD.AUTO", b"bsd.auto") == b"".join(
        [*lines[:2], new, lines[2]]
    )
    last = b"D ETC                               \tetc\n"
    assert transtbl.insert(TABLE, "D", b"ETC", b"etc") == TABLE + last
    assert transtbl.insert(b"", "D", b"ETC", b"etc") == last


def test_a_listing_of_another_width_or_without_a_last_newline_keeps_its_form() -> None:
    assert transtbl.insert(b"F A;1    \ta", "F", b"B;1", b"b") == b"F A;1    \ta\nF B;1    \tb\n"
    assert transtbl.insert(b"junk\n", "F", b"B", b"b") == b"F B\tb\njunk\n"


def test_names_sort_before_their_extensions() -> None:
    names = [b"BSD", b"BSD.MP", b"BSD.RD", b"BSD_X", b"BSDA.A", b"CDBR"]
    assert sorted(names, key=sort_key) == [
        b"BSD", b"BSD.MP", b"BSD.RD", b"BSDA.A", b"BSD_X", b"CDBR",
    ]  # fmt: skip
