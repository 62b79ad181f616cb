"""Manual pages in mdoc(7): text as lines of the language, so that no word of it is a macro."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

WIDTH = 70
"""Characters in a line of the source; mandoc(1) counts bytes and warns from 80 on."""

_SENTENCE = re.compile(r"(?<=[.!?])(?<!e\.g\.)\s+(?=[^\s])")


def escape(text: str) -> str:
    """`text` without anything that mdoc would act upon."""
    return text.replace("\\", "\\e")


def word(text: str) -> str:
    """One argument of a macro: quoted where it has blanks or means something to mdoc."""
    text = text.replace("\\", "\\e").replace('"', '""')
    return f'"{text}"' if re.search(r'[\s"]|^$', text) or _DELIMITER.fullmatch(text) else text


_DELIMITER = re.compile(r"[.,:;()\[\]?!|]|[A-Z][a-z]")


def prose(text: str) -> list[str]:
    """Lines of a paragraph: a new line for every sentence, and for OpenBSD, as mdoc wants it."""
    lines: list[str] = []
    for sentence in _SENTENCE.split(" ".join(text.split())):
        for part in _SYSTEM.split(sentence):
            if _SYSTEM.fullmatch(part):
                lines.append(" ".join([".Ox", *part.removeprefix("OpenBSD")]))
            elif part.strip():
                lines += map(_text, textwrap.wrap(part.strip(), WIDTH, break_on_hyphens=False))
    return lines


_SYSTEM = re.compile(r"((?:^|(?<=\s))OpenBSD(?=[.,:;]*(?:\s|$))[.,:;]*)")


def _text(line: str) -> str:
    line = line.replace("\\", "\\e")
    return f"\\&{line}" if line[0] in ".'" else line


def tagged(items: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """A list: what stands behind `.It`, then its lines; nothing for an empty list."""
    found = [line for head, lines in items for line in (f".It {head}", *lines)]
    return [".Bl -tag -width Ds", *found, ".El"] if found else []


def page(name: str, section: int, brief: str, day: str, lines: Iterable[str]) -> bytes:
    """A whole page: `day` as `November 26, 2026`; `lines` begin with the section after NAME."""
    head = [
        f".Dd {day}",
        f".Dt {name.upper()} {section}",
        ".Os",
        ".Sh NAME",
        f".Nm {name}",
        f".Nd {brief}",
    ]
    return ("\n".join([*head, *lines]) + "\n").encode()
