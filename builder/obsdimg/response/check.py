"""Answer every question of a machine from a response file, and find what is wrong with the file.

What `obsdimg check` prints: each question in order with its answer and where that comes from,
then the lines that nothing asks for.  Pure; nothing is written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from obsdimg.response.matching import (
    BLANKS,
    Line,
    NoAnswerError,
    answer,
    lower,
    matches,
    parse,
    read_lines,
)
from obsdimg.response.questions import AskedQuestion


@dataclass(frozen=True)
class Answered:
    """A question and its answer: by `line`, by its default (`line` None), or not at all.

    `value` is None where the answer is missing.  `problem` says why the installer would stop
    here, or is empty.
    """

    question: AskedQuestion
    value: str | None
    line: Line | None
    problem: str = ""

    @property
    def shown(self) -> str:
        """The answer for the eye: secrets are not shown."""
        if self.value is None:
            return "MISSING"
        return "<provided>" if self.question.secret and self.line else self.value


@dataclass(frozen=True)
class Problem:
    """Something about one line (number from 1; 0: the file as a whole)."""

    severity: Literal["error", "warning"]
    line: int
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Simulation:
    """All questions answered in order, and the lines that are left (comments are not)."""

    answers: tuple[Answered, ...]
    unused: tuple[Line, ...]


def simulate(lines: Iterable[Line], questions: Iterable[AskedQuestion]) -> Simulation:
    """Let the installer's matching answer `questions` in order.

    A question without an answer is recorded and the rest goes on, so that one run shows all.
    Lines with a number below 1 stand for what something else adds while the installer runs.
    """
    remaining = tuple(lines)
    answers: list[Answered] = []
    for question in questions:
        try:
            outcome = answer(question.text, remaining, question.default)
        except NoAnswerError:
            answers.append(Answered(question, None, None, "no default and no answer"))
            continue
        remaining = outcome.remaining
        answers.append(
            Answered(question, outcome.value, outcome.line, _invalid(question, outcome.value))
        )
    return Simulation(tuple(answers), tuple(line for line in remaining if parse(line.text)))


def _invalid(question: AskedQuestion, value: str) -> str:
    if not question.accept or re.fullmatch(question.accept, value, re.IGNORECASE):
        return ""
    return f"{value!r} is not a valid choice"


def lint(
    data: bytes, asked: Sequence[AskedQuestion], known: Sequence[AskedQuestion]
) -> tuple[Problem, ...]:
    """Every problem of the response file `data`, in the order of its lines.

    `asked` are the questions of this machine (`questions.expand`), `known` those of the
    release (`questions.expand_all`): a line that answers one of `known` only is a warning, a
    line that answers none an error.
    """
    lines = read_lines(data)
    unused = {line.number for line in simulate(lines, asked).unused}
    problems = [p for line in lines for p in _line_problems(line, asked, known, unused)]
    last = data.rpartition(b"\n")[2]
    if last.strip():
        problems.append(
            Problem(
                "error",
                len(lines) + 1,
                "the last line has no newline: the installer drops it",
                "end the file with a newline",
            )
        )
    return tuple(problems)


def _line_problems(
    line: Line, asked: Sequence[AskedQuestion], known: Sequence[AskedQuestion], unused: set[int]
) -> list[Problem]:
    trimmed = line.text.strip(BLANKS)
    if not trimmed or trimmed.startswith("#"):
        return []
    if "\r" in line.text:
        return [
            Problem(
                "error",
                line.number,
                "a carriage return becomes part of the answer",
                "write the file with LF line ends",
            )
        ]
    entry = parse(line.text)
    if entry is None:
        what = "the answer is empty" if trimmed.rstrip(BLANKS)[-1] == "=" else "no KEY = ANSWER"
        return [Problem("error", line.number, f"{what}: the installer drops the line")]
    texts = sorted({q.text for q in asked if matches(q.text, entry.key)})
    if len(texts) > 1:
        return [
            Problem(
                "error",
                line.number,
                f"the key {entry.key!r} answers {len(texts)} questions: {'; '.join(texts)}",
                "write more of the question",
            )
        ]
    if line.number not in unused:
        return []
    if texts or any(matches(q.text, entry.key) for q in known):
        return [Problem("warning", line.number, f"{entry.key!r} is never asked for here")]
    return [
        Problem(
            "error",
            line.number,
            f"{entry.key!r} answers no question of this release",
            _nearest(entry.key, known),
        )
    ]


def _nearest(key: str, known: Sequence[AskedQuestion]) -> str:
    """A hint with the question that reads most like `key`."""
    by_key = {lower(q.text.partition("?")[0]): q.text.partition("?")[0] for q in known}
    found = difflib.get_close_matches(key, by_key, n=1, cutoff=0.4)
    return f"did you mean: {by_key[found[0]]}" if found else ""
