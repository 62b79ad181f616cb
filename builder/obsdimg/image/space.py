"""How large a disk must be for what is to be installed, known when the ISO is built.

With the automatic layout a disk of 2.4 to 11 GB gets a /usr of 1300 MB and 78 percent of what is
left (alloc_medium in sbin/disklabel/editor.c, the same from 6.6 to 7.7), and nearly all of a set
lands there.  With a template of the user's (disklabel -T) every file system has its minimum, and
its percentage of what is left, up to its maximum; the last one takes the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from obsdimg.core.errors import ObsdimgError
from obsdimg.response.disklabel_template import DisklabelTemplate

MB = 1 << 20
_SPARE = 200
"""MB for kernels, logs, first patches and the label itself."""
_MEDIUM = 800 + 80 + 1300 + 256
"""MB: the least that alloc_medium takes."""
_MEDIUM_USR, _MEDIUM_SHARE = 1300, 0.78
_IN_USR = 0.75
"""The share of the sets that lands in /usr at least (0.85 of base of 6.6 and of 7.7)."""


class TemplateTooSmallError(ObsdimgError):
    """The user's template has no room for the sets, however large the disk is."""


def needed_mb(unpacked: Mapping[str, int], layout: DisklabelTemplate | None) -> int:
    """MB of disk for sets of the sizes `unpacked` (bytes by name).

    `layout`: the user's disklabel template, None for the automatic layout.  File systems lose an
    eighth to inodes, cylinder groups and the reserve (newfs's defaults).  Raises
    TemplateTooSmallError.
    """
    content = sum(unpacked.values()) / MB * 9 / 8
    least = content + _SPARE
    if layout is not None:
        return int(max(least, _for_template(layout, content)))
    if least >= _MEDIUM:
        least = max(least, _MEDIUM + max(0.0, content - _MEDIUM_USR) / _MEDIUM_SHARE)
    return int(least)


def _for_template(layout: DisklabelTemplate, content: float) -> float:
    """MB of the smallest disk on which the template's file systems hold `content` MB."""
    names = [one.mount_point for one in layout.entries]
    groups = [([name for name in names if name.startswith("/")], content)]
    if "/usr" in names:
        usr = [name for name in names if f"{name}/".startswith("/usr/")]
        groups.append((usr, content * _IN_USR))
    own = layout.min_kb // 1024 + 1
    return own + max(_beyond(layout, group, wanted) for group, wanted in groups)


def _beyond(layout: DisklabelTemplate, group: Sequence[str], wanted: float) -> float:
    """MB that the disk needs beyond all minimums, for the file systems of `group` to have
    `wanted` MB together."""
    high = wanted * 100 * 1024
    most = _room(layout, group, high)
    if most < wanted:
        raise TemplateTooSmallError(
            f"disk.layout: {', '.join(group)} of the template: {most:.0f} MB at most, and"
            f" {wanted:.0f} MB are needed for the sets",
            "raise the minimum or the maximum (a line without a percentage stays at its minimum),"
            " or leave out sets (sets.leave_out)",
        )
    if _room(layout, group, 0.0) >= wanted:
        return 0.0
    low = 0.0
    while high - low > 0.5:
        middle = (low + high) / 2
        if _room(layout, group, middle) >= wanted:
            high = middle
        else:
            low = middle
    return high


def _room(layout: DisklabelTemplate, group: Sequence[str], beyond: float) -> float:
    """MB of `group` on a disk with `beyond` MB more than all minimums.

    The last line takes what the others leave (allocate_space in sbin/disklabel/editor.c).
    """
    left, total = beyond, 0.0
    for number, one in enumerate(layout.entries, 1):
        least = one.min_kb / 1024
        more = left if number == len(layout.entries) else beyond * one.percent / 100
        if one.max_kb is not None:
            more = min(more, one.max_kb / 1024 - least)
        left -= more
        if one.mount_point in group:
            total += least + more
    return total
