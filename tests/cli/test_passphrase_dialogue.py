"""The passphrase on a terminal: rules first, asked again after a mistake, words, ctrl-D."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.cli import passphrase
from obsdimg.cli.main import main
from obsdimg.cli.ui import InputEndedError, Ui
from obsdimg.core.passphrase import VARIABLE, PassphraseError, typing_remarks
from obsdimg.core.secret import Secret

GOOD = "plinth gecko ostrich trapeze bobbin"


class Typist(Ui):
    """Somebody at a terminal who types `answers`; what was said is in `heard`."""

    can_ask = True

    def __init__(self, *answers: str) -> None:
        super().__init__()
        heard: list[str] = []
        object.__setattr__(self, "heard", heard)
        object.__setattr__(self, "answers", iter(answers))

    heard: list[str]
    answers: Iterator[str]

    def tell(self, text: str) -> None:
        self.heard.append(text)

    def ask_secret(self, prompt: str) -> str:
        self.heard.append(prompt)
        try:
            return next(self.answers)
        except StopIteration:
            raise InputEndedError(f"{prompt}: nothing was typed") from None


def anything(secret: Secret) -> None:
    return None


def test_the_rules_come_first_and_it_is_typed_twice() -> None:
    ui = Typist(GOOD, GOOD)
    assert passphrase.choose(ui, anything) == Secret(GOOD)
    assert ui.heard == [passphrase.RULES, "Passphrase", "The same again"]
    assert "8 to 255 characters of a US keyboard" in ui.heard[0]
    assert "five or more random words" in ui.heard[0]


def test_after_every_mistake_it_asks_again() -> None:
    ui = Typist("short", "pässwörter", GOOD, GOOD + "x", GOOD, GOOD)
    assert passphrase.choose(ui, anything) == Secret(GOOD)
    said = "\n".join(ui.heard)
    assert said.count("error: ") == 2
    assert "5 characters are too few" in said and "not on a US keyboard" in said
    assert "The two differ" in said
    assert "short" not in said and GOOD not in said


def test_one_that_is_guessed_soon_is_said_so_and_asked_for_again() -> None:
    def judge(secret: Secret) -> None:
        if secret == Secret("password1"):
            raise PassphraseError("this passphrase is guessed in a second", "use words")

    ui = Typist("password1", GOOD, GOOD)
    assert passphrase.choose(ui, judge) == Secret(GOOD)
    assert "is guessed in a second" in ui.heard[2]


def test_enter_alone_offers_words_that_are_taken_when_typed() -> None:
    ui = Typist("", "", GOOD, GOOD)
    passphrase.choose(ui, anything)
    offers = [text for text in ui.heard if "random words, " in text]
    assert len(offers) == 2 and offers[0] != offers[1]
    words = offers[0].splitlines()[1].strip()
    assert len(words.split()) == 6 and typing_remarks(Secret(words)) == []


def test_ctrl_d_is_one_error_and_no_traceback() -> None:
    with pytest.raises(InputEndedError):
        passphrase.choose(Typist(), anything)
    with pytest.raises(InputEndedError):
        passphrase.choose(Typist(GOOD), anything)


def test_an_existing_one_is_asked_for_once_and_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert passphrase.existing(None, Typist("short", GOOD), "It") == Secret(GOOD)
    assert passphrase.existing(None, Typist(""), "It") is None
    file = tmp_path / "phrase"
    file.write_text(GOOD)
    file.chmod(0o600)
    assert passphrase.existing(file, Typist(), "It") == Secret(GOOD)
    assert passphrase.existing(None, Ui(), "It") is None, "nobody is there"


def build(folder: Path, *words: str) -> int:
    return main(["build", "-c", str(folder / "obsdimg.toml"), "--stand-in", *words])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["init", str(tmp_path / "vpn"), "-q"]) == 0
    return tmp_path / "vpn"


@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        (None, "a passphrase is needed and there is no terminal to ask on"),
        ("password1", "is guessed in"),
        ("short", "5 characters are too few"),
    ],
)
def test_without_a_terminal_it_fails_before_anything_is_fetched_or_made(
    project: Path, phrase: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "phrase"
    words = []
    if phrase is not None:
        file.write_text(phrase)
        file.chmod(0o600)
        words = ["--passphrase-file", str(file)]
    iso = project / "nothing.iso"
    iso.write_bytes(b"not an ISO")
    for more in ([], ["--iso", str(iso)]):
        config = ["-c", str(project / "obsdimg.toml")]
        mode = more or ["--stand-in"]
        assert main(["build", *config, *mode, *words]) == 1
        err = capsys.readouterr().err
        assert f"{says}" in err and "nothing.iso" not in err
    assert list((project / "images").iterdir()) == []


def test_the_lock_out_is_said_before_it_happens(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(project) == 1
    assert "if the tunnel is dead: only the console (docs/recovery.md)" in capsys.readouterr().err


def test_what_can_fail_without_it_fails_before_it_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is there, and is asked nothing where the build cannot work."""
    monkeypatch.setattr(Ui, "can_ask", True)
    monkeypatch.setattr(Ui, "ask_secret", lambda *_: pytest.fail("was asked"))
    assert build(project, "-o", str(project / "none" / "x.iso")) == 1
    assert "there is no such folder" in capsys.readouterr().err
    overlay = project / "overlay" / ("a" * 120) / ("b" * 120)
    overlay.parent.mkdir()
    overlay.write_text("x")
    assert build(project) == 1
    assert "does not fit into a ustar archive" in capsys.readouterr().err
    assert list((project / "images").iterdir()) == []


def test_a_stand_in_never_takes_the_place_of_a_real_iso(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = project / "images" / "vpn-79-amd64.iso"
    real.write_bytes(b"real" * 100_000)
    assert build(project) == 1
    assert "is there already, and is no stand-in" in capsys.readouterr().err
    assert real.read_bytes() == b"real" * 100_000
    assert build(project, "--unverified") == 2
