"""The US keyboard: which keys make which character, in QEMU's key names (QKeyCode).

The boot loader and a fresh OpenBSD console know the US layout only.  Names: qapi/ui.json.
"""

from __future__ import annotations

import string

from obsdimg.core.errors import ObsdimgError


class UntypableError(ObsdimgError):
    """A character that the US keyboard cannot type."""


_PLAIN = {
    " ": "spc", "\n": "ret", "\r": "ret", "\t": "tab", "\b": "backspace", "\x1b": "esc",
    "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right",
    "\\": "backslash", ";": "semicolon", "'": "apostrophe", "`": "grave_accent",
    ",": "comma", ".": "dot", "/": "slash",
}  # fmt: skip

_SHIFTED = dict(zip('_+{}|:"~<>?', r"-=[]\;'`,./", strict=True)) | dict(
    zip("!@#$%^&*()", "1234567890", strict=True)
)


def keys(character: str) -> tuple[str, ...]:
    """The keys pressed together for `character`, e.g. `A` -> (`shift`, `a`).

    Raises UntypableError for anything outside printable ASCII, newline, tab, backspace and escape.
    """
    if character in string.ascii_lowercase or character in string.digits:
        return (character,)
    if character in _PLAIN:
        return (_PLAIN[character],)
    if character in string.ascii_uppercase:
        return ("shift", character.lower())
    if character in _SHIFTED:
        base = _SHIFTED[character]
        return ("shift", _PLAIN.get(base, base))
    # The character may be part of a passphrase: it is not shown.
    raise UntypableError(
        "a character to be typed is not on the US keyboard",
        "the OpenBSD boot loader knows the US layout only: use printable ASCII",
    )
