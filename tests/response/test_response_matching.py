"""Matching, against tables and against the genuine `_autorespond` run by mksh."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.response.matching import Line, NoAnswerError, answer, matches, parse, read_lines
from support.genuine_installer import genuine_function

HOSTNAME = "System hostname? (short form, e.g. 'foo')"
WHOLE = "Use (W)hole disk MBR, whole disk (G)PT or (E)dit?"
XENODM = "Do you want the X Window System to be started by xenodm(1)?"


@pytest.mark.parametrize(
    ("question", "key", "expected"),
    [
        (HOSTNAME, "hostname", True),
        (HOSTNAME, "system hostname", True),
        (HOSTNAME, HOSTNAME.lower(), True),
        (HOSTNAME, "host", False),
        (HOSTNAME, "name", False),
        (HOSTNAME, "foo", False),
        (WHOLE, "use (w)hole disk mbr", False),
        (WHOLE, "use (w)hole disk", True),
        (WHOLE, "disk", True),
        (XENODM, "started by xenodm", False),
        (XENODM, "started by xenodm(1)", True),
        ("Which disk is the root disk?", "root disk", True),
        ("aXa a", "a", True),
        ("a-b a-b? x", "a-b", True),
        ("x?y", "x", True),
        ("x.y", "x", False),
        ("[a-z]*", "b", False),
    ],
)
def test_a_key_matches_between_word_borders_only(question: str, key: str, expected: bool) -> None:
    assert matches(question, key) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = b", ("a", "b")),
        ("  A  =  b  ", ("a", "b")),
        ("\ta\t=\tb\t", ("a", "b")),
        ("a=b=c", ("a", "b=c")),
        ("a==", ("a", "=")),
        ('a = "$x" \\n', ("a", '"$x" \\n')),
        ("a = b\r", ("a", "b\r")),
        ("a =", None),
        ("a = ", None),
        ("= b", None),
        ("# a = b", None),
        ("", None),
        ("no sign", None),
        ("É = É", ("É", "É")),
    ],
)
def test_a_line_is_parsed_as_the_installer_does(
    text: str, expected: tuple[str, str] | None
) -> None:
    assert parse(text) == expected


def test_the_first_match_is_used_once_and_then_the_default() -> None:
    lines = read_lines(b"hostname = one\nhostname = two\n")
    first = answer(HOSTNAME, lines)
    second = answer(HOSTNAME, first.remaining)
    assert (first.value, second.value) == ("one", "two")
    assert answer(HOSTNAME, second.remaining, "three").line is None
    with pytest.raises(NoAnswerError, match="System hostname"):
        answer(HOSTNAME, second.remaining)


def test_a_last_line_without_newline_is_not_there() -> None:
    assert read_lines(b"a = b\nhostname = x") == (Line(1, "a = b"),)


HARNESS = """
err_exit() { print -r NONE; exit; }
AI_RESPFILE=ai.conf
cp response ai.conf
while IFS= read -r question && IFS= read -r default; do
	( _autorespond "$question" "$default"; print -r -- "=$resp" ) </dev/null
done <questions
"""


def by_the_genuine_script(
    folder: Path, response: bytes, questions: list[tuple[str, str]]
) -> tuple[list[str | None], bytes]:
    """The answers of `_autorespond` to (question, default) pairs, and what is left of the file."""
    (folder / "response").write_bytes(response)
    (folder / "questions").write_bytes(
        "".join(f"{q}\n{d}\n" for q, d in questions).encode("utf-8", "surrogateescape")
    )
    done = subprocess.run(
        ["mksh", "-c", genuine_function("_autorespond").replace("/tmp/ai/", "") + HARNESS],
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    assert done.stderr == b""
    answers = [
        None if line == b"NONE" else line[1:].decode("utf-8", "surrogateescape")
        for line in done.stdout.split(b"\n")[:-1]
    ]
    return answers, (folder / "ai.conf").read_bytes()


def by_ours(
    response: bytes, questions: list[tuple[str, str]]
) -> tuple[list[str | None], list[str]]:
    lines = read_lines(response)
    answers: list[str | None] = []
    for question, default in questions:
        try:
            outcome = answer(question, lines, default)
            lines = outcome.remaining
            answers.append(outcome.value)
        except NoAnswerError:
            answers.append(None)
    return answers, [line.text.strip(" \t") for line in lines if parse(line.text)]


WORDS = st.one_of(
    st.sampled_from(["disk", "root disk", "Which", "is", "the", "vio0", "vio0?", "(W)hole", "A"]),
    st.sampled_from(["[a-z]*", "*", "?", "\\", "(or 'done')", "$HOME", "`id`", "#", "-n", "a,b"]),
    st.sampled_from(["a", "xenodm(1)", "!ls", "É"]),
)
BLANK = st.sampled_from(["", " ", "\t", "  "])
PHRASES = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)
LINES = st.one_of(
    st.tuples(BLANK, PHRASES, BLANK, st.sampled_from(["=", "==", ""]), BLANK, PHRASES, BLANK).map(
        "".join
    ),
    st.text("ab =#?\t'\\*[]!", max_size=12),
)
QUESTIONS = st.tuples(
    st.one_of(PHRASES.map(lambda p: p + "?"), PHRASES), st.sampled_from(["", "none", "[a]"])
)


@pytest.mark.media
@pytest.mark.skipif(shutil.which("mksh") is None, reason="mksh is not installed")
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lines=st.lists(LINES, max_size=8),
    questions=st.lists(QUESTIONS, min_size=1, max_size=6),
    newline=st.booleans(),
)
def test_ours_and_the_genuine_script_agree(
    tmp_path: Path, lines: list[str], questions: list[tuple[str, str]], newline: bool
) -> None:
    response = "\n".join(lines).encode() + (b"\n" if newline else b"")
    theirs, left = by_the_genuine_script(tmp_path, response, questions)
    ours, remaining = by_ours(response, questions)
    assert ours == theirs
    # A failed question ends their loop over a shell of its own; what is left stays comparable.
    kept = [line.text.strip(" \t") for line in read_lines(left) if parse(line.text)]
    assert remaining == kept


@pytest.mark.media
@pytest.mark.skipif(shutil.which("mksh") is None, reason="mksh is not installed")
def test_ours_and_the_genuine_script_agree_on_real_questions(tmp_path: Path) -> None:
    response = (
        b"# a comment\n"
        b"System hostname = gw\r\n"
        b"Which network interface do you wish to configure = vio0\n"
        b"IPv4 address for vio0? (or 'dhcp' or 'none') = 192.0.2.1/24\n"
        b"Password for root account = *************\n"
        b"Public ssh key for root account = ssh-ed25519 AAAA== me@host\n"
        b"started by xenodm = no\n"
        b"started by xenodm(1) = no\n"
        b"Which disk is the root disk = sd1\n"
        b"Use (W)hole disk MBR = gpt\n"
        b"Use (W)hole disk = whole\n"
        b"Set name(s) = -game* +site*\n"
        b"Set name(s) = done\n"
        b"What timezone are you in = Europe/Paris"
    )
    questions = [
        (HOSTNAME, ""),
        ("Which network interface do you wish to configure?", "vio0"),
        ("IPv4 address for vio0? (or 'dhcp' or 'none')", "dhcp"),
        ("Password for root account?", ""),
        ("Public ssh key for root account?", "none"),
        (XENODM, "no"),
        ("Which disk is the root disk? ('?' for details)", "sd0"),
        (WHOLE, "whole"),
        ("Set name(s)? (or 'abort' or 'done')", "done"),
        ("Set name(s)? (or 'abort' or 'done')", "done"),
        ("Set name(s)? (or 'abort' or 'done')", "done"),
        ("What timezone are you in? ('?' for list)", ""),
    ]
    theirs, _ = by_the_genuine_script(tmp_path, response, questions)
    assert by_ours(response, questions)[0] == theirs
    assert theirs[0] == "gw\r"
    assert theirs[-1] is None
