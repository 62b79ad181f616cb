"""Pieces of a stream in any order, against a model that remembers every byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.tunnel.reassembly import REPORTED_BLOCKS, Reassembly

STREAM = bytes(range(256)) * 4
LIMIT = 600

PIECES = st.lists(
    st.tuples(st.integers(1, 900), st.integers(0, 120), st.integers(0, 60)), max_size=60
)


@settings(max_examples=300)
@given(PIECES)
def test_what_is_read_is_the_stream_and_nothing_is_kept_beyond_the_window(
    pieces: list[tuple[int, int, int]],
) -> None:
    stream = Reassembly(LIMIT)
    known: set[int] = set()
    got = b""
    edge = 1 + LIMIT
    for start, size, read in pieces:
        end = start + size
        if stream.acceptable(start, size):
            known |= set(range(start, min(end, edge)))
            stream.add(start, STREAM[start - 1 : end - 1], False)
        first_gap = next(n for n in range(1, 3000) if n not in known)
        assert stream.next == first_gap
        assert len(stream) == first_gap - 1 - len(got)
        taken = bytes(stream.peek()[:read])
        got += taken
        stream.drop(len(taken))
        assert got == STREAM[: len(got)]
        edge = max(edge, stream.next + stream.window())
        assert stream.next + stream.window() == edge
        assert edge == 1 + LIMIT + len(got)
        beyond = {n for n in known if n > first_gap}
        reported = {n for left, right in stream.blocks() for n in range(left, right)}
        assert reported <= beyond
        if len(stream.blocks()) < REPORTED_BLOCKS:
            assert reported == beyond
        assert stream.gap == bool(beyond)


def test_the_block_that_grew_last_is_reported_first() -> None:
    stream = Reassembly(LIMIT)
    for start in (10, 30, 50, 70):
        stream.add(start, b"12345", False)
    assert stream.blocks()[0] == (70, 75)
    stream.add(35, b"12345", False)
    assert stream.blocks() == ((30, 40), (70, 75), (50, 55))


def test_the_end_counts_when_everything_before_it_has_come() -> None:
    stream = Reassembly(LIMIT)
    assert not stream.add(4, b"def", True)
    assert not stream.finished
    assert not stream.add(1, b"abc", False)
    assert stream.finished
    assert stream.next == 8
    assert stream.peek() == b"abcdef"


def test_a_second_end_elsewhere_and_data_behind_the_end_change_nothing() -> None:
    stream = Reassembly(LIMIT)
    stream.add(1, b"abc", True)
    assert stream.finished
    assert not stream.acceptable(1, 3)
    stream.add(5, b"more", True)
    assert stream.peek() == b"abc"
    assert stream.next == 5
    assert not stream.gap


def test_a_segment_that_touches_the_window_is_acceptable_and_others_are_not() -> None:
    stream = Reassembly(10)
    assert stream.acceptable(1, 0)
    assert stream.acceptable(11, 0)
    assert not stream.acceptable(0, 0)
    assert not stream.acceptable(0, 1)
    assert stream.acceptable(0, 2)
    assert stream.acceptable(10, 5)
    assert not stream.acceptable(11, 5)
