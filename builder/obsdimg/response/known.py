"""Whether a question, or a line's key, belongs to a release, whatever the machine is called."""

from __future__ import annotations

import re
from collections.abc import Iterable

from obsdimg.response.matching import lower, matches
from obsdimg.response.questions import Question

_PLACEHOLDER = re.compile(r"\{\w+\}")


class KnownQuestions:
    """The questions of a release as patterns: placeholders stand for any words."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self.templates = sorted({question.text for question in questions})
        self._patterns = [
            re.compile(".+".join(re.escape(part) for part in _PLACEHOLDER.split(text)))
            for text in self.templates
        ]

    def asks(self, text: str) -> bool:
        """Whether the release has a question that reads `text`."""
        return any(pattern.fullmatch(text) for pattern in self._patterns)

    def answers(self, key: str) -> bool:
        """Whether a line with `key` would answer one of the questions, with some names in it."""
        words = [word.rstrip("?") for word in lower(key).split()]
        return any(
            matches(_PLACEHOLDER.sub(lambda _, w=word: w, text), lower(key))  # type: ignore[misc]
            for text in self.templates
            for word in words
        )
