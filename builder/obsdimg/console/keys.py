"""Keys of a US keyboard: X11 keysyms and PC scan codes for VNC, bytes for a serial line.

The boot loader and a fresh OpenBSD console know the US layout only.  Scan codes (set 1, 0x80
added where E0 goes before) are those of QEMU's extended key event; keysyms: X11/keysymdef.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.console.errors import TypingError


@dataclass(frozen=True)
class Key:
    """One key.  `text` is what it sends on a serial line, None for a modifier."""

    keysym: int
    scancode: int
    text: bytes | None = None


Chord = tuple[Key, ...]
"""Keys pressed together, modifiers first."""

QUICK, CAREFUL, SLOW = 0.03, 0.1, 0.25
"""Seconds that a key is down, and as long until the next: for a person who sees what comes of
it; for a passphrase that nobody sees; for the second try of one.  A BIOS keeps 15 keys, a PC's
keyboard 16 bytes (a shifted key is 6), and the guest of a busy host stands still for moments."""

SHIFT = Key(0xFFE1, 0x2A)
CTRL = Key(0xFFE3, 0x1D)
ALT = Key(0xFFE9, 0x38)

_ROWS = (
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
)


def _characters() -> dict[str, Chord]:
    chords: dict[str, Chord] = {}
    for first, plain, shifted in _ROWS:
        for number, (low, high) in enumerate(zip(plain, shifted, strict=True)):
            code = first + number
            chords[high] = (SHIFT, Key(ord(high), code, high.encode()))
            chords[low] = (Key(ord(low), code, low.encode()),)
    return chords


NAMED = {
    "enter": Key(0xFF0D, 0x1C, b"\r"),
    "tab": Key(0xFF09, 0x0F, b"\t"),
    "backspace": Key(0xFF08, 0x0E, b"\x08"),
    "escape": Key(0xFF1B, 0x01, b"\x1b"),
    "insert": Key(0xFF63, 0xD2, b"\x1b[2~"),
    "delete": Key(0xFFFF, 0xD3, b"\x7f"),
    "home": Key(0xFF50, 0xC7, b"\x1b[H"),
    "end": Key(0xFF57, 0xCF, b"\x1b[F"),
    "pageup": Key(0xFF55, 0xC9, b"\x1b[5~"),
    "pagedown": Key(0xFF56, 0xD1, b"\x1b[6~"),
    "up": Key(0xFF52, 0xC8, b"\x1b[A"),
    "down": Key(0xFF54, 0xD0, b"\x1b[B"),
    "right": Key(0xFF53, 0xCD, b"\x1b[C"),
    "left": Key(0xFF51, 0xCB, b"\x1b[D"),
} | {
    f"f{n}": Key(0xFFBD + n, 0x3A + n if n <= 10 else 0x4C + n, b"")
    for n in range(1, 13)
}  # fmt: skip

_CHARACTERS = _characters() | {
    "\r": (NAMED["enter"],),
    "\n": (NAMED["enter"],),
    "\t": (NAMED["tab"],),
    "\b": (NAMED["backspace"],),
    "\x1b": (NAMED["escape"],),
}


def chord(character: str) -> Chord:
    """The keys for `character`.  Raises TypingError, which does not show it: it may be secret."""
    try:
        return _CHARACTERS[character]
    except KeyError:
        raise TypingError(
            "a character to be typed is not on the US keyboard",
            "the OpenBSD boot loader knows the US layout only: use printable ASCII",
        ) from None


def control(character: str) -> Chord:
    """Ctrl and a letter or sign."""
    return (CTRL, *chord(character.lower()))


def bytes_of(keys: Chord) -> bytes:
    """What the keys send on a serial line."""
    text = b"".join(key.text or b"" for key in keys)
    if CTRL in keys and len(text) == 1:
        text = bytes([text[0] & 0x1F])
    return b"\x1b" + text if ALT in keys else text
