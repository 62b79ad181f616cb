"""JSON and TOML from files: what is wrong with them is a ValueError, whatever they hold."""

from __future__ import annotations

import json
import tomllib
from typing import Any

LONGEST_LINE = 32 << 10
"""Characters of a line of TOML: the library takes time by the square of a key's parts."""


def from_json(data: bytes | str) -> Any:
    """What the document `data` says.  Raises ValueError."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def from_toml(data: bytes) -> dict[str, Any]:
    """The table that `data`, UTF-8, is.

    Raises UnicodeDecodeError, tomllib.TOMLDecodeError (not TOML), or another ValueError (too
    deep, too long a line or number).
    """
    text = data.decode("utf-8")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"line {number} has more than {LONGEST_LINE} characters")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
