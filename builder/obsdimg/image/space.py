"""How large a disk must be for what is to be installed, known when the ISO is built.

With the automatic layout a disk of 2.4 to 11 GB gets a /usr of 1300 MB and 78 percent of what is
left (alloc_medium in sbin/disklabel/editor.c, the same from 6.6 to 7.7), and nearly all of a set
lands there.
"""

from __future__ import annotations

from collections.abc import Mapping

MB = 1 << 20
_SPARE = 200
"""MB for kernels, logs, first patches and the label itself."""
_MEDIUM = 800 + 80 + 1300 + 256
"""MB: the least that alloc_medium takes."""
_MEDIUM_USR, _MEDIUM_SHARE = 1300, 0.78


def needed_mb(unpacked: Mapping[str, int], layout_mb: int | None) -> int:
    """MB of disk for sets of the sizes `unpacked` (bytes by name).

    `layout_mb`: the least that the user's disklabel template takes, None for the automatic layout.
    File systems lose an eighth to inodes, cylinder groups and the reserve (newfs's defaults).
    """
    content = sum(unpacked.values()) / MB * 9 / 8
    least = content + _SPARE
    if layout_mb is not None:
        return int(max(least, layout_mb))
    if least >= _MEDIUM:
        least = max(least, _MEDIUM + max(0.0, content - _MEDIUM_USR) / _MEDIUM_SHARE)
    return int(least)
