"""Little-endian ELF executables: machine, loaded segments, symbols; nothing else.

Takes the bytes of a kernel, gives file offsets.  Source: elf(5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from obsdimg.core.errors import ObsdimgError

PT_LOAD = 1
SHT_SYMTAB = 2
SHN_UNDEF = 0
MAX_NAME = 255
"""Bytes of a symbol's name; longer ones are none that is looked for."""
MACHINES = {
    3: "i386",
    8: "mips",
    20: "powerpc",
    21: "powerpc64",
    40: "arm",
    62: "x86-64",
    183: "aarch64",
    243: "riscv",
    0x9026: "alpha",
}


class ElfError(ObsdimgError):
    """Not an ELF file, or one whose tables lie outside of it."""


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD segment: where it is in the file and in memory, and its bytes in the file."""

    offset: int
    vaddr: int
    filesz: int


@dataclass(frozen=True)
class Elf:
    """An ELF executable.  `symbols` maps a name to its address; empty when stripped."""

    machine: str
    bits: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int]

    @classmethod
    def parse(cls, data: bytes) -> Elf:
        """Raises ElfError."""
        if data[:4] != b"\x7fELF" or len(data) < 64:
            raise ElfError("not an ELF file")
        if data[4] not in (1, 2):
            raise ElfError(f"ELF of an unknown class {data[4]}")
        if data[5] != 1:
            raise ElfError("ELF in big-endian byte order", "only little-endian ports are supported")
        wide = data[4] == 2
        try:
            (machine,) = struct.unpack_from("<H", data, 18)
            segments = tuple(read_segments(data, wide))
            symbols = read_symbols(data, wide)
        except (struct.error, OverflowError) as error:
            raise ElfError("ELF tables lie outside of the file") from error
        name = MACHINES.get(machine, f"machine {machine}")
        return cls(name, 64 if wide else 32, segments, symbols)

    def file_offset(self, address: int, size: int) -> int | None:
        """Where `size` bytes at memory `address` lie in the file; None if not in one segment."""
        for segment in self.segments:
            within = address - segment.vaddr
            if within >= 0 and within + size <= segment.filesz:
                return segment.offset + within
        return None


def read_segments(data: bytes, wide: bool) -> list[Segment]:
    phoff = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)[0]
    entsize, number = struct.unpack_from("<HH", data, 54 if wide else 42)
    found = []
    for at in range(phoff, phoff + entsize * number, entsize or 1):
        if wide:
            kind, _flags, offset, vaddr, _paddr, filesz = struct.unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, vaddr, _paddr, filesz = struct.unpack_from("<5I", data, at)
        if kind == PT_LOAD:
            found.append(Segment(offset, vaddr, filesz))
    return found


def read_symbols(data: bytes, wide: bool) -> dict[str, int]:
    """Names and addresses of the symbol table; sections without bytes in the file are none."""
    shoff = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)[0]
    entsize, number = struct.unpack_from("<HH", data, 58 if wide else 46)
    if not shoff or not number:
        return {}
    sections = []
    for at in range(shoff, shoff + entsize * number, entsize or 1):
        kind = struct.unpack_from("<I", data, at + 4)[0]
        if wide:
            offset, size, link = struct.unpack_from("<QQI", data, at + 24)
        else:
            offset, size, link = struct.unpack_from("<3I", data, at + 16)
        sections.append((kind, offset, size, link))
    tables = [s for s in sections if s[0] == SHT_SYMTAB and s[3] < len(sections)]
    # Each has its bytes for itself in a real file; what points many at the same bytes wants to
    # keep us busy.
    if sum(size + sections[link][2] for _, _, size, link in tables) > len(data):
        raise ElfError("ELF symbol tables that are larger than the file")
    symbols: dict[str, int] = {}
    for _, offset, size, link in tables:
        _, at, length, _ = sections[link]
        symbols.update(symbol_table(data[offset : offset + size], data[at : at + length], wide))
    return symbols


def symbol_table(table: bytes, strings: bytes, wide: bool) -> dict[str, int]:
    layout = struct.Struct("<IBBHQQ" if wide else "<IIIBBH")
    found = {}
    for symbol in layout.iter_unpack(table[: len(table) // layout.size * layout.size]):
        name, section, value = symbol[0], symbol[3 if wide else 5], symbol[4 if wide else 1]
        if name and section != SHN_UNDEF and name < len(strings):
            end = strings.find(b"\0", name, name + MAX_NAME + 1)
            if end >= 0:
                found[strings[name:end].decode("latin-1")] = value
    return found
