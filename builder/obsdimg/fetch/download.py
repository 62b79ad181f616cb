"""Downloads that resume: HTTP ranges, retries, the next mirror, and a list of what was tried.

A file grows as `.NAME.part` beside its target, with what is known of it in `.NAME.part.json`;
a killed run goes on where it stopped (RFC 9110, section 14: Range, If-Range).  What arrives is
handed to the caller's check before it gets its name; what fails the check is thrown away and the
next mirror is asked.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from obsdimg.core.documents import from_json
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError, describe, private_dir, write_file
from obsdimg.core.lifetime import Closing
from obsdimg.core.progress import Progress, Step
from obsdimg.fetch import http as httpget
from obsdimg.fetch.http import RequestError, Timeouts, shown
from obsdimg.signify.errors import VerificationError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

LONG = 30.0  # seconds after which a mirror's failure is said at once
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Attempt:
    """A URL (without user and password) and why it did not give the file."""

    url: str
    reason: str
    unreachable: bool = False
    """Nobody answers at that host."""

    @property
    def where(self) -> str:
        """The host where that is all there is to say, else the URL."""
        return httpget.host(self.url) if self.unreachable else self.url


_MOST_NAMED = 6
"""Places named for each reason; the error's `attempts` hold all."""


def tried(attempts: Sequence[Attempt]) -> str:
    """Every place once, those of one reason together, on one line."""
    places: dict[str, list[str]] = {}
    for attempt in attempts:
        places.setdefault(attempt.reason, []).append(attempt.where)
    words = []
    for reason, where in places.items():
        more = len(where) - _MOST_NAMED
        named = ", ".join(where[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        words.append(f"{named}: {reason}")
    return "; ".join(words)


class DownloadError(ObsdimgError):
    """No mirror gave the file; `attempts` says what happened at each."""

    def __init__(self, message: str, hint: str | None, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message, hint)
        self.attempts = tuple(attempts)

    @property
    def unreachable(self) -> bool:
        """No mirror answered at all."""
        return all(attempt.unreachable for attempt in self.attempts)


class ExpiredMirrorError(DownloadError):
    """Every mirror answered, and none carries the file (any more)."""


@dataclass(frozen=True)
class Downloaded:
    """A file that passed the caller's check, and where its last byte came from."""

    path: Path
    url: str
    size: int
    resumed_at: int
    """Offset in bytes at which this run took up an earlier one; 0: from the start."""


@dataclass
class _Part:
    """The growing file, its size in bytes, and what is known of the whole."""

    path: Path
    url: str = ""
    validator: str = ""
    total: int | None = None
    size: int = 0

    @property
    def _notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @classmethod
    def open(cls, path: Path) -> _Part:
        part = cls(path)
        try:
            notes = from_json(part._notes.read_bytes())
            part.size = path.stat().st_size
            part.url, part.validator = str(notes["url"]), str(notes["validator"])
            part.total = None if notes["total"] is None else int(notes["total"])
        except (OSError, ValueError, KeyError, TypeError):
            part.discard()
        return part

    def note(self) -> None:
        notes = {"url": self.url, "validator": self.validator, "total": self.total}
        write_file(self._notes, json.dumps(notes).encode())

    def discard(self) -> None:
        for path in (self.path, self._notes):
            path.unlink(missing_ok=True)
        self.url, self.validator, self.total, self.size = "", "", None, 0

    def finish(self, target: Path) -> None:
        os.replace(self.path, target)  # noqa: PTH105
        self._notes.unlink(missing_ok=True)


class Downloader(Closing):
    """Fetches from lists of URLs; use it with `with`."""

    def __init__(
        self,
        limits: Timeouts | None = None,
        progress: Progress | None = None,
        hint: str = "give another mirror with --mirror URL",
    ) -> None:
        self.limits = limits or Timeouts()
        self.progress = progress or Progress()
        self.hint = hint
        self._session: httpx.Client | None = None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def download(
        self, urls: Sequence[str], target: Path, check: Callable[[Path], object]
    ) -> Downloaded:
        """Fetch `target` from the first URL whose file passes `check`, resuming a `.part`.

        `check` gets the path of the complete download and raises VerificationError to refuse it.
        Raises DownloadError, ExpiredMirrorError, or FileError where the disk is full.
        """
        private_dir(target.parent)
        try:
            return self._download(urls, target, check)
        except OSError as error:
            raise FileError(
                f"{target}: cannot be written: {describe(error)}",
                "make room or mend the folder, or set OBSDIMG_CACHE to another",
            ) from error

    def _download(
        self, urls: Sequence[str], target: Path, check: Callable[[Path], object]
    ) -> Downloaded:
        part = _Part.open(target.with_name(f".{target.name}.part"))
        resumed_at = part.size

        def attempt(url: str, title: str) -> Downloaded:
            had = part.size
            self._continue(url, part, title)
            try:
                check(part.path)
            except VerificationError as error:
                part.discard()
                # What an earlier run or another mirror left may be at fault: once from scratch.
                raise RequestError(error.message, again=had > 0) from error
            part.finish(target)
            return Downloaded(target, shown(part.url), part.size, resumed_at)

        return self._from_any(urls, target.name, attempt, lambda: part.size)

    def get(
        self, urls: Sequence[str], name: str, largest: int, check: Callable[[bytes], T]
    ) -> tuple[T, bytes, str]:
        """A small file, at most `largest` bytes: what `check` makes of it, its bytes, its URL.

        `check` raises VerificationError to refuse it.  Raises DownloadError or ExpiredMirrorError.
        """

        def attempt(url: str, title: str) -> tuple[T, bytes, str]:
            body = bytearray()
            with (
                httpget.get(self._client(), url, {}, (200,)) as response,
                self.progress.step(title, total=httpget.length(response)) as step,
            ):
                for chunk in self._chunks(response, step):
                    body += chunk
                    if len(body) > largest:
                        raise RequestError(f"sends more than {largest} bytes", again=False)
            try:
                return check(bytes(body)), bytes(body), shown(url)
            except VerificationError as error:
                raise RequestError(error.message, again=False) from error

        return self._from_any(urls, name, attempt, lambda: 0)

    def _client(self) -> httpx.Client:
        if self._session is None:
            self._session = httpget.client(self.limits)
        return self._session

    def _from_any(
        self,
        urls: Sequence[str],
        name: str,
        attempt: Callable[[str, str], T],
        position: Callable[[], int],
    ) -> T:
        attempts: list[Attempt] = []
        everywhere_gone = True
        for url in urls:
            host = httpget.host(url)
            if any(a.unreachable and httpget.host(a.url) == host for a in attempts):
                continue
            started = time.monotonic()
            try:
                found = self._from_one(url, name, attempt, position)
            except RequestError as failure:
                everywhere_gone = everywhere_gone and failure.gone
                attempts.append(Attempt(shown(url), failure.reason, failure.unreachable))
                # The error lists them all; meanwhile only what took somebody's time is said.
                if time.monotonic() - started > LONG:
                    self.progress.note(f"{attempts[-1].where}: {failure.reason}")
                continue
            if attempts:
                self.progress.note(f"not to be had from {tried(attempts)}")
            return found
        where = tried(attempts) or "no mirror, none is known"
        if attempts and everywhere_gone:
            message = f"{name}: no mirror carries it (any more); tried {where}"
            raise ExpiredMirrorError(message, self.hint, attempts)
        raise DownloadError(f"{name}: no mirror gave it; tried {where}", self.hint, attempts)

    def _from_one(
        self, url: str, name: str, attempt: Callable[[str, str], T], position: Callable[[], int]
    ) -> T:
        tries = 0
        for _ in range(self.limits.all_tries):
            reached = position()
            try:
                return attempt(url, f"Fetching {name} from {httpget.host(url)}")
            except RequestError as failure:
                tries = 1 if position() > reached else tries + 1
                if not failure.again or tries >= self.limits.tries:
                    raise
                wait = max(failure.wait, self.limits.wait(tries))
                time.sleep(min(wait, self.limits.longest_wait))
        raise RequestError(f"given up after {self.limits.all_tries} tries", again=False)

    def _continue(self, url: str, part: _Part, title: str) -> None:
        """Fetch what is missing of `part` from `url`.  Raises RequestError or FileError."""
        if part.total is not None and part.size == part.total:
            return
        headers: dict[str, str] = {}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            if part.validator and part.url == url:
                headers["If-Range"] = part.validator
        accept = (200, 206, 416) if part.size else (200,)
        with httpget.get(self._client(), url, headers, accept) as response:
            if _place(response, part):
                part.url, part.validator = url, httpget.validator(response)
                if part.total is not None and part.total > self.limits.largest:
                    raise RequestError(f"has {part.total} bytes, far too many", again=False)
                part.note()
                self._append(response, part, title)
        if part.total is not None and part.size != part.total:
            raise RequestError(f"cut off at {part.size} of {part.total} bytes", again=True)
        part.total = part.size
        part.note()

    def _append(self, response: httpx.Response, part: _Part, title: str) -> None:
        left = None if part.total is None else part.total - part.size
        with (
            self.progress.step(title, total=left) as step,
            part.path.open("ab") as stream,
        ):
            if part.size:
                step.note(f"goes on at {part.size} bytes")
            for chunk in self._chunks(response, step):
                stream.write(chunk)
                part.size += len(chunk)
                if part.size > self.limits.largest:
                    raise RequestError("sends far too many bytes", again=False)
            stream.flush()
            os.fsync(stream.fileno())

    def _chunks(self, response: httpx.Response, step: Step) -> Iterator[bytes]:
        """The body as it comes, undecoded; gives up a mirror that is too slow."""
        since, received = time.monotonic(), 0
        for chunk in response.iter_raw():
            received += len(chunk)
            step.advance(len(chunk))
            yield chunk
            spent = time.monotonic() - since
            if spent >= self.limits.patience:
                if received < self.limits.slowest * spent:
                    raise RequestError(f"too slow, {received / spent:.0f} bytes/s", again=False)
                since, received = time.monotonic(), 0


def _place(response: httpx.Response, part: _Part) -> bool:
    """Settle where the body belongs: after what `part` has, or (emptied) at its start.

    False: there is no body, `part` is already whole.  Raises RequestError.
    """
    if response.status_code == 416:
        match = _UNSATISFIED.fullmatch(response.headers.get("content-range", ""))
        if match and int(match[1]) == part.size:
            part.total = part.size
            return False
        part.discard()
        raise RequestError("its file is shorter than what an earlier try left", again=True)
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match and int(match[1]) == part.size and part.total in (None, int(match[3])):
            part.total = int(match[3])
            return True
        part.discard()
        raise RequestError("its range does not continue what an earlier try left", again=True)
    part.discard()
    part.total = httpget.length(response)
    return True
