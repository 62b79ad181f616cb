"""Block lists for unbound: names from the user's files.

A line holds a name, or an address and names as in hosts(5); `#` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file

_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}\.?")
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:]*:[0-9a-f:.]*(?:%[a-z0-9]+)?")
_OWN = frozenset(
    {"localhost", "localhost.localdomain", "broadcasthost", "local"}
    # of Debian's hosts(5), which most published lists begin with
    | {f"ip6-{name}" for name in ("localhost", "loopback", "localnet", "mcastprefix")}
    | {f"ip6-{name}" for name in ("allnodes", "allrouters", "allhosts")}
)


class BlockListError(ObsdimgError):
    """A block list holds something that is no name; names file and line."""


def read_block_lists(paths: Iterable[Path]) -> tuple[str, ...]:
    """Every name of all lists once, sorted."""
    names: set[str] = set()
    for path in paths:
        text = read_file(path, "block list", largest=64 << 20).decode("utf-8", "replace")
        names |= names_in(text, str(path))
    return tuple(sorted(names))


def names_in(text: str, where: str) -> set[str]:
    """The names of one list.  Raises BlockListError for a line that holds none."""
    names: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].lower().split()
        if len(words) > 1 and _ADDRESS.fullmatch(words[0]):
            words = words[1:]
        for word in words:
            if word in _OWN or _ADDRESS.fullmatch(word):
                continue
            if not _NAME.fullmatch(word):
                raise BlockListError(
                    f"{where}:{number}: {word[:60]!r} is not a domain name",
                    "one name a line, or lines as in hosts(5); `#` begins a comment",
                )
            names.add(word.rstrip("."))
    return names
