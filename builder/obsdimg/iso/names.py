"""ISO 9660 identifiers for new files, in the style of the medium that they join.

mkhybrid, as OpenBSD calls it (-l -d -D -N), writes up to 31 characters, upper case, without a
version (`;1`) and without a dot behind names that have no extension; xorriso writes versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_LONGEST = 30
"""Characters of name and extension together, without their dot (ECMA-119, 7.5.1)."""
_LONGEST_EXTENSION = 8
_LONGEST_DIRECTORY = 31


@dataclass(frozen=True)
class NameStyle:
    """What the identifiers of a medium look like: `;1` behind them, a dot behind names without
    extension, dots in directory names."""

    version: bool
    trailing_dot: bool
    dotted_directories: bool


def style_of(files: Iterable[bytes], directories: Iterable[bytes]) -> NameStyle:
    """The style, from the identifiers that the medium has."""
    names = list(files)
    version = any(b";" in name for name in names)
    trailing_dot = any(name.partition(b";")[0].endswith(b".") for name in names)
    return NameStyle(version, trailing_dot, any(b"." in name for name in directories))


def identifier(name: str, directory: bool, style: NameStyle, taken: Collection[bytes]) -> bytes:
    """An identifier for `name` that no record in `taken` has; a number tells likenesses apart."""
    base, dot, extension = _split(name, directory, style)
    limit = (_LONGEST_DIRECTORY if directory else _LONGEST) - len(extension)
    tail = dot + extension + (b";1" if style.version and not directory else b"")
    candidate = base[:limit] + tail
    number = 0
    while candidate in taken:
        suffix = b"%03d" % number
        candidate = base[: limit - len(suffix)] + suffix + tail
        number += 1
    return candidate


def _split(name: str, directory: bool, style: NameStyle) -> tuple[bytes, bytes, bytes]:
    """Base, dot and extension of `name`, in the letters that identifiers may have."""
    base, _, extension = name.upper().rpartition(".")
    if not base or not extension or (directory and not style.dotted_directories):
        return _letters(name.upper()), b"." if style.trailing_dot and not directory else b"", b""
    return _letters(base), b".", _letters(extension)[:_LONGEST_EXTENSION]


def _letters(text: str) -> bytes:
    raw = text.encode("ascii", "replace")
    return bytes(c if c in _LETTERS else ord("_") for c in raw)
