"""A small ELF64 x86-64 file that carries a ramdisk as OpenBSD's bsd.rd does.

`rd_root_size` (32 bits) stands before `rd_root_image` in the data segment, and both are in the
symbol table, where rdsetroot(8) and obsdimg look for them.  Source: elf(5), rd(4), and
usr.sbin/rdsetroot of OpenBSD 6.6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

TEXT_ADDRESS = 0xFFFFFFFF81000000
"""Where amd64 kernels of 6.6 are linked."""
PAGE = 0x1000
ENTRY = bytes.fromhex("f4ebfd")
"""hlt; jmp back to it: should anything ever start this."""

_EHDR, _PHDR, _SHDR, _SYM = 64, 56, 64, 24
_PT_LOAD, _PROGBITS, _SYMTAB, _STRTAB = 1, 1, 2, 3
_GLOBAL_OBJECT = 0x11


@dataclass(frozen=True)
class _Section:
    """A section header in the making; `name` is looked up in .shstrtab."""

    name: bytes
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int = 0
    info: int = 0
    align: int = 1
    entry_size: int = 0


def standin_kernel(ramdisk: bytes | None, text: bytes) -> bytes:
    """The file's bytes: `text` (a line that says what this is) and the ramdisk, if any.

    Segments are page-aligned in file and memory; the same input gives the same bytes.
    """
    code = ENTRY + text + b"\x00"
    code_offset = PAGE
    data_offset = code_offset + _round(len(code), PAGE)
    data_address = TEXT_ADDRESS + data_offset
    data = b"" if ramdisk is None else struct.pack("<II", len(ramdisk), 0) + ramdisk
    symbols = [] if ramdisk is None else [
        (b"rd_root_size", data_address, 4),
        (b"rd_root_image", data_address + 8, len(ramdisk)),
    ]  # fmt: skip
    symtab, strtab = _symbol_table(symbols, section=2)
    symtab_offset = data_offset + _round(len(data), 8)
    strtab_offset = symtab_offset + len(symtab)
    names_offset = strtab_offset + len(strtab)
    sections = [
        _Section(
            b".text", _PROGBITS, 6, TEXT_ADDRESS + code_offset, code_offset, len(code), 0, 0, 16
        ),
        _Section(b".data", _PROGBITS, 3, data_address, data_offset, len(data), 0, 0, 8),
        _Section(b".symtab", _SYMTAB, 0, 0, symtab_offset, len(symtab), 4, 1, 8, _SYM),
        _Section(b".strtab", _STRTAB, 0, 0, strtab_offset, len(strtab)),
    ]
    names = b"\x00" + b"".join(s.name + b"\x00" for s in sections) + b".shstrtab\x00"
    sections.append(_Section(b".shstrtab", _STRTAB, 0, 0, names_offset, len(names)))
    table_offset = _round(names_offset + len(names), 8)
    out = bytearray(table_offset)
    header = _header(TEXT_ADDRESS + code_offset, table_offset, len(sections) + 1)
    programs = _segment(5, code_offset, len(code)) + _segment(6, data_offset, len(data))
    for offset, part in (
        (0, header + programs),
        (code_offset, code),
        (data_offset, data),
        (symtab_offset, symtab),
        (strtab_offset, strtab),
        (names_offset, names),
    ):
        out[offset : offset + len(part)] = part
    table = b"\x00" * _SHDR + b"".join(_section_header(s, names) for s in sections)
    return bytes(out) + table


def _round(value: int, to: int) -> int:
    return -(-value // to) * to


def _header(entry: int, sections_offset: int, section_count: int) -> bytes:
    ident = b"\x7fELF" + bytes((2, 1, 1, 0)) + b"\x00" * 8
    return ident + struct.pack(
        "<HHIQQQIHHHHHH",
        *(2, 62, 1),  # ET_EXEC, EM_X86_64, EV_CURRENT
        *(entry, _EHDR, sections_offset, 0),
        *(_EHDR, _PHDR, 2, _SHDR, section_count, section_count - 1),
    )


def _segment(flags: int, offset: int, size: int) -> bytes:
    address = TEXT_ADDRESS + offset
    return struct.pack("<IIQQQQQQ", _PT_LOAD, flags, offset, address, address, size, size, PAGE)


def _symbol_table(symbols: list[tuple[bytes, int, int]], section: int) -> tuple[bytes, bytes]:
    """.symtab and .strtab for global objects (name, address, size) of one section."""
    table, names = b"\x00" * _SYM, b"\x00"
    for name, address, size in symbols:
        table += struct.pack("<IBBHQQ", len(names), _GLOBAL_OBJECT, 0, section, address, size)
        names += name + b"\x00"
    return table, names


def _section_header(section: _Section, names: bytes) -> bytes:
    return struct.pack(
        "<IIQQQQIIQQ",
        names.index(b"\x00" + section.name + b"\x00") + 1,
        section.kind,
        section.flags,
        section.address,
        section.offset,
        section.size,
        section.link,
        section.info,
        section.align,
        section.entry_size,
    )
