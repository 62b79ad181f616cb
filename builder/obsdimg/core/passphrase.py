"""The passphrase of the disk: where it comes from, what it may hold, how strong it is.

It is asked for twice without echo (cli/passphrase.py), or read from a file (named by an option or
by a variable); never taken from an argument.  The same rules hold here and in the ramdisk hook
(`response/obsdimg.sh`), so that what is accepted here can be typed there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.secret import Secret, read_private

VARIABLE = "OBSDIMG_PASSPHRASE_FILE"

MIN_LENGTH = 8
MAX_LENGTH = 255
"""MAX_CANON of OpenBSD (sys/syslimits.h 6.6): what a terminal promises to take as one line.
bioctl(8) and the boot loader take 1023 (char passphrase[1024] in bioctl.c and libsa/softraid.c).
"""

LOADER_LENGTH = 1023
"""What the boot loader and bioctl(8) take at most."""

ZXCVBN_LENGTH = 72
"""zxcvbn takes time that grows fast with the length; what follows only makes it stronger."""

BCRYPT_ROUNDS_PER_SECOND = 46_000
"""Assumption: rounds of bcrypt_pbkdf (48 bytes of key) per second of one graphics card of 2022.
hashcat's benchmark of bcrypt with cost 5 on an RTX 4090 is 184,000 a second, with 65 expansions of
the Blowfish key schedule each; a round of bcrypt_pbkdf has 129 for each of two blocks.
"""

CARDS_OF_A_RICH_ATTACKER = 100


class PassphraseError(ObsdimgError):
    """There is no passphrase, or it cannot be used; the message never shows it."""


def validate(text: str, where: str = "passphrase") -> Secret:
    """The passphrase as a Secret.

    Raises PassphraseError unless it is MIN_LENGTH to MAX_LENGTH characters of printable ASCII
    (the boot loader reads a US keyboard) without a blank at either end (a response file, and
    people, lose those).
    """
    if not text:
        raise PassphraseError(f"{where}: empty", f"use at least {MIN_LENGTH} characters")
    strange = sorted({i + 1 for i, c in enumerate(text) if not " " <= c <= "~"})
    if strange:
        raise PassphraseError(
            f"{where}: character {strange[0]} is not on a US keyboard",
            "the boot loader knows the US layout only: use printable ASCII",
        )
    if text != text.strip(" "):
        raise PassphraseError(f"{where}: begins or ends with a blank", "remove it")
    if len(text) < MIN_LENGTH:
        raise PassphraseError(
            f"{where}: {len(text)} characters are too few", f"use at least {MIN_LENGTH}"
        )
    if len(text) > MAX_LENGTH:
        raise PassphraseError(
            f"{where}: {len(text)} characters are too many",
            f"a terminal line takes {MAX_LENGTH} (MAX_CANON)",
        )
    return Secret(text)


def from_file(path: Path) -> Secret:
    """The passphrase in a private file, as `validate` takes it.

    Raises SecretFileError for a file that is not private, PassphraseError for what it holds.
    """
    return validate(private_line(path, "passphrase"), str(path))


def private_line(path: Path, what: str) -> str:
    """The first and only line of a private file, without its newline.

    Raises SecretFileError for a file that is not private, PassphraseError for more than a line.
    """
    data = read_private(path, what)
    line, newline, rest = data.partition(b"\n")
    if rest:
        raise PassphraseError(f"{path}: more than one line", f"only the {what}, on one line")
    if newline and line.endswith(b"\r"):
        raise PassphraseError(f"{path}: the line ends with CR LF", "save it with LF line ends")
    return line.decode("latin-1")


def typed_line(text: str, where: str) -> Secret:
    """A passphrase that exists already, whatever rules it was made by; typeable all the same.

    Raises PassphraseError: empty, longer than the boot loader takes, or not on a US keyboard.
    """
    strange = next((i for i, c in enumerate(text, 1) if not " " <= c <= "~"), None)
    if strange is not None:
        raise PassphraseError(
            f"{where}: character {strange} is not on a US keyboard",
            "the boot loader knows the US layout only: use printable ASCII",
        )
    if not 1 <= len(text) <= LOADER_LENGTH:
        raise PassphraseError(
            f"{where}: {len(text)} characters", f"the boot loader takes 1 to {LOADER_LENGTH}"
        )
    return Secret(text)


def given(file: Path | None, environ: Mapping[str, str] | None = None) -> Secret | None:
    """The passphrase in `file`, else in the file that OBSDIMG_PASSPHRASE_FILE names, else None.

    Raises PassphraseError, SecretFileError.
    """
    path = _named_file(file, environ)
    return None if path is None else from_file(path)


def is_given(file: Path | None, environ: Mapping[str, str] | None = None) -> bool:
    """Whether there is a file, named by option or variable, so that nobody is asked."""
    return _named_file(file, environ) is not None


def _named_file(file: Path | None, environ: Mapping[str, str] | None) -> Path | None:
    """The file that the option names, else the variable."""
    named = (os.environ if environ is None else environ).get(VARIABLE)
    path = file or (Path(named) if named else None)
    return None if path is None else path.expanduser()


def obtain_once(
    file: Path | None,
    ask: Callable[[str], str],
    environ: Mapping[str, str] | None = None,
) -> Secret:
    """One that exists already: from where `given` takes it, else asked for once; not judged.

    Raises PassphraseError, SecretFileError.
    """
    path = _named_file(file, environ)
    if path is not None:
        return typed_line(private_line(path, "passphrase"), str(path))
    return typed_line(ask("Passphrase of the disk"), "passphrase")


@dataclass(frozen=True)
class Strength:
    """How long a passphrase holds against somebody who has the ISO and guesses offline."""

    guesses: float
    """Guesses that zxcvbn expects to be needed (half of them on average)."""
    score: int
    """0 (too guessable) to 4 (very unguessable), by zxcvbn."""
    one_card_seconds: float
    rich_attacker_seconds: float
    remarks: tuple[str, ...]
    """zxcvbn's warning and suggestions; they do not quote the passphrase."""

    @property
    def weak(self) -> bool:
        """A rich attacker needs less than a year."""
        return self.rich_attacker_seconds < YEAR


MINUTE, HOUR, DAY, YEAR = 60.0, 3600.0, 86400.0, 31557600.0


def guesses_per_second(rounds: int, cards: int = 1) -> float:
    """Guesses a second against `rounds` of bcrypt_pbkdf (see the assumption)."""
    return cards * BCRYPT_ROUNDS_PER_SECOND / rounds


def strength(secret: Secret, rounds: int) -> Strength:
    """The estimate by zxcvbn, and what it means against the sealed file in the ISO."""
    from zxcvbn import zxcvbn

    text = secret.reveal()
    result = zxcvbn(text[:ZXCVBN_LENGTH])
    guesses = float(result["guesses"])
    feedback = result["feedback"]
    remarks = tuple(r for r in (feedback["warning"], *feedback["suggestions"]) if r)
    return Strength(
        guesses=guesses,
        score=int(result["score"]),
        one_card_seconds=guesses / guesses_per_second(rounds),
        rich_attacker_seconds=guesses / guesses_per_second(rounds, CARDS_OF_A_RICH_ATTACKER),
        remarks=remarks,
    )


def duration(seconds: float) -> str:
    """A length of time in words, two figures at most: `40 minutes`, `3,000 years`."""
    if seconds < 1:
        return "less than a second"
    if seconds > 1e9 * YEAR:
        return "more than a billion years"
    units = ((YEAR, "year"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (1.0, "second"))
    size, name = next((s, n) for s, n in units if seconds >= s)
    number = seconds / size
    digits = len(str(int(number)))
    rounded = int(round(number, min(0, 2 - digits)))
    return f"{rounded:,} {name}{'' if rounded == 1 else 's'}"


def report(found: Strength, rounds: int) -> list[str]:
    """The estimate for people, a line each; never quotes the passphrase."""
    one = guesses_per_second(rounds)
    lines = [
        f"Passphrase: about {found.guesses:.0e} guesses (zxcvbn score {found.score} of 4).",
        f"An hour of one graphics card is {3600 * one:,.0f} guesses, at the sealed file in the ISO"
        f" as at the disk ({rounds:,} rounds of bcrypt): {duration(found.one_card_seconds)};"
        f" with {CARDS_OF_A_RICH_ATTACKER}: {duration(found.rich_attacker_seconds)}.",
    ]
    if found.weak:
        lines.append("That is weak for an ISO that others store: use five or more random words.")
    lines.extend(found.remarks)
    return lines


def typing_remarks(secret: Secret) -> list[str]:
    """What may go wrong when it is typed at a provider's VNC console, for people."""
    found = []
    text = secret.reveal()
    if any(not c.isalnum() and c != " " for c in text):
        found.append("characters other than letters and digits")
    if any(c in "amqwyz" for c in text.lower()):
        found.append("letters that other layouts move (a m q w y z)")
    if not found:
        return []
    return [
        f"Holds {' and '.join(found)}: with a keyboard layout other than US, check in a shell on"
        " the provider's console that they arrive as typed."
    ]
