"""What a rehearsal may use.  The ISO's scripts are foreign code: every number has an end.

docs/rehearsal.md has the table of what was tried against each of these.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class RehearsalLimits:
    """Sizes in bytes, times in seconds.

    `seconds` for all of it, `quiet` without any sign of life.  `disk`: the tmpfs that is the
    sandbox's root, with `inodes` files in it.  `memory` of all processes together (looked at
    every `watch` seconds), `process_memory` of one, `processor` seconds of one; `processes` at
    a time, `files` open in each.  `output` on the console; `calls` of stand-ins with `arguments`
    bytes in all.
    """

    seconds: float = 120.0
    quiet: float = 5.0
    disk: int = 256 * MIB
    inodes: int = 50_000
    memory: int = 256 * MIB
    process_memory: int = 192 * MIB
    processor: int = 60
    processes: int = 96
    files: int = 128
    watch: float = 0.2
    output: int = 4 * MIB
    calls: int = 20_000
    arguments: int = 8 * MIB


MAX_ARGUMENTS = 64 << 10
"""Bytes of one call's arguments."""
MAX_TEXT = MIB
"""Bytes of a file or an input that a stand-in reads as text: a response file, a template, a list
of hashes."""
MAX_TREE = 64 * MIB
"""Bytes of all files in a ramdisk, sparse ones with their whole size; genuine ones hold 4 MB."""
MAX_LINE = 2000
"""Characters of a console line that are looked at."""
MAX_LINES = 20_000
"""Lines of the console that are looked at, from the end."""
