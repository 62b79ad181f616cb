"""Check an autopartitioning template (disklabel -T) before it travels into the ramdisk.

A line is `MOUNTPOINT MIN[-MAX] [PERCENT%]`, as disklabel(8) says under AUTOMATIC DISK
ALLOCATION and as parse_autotable() in sbin/disklabel/editor.c of 6.6 reads it.  Checked more
strictly than there: on the server a mistake ends an unattended installation (`Autopartitioning
failed.`), or gives another layout than the one meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obsdimg.core.errors import ObsdimgError
from obsdimg.releases.release import Release

_KB = {"k": 1, "m": 1 << 10, "g": 1 << 20, "t": 1 << 30}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)([kmgtKMGT]?)"
_SIZE = re.compile(rf"{_NUMBER}(?:-(?:(\*)|{_NUMBER}))?")
_MOUNT_POINT = re.compile(r"/|(/[A-Za-z0-9._+-]+)+")


class DisklabelTemplateError(ObsdimgError):
    """The template would not do what it says; names file and line."""


@dataclass(frozen=True)
class TemplateLine:
    """One partition: sizes in KB, `max_kb` None for "no limit", `percent` of the free rest."""

    mount_point: str
    min_kb: int
    max_kb: int | None
    percent: int


@dataclass(frozen=True)
class DisklabelTemplate:
    """A checked template.  `data` is what goes into the ramdisk, byte for byte."""

    data: bytes
    entries: tuple[TemplateLine, ...]
    remarks: tuple[str, ...]

    @property
    def min_kb(self) -> int:
        """The smallest volume that it fits."""
        return sum(entry.min_kb for entry in self.entries)


def validate(data: bytes, *, where: str, release: Release) -> DisklabelTemplate:
    """The template in `data` (named `where` in errors) for `release`.

    Raises DisklabelTemplateError for the first mistake.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DisklabelTemplateError(f"{where}:{line}: not ASCII", "use plain text") from None
    if not text.endswith("\n"):
        raise DisklabelTemplateError(
            f"{where}: the last line has no newline", "end the file with one"
        )
    lines = text[:-1].split("\n")
    entries = tuple(_entry(line, release, f"{where}:{n}") for n, line in enumerate(lines, 1))
    _check_whole(entries, where, release.installer.partitions - 1)
    return DisklabelTemplate(data, entries, tuple(_remarks(entries, where)))


def _entry(line: str, release: Release, at: str) -> TemplateLine:
    if "\r" in line:
        raise DisklabelTemplateError(f"{at}: a carriage return", "save the file with LF line ends")
    if not line.strip():
        raise DisklabelTemplateError(f"{at}: empty", "disklabel takes no empty lines: remove it")
    if line[0].isspace():
        raise DisklabelTemplateError(f"{at}: begins with a blank", "begin with the mount point")
    if line[0] == "#":
        raise DisklabelTemplateError(
            f"{at}: a comment", "disklabel takes no comments here: remove it"
        )
    words = line.split()
    if not 2 <= len(words) <= 3:
        raise DisklabelTemplateError(
            f"{at}: {len(words)} fields", "write: MOUNTPOINT MIN[-MAX] [PERCENT%]"
        )
    _check_name(words[0], release, at)
    low, high = _sizes(words[1], release, at)
    percent = _percent(words[2], at) if len(words) == 3 else 0
    return TemplateLine(words[0], low, high, percent)


def _check_name(name: str, release: Release, at: str) -> None:
    if name == "swap" or _MOUNT_POINT.fullmatch(name):
        return
    if name.lower() == "raid" and release.installer.template_raid:
        return
    if name.startswith("/"):
        raise DisklabelTemplateError(f"{at}: {name}: not a plain path", "no // and no / at the end")
    if name.lower() == "raid":
        raise DisklabelTemplateError(
            f"{at}: {name}: templates of {release.version} know no RAID partition",
            "encryption is [disk] encryption; the template is for the volume inside",
        )
    raise DisklabelTemplateError(
        f"{at}: {name}: neither a path nor swap",
        f"{release.version} would refuse it, or make it swap: write /path or swap",
    )


def _sizes(text: str, release: Release, at: str) -> tuple[int, int | None]:
    if text == "*" and release.installer.template_raid:
        return 0, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise DisklabelTemplateError(f"{at}: {text}: not a size", "e.g. 1G, 80M-256M or 1G-*")
    low, low_unit, star, high, high_unit = match.groups()
    if high is not None and not high_unit:
        # apply_unit() of 6.6 gets a null pointer here.
        raise DisklabelTemplateError(f"{at}: {text}: the maximum has no unit", "add k, M, G or T")
    unit = low_unit or high_unit
    if not unit:
        raise DisklabelTemplateError(f"{at}: {text}: no unit", "add k, M, G or T")
    least = int(float(low) * _KB[unit.lower()])
    most = None if star else least
    if high is not None:
        most = int(float(high) * _KB[high_unit.lower()])
    if least == 0:
        raise DisklabelTemplateError(f"{at}: {text}: a minimum of nothing", "give a real minimum")
    if most is not None and least > most:
        raise DisklabelTemplateError(
            f"{at}: {text}: the minimum is above the maximum", "turn them round"
        )
    return least, most


def _percent(text: str, at: str) -> int:
    match = re.fullmatch(r"([0-9]{1,3})%?", text)
    if match is None or int(match[1]) > 100:
        raise DisklabelTemplateError(f"{at}: {text}: not a percentage", "write 0% to 100%")
    return int(match[1])


def _check_whole(entries: tuple[TemplateLine, ...], where: str, most: int) -> None:
    """`most` partitions: all of a label but `c`, the whole disk (RAW_PART)."""
    names = [entry.mount_point for entry in entries]
    for line, name in enumerate(names, 1):
        if name in names[: line - 1] and name.lower() != "raid":
            first = names.index(name) + 1
            raise DisklabelTemplateError(
                f"{where}:{line}: {name} again (line {first})", "remove one"
            )
    if "/" not in names:
        raise DisklabelTemplateError(
            f"{where}: no line for /", "begin with one, e.g. `/ 300M-1G 5%`"
        )
    if "swap" not in names:
        raise DisklabelTemplateError(
            f"{where}: no line for swap", "make it the second: `swap 256M-1G 10%`"
        )
    # Partitions are lettered in the order of the lines; the boot loader takes `a` for /, and
    # kernel and installer take `b` for swap, whatever is in it.
    if names[0] != "/":
        raise DisklabelTemplateError(
            f"{where}:{names.index('/') + 1}: / is not on the first line", "move it"
        )
    if names[1] != "swap":
        raise DisklabelTemplateError(
            f"{where}:{names.index('swap') + 1}: swap is not on the second line",
            "move it: the kernel uses partition b as swap",
        )
    if len(entries) > most:
        raise DisklabelTemplateError(
            f"{where}:{most + 1}: more than {most} partitions", "merge some"
        )
    total = sum(entry.percent for entry in entries)
    if total > 100:
        raise DisklabelTemplateError(f"{where}: the percentages add up to {total}%", "100% at most")


def _remarks(entries: tuple[TemplateLine, ...], where: str) -> list[str]:
    """What is legal and probably not meant."""
    found = []
    for line, entry in enumerate(entries[:-1], 1):
        if entry.percent == 0 and entry.max_kb != entry.min_kb:
            found.append(f"{where}:{line}: without a percentage {entry.mount_point} stays at MIN")
    return found
