#!/usr/bin/env python3
"""Makes builder/obsdimg/console/fonts/*.hex from Debian's packages; run again for newer ones.

    apt-get download fonts-spleen seabios ovmf
    for f in *.deb; do dpkg -x "$f" packages; done
    bench/console_fonts.py packages

Formats: PSF 1 and 2 (kbd's psf.h), the 8x16 font inside SeaVGABIOS's ROM, edk2's table
of EFI_NARROW_GLYPH (22 bytes: UTF-16 code, attributes, 19 rows) inside OVMF's LZMA section.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

FONTS = Path(__file__).parent.parent / "builder/obsdimg/console/fonts"

Glyphs = list[tuple[str, bytes]]

BSD2 = "BSD-2-Clause"
EDK2 = "BSD-2-Clause-Patent"

_SMILE = bytes.fromhex("00007e81a58181bd9981817e00000000")
_LZMA_SECTION = bytes.fromhex("98584eee143959429d6edc7bd79403cf")
_VGA_LOW = "\0☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"


def psf(data: bytes) -> tuple[int, int, dict[str, bytes]]:
    """Width, height and the glyph of each character of a console font."""
    glyphs: dict[str, bytes] = {}
    if data[:4] == b"\x72\xb5\x4a\x86":
        _, header, _, count, size, height, width = struct.unpack("<7I", data[4:32])
        table = data[header + count * size :].split(b"\xff")
        for number, entry in enumerate(table[:count]):
            for char in entry.split(b"\xfe")[0].decode():
                glyphs.setdefault(char, data[header + number * size :][:size])
        return width, height, glyphs
    assert data[:2] == b"\x36\x04", "not a PSF font"
    mode, size = data[2], data[3]
    count = 512 if mode & 1 else 256
    number, sequence = 0, False
    for (unit,) in struct.iter_unpack("<H", data[4 + count * size :]):
        if unit == 0xFFFF:
            number, sequence = number + 1, False
        elif unit == 0xFFFE:
            sequence = True
        elif not sequence:
            glyphs.setdefault(chr(unit), data[4 + number * size :][:size])
    return 8, size, glyphs


def spleen(path: Path) -> tuple[int, int, Glyphs]:
    """The characters that OpenBSD's copy has: ISO 8859-1."""
    width, height, glyphs = psf(gzip.decompress(path.read_bytes()))
    wanted = [*range(0x20, 0x7F), *range(0xA0, 0x100)]
    return width, height, [(chr(c), glyphs[chr(c)]) for c in wanted if chr(c) in glyphs]


def vga(rom: bytes) -> Glyphs:
    """256 glyphs in the order of code page 437."""
    start = rom.index(_SMILE) - 16
    chars = _VGA_LOW + bytes(range(32, 127)).decode() + "⌂" + bytes(range(128, 256)).decode("cp437")
    return [(char, rom[start + n * 16 :][:16]) for n, char in enumerate(chars)][1:]


def efi(volume: bytes) -> Iterator[tuple[str, bytes]]:
    """The narrow glyphs, from the blank on until the table ends."""
    section = volume.index(_LZMA_SECTION) - 4
    offset = struct.unpack_from("<H", volume, section + 20)[0]
    code = lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(volume[section + offset :])
    at = -1
    while (at := code.index(b"A\0\0", at + 1)) >= 0:
        if all(code[at + 22 * k : at + 22 * k + 3] == bytes((0x41 + k, 0, 0)) for k in range(4)):
            break
    at -= 22 * (ord("A") - ord(" "))
    while code[at : at + 2] != b"\0\0":
        yield chr(struct.unpack_from("<H", code, at)[0]), code[at + 3 : at + 22]
        at += 22


def write(name: str, width: int, height: int, glyphs: Glyphs, about: tuple[str, str]) -> None:
    licence, source = about
    lines = [f"# {name}: {width}x{height}", f"# source: {source}", f"# licence: {licence}"]
    lines += [f"{ord(char):04X}:{bits.hex()}" for char, bits in glyphs]
    (FONTS / f"{name}.hex").write_text("\n".join(lines) + "\n")


def main(packages: Path) -> None:
    for size in ("8x16", "12x24", "16x32", "32x64"):
        path = next(packages.rglob(f"consolefonts/spleen-{size}.psfu.gz"))
        about = (BSD2, "Spleen by Frederic Cambus, Debian fonts-spleen 1.9.1")
        write(f"spleen-{size}", *spleen(path), about)
    rom = next(packages.rglob("vgabios-stdvga.bin")).read_bytes()
    write("vga-8x16", 8, 16, vga(rom),
          ("public domain", "fntcol16 by Joseph Gil, Debian seabios 1.16.2"))  # fmt: skip
    volume = next(packages.rglob("OVMF_CODE_4M.fd")).read_bytes()
    write("efi-8x19", 8, 19, list(efi(volume)),
          (EDK2, "edk2 MdeModulePkg GraphicsConsoleDxe, Debian ovmf 2022.11"))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
