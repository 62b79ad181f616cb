"""How install.sub finds the answer to a question: the function `_autorespond`, as Python.

Identical in 6.6 to 7.8 (`install.sub`; openbsd.md section 2).  The response file is consumed
line by line: a line that has answered a question is gone, a question asked again needs
another line.  Nothing here knows which questions there are; that is `questions.py`.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import NamedTuple

from obsdimg.core.errors import ObsdimgError

BLANKS = " \t"
"""What the installer trims (`IFS`) and what it calls `[[:blank:]]` in the C locale."""

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class NoAnswerError(ObsdimgError):
    """A question without a default found no line: the installer stops here."""


class Line(NamedTuple):
    """A line of a response file: its number from 1, and its text without the newline."""

    number: int
    text: str


class KeyValue(NamedTuple):
    """What the installer reads from a line: lower-cased key, value as written."""

    key: str
    value: str


class Answer(NamedTuple):
    """The outcome for one question.

    `line` is the line used, or None where the default was taken; `remaining` are the lines
    that later questions still see.
    """

    value: str
    line: Line | None
    remaining: tuple[Line, ...]


def read_lines(data: bytes) -> tuple[Line, ...]:
    """The lines of a response file as the installer's `read` sees them.

    Text behind the last newline is dropped: `read` returns it with a failure, which ends the
    loop.  Bytes that are not UTF-8 survive as surrogates.
    """
    text = data.decode("utf-8", "surrogateescape")
    return tuple(Line(n, line) for n, line in enumerate(text.split("\n")[:-1], start=1))


def lower(text: str) -> str:
    """Lower case as `typeset -l` makes it: ASCII letters only."""
    return text.translate(_LOWER)


def parse(text: str) -> KeyValue | None:
    """Key and value of a line, or None where the installer drops the line.

    Blanks at both ends go.  The key ends at the leftmost `=`; a line counts only if it starts
    with neither `#` nor `=` and has something behind one of its `=`.
    """
    trimmed = text.strip(BLANKS)
    if not trimmed or trimmed[0] in "#=":
        return None
    key, found, value = trimmed.partition("=")
    if not found or not value:
        return None
    return KeyValue(lower(key.rstrip(BLANKS)), value.lstrip(BLANKS))


def matches(question: str, key: str) -> bool:
    """Whether `key` answers `question`: a literal substring between word borders.

    It starts at the beginning of the question or after a blank, and is followed by a blank,
    a question mark or the end.  `key` is already lower case.
    """
    asked = lower(question)
    start = asked.find(key)
    while start != -1:
        end = start + len(key)
        begins = start == 0 or asked[start - 1] in BLANKS
        ends = end == len(asked) or asked[end] in BLANKS + "?"
        if begins and ends:
            return True
        start = asked.find(key, start + 1)
    return False


def answer(question: str, lines: Iterable[Line], default: str = "") -> Answer:
    """Answer `question` from `lines`; an empty `default` means that it has none.

    The first line that matches is used and removed.  On the way to it, comments and lines
    that are not entries are dropped, as the installer drops them; behind it they stay.
    Raises NoAnswerError where no line matches and there is no default.
    """
    waiting = tuple(lines)
    kept: list[Line] = []
    for position, line in enumerate(waiting):
        entry = parse(line.text)
        if entry is None:
            continue
        if matches(question, entry.key):
            return Answer(entry.value, line, (*kept, *waiting[position + 1 :]))
        kept.append(line)
    if default:
        return Answer(default, None, tuple(kept))
    raise NoAnswerError(
        f'"{question}" has no default and no line of the response file answers it',
        f"add the line: {question.partition('?')[0]} = ANSWER",
    )
