"""Displays of several processes: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from obsdimg.core.crowd import CrowdDisplay, Member


class CrowdLines(CrowdDisplay):
    """`NAME: line` on standard error, for logs and CI."""

    def line(self, member: Member, text: str) -> None:
        print(f"{member.name}: {text}", file=sys.stderr, flush=True)


class CrowdFaults(CrowdLines):
    """Warnings and errors only."""

    def line(self, member: Member, text: str) -> None:
        if _loud(text):
            super().line(member, text)


class CrowdTable(CrowdDisplay):
    """A row for each that runs, a count of the others; warnings and errors stay above."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._members: Sequence[Member] = ()
        self._live: Live | None = None
        self._drawn = 0.0

    @contextmanager
    def shown(self, members: Sequence[Member]) -> Iterator[None]:
        self._members = members
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            try:
                yield
            finally:
                self._live = None

    def line(self, member: Member, text: str) -> None:
        if _loud(text):
            self._console.print(f"{member.name}: {text}", markup=False, highlight=False)

    def tick(self) -> None:
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= 0.2:
            self._drawn = now
            self._live.update(self._table(now), refresh=True)

    def _table(self, now: float) -> Table:
        table = Table.grid(padding=(0, 2))
        running = [m for m in self._members if m.started is not None and m.code is None]
        room = max(1, self._console.size.height - 4)
        for member in running[:room]:
            assert member.started is not None
            row = Text(member.last, overflow="ellipsis", no_wrap=True)
            table.add_row(Text(member.name), f"{now - member.started:.0f} s", row)
        good = sum(m.code == 0 for m in self._members)
        ended = sum(m.code is not None for m in self._members)
        bad = f", {ended - good} not" if ended > good else ""
        more = f", {len(running) - room} more run" if len(running) > room else ""
        table.add_row(f"{ended} of {len(self._members)}", "", Text(f"{good} done{bad}{more}"))
        return table


def _loud(text: str) -> bool:
    return text.startswith(("error:", "hint:", "warning:"))
