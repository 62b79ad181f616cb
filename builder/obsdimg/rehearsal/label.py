"""disklabel(8) without a disk: printing, automatic allocation, templates, the editor on stdin.

Sources: openbsd.md sections 0, 4 and 13 (editor dialogue, templates of 6.6: only `swap` and
mount points, anything else becomes swap; RAID entries from 7.3 on).  The table of the automatic
layout is from disklabel(8) as remembered: the names and their order are right, the sizes near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from obsdimg.rehearsal.disks import Partition, StandInDisk
from obsdimg.rehearsal.machine import SECTOR

LETTERS = "abdefghijklmnop"
"""Partitions that can be made; `c` is the whole disk."""

MIB = 1 << 20
_UNITS = {"": SECTOR, "B": 1, "K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}


class LabelError(Exception):
    """disklabel would print this and exit 1."""


@dataclass(frozen=True)
class TemplateEntry:
    """One entry of a layout: minimum and maximum in bytes, share of the free space in percent."""

    mount: str
    minimum: int
    maximum: int
    percent: int
    fstype: str = "4.2BSD"


def _wish(mount: str, minimum: int, maximum: int, percent: int) -> TemplateEntry:
    fstype = "swap" if mount == "swap" else "4.2BSD"
    return TemplateEntry(mount, minimum * MIB, maximum * MIB, percent, fstype)


BIG = (
    _wish("/", 150, 1024, 5),
    _wish("swap", 80, 256, 10),
    _wish("/tmp", 120, 4096, 8),  # noqa: S108
    _wish("/var", 80, 4096, 13),
    _wish("/usr", 1500, 6144, 10),
    _wish("/usr/X11R6", 384, 1024, 3),
    _wish("/usr/local", 1024, 20480, 15),
    _wish("/usr/src", 1300, 3072, 2),
    _wish("/usr/obj", 5120, 6144, 4),
    _wish("/home", 1024, 307200, 30),
)
MEDIUM = (
    _wish("/", 800, 2048, 5),
    _wish("swap", 80, 256, 10),
    _wish("/usr", 900, 3072, 78),
    _wish("/home", 256, 2048, 7),
)
SMALL = (_wish("/", 700, 4096, 95), _wish("swap", 1, 256, 5))
TINY = (_wish("/", 1, 2048, 100),)


def default_layouts() -> tuple[tuple[TemplateEntry, ...], ...]:
    """The automatic layouts, largest first: the first one whose minimums fit is used."""
    return (BIG, MEDIUM, SMALL, TINY)


def parse_template(text: str, *, raid: bool) -> tuple[TemplateEntry, ...]:
    """A template for `disklabel -T`: `MOUNTPOINT MIN[-MAX] [PERCENT%]` a line.

    `raid`: the release knows the type RAID (7.3 on); before, a word that does not start with
    `/` makes swap.  Raises LabelError.
    """
    wishes = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        wishes.append(_template_line(words, number, raid=raid))
    if not wishes:
        raise LabelError("disklabel: template file empty")
    return tuple(wishes)


def _template_line(words: list[str], number: int, *, raid: bool) -> TemplateEntry:
    bad = LabelError(f"disklabel: parse error on line {number} of template file")
    if len(words) not in (2, 3):
        raise bad
    fstype = "4.2BSD" if words[0].startswith("/") else "swap"
    if raid and words[0].upper() == "RAID":
        fstype = "RAID"
    percent = 0
    if len(words) == 3:
        if not re.fullmatch(r"\d{1,3}%", words[2]):
            raise bad
        percent = int(words[2][:-1])
    if words[1] == "*":
        return TemplateEntry(words[0], SECTOR, 1 << 62, 100, fstype)
    low, dash, high = words[1].partition("-")
    minimum = _size(low)
    maximum = _size(high) if dash and high != "*" else (1 << 62 if dash else minimum)
    if minimum is None or maximum is None or maximum < minimum:
        raise bad
    return TemplateEntry(words[0], minimum, maximum, percent, fstype)


def _size(word: str) -> int | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([BKMGT]?)[Bb]?", word, re.IGNORECASE)
    return int(float(found[1]) * _UNITS[found[2].upper()]) if found else None


def allocate(
    disk: StandInDisk, layouts: tuple[tuple[TemplateEntry, ...], ...]
) -> dict[str, Partition]:
    """The first layout whose minimums fit into the free space.  Raises LabelError."""
    first, end = disk.bounds
    for letter, part in disk.label.items():
        if letter not in "cij":
            first = max(first, part.offset + part.size)
    first = max(first, 64)
    room = (end - first) * SECTOR
    for wishes in layouts:
        if sum(w.minimum for w in wishes) <= room:
            return _place(disk, wishes, first, end)
    raise LabelError("disklabel: not enough space for automatic allocation")


def _place(
    disk: StandInDisk, wishes: tuple[TemplateEntry, ...], first: int, end: int
) -> dict[str, Partition]:
    extra = (end - first) * SECTOR - sum(w.minimum for w in wishes)
    sizes = [min(w.maximum, w.minimum + extra * w.percent // 100) for w in wishes]
    letters = [letter for letter in LETTERS if letter not in disk.label]
    label: dict[str, Partition] = {}
    for wish, size in zip(wishes, sizes, strict=True):
        letter = _letter(wish, letters)
        sectors = min(size // SECTOR, end - first)
        mounted = wish.mount if wish.fstype == "4.2BSD" else ""
        label[letter] = Partition(first, sectors, wish.fstype, mounted)
        first += sectors
    return label


def _letter(wish: TemplateEntry, letters: list[str]) -> str:
    """`a` is for the root, `b` for swap, the rest in order."""
    if not letters:
        raise LabelError("disklabel: no partition letters left")
    wanted = {"/": "a", "swap": "b", "RAID": "a"}.get(wish.mount)
    if wanted in letters:
        letters.remove(wanted)
        return wanted
    for letter in letters:
        if letter not in "ab":
            letters.remove(letter)
            return letter
    return letters.pop(0)


def fstab(disk: StandInDisk) -> str:
    """What `disklabel -F` writes: lines with the disk's UID for partitions with a mount point."""
    lines = []
    for letter, part in sorted(disk.label.items()):
        if part.fstype == "swap":
            lines.append(f"{disk.duid}.{letter} none swap sw\n")
        elif part.mounted == "/":
            lines.append(f"{disk.duid}.{letter} / ffs rw 1 1\n")
        elif part.mounted:
            lines.append(f"{disk.duid}.{letter} {part.mounted} ffs rw,nodev,nosuid 1 2\n")
    return "".join(sorted(lines, key=lambda line: line.split()[1] != "/"))


def render(disk: StandInDisk, *, human: bool = False, gigabytes: bool = False) -> str:
    """What `disklabel DISK` prints (`-h`: sizes with units, `-pg`: in gigabytes)."""
    first, end = disk.bounds
    total = _shown_size(disk.sectors, human, gigabytes)
    lines = [
        f"# /dev/r{disk.name}c:",
        "type: SCSI",
        "disk: SCSI disk",
        f"label: {disk.model.split(',')[1].strip() if ',' in disk.model else disk.model}",
        f"duid: {disk.duid if disk.labelled else '0000000000000000'}",
        "flags:",
        f"bytes/sector: {SECTOR}",
        "sectors/track: 63",
        "tracks/cylinder: 255",
        "sectors/cylinder: 16065",
        f"cylinders: {disk.sectors // 16065}",
        f"total sectors: {disk.sectors}"
        + (f" # total bytes: {total}" if human or gigabytes else ""),
        f"boundstart: {first}",
        f"boundend: {end}",
        "drivedata: 0 ",
        "",
        "16 partitions:",
        "#                size           offset  fstype [fsize bsize   cpg]",
    ]
    parts = dict(disk.label)
    parts["c"] = Partition(0, disk.sectors, "unused")
    for letter, part in sorted(parts.items()):
        size = _shown_size(part.size, human, gigabytes)
        line = f"  {letter}: {size:>16} {part.offset:>16}  {part.fstype:<7}"
        if part.fstype == "4.2BSD":
            line += "   2048 16384 12960"
        lines.append(line + (f" # {part.mounted}" if part.mounted else " "))
    return "\n".join(lines) + "\n"


def _shown_size(sectors: int, human: bool, gigabytes: bool) -> str:
    size = sectors * SECTOR
    if gigabytes or (human and size >= 1 << 30):
        return f"{size / (1 << 30):.1f}G"
    return f"{size / MIB:.1f}M" if human else str(sectors)


def edit(
    disk: StandInDisk, script: str, *, named: bool = False
) -> tuple[dict[str, Partition], str, bool]:
    """`disklabel -E` with its commands on stdin: (new label, what it printed, written).

    `named`: with -F or -f, and so mount points are asked for (editor.c, get_mp).
    Knows a, d, z, p, w, q and x.  Raises LabelError for anything else and where stdin ends
    before `q` or `x`.
    """
    lines = iter(script.split("\n"))
    label = dict(disk.label)
    saved = dict(label)
    out = ["Label editor (enter '?' for help at any prompt)"]
    written = False
    for line in lines:
        words = line.split()
        out.append(f"{disk.name}{'*' if label != saved else ''}> {line}")
        match words[:1]:
            case []:
                continue
            case ["a"]:
                _add(disk, label, words, lines, out, named=named)
            case ["d"] if len(words) == 2:
                label.pop(words[1], None)
            case ["z"]:
                label.clear()
            case ["p"]:
                out += [f"  {k}: {v.size} {v.offset} {v.fstype}" for k, v in sorted(label.items())]
            case ["w"]:
                saved, written = dict(label), True
            case ["q"]:
                if label != saved:
                    answer = next(lines, "")
                    out.append(f"Write new label?: [y] {answer}")
                    if answer in ("", "y", "yes"):
                        saved, written = dict(label), True
                return saved, "\n".join(out) + "\n", written
            case ["x"]:
                return saved, "\n".join(out) + "\n", written
            case _:
                raise LabelError(f"disklabel -E: the rehearsal does not know the command {line!r}")
    raise LabelError("disklabel -E: end of input before q")


def _add(
    disk: StandInDisk,
    label: dict[str, Partition],
    words: list[str],
    lines: Iterator[str],
    out: list[str],
    *,
    named: bool,
) -> None:
    first, end = disk.bounds
    first = max([first, 64, *(p.offset + p.size for k, p in label.items() if k != "c")])
    letter = words[1] if len(words) > 1 else next(x for x in LETTERS if x not in label)
    if letter in label:
        out.append(f"Partition '{letter}' in use")
        return
    if first >= end:
        out.append("No space left, you need to shrink a partition")
        return
    fields = []
    for prompt, default in (
        ("offset", str(first)),
        ("size", str(end - first)),
        ("FS type", "swap" if letter == "b" else "4.2BSD"),
    ):
        answer = next(lines, None)
        if answer is None:
            raise LabelError("disklabel -E: end of input in the middle of `a`")
        out.append(f"{prompt}: [{default}] {answer}")
        fields.append(answer.strip() or default)
    mounted = ""
    if fields[2] == "4.2BSD" and named:
        mounted = str(next(lines, "none")).strip()
        out.append(f"mount point: [none] {mounted}")
        mounted = "" if mounted == "none" else mounted
    size = fields[1]
    sectors = end - first if size == "*" else (_size(size) or 0) // SECTOR
    if not fields[0].isdigit() or not sectors:
        raise LabelError(f"disklabel -E: {fields[0]} {size}: no offset and size")
    offset = int(fields[0])
    label[letter] = Partition(offset, min(sectors, end - offset), fields[2], mounted)
