"""What was asked and answered, from the console's output and the response file as it shrank.

install.sub moves its copy of the response file aside before every question, and each move left
a snapshot.  What is missing in the next snapshot is the line that was used.  The console shows
the question and the answer.  The two are put together in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from obsdimg.rehearsal.limits import MAX_LINE, MAX_LINES
from obsdimg.response.matching import BLANKS, Line, matches, parse, read_lines

INNER = "Performing non-interactive "
NO_ANSWER = "Question has no answer in response file: "
AHEAD = 500
"""Lines of the console within which a question follows the one before."""
_BARE = re.compile(r"^(IPv6 default router\?) (\S+)$")
_LIST = re.compile(r"^(Which .*\?) \(or 'done'\)$")
_SHORTENED = {"IPv6 default router?": "IPv6 default router? (IPv6 address or 'none')"}
"""Questions that the console shows in part (install.sub `v6_defroute`)."""


@dataclass(frozen=True)
class TranscriptQuestion:
    """A question of the installer.  `text` is what answers are matched against.

    `line`: the line of the response file that answered it, 0 for a line that was added while
    installing, None where the default was taken.  `known`: the release is known to ask this.
    """

    text: str
    default: str
    answer: str
    line: int | None
    known: bool = True


@dataclass(frozen=True)
class TranscriptEvent:
    """One use of the response file: the line taken (None: the default)."""

    line: Line | None


def clean(raw: bytes) -> str:
    """Console output as text: LF only, no control characters but tab; lines and their number
    are cut to what is looked at."""
    shown = raw.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = shown.split("\n")[-MAX_LINES:]
    return "\n".join(
        "".join(c for c in line[:MAX_LINE] if c == "\t" or c.isprintable()) for line in lines
    )


def events(snapshots: Sequence[bytes], last: bytes, original: bytes) -> list[TranscriptEvent]:
    """The lines used, in order.  `original` is the response file as it lies in the ramdisk,
    `last` what was left of it at the end."""
    found = []
    numbered = _numbered(snapshots[0], original) if snapshots else []
    for after in [*snapshots[1:], last]:
        left = [_trim(line.text) for line in read_lines(after)]
        used, numbered = _consumed(numbered, left)
        found.append(TranscriptEvent(used))
    return found


def _numbered(first: bytes, original: bytes) -> list[Line]:
    """The lines of the first snapshot with their numbers in `original`; others get 0."""
    known = [_trim(line.text) for line in read_lines(original)]
    result = []
    for line in read_lines(first):
        same = line.number <= len(known) and _trim(line.text) == known[line.number - 1]
        result.append(Line(line.number if same else 0, line.text))
    return result


def _consumed(before: list[Line], left: list[str]) -> tuple[Line | None, list[Line]]:
    """The first entry of `before` that is not in `left`, and `before` without what is gone."""
    used: Line | None = None
    kept = []
    position = 0
    for line in before:
        if position < len(left) and _trim(line.text) == left[position]:
            kept.append(line)
            position += 1
        elif used is None and parse(line.text) is not None:
            used = line
    return used, kept


def _trim(text: str) -> str:
    return text.strip(BLANKS)


def questions(console: str, found: Sequence[TranscriptEvent]) -> list[TranscriptQuestion]:
    """Put events and console lines together."""
    start = console.find(INNER)
    lines = console[start:].split("\n") if start >= 0 else console.split("\n")
    asked: list[TranscriptQuestion] = []
    position = 0
    for event in found:
        for index in range(position, min(position + AHEAD, len(lines))):
            one = _match(lines[index], event)
            if one is not None:
                asked.append(one)
                position = index + 1
                break
    return asked


def _match(shown: str, event: TranscriptEvent) -> TranscriptQuestion | None:
    if event.line is None:
        asked = _taken_default(shown)
        if asked is None:
            return None
        question, value = asked
        return TranscriptQuestion(
            _question(question), value if "[" in shown else "none", value, None
        )
    entry = parse(event.line.text)
    if entry is None:
        return None
    for value in (entry.value, "<provided>"):
        if shown.endswith(f" {value}"):
            head = shown[: -len(value) - 1]
            bracket = re.match(r"^(.*\S) \[(.*)\]$", head)
            question = _question(bracket[1] if bracket else head)
            if matches(question, entry.key):
                default_shown = bracket[2] if bracket else ""
                return TranscriptQuestion(question, default_shown, value, event.line.number)
    return None


def _taken_default(shown: str) -> tuple[str, str] | None:
    """Question and value of a line `QUESTION [VALUE] VALUE`; no regular expression, which would
    take quadratic time on a line that was made for it."""
    bare = _BARE.match(shown)
    at = shown.find("] ")
    while at >= 0 and bare is None:
        value = shown[at + 2 :]
        head = shown[:at]
        if head.endswith(f" [{value}"):
            question = head[: -len(value) - 2]
            return (question, value) if question and not question[-1].isspace() else None
        at = shown.find("] ", at + 1)
    return (bare[1], bare[2]) if bare else None


def _question(shown: str) -> str:
    listed = _LIST.match(shown)
    return listed[1] if listed else _SHORTENED.get(shown.rstrip(), shown.rstrip())


def unanswered(console: str) -> str | None:
    """The question that ended the installation for want of an answer, in lower case."""
    found = re.search(re.escape(NO_ANSWER) + r'"(.*)"', console)
    return found[1] if found else None
