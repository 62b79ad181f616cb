"""A file that lands somewhere: in the site set, sealed in it, in the ramdisk, on the ISO."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One file, directory or symbolic link, owned by root:wheel.

    `path` is absolute where it lands; `kind` is file, link or dir; `origin` says where it comes
    from, for people and the manifest.  Of a `secret` one no hash is shown either: a short secret
    could be found by it.  `data` is never in `repr`.
    """

    path: str
    data: bytes = field(repr=False, default=b"")
    mode: int = 0o644
    origin: str = ""
    kind: str = "file"
    target: str = ""
    secret: bool = False
