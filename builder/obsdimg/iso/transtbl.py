"""TRANS.TBL: the file in which mkhybrid's -T lists a directory's long names.

One line for each record: a letter (`F` file, `D` directory, `L` link), the ISO 9660 name padded
to a fixed width, a tab, the long name.  Source: mkhybrid.8 (-T), and the 6.6 alpha CD, where the
width is 34; genisoimage's is larger.
"""

from __future__ import annotations

NAME = b"TRANS.TBL"
_WIDTH = 34


def line(kind: str, identifier: bytes, name: bytes, width: int = _WIDTH) -> bytes:
    """One line, newline included; `kind` is F or D."""
    return kind.encode("ascii") + b" " + identifier.ljust(width) + b"\t" + name + b"\n"


def insert(table: bytes, kind: str, identifier: bytes, name: bytes) -> bytes:
    """The table with one more line, in the order of the ISO 9660 names; others stay as they are."""
    lines = table.splitlines(keepends=True)
    width = max(0, lines[0].find(b"\t") - 2) if lines else _WIDTH
    new = line(kind, identifier, name, width)
    if lines and not lines[-1].endswith(b"\n"):
        lines[-1] += b"\n"
    for index, old in enumerate(lines):
        if sort_key(_identifier(old)) > sort_key(identifier):
            return b"".join([*lines[:index], new, *lines[index:]])
    return b"".join([*lines, new])


def sort_key(identifier: bytes) -> tuple[bytes, bytes]:
    """Order of records in a directory: name, then extension, each padded by spaces (9.3)."""
    name, _, rest = identifier.partition(b".")
    extension = rest.partition(b";")[0]
    return name.partition(b";")[0].ljust(255, b" "), extension.ljust(255, b" ")


def _identifier(old: bytes) -> bytes:
    return old.partition(b"\t")[0][2:].rstrip(b" ")
