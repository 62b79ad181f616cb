from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.response.matching import parse, read_lines
from obsdimg.response.render import RenderError, render


def test_lines_end_with_a_newline_and_keep_their_order() -> None:
    assert render([("System hostname", "gw"), ("Terminal type?", "vt220")]) == (
        b"System hostname = gw\nTerminal type? = vt220\n"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("a", ""),
        ("", "x"),
        ("a", " x"),
        ("a", "x\t"),
        ("a", "x\ny = z"),
        ("a", "x\r"),
        ("a", "x\x1b[2J"),
        ("a", "x\x85"),
        ("#a", "x"),
        (" a", "x"),
        ("a ", "x"),
        ("a=b", "x"),
        ("a\nb", "x"),
        ("=", "x"),
    ],
)
def test_what_the_installer_would_misread_is_refused(key: str, value: str) -> None:
    with pytest.raises(RenderError):
        render([(key, value)])


def test_an_error_never_shows_the_answer() -> None:
    with pytest.raises(RenderError) as caught:
        render([("New passphrase", "correct horse\n")])
    assert "horse" not in caught.value.message


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=40))
def test_what_is_accepted_is_read_back_unchanged(key: str, value: str) -> None:
    try:
        data = render([(key, value)])
    except RenderError:
        return
    (line,) = read_lines(data)
    entry = parse(line.text)
    assert entry is not None
    assert entry.value == value
