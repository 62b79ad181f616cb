"""Stand-in commands, by family.  Importing this package registers all of them."""

from __future__ import annotations

from obsdimg.rehearsal.programs import (
    disk,
    files,
    installed,
    mounts,
    network,
    sets,
    softraid,
    system,
)

__all__ = ["disk", "files", "installed", "mounts", "network", "sets", "softraid", "system"]
