"""How the stand-in medium says in its primary volume descriptor that it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from obsdimg.core.files import FileError, describe
from obsdimg.iso.view import FIRST_DESCRIPTOR, SECTOR

PUBLISHER: Final = "obsdimg stand-in medium, not OpenBSD"
"""Its publisher identifier, which a build keeps."""
_AT, _BYTES = 318, 128
"""Where the publisher identifier stands in the first descriptor (ECMA-119 8.4.20)."""


def is_stand_in(path: Path) -> bool:
    """Whether the image at `path` is obsdimg's stand-in medium, or was built on it.

    Raises FileError.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(FIRST_DESCRIPTOR * SECTOR + _AT)
            return stream.read(_BYTES).rstrip(b" ") == PUBLISHER.encode()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {describe(error)}") from error
