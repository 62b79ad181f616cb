"""The passphrase: from where, of what, how strong; and that nothing ever shows it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from obsdimg.core import words
from obsdimg.core.passphrase import (
    VARIABLE,
    PassphraseError,
    duration,
    from_file,
    given,
    report,
    strength,
    typing_remarks,
    validate,
)
from obsdimg.core.secret import Secret, SecretFileError

GOOD = "correct horse battery staple"


def private_file(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "passphrase"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", ["12345678", "x" * 255, r"a\b'c`d$e\"f", "in the middle  blanks"])
def test_what_the_boot_loader_can_read_is_accepted(text: str) -> None:
    try:
        assert validate(text).reveal() == text
    except TypeError:
        pytest.fail("not a Secret")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1234567", "7 characters are too few"),
        ("x" * 256, "256 characters are too many"),
        ("pässwörter", "character 2 is not on a US keyboard"),
        ("tab\tinside", "character 4 is not"),
        ("del\x7finside", "character 4 is not"),
        ("nul\0inside", "character 4 is not"),
        (" leading blank", "begins or ends with a blank"),
        ("trailing blank ", "begins or ends with a blank"),
    ],
)
def test_what_it_cannot_read_is_refused_without_showing_it(text: str, message: str) -> None:
    with pytest.raises(PassphraseError, match=message) as caught:
        validate(text)
    if text:
        assert text not in "".join(traceback.format_exception(caught.value)).replace(
            repr(text), "<repr>"
        )


@pytest.mark.parametrize("data", [GOOD.encode(), GOOD.encode() + b"\n"])
def test_a_private_file_gives_its_line(tmp_path: Path, data: bytes) -> None:
    assert from_file(private_file(tmp_path, data)) == Secret(GOOD)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o660, 0o666])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretFileError, match="others may read") as caught:
        from_file(private_file(tmp_path, GOOD.encode(), mode))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("chmod 600")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (GOOD.encode() + b"\nsecond\n", "more than one line"),
        (GOOD.encode() + b"\n\n", "more than one line"),
        (GOOD.encode() + b"\r\n", "CR LF"),
        (GOOD.encode() + b" \n", "begins or ends with a blank"),
        ("pässwörter".encode(), "not on a US keyboard"),
        (b"x" * 5000, "too many"),
    ],
)
def test_a_file_with_anything_else_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(PassphraseError, match=message) as caught:
        from_file(private_file(tmp_path, data))
    assert "horse" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_line_errors(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="cannot read the passphrase: no such file"):
        from_file(tmp_path / "none")
    with pytest.raises(SecretFileError, match="not a regular file"):
        from_file(tmp_path)


def test_an_option_wins_over_the_variable(tmp_path: Path) -> None:
    first = private_file(tmp_path, b"from the option")
    (tmp_path / "sub").mkdir()
    second = private_file(tmp_path / "sub", b"from the variable")
    environ = {VARIABLE: str(second)}
    assert given(first, environ) == Secret("from the option")
    assert given(None, environ) == Secret("from the variable")
    assert given(None, {}) is None


def test_offered_words_arrive_on_any_layout_and_hold() -> None:
    assert len(words.words()) > 2000
    found = {words.offer() for _ in range(20)}
    assert len(found) == 20
    for text in found:
        assert typing_remarks(validate(text)) == []
        assert len(text.split()) == 6
        assert not strength(Secret(text), 160).weak
    assert words.bits() >= 64


def test_weak_and_strong_are_told_apart() -> None:
    weak = strength(Secret("password1"), 320)
    strong = strength(Secret("plinth walnut gecko ostrich mauve trapeze"), 320)
    assert weak.weak
    assert not strong.weak
    assert weak.one_card_seconds < 60 and weak.rich_attacker_seconds < 1
    assert strong.rich_attacker_seconds > 1e9


def test_more_rounds_take_longer() -> None:
    one = strength(Secret(GOOD), 100).one_card_seconds
    assert strength(Secret(GOOD), 1_000).one_card_seconds == pytest.approx(10 * one)


def test_a_long_passphrase_is_estimated_quickly() -> None:
    strength(Secret("ab1!" * 63), 320)


def test_the_report_is_for_people_and_does_not_quote() -> None:
    lines = report(strength(Secret("hunter22hunter22"), 320), 320)
    text = "\n".join(lines)
    assert "hunter" not in text
    assert "An hour of one graphics card is 517,500 guesses" in text
    assert "That is weak" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (3600, "1 hour"),
        (86400 * 12.4, "12 days"),
        (31557600 * 123.0, "120 years"),
        (31557600 * 3141.0, "3,100 years"),
        (1e30, "more than a billion years"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_letters_and_other_characters_that_other_layouts_move_are_remarked() -> None:
    assert typing_remarks(Secret("horse correct chess")) == []
    assert "letters" in typing_remarks(Secret("lazy tiger"))[0]
    assert "characters other" in typing_remarks(Secret("hello-there"))[0]
