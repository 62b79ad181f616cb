"""What a broken rule says."""

from __future__ import annotations

from typing import NamedTuple


class Conflict(NamedTuple):
    """What is wrong: the key's path, the problem, and what would be right."""

    key: str
    problem: str
    hint: str | None = None
