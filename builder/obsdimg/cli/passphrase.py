"""The passphrase of the disk, for the commands that need it: from a file, or by a dialogue that
says its rules first, asks again after a mistake, and offers words."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

from obsdimg.cli.ui import NoTerminalError, Ui
from obsdimg.core import passphrase as phrases
from obsdimg.core import words
from obsdimg.core.secret import Secret
from obsdimg.image.plan import BuildPlan

RULES = f"""\
The passphrase of the disk. You type it on the server's console, at every start.
  {phrases.MIN_LENGTH} to {phrases.MAX_LENGTH} characters of a US keyboard, no blank at either end.
  Whoever has the ISO may guess at it for years: use five or more random words.
  Enter alone offers some. It cannot be recovered: write it down."""

Judge = Callable[[Secret], None]
"""Says what a passphrase is worth; raises PassphraseError for one that is not taken."""


def find_passphrase(
    plan: BuildPlan, file: Path | None, ui: Ui, *, weak_allowed: bool = False
) -> Callable[[], Secret | None]:
    """What gives the passphrase of a build when it is needed; what can fail before, fails here.

    A file is read and judged now, since a long download may follow.  On a terminal the question
    comes when it is called.  Raises PassphraseError, SecretFileError, NoTerminalError.
    """
    if not plan.needs_passphrase:
        return lambda: None
    rounds = plan.sealing_rounds

    def judge(secret: Secret) -> None:
        _judge(secret, rounds, ui, weak_allowed)

    given = phrases.given(file)
    if given is not None:
        judge(given)
        return lambda: given
    if not ui.can_ask:
        raise NoTerminalError(
            "a passphrase is needed and there is no terminal to ask on",
            f"give it with --passphrase-file FILE, or name a file in {phrases.VARIABLE}",
        )
    return lambda: choose(ui, judge)


def choose(ui: Ui, judge: Judge, rules: str = RULES) -> Secret:
    """A new passphrase, asked for until it is one.  Raises InputEndedError at ctrl-D."""
    ui.tell(rules)
    while True:
        text = ui.ask_secret("Passphrase")
        if not text:
            ui.tell(
                f"\n    {words.offer()}\n\n"
                f"{words.COUNT} random words, {words.bits()} bits, easy on any keyboard layout."
                " Write them down, then type\nthem, or Enter for others."
            )
            continue
        try:
            secret = phrases.validate(text)
            judge(secret)
        except phrases.PassphraseError as error:
            ui.mistake(error)
            continue
        if Secret(ui.ask_secret("The same again")) != secret:
            ui.tell("The two differ. Once more:")
            continue
        return secret


def existing(file: Path | None, ui: Ui, prompt: str) -> Secret | None:
    """The passphrase of an ISO that was built: from `file`, from the file that the variable
    names, or asked for; None where nobody is there to ask, or Enter alone was typed.

    Raises PassphraseError, SecretFileError, InputEndedError.
    """
    given = phrases.given(file)
    if given is not None or not ui.can_ask:
        return given
    while True:
        text = ui.ask_secret(prompt)
        if not text:
            return None
        try:
            return phrases.validate(text)
        except phrases.PassphraseError as error:
            ui.mistake(error)


def _judge(secret: Secret, rounds: int, ui: Ui, weak_allowed: bool) -> None:
    """Say what it is worth.  Raises PassphraseError for one that is guessed within a year."""
    found = phrases.strength(secret, rounds)
    for line in phrases.report(found, rounds):
        (ui.warn if found.weak else ui.info)(_folded(line))
    if found.weak and not weak_allowed:
        raise phrases.PassphraseError(
            "this passphrase is guessed in"
            f" {phrases.duration(found.rich_attacker_seconds)} by somebody who has the ISO",
            "use five or more random words; --weak-passphrase takes it all the same",
        )
    for line in phrases.typing_remarks(secret):
        ui.info(_folded(line))


def _folded(line: str) -> str:
    return textwrap.fill(line, 80, subsequent_indent="  ")
