"""What every step works with: the provider, the state, and the three delicate things.

`make` creates once, `looks` waits with a limit, `delete` repeats while something is in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from obsdimg.core.progress import Progress
from obsdimg.deploy.handshake import span
from obsdimg.deploy.provider import (
    Instance,
    NamedThing,
    OverdueError,
    Provider,
    ProviderError,
    RemoteIso,
    UncertainError,
)
from obsdimg.deploy.state import State, Store, Thing

_TRIES = 3
"""Requests to create something whose answers were lost, each followed by a look."""


@dataclass(frozen=True)
class Waits:
    """How long each wait may take, and how often it looks; seconds."""

    download: float = 2 * 3600.0
    activate: float = 900.0
    install: float = 3 * 3600.0
    """The disk is filled with random data first."""
    silence: float = 180.0
    missed_silence: float = 20.0
    """For a restart that an earlier run asked for: it may be over."""
    unlock: float = 3 * 3600.0
    """Somebody has to type the passphrase on the console."""
    release: float = 600.0
    """Until the provider lets go of what a deleted instance used."""
    first_pause: float = 2.0
    """Between two looks; half as much more each time."""
    longest_pause: float = 20.0
    settle: tuple[float, ...] = (0.0, 2.0, 5.0, 10.0)
    """Pauses before looks for something whose creation was not answered."""


class Made(Protocol):
    @property
    def id(self) -> str: ...


M = TypeVar("M", bound=Made)


class Work:
    """One deployment in progress.  `say` gets lines for people."""

    def __init__(
        self,
        provider: Provider,
        store: Store,
        state: State,
        *,
        limits: Waits | None = None,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.provider, self.state = provider, state
        self.store, self.limits = store, limits or Waits()
        self.progress, self.say, self.sleep = progress or Progress(), say, sleep

    def save(self) -> None:
        self.store.save(self.state)

    def did(self, step: str) -> None:
        self.state.note(step)
        self.save()

    def make(
        self, thing: Thing, what: str, find: Callable[[], M | None], create: Callable[[], M]
    ) -> None:
        """Create once, whatever happens to requests, answers and this process."""
        if thing.id is not None:
            return
        made: M | None = self.settled(find) if thing.asked else None
        lost: UncertainError | None = None
        for _ in range(_TRIES):
            if made is not None:
                break
            thing.asked = True
            self.save()
            try:
                made = create()
            except UncertainError as error:
                lost = error
                made = self.settled(find)
            except ProviderError:
                if lost is None:
                    thing.asked = False  # refused: there is nothing to look for
                    self.save()
                raise
        if made is None:
            assert lost is not None
            raise lost
        thing.id = made.id
        self.did(f"{what} {made.id}")
        self.say(f"{what} {made.id}")

    def settled(self, find: Callable[[], M | None]) -> M | None:
        """What `find` finds, with some patience: a list may lag behind."""
        for pause in self.limits.settle:
            self.sleep(pause)
            if (found := find()) is not None:
                return found
        return None

    def looks(self, limit: float, what: str) -> Iterator[None]:
        """One round per look, with growing pauses.  Raises OverdueError after `limit` seconds."""
        end = time.monotonic() + limit
        pause = self.limits.first_pause
        while True:
            yield
            left = end - time.monotonic()
            if left <= 0:
                raise OverdueError(
                    f"waited {span(limit)} for {what}, in vain",
                    "the same command goes on waiting; `obsdimg deploy destroy` gives it up",
                )
            self.sleep(min(pause, left))
            pause = min(pause * 1.5, self.limits.longest_pause)

    def delete(self, remove: Callable[[], None], what: str) -> None:
        """Delete, again and again while the provider says that something still uses it."""
        for _ in self.looks(self.limits.release, f"{what} to be released"):
            try:
                remove()
            except UncertainError:
                continue
            except ProviderError as error:
                if not any(w in error.message for w in ("attached", "in use", "linked")):
                    raise
                continue
            return

    # -- finding again what a killed run asked for

    def find_iso(self, name: str) -> RemoteIso | None:
        """The ISO that appeared since, under our name."""
        for iso in self.provider.isos():
            if iso.id in self.state.isos_before:
                continue
            if self.state.mark in iso.filename or (name and iso.filename == name):
                return iso
        return None

    def find_instance(self) -> Instance | None:
        found = self.provider.instances(self.state.label)
        return next((i for i in found if self.state.mark in i.tags), None)

    def find_named(self, things: list[NamedThing]) -> NamedThing | None:
        return next((t for t in things if t.description == self.state.mark), None)
