"""Progress on a terminal: a live bar per running step, by rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar

from obsdimg.core.progress import Progress, Step


class _BarStep:
    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, amount: int = 1) -> None:
        self._bar.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._bar.console.print(f"    {text}", markup=False, highlight=False)


class RichProgress(Progress):
    """One bar at a time on stderr; finished steps stay as a line with their time."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
        columns = [SpinnerColumn(finished_text="✓"), TextColumn("{task.description}", markup=False)]
        extra = [BarColumn(bar_width=24), count] if total else []
        with Bar(*columns, *extra, TimeElapsedColumn(), console=self._console) as bar:
            task = bar.add_task(title, total=total)
            yield _BarStep(bar, task)
            bar.update(task, total=total or 1, completed=total or 1)

    def note(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False, highlight=False)
