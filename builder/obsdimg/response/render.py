"""Write a response file: one `question = answer` per line, refused where it would be misread."""

from __future__ import annotations

from collections.abc import Sequence

from obsdimg.core.errors import ObsdimgError
from obsdimg.response.matching import BLANKS, parse


class RenderError(ObsdimgError):
    """An answer that a response file cannot carry.  Never quotes the answer: it may be secret."""


def render(answers: Sequence[tuple[str, str]]) -> bytes:
    """The response file for (key, answer) pairs, in their order: UTF-8, LF, newline at the end.

    A key is a question's text or the part of it that is to match; a trailing `?` may stay.
    Raises RenderError for an empty key or answer, control characters, blanks at either end,
    a `=` in the key, or a key that the installer would take for a comment.
    """
    return "".join(f"{_line(key, value)}\n" for key, value in answers).encode()


def _line(key: str, value: str) -> str:
    check_key(key)
    check_answer(key, value)
    line = f"{key} = {value}"
    entry = parse(line)
    if entry is None or entry.value != value:
        raise RenderError(f"the answer to {key!r} does not survive the installer's parsing")
    return line


def check_key(key: str) -> None:
    """Raise RenderError unless `key` can stand before the `=` of a line."""
    if not key or key[0] in BLANKS + "#=" or key[-1] in BLANKS:
        raise RenderError(f"{key!r} cannot be a key of the response file")
    if "=" in key:
        raise RenderError(f"the key {key!r} holds '=': the installer would cut it there")
    if _unprintable(key):
        raise RenderError(f"the key {key!r} holds a control character")


def check_answer(key: str, value: str) -> None:
    """Raise RenderError unless `value` can stand behind the `=`; `key` names it in the error."""
    if not value:
        raise RenderError(
            f"the answer to {key!r} is empty: the installer would drop the line",
            "give a value, or leave the line out to take the default",
        )
    if _unprintable(value):
        raise RenderError(f"the answer to {key!r} holds a newline or another control character")
    if value[0] in BLANKS or value[-1] in BLANKS:
        raise RenderError(
            f"the answer to {key!r} begins or ends with a blank: the installer would trim it"
        )


def _unprintable(text: str) -> bool:
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text)
