"""The forms in which a secret may lie in a stream of bytes, and a fast search for all of them.

Used by secret_search.py.  A form of 32 bytes or more is looked for by its halves, so that a line
break in the middle of it, or a first half overwritten, hides nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

HALVED = 32
WORD = 4
LONG_WORD = 8
FEW = 16
Kind = Literal["I", "Q"]
"""How memoryview.cast names an unsigned word of 4 and of 8 bytes."""


@dataclass(frozen=True)
class Needle:
    """Bytes to look for, the name of the secret they belong to, and their form."""

    secret: str
    form: str
    data: bytes = field(repr=False)


def needles(secrets: Mapping[str, bytes]) -> list[Needle]:
    """Every form of every secret; no two with the same bytes for the same secret."""
    found: dict[tuple[str, bytes], Needle] = {}
    for name, value in secrets.items():
        for form, data in forms(value).items():
            half = len(data) // 2
            for part in (data[:half], data[half:]) if len(data) >= HALVED else (data,):
                found.setdefault((name, part), Needle(name, form, part))
    return list(found.values())


def forms(value: bytes) -> dict[str, bytes]:
    """A secret in every form, name of the form -> bytes.

    A value that is itself base64 or hexadecimal of 16 bytes or more (a WireGuard key, say) is
    taken in its decoded form too.
    """
    found = _encodings(value, "")
    decoded = _decoded(value)
    if decoded is not None:
        found |= {"decoded": decoded} | _encodings(decoded, "decoded, ")
    found |= _escaped(value)
    return found


def _encodings(value: bytes, prefix: str) -> dict[str, bytes]:
    found = {f"{prefix}plain": value} if not prefix else {}
    found[f"{prefix}hexadecimal"] = value.hex().encode()
    found[f"{prefix}hexadecimal, capitals"] = value.hex().upper().encode()
    for shift in range(3):
        text = base64_core(value, shift)
        found[f"{prefix}base64 at {shift}"] = text
        safe = text.translate(bytes.maketrans(b"+/", b"-_"))
        if safe != text:
            found[f"{prefix}base64url at {shift}"] = safe
    if not prefix:
        # The bytes that little- and big-endian UTF-16 have in common.
        found["UTF-16"] = b"\0".join(bytes([byte]) for byte in value)
    return found


def _escaped(value: bytes) -> dict[str, bytes]:
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return {}
    written = {
        "shell-quoted": shlex.quote(text)[1:-1] if shlex.quote(text) != text else text,
        "JSON": json.dumps(text)[1:-1],
        "percent-encoded": quote(text, safe=""),
    }
    return {form: data.encode() for form, data in written.items() if data != text}


def base64_core(value: bytes, shift: int) -> bytes:
    """The base64 characters that depend on `value` only, where it begins `shift` (0 to 2) bytes
    into a group of three."""
    text = base64.b64encode(bytes(shift) + value + bytes(3))
    first = -(-shift * 8 // 6)
    last = (shift + len(value)) * 8 // 6
    return text[first:last]


def _decoded(value: bytes) -> bytes | None:
    text = value.strip()
    try:
        decoded = binascii.unhexlify(text)
    except ValueError:
        try:
            decoded = base64.b64decode(text, validate=True)
        except ValueError:
            return None
    return decoded if len(decoded) >= 16 else None


class Scanner:
    """Finds needles in a stream given piece by piece; `hit(needle, offset)` for each.

    Wherever a needle lies, some word of 4 (or 8) bytes of it lies at a multiple of 4 (or 8) in
    the piece.  All those words are in one set, so a piece is looked through once, however many
    needles there are; only a piece with such a word in it is searched for the needles.
    """

    def __init__(self, wanted: list[Needle], hit: Callable[[Needle, int], None]) -> None:
        self._hit = hit
        long = [n for n in wanted if len(n.data) >= 2 * LONG_WORD - 1]
        short = [n for n in wanted if len(n.data) < 2 * LONG_WORD - 1]
        # A few are looked for one by one, which is faster than going through all words.
        self._few = short if len(short) <= FEW else []
        self._classes: list[tuple[int, Kind, list[Needle], frozenset[int]]] = []
        if long:
            self._classes.append((LONG_WORD, "Q", long, _words(long, LONG_WORD, "Q")))
        if len(short) > FEW:
            self._classes.append((WORD, "I", short, _words(short, WORD, "I")))
        self._keep = max((len(n.data) for n in wanted), default=1) - 1
        self._tail = b""
        self._offset = 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        piece = self._tail + data
        start = self._offset - len(self._tail)
        for word, kind, chosen, words in self._classes:
            padded = piece + bytes(-len(piece) % word)
            if not words.isdisjoint(memoryview(padded).cast(kind)):
                self._find(piece, start, chosen)
        self._find(piece, start, self._few)
        self._offset += len(data)
        self._tail = piece[-self._keep :] if self._keep else b""

    def _find(self, piece: bytes, start: int, chosen: list[Needle]) -> None:
        for needle in chosen:
            at = piece.find(needle.data)
            while at >= 0:
                # What ends within the tail of the last piece was reported then.
                if at + len(needle.data) > len(self._tail):
                    self._hit(needle, start + at)
                at = piece.find(needle.data, at + 1)


def _words(chosen: list[Needle], size: int, kind: Kind) -> frozenset[int]:
    return frozenset(
        memoryview(needle.data[at : at + size]).cast(kind)[0]
        for needle in chosen
        for at in range(size)
        if at + size <= len(needle.data)
    )
