"""How the stand-in medium says in its primary volume descriptor that it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from obsdimg.core.files import FileError, describe
from obsdimg.iso.view import SECTOR

PUBLISHER: Final = "obsdimg stand-in medium, not OpenBSD"
"""Its publisher identifier, which a build keeps."""
_DESCRIPTOR: Final = 16
"""The sector of the primary volume descriptor (ECMA-119 6.7.1)."""
_AT, _BYTES = 318, 128
"""Where the publisher identifier stands in it (ECMA-119 8.4.20)."""


def is_stand_in(path: Path) -> bool:
    """Whether the image at `path` is obsdimg's stand-in medium, or was built on it.

    Raises FileError.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(_DESCRIPTOR * SECTOR + _AT)
            return stream.read(_BYTES).rstrip(b" ") == PUBLISHER.encode()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {describe(error)}") from error
