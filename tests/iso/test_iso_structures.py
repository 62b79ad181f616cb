"""The small pure functions below the ISO reader and writer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.iso import names as iso_names
from obsdimg.iso import transtbl
from obsdimg.iso.names import NameStyle
from obsdimg.iso.structures import (
    IsoError,
    PathTableEntry,
    both32,
    long_date,
    make_record,
    move_record,
    pack_directory,
    pack_path_table,
    parse_path_table,
    parse_record,
    read_both32,
    read_long_date,
    read_short_date,
    short_date,
    sort_key,
    split_directory,
)

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


@given(st.integers(-2_208_988_800, 5_869_583_999))
def test_dates_come_back(seconds: int) -> None:
    assert read_short_date(short_date(seconds)) == seconds
    assert read_long_date(long_date(seconds)) == seconds


def test_a_date_of_mkhybrid_has_a_zone() -> None:
    """12 October 2019, 06:38:48 six hours west of UTC, from the genuine CD."""
    assert read_short_date(bytes.fromhex("770a0c062630e8")) == 1_570_883_928
    assert read_long_date(b"2019101206384800\xe8") == 1_570_883_928


@pytest.mark.parametrize("raw", [bytes(7), b"\x77\x0d\x0c\x06\x26\x30\x00", b"\xff" * 7])
def test_a_date_that_is_none_reads_as_zero(raw: bytes) -> None:
    assert read_short_date(raw) == 0
    assert read_long_date(bytes(17)) == 0


def test_a_number_whose_halves_differ_is_an_error() -> None:
    assert read_both32(both32(0xDEADBEEF), 0, "x") == 0xDEADBEEF
    with pytest.raises(IsoError, match="x: its two copies differ"):
        read_both32(both32(5)[:7] + b"\x06", 0, "x")


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=80))
def test_directories_come_back_and_no_record_crosses_a_sector(names: list[bytes]) -> None:
    records = [make_record(name, n, n * 3, 0, n, b"RR") for n, name in enumerate(names)]
    packed = pack_directory(records)
    assert len(packed) % 2048 == 0
    assert split_directory(packed, "x") == records
    for n, raw in enumerate(records):
        record = parse_record(raw, "x")
        assert (record.identifier, record.extent, record.size) == (names[n], n, n * 3)
        assert record.system_use.startswith(b"RR")
        moved = parse_record(move_record(raw, 77, 88), "x")
        assert (moved.extent, moved.size, moved.identifier) == (77, 88, names[n])


ENTRIES = st.lists(
    st.builds(
        PathTableEntry,
        st.binary(min_size=1, max_size=31),
        st.integers(0, 2**32 - 1),
        st.integers(1, 65535),
    ),
    max_size=20,
)


@given(ENTRIES, st.sampled_from("<>"))
def test_path_tables_come_back(entries: list[PathTableEntry], order: str) -> None:
    assert parse_path_table(pack_path_table(entries, order), order) == entries


def test_names_sort_before_their_extensions() -> None:
    names = [b"BSD", b"BSD.MP", b"BSD.RD", b"BSD_X", b"BSDA.A", b"CDBR"]
    assert sorted(names, key=sort_key) == [
        b"BSD", b"BSD.MP", b"BSD.RD", b"BSDA.A", b"BSD_X", b"CDBR",
    ]  # fmt: skip
