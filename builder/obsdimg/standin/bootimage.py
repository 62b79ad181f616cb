"""The stand-in for cdbr: real-mode code that prints what this medium is not, and halts.

El Torito without emulation loads it at 0x7c0:0 and jumps there (El Torito 1.0, section 2.2);
the text goes out through INT 10h, function 0Eh (teletype).
"""

from __future__ import annotations

SIZE = 2048
"""Bytes, as OpenBSD's cdbr; firmware is told to load them as four sectors of 512."""

_CODE = bytes.fromhex(
    "e80000"  # call next: push the address of the next byte
    "5e"  # pop si
    "83c617"  # add si, 23: the text behind the code
    "fc"  # cld
    "2eac"  # print: lodsb from cs
    "08c0"  # or al, al
    "7409"  # jz halt
    "b40e"  # mov ah, 0Eh
    "bb0700"  # mov bx, 7: page 0, grey
    "cd10"  # int 10h
    "ebf1"  # jmp print
    "f4"  # halt: hlt
    "ebfd"  # jmp halt
)


def boot_image(text: str) -> bytes:
    """2048 bytes that print `text` (ASCII; lines end with a line feed)."""
    message = text.replace("\n", "\r\n").encode("ascii") + b"\x00"
    image = _CODE + message
    if len(image) > SIZE:
        raise ValueError(f"a text of {len(message)} bytes does not fit into a boot image")
    return image.ljust(SIZE, b"\x00")
