"""The questions that stand in an installer's own script, install.sub or install.md, read as text.

Pure, and nothing is run: the calls of `ask`, `ask_until`, `ask_which` and their like with the text
that the installer matches answers against.  What the shell would fill in is `{}`.  A script that
asks in another way than those of 6.6 to 7.8 shows fewer questions than the release before it, which
`changes` tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LARGEST = 1 << 20
"""Bytes of a script; install.sub of 7.8 has 100,000."""
_ASKING = ("ask", "ask_until", "ask_yn", "ask_which", "ask_password", "ask_passphrase")
_CALL = re.compile(rf"(?:^|[\s;&|!(])(_ask|_autorespond|{'|'.join(_ASKING)})[ \t]+(?=[\"'a-z])")
_FUNCTION = re.compile(r"^(\w+)\(\) *\{")
_ASSIGNED = re.compile(r"(?:^|[\s;&|(])(_\w+)=(?=[\"'])")
_MACHINERY = frozenset({*_ASKING, "ask_pass", "_ask", "_autorespond"})
"""Functions that hold the asking itself."""
_MOST_TEXTS = 8
"""Texts that one variable may take."""
_LONGEST_LINE, _LONGEST_TEXT = 4096, 500
"""Characters; what is longer is cut.  The longest line of install.sub has 110."""


@dataclass(frozen=True)
class ScriptQuestion:
    """A question as it stands in a script: `text` and `default` (empty: none), with `{}` where the
    shell fills something in; the shell function and the line that ask it."""

    text: str
    default: str
    function: str
    line: int


def asked_by(script: str) -> tuple[ScriptQuestion, ...]:
    """Every question of `script`, in the order of its lines; a question that is put together from
    a variable comes in each form."""
    found: list[ScriptQuestion] = []
    function = ""
    texts: dict[str, list[str]] = {}
    for number, line in _joined(script):
        if begin := _FUNCTION.match(line):
            function, texts = begin[1], {}
        if function in _MACHINERY:
            continue
        for call in _CALL.finditer(line):
            words = _words(line, call.end())
            if not words:
                continue
            asked = words[0]
            if call[1] == "ask_which":
                asked = f"Which {words[0]} {words[1]}?" if len(words) > 1 else ""
            default = words[1] if len(words) > 1 and call[1] != "ask_which" else ""
            for text in _forms(asked, texts):
                if re.search(r"[A-Za-z]{2}", _plain(text)):
                    found.append(ScriptQuestion(_plain(text), _plain(default), function, number))
        for assigned in _ASSIGNED.finditer(line):
            name, values = assigned[1], _words(line, assigned.end())[:1]
            new = [text for value in values for text in _forms(value, texts)]
            texts[name] = list(dict.fromkeys((*texts.get(name, ()), *new)))[:_MOST_TEXTS]
    return tuple(found)


def changes(
    before: Iterable[ScriptQuestion], after: Iterable[ScriptQuestion]
) -> tuple[tuple[ScriptQuestion, ...], tuple[ScriptQuestion, ...]]:
    """The questions that `after` asks and `before` does not, in these words, and those that are
    gone; of the same words each once."""
    old = {question.text: question for question in reversed(list(before))}
    new = {question.text: question for question in reversed(list(after))}
    added = [new[text] for text in new if text not in old]
    gone = [old[text] for text in old if text not in new]
    return _in_order(added), _in_order(gone)


def _in_order(questions: Iterable[ScriptQuestion]) -> tuple[ScriptQuestion, ...]:
    return tuple(sorted(questions, key=lambda question: (question.line, question.text)))


def _joined(script: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers; those that end in a backslash with the next, comments empty."""
    held, first = "", 0
    for number, line in enumerate(script[:LARGEST].split("\n"), 1):
        if not held:
            first = number
        if line.endswith("\\"):
            held += line[:-1]
            continue
        whole = held + line
        held = ""
        yield first, "" if whole.lstrip().startswith("#") else whole[:_LONGEST_LINE]


def _words(line: str, at: int) -> list[str]:
    """The shell's first two words of `line` from `at` on: quotes removed, `$...` as `{$...}`."""
    words: list[str] = []
    while at < len(line) and len(words) < 2:
        while at < len(line) and line[at] in " \t":
            at += 1
        word, end = _word(line, at)
        if end == at:
            break
        words.append(word)
        at = end
    return words


def _word(line: str, at: int) -> tuple[str, int]:
    """One word and where it ends."""
    text, quote = "", ""
    while at < len(line):
        sign = line[at]
        if quote != "'" and sign == "$":
            expansion, at = _expansion(line, at)
            text += expansion
            continue
        if sign == "\\" and quote != "'" and at + 1 < len(line):
            text += line[at + 1]
            at += 2
            continue
        if quote:
            if sign == quote:
                quote = ""
            else:
                text += sign
        elif sign in "\"'":
            quote = sign
        elif sign in " \t;&|<>)":
            break
        else:
            text += sign
        at += 1
    return text, at


def _expansion(line: str, at: int) -> tuple[str, int]:
    """`$name`, `${...}` or `$(...)` from `at` on: `{$name}` or `{}`, and where it ends."""
    if simple := re.compile(r"\$(\w+)").match(line, at):
        return f"{{${simple[1]}}}", simple.end()
    opening = line[at + 1 : at + 2]
    closing = {"{": "}", "(": ")"}.get(opening)
    if closing is None:
        return "$", at + 1
    depth = 0
    for end in range(at + 1, len(line)):
        depth += (line[end] == opening) - (line[end] == closing)
        if depth == 0:
            return "{}", end + 1
    return "{}", len(line)


def _forms(text: str, texts: dict[str, list[str]]) -> list[str]:
    """`text` with each value that a variable of the function was given."""
    forms = [text]
    for name in dict.fromkeys(re.findall(r"\{\$(\w+)\}", text)):
        values = texts.get(name)
        if values:
            filled = [f.replace(f"{{${name}}}", v) for f in forms for v in values]
            forms = [form[:_LONGEST_TEXT] for form in filled[:_MOST_TEXTS]]
    return forms


def _plain(text: str) -> str:
    """`text` with every expansion as `{}`, neighbours as one."""
    return re.sub(r"(?:\{\})+", "{}", re.sub(r"\{\$\w+\}", "{}", text))
