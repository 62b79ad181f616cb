"""Brings an image to a disk far away, reads it back, and goes on where a broken run stopped.

The disk is cut into pieces.  The first one (partition table, label, boot loader) is wiped before
anything else and written when all others have been read back: a disk that is not finished does
not start.  Zeros do not go over the line, and what is left is ciphertext, so nothing is
compressed.  Which pieces are there already is asked of the disk itself (rescue/read.sh), not
remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import re
import subprocess
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from obsdimg.core.process import dies_with_us, kill_group
from obsdimg.core.progress import Progress, Step
from obsdimg.disk.content import UNIT, ZEROS, DiskImage, DiskImageError
from obsdimg.disk.target import Rescue, TargetError, lost, script

LARGEST = 16
"""Units of a piece that holds something; each is answered, and hashed, as a whole."""
LARGEST_EMPTY = 256
SILENCE = 600.0
"""Seconds without an answer after which the machine is given up: a slow disk may have to write
what its system has in memory first."""
ROUNDS = 3
"""How often a piece that reads back wrong is written."""

Gaps = Literal["zero", "skip", "random"]
GAPS: tuple[Gaps, ...] = ("zero", "skip", "random")


@dataclass(frozen=True)
class Piece:
    """Units of the disk, `count` from `first`; `empty`: all zeros."""

    first: int
    count: int
    sha256: str
    empty: bool

    @property
    def size(self) -> int:
        return UNIT * self.count


@dataclass(frozen=True)
class WritingDone:
    """What a run did: bytes sent over the line, bytes that were there already, bytes read back,
    pieces that had to be written again."""

    sent: int = 0
    kept: int = 0
    verified: int = 0
    again: int = 0


def pieces_of(image: DiskImage, progress: Progress) -> list[Piece]:
    """The pieces of the disk in order, the first one of one unit.  Raises DiskImageError."""
    found: list[Piece] = []
    zeros: dict[int, str] = {}
    gathered: list[bytes | None] = []

    def close(first: int) -> None:
        if not gathered:
            return
        count, empty = len(gathered), gathered[0] is None
        if empty and count not in zeros:
            digest = hashlib.sha256()
            for _ in range(count):
                digest.update(ZEROS)
            zeros[count] = digest.hexdigest()
        own = zeros[count] if empty else hashlib.sha256(b"".join(filter(None, gathered)))
        text = own if isinstance(own, str) else own.hexdigest()
        found.append(Piece(first - count, count, text, empty))
        gathered.clear()

    with progress.step(f"Reading {image.path.name}", total=image.size) as step:
        for number, unit in enumerate(image.units()):
            full = len(gathered) == (LARGEST if unit is not None else LARGEST_EMPTY)
            if gathered and (full or number == 1 or (gathered[0] is None) != (unit is None)):
                close(number)
            gathered.append(unit)
            step.advance(UNIT)
    close(image.count)
    return found


class Writing:
    """One image on its way to one disk."""

    def __init__(
        self,
        rescue: Rescue,
        image: DiskImage,
        pieces: Sequence[Piece],
        gaps: Gaps,
        progress: Progress,
    ) -> None:
        self.rescue, self.image, self.gaps, self.progress = rescue, image, gaps, progress
        self.first, *self.others = pieces
        self.told = [p for p in self.others if gaps == "zero" or not p.empty]
        """The pieces, but for the first, that the disk must have as they are."""

    def run(self) -> WritingDone:
        """Write what is not there, read everything back.

        Raises TargetError: ConnectionLostError (run it again), a disk that is full or that does
        not keep what is written.  Raises DiskImageError.
        """
        self._alone()
        there = self._there()
        kept = sum(piece.size for piece in there)
        left = set(self.told) - set(there)
        whole = not left and not self._differing([self.first], "Looking at its start")
        if whole and self.gaps != "random":
            return WritingDone(kept=kept + self.first.size, verified=kept + self.first.size)
        ops: list[tuple[str, Piece]] = [("zero", self.first)]
        ops += [op for piece in self.others for op in self._op(piece, left)]
        sent = self._write(ops, "Writing the disk")
        again = 0
        for _ in range(ROUNDS):
            wrong = self._differing(self.told, "Reading the disk back")
            if not wrong:
                break
            again += len(wrong)
            sent += self._write([("data", piece) for piece in wrong], "Writing again what differs")
        else:
            self._bad(self._differing(self.told, "Reading the disk back"))
        sent += self._write([("data", self.first)], "Writing the start of the disk")
        self._bad(self._differing([self.first], "Reading its start back"))
        verified = sum(piece.size for piece in self.told) + self.first.size
        return WritingDone(sent, kept, verified, again)

    def _op(self, piece: Piece, left: set[Piece]) -> Iterator[tuple[str, Piece]]:
        if piece.empty and self.gaps == "random":
            yield "random", piece
        elif piece in left:
            yield ("zero" if piece.empty else "data"), piece

    def _bad(self, wrong: Sequence[Piece]) -> None:
        if wrong:
            raise TargetError(
                f"{self.rescue.target}: does not keep what is written: {len(wrong)} pieces differ,"
                f" the first at MiB {wrong[0].first}",
                "its disk or its memory is broken, or what a virtual disk is kept on is full:"
                " do not use it",
            )

    def _alone(self) -> None:
        """End what a run that was broken off still does there.  Raises TargetError."""
        said = self.rescue.run("alone", SILENCE).stdout.decode(errors="replace").splitlines()
        if "end" not in said:
            raise lost(self.rescue.target, "the connection ended")
        found = [line.partition(" ") for line in said]
        if busy := [pid[:20] for word, _, pid in found if word == "busy"]:
            raise TargetError(
                f"{self.rescue.target}: a run that was broken off still works on it there"
                f" (process {', '.join(busy)}), and does not end",
                "its disk may be slow: try again in a minute, or restart the rescue system",
            )
        if any(word == "ended" for word, _, _ in found):
            self.progress.note("ended there: what a run that was broken off still did")

    # -- reading

    def _there(self) -> list[Piece]:
        """The pieces behind the first one that the disk has already, up to the first it has not:
        those of a run that was broken off."""
        found: list[Piece] = []
        with self.progress.step("Looking for what is there already") as step:
            answers = self._hashes(self.told)
            with contextlib.closing(answers):
                for piece, digest in answers:
                    if digest != piece.sha256:
                        break
                    found.append(piece)
                    step.advance(piece.size)
        return found

    def _differing(self, pieces: Sequence[Piece], title: str) -> list[Piece]:
        with self.progress.step(title, total=sum(p.size for p in pieces)) as step:
            wrong = []
            for piece, digest in self._hashes(pieces):
                if digest != piece.sha256:
                    wrong.append(piece)
                step.advance(piece.size)
        return wrong

    def _hashes(self, pieces: Sequence[Piece]) -> Generator[tuple[Piece, str], None, None]:
        """What the disk has in place of each piece, as SHA-256."""
        asked = [f"{piece.first} {piece.count}\n".encode() for piece in pieces]
        # A few at a time: whoever asks may stop, and what was asked for is answered before an end.
        with Talk(self.rescue, "read", asked, window=2) as talk:
            for piece in pieces:
                words = talk.line().split()
                if len(words) != 2 or words[0] != str(piece.first):
                    raise TargetError(
                        f"{self.rescue.target}: an answer that is none: {' '.join(words)[:80]!r}"
                    )
                yield piece, words[1]

    # -- writing

    def _write(self, ops: Sequence[tuple[str, Piece]], title: str) -> int:
        """Carry out `ops`, in the order of the disk but for what the caller put first; give
        the bytes that went over the line."""
        total = sum(piece.size for _, piece in ops)
        with (
            self.progress.step(title, total=total) as step,
            Talk(self.rescue, "write", self._spoken(ops)) as talk,
        ):
            for _, piece in ops:
                self._answer(talk, f"ok {piece.first} {piece.count}", step, piece.size)
            self._answer(talk, "ok end", step, 0)
        return sum(piece.size for what, piece in ops if what == "data")

    def _answer(self, talk: Talk, wanted: str, step: Step, size: int) -> None:
        said = talk.line()
        if found := re.fullmatch(r"error (\d+) ?(.*)", said):
            full = "No space left" in found[2]
            raise TargetError(
                f"{self.rescue.target}: cannot be written at MiB {found[1]}: {found[2][:200]}",
                "the disk is smaller than it says" if full else "is the disk broken?",
            )
        if said != wanted:
            raise TargetError(f"{self.rescue.target}: an answer that is none: {said[:80]!r}")
        step.advance(size)

    def _spoken(self, ops: Sequence[tuple[str, Piece]]) -> Iterator[bytes]:
        """What rescue/write.sh reads: the lines, and behind `data` the bytes."""
        units: Iterator[bytes | None] = iter(())
        at = self.image.count
        for what, piece in ops:
            yield f"{what} {piece.first} {piece.count}\n".encode()
            if what != "data":
                continue
            if piece.first < at:
                units, at = self.image.units(), 0
            while at < piece.first + piece.count:
                unit = next(units, None) if at < self.image.count else None
                if at >= piece.first:
                    yield unit or ZEROS
                at += 1
        yield b"end\n"


class Talk:
    """One run of a script over there: `spoken` goes to it, `line` gives its answers.

    `window`: how many of `spoken` may wait for their answers; None: any number.
    """

    def __init__(
        self, rescue: Rescue, name: str, spoken: Iterable[bytes], window: int | None = None
    ) -> None:
        self._rescue, self._name, self._spoken = rescue, name, spoken
        self._window = None if window is None else threading.Semaphore(window)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._failed: Exception | None = None
        self._closing = threading.Event()

    def __enter__(self) -> Talk:
        self._child = subprocess.Popen(
            self._rescue.words(script(self._name)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=dies_with_us(),
        )
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._speak, self._listen, self._complaints)
        ]
        self._complaint = ""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._window is not None:
            self._window.release()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # All answers are there, or no more is asked: give its end a moment.
            self._child.wait(2)
        if self._child.poll() is None:
            kill_group(self._child)
        streams = (self._child.stdin, self._child.stdout, self._child.stderr)
        for thread, stream in zip(self._threads, streams, strict=True):
            thread.join(2)
            # The connection's own process may hold the other end for as long as the script
            # over there runs; closing would wait for that, too.
            if not thread.is_alive() and stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    def line(self) -> str:
        """The next answer.  Raises ConnectionLostError; DiskImageError where reading failed."""
        try:
            said = self._lines.get(timeout=SILENCE)
        except queue.Empty:
            raise lost(self._rescue.target, f"no answer for {SILENCE:.0f} s") from None
        if self._failed is not None:
            raise self._failed
        if self._window is not None:
            self._window.release()
        if said is None:
            self._lines.put(None)
            self._threads[2].join(5)
            why = self._complaint or f"ssh ended with exit code {self._child.wait(10)}"
            raise lost(self._rescue.target, f"the connection ended: {why}")
        return said

    def _speak(self) -> None:
        stream: IO[bytes] | None = self._child.stdin
        assert stream is not None
        try:
            for piece in self._spoken:
                if self._window is not None:
                    self._window.acquire()
                if self._closing.is_set():
                    break
                stream.write(piece)
                if self._window is not None:
                    stream.flush()
            stream.close()
        except (OSError, ValueError):
            pass  # the other side is gone: its answers say so
        except DiskImageError as error:
            self._failed = error
            self._lines.put(None)

    def _listen(self) -> None:
        assert self._child.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while line := self._child.stdout.readline(4096):
                self._lines.put(line.decode(errors="replace").rstrip("\r\n"))
        self._lines.put(None)

    def _complaints(self) -> None:
        assert self._child.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while line := self._child.stderr.readline(4096):
                self._complaint = line.decode(errors="replace").strip() or self._complaint
