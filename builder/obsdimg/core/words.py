"""Passphrases of random words, for those who are asked for one and have none.

The words are the EFF's long list (7,776 words, made to be told apart and typed), without those
that hold a letter which other keyboard layouts move: the boot loader reads a US keyboard, and what
is offered here arrives as typed on a German or French one, too.
"""

from __future__ import annotations

import math
import secrets
from functools import cache
from typing import Final

COUNT: Final = 6
_LIST: Final = "eff-long"
_LETTERS: Final = "[b-lnoprstuvx]"
"""a-z without the letters that AZERTY and QWERTZ move: a m q w y z."""
_SHORTEST, _LONGEST = 3, 9
_LEAST: Final = 2000
"""Words that the list has at least; a shorter one would be another list."""


@cache
def words() -> tuple[str, ...]:
    """The words, sorted."""
    from xkcdpass.xkcd_password import generate_wordlist

    found = generate_wordlist(
        wordfile=_LIST, min_length=_SHORTEST, max_length=_LONGEST, valid_chars=_LETTERS
    )
    assert len(found) >= _LEAST, "the word list is not the one of the EFF"
    return tuple(sorted(found))


def offer(count: int = COUNT) -> str:
    """`count` words, each chosen by the system's random source, with blanks between."""
    return " ".join(secrets.choice(words()) for _ in range(count))


def bits(count: int = COUNT) -> int:
    """How many bits of chance `offer` holds: an attacker who knows the list needs half of
    2 to that many guesses on average."""
    return int(count * math.log2(len(words())))
