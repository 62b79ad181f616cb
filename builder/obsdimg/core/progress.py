"""Progress of long work: one interface, three renderings (terminal, plain lines, silence).

Library rooms take a `Progress` and never print.  A step is a context manager; inside it
`advance` counts bytes or items towards `total`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Step(Protocol):
    """A running step; `advance` counts towards its total, `note` says one thing about it."""

    def advance(self, amount: int = 1) -> None: ...
    def note(self, text: str) -> None: ...


class _SilentStep:
    def advance(self, amount: int = 1) -> None:
        return None

    def note(self, text: str) -> None:
        return None


class Progress:
    """Silent progress; the base of the others and the default in library code."""

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        """Announce `title`; `total` is a count of `unit` (`bytes` or anything else), if known."""
        yield _SilentStep()

    def note(self, text: str) -> None:
        """One line for the user, outside of any step."""


class _PlainStep:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def advance(self, amount: int = 1) -> None:
        return None

    def note(self, text: str) -> None:
        print(f"    {text}", file=self._stream, flush=True)


class PlainProgress(Progress):
    """A line at the end of every step with its seconds: for logs and CI."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        start = time.monotonic()
        yield _PlainStep(self._stream)
        print(f"  {title} ({time.monotonic() - start:.1f} s)", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        print(f"  {text}", file=self._stream, flush=True)
