"""What an ISO says to everybody who has it: the list that `inspect` shows (docs/trust.md).

From the ISO alone: lines of the response file that are not the same in every ISO, settings of the
encryption step, and what of the site set is not sealed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from obsdimg.site.plan import PACKAGES, SEALED

_ALIKE = re.compile(
    r"Terminal type = vt220|IPv6 address for \S+ = none|Default IPv4 route = none"
    r"|Password for root account = \*{13}|Public ssh key for root account = none"
    r"|Do you (expect to run|want) the X Window .*= no|Setup a user = no"
    r"|Allow root ssh login = no|Encrypt the root disk .*= no"
    r"|URL to autopartitioning template for disklabel = none"
    r"|Use \(A\)uto layout.*= a|Location of sets = cd0|Pathname to the sets = .*"
    r"|Set name\(s\) = done|#.*|"
)
"""Lines that say nothing of a server: obsdimg writes them for everybody."""


def in_clear(
    response: Sequence[str], hook: Mapping[str, str], site_set: Sequence[Mapping[str, Any]]
) -> list[str]:
    """A sentence for each thing; empty for an ISO without a response file.

    `response`: its lines, passwords masked; `hook`: the encryption step's settings; `site_set`: a
    mapping with `path`, `kind` and `size` for each member.
    """
    if not response:
        return []
    found = [line for line in response if not _ALIKE.fullmatch(line.strip())]
    settings = [f"{key} = {hook[key]}" for key in _SETTINGS if hook.get(key)]
    return [*found, *([f"encryption step: {', '.join(settings)}"] if settings else []),
            *_of_the_site_set(site_set)]  # fmt: skip


_SETTINGS = (
    "mode",
    "disk",
    "keydisk",
    "rounds",
    "fill",
    "overwrite",
    "table",
    "after",
    "loader",
    "need",
)


def _of_the_site_set(members: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    files = {str(m["path"]): m for m in members if m["kind"] != "dir"}
    packages = sorted(p for p in files if p.startswith(f"{PACKAGES}/"))
    if packages:
        yield "packages: " + ", ".join(p.rpartition("/")[2] for p in packages)
    others = sorted(set(files) - set(packages) - {SEALED, "/install.site"})
    if others:
        yield f"NOT SEALED, {len(others)} files of the server: {', '.join(others)}"
    if SEALED in files:
        yield f"that {files[SEALED]['size']} bytes are sealed"
