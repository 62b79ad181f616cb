"""The one error of this room, and how foreign ones become it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycdlib.pycdlibexception import PyCdlibException

from obsdimg.core.errors import ObsdimgError

DAMAGED = "fetch the ISO again and compare its SHA256"
WHICH_ISO = "give an OpenBSD install ISO, such as install66.iso"


class IsoError(ObsdimgError):
    """An ISO image cannot be read or remastered; the message names the image and the place."""


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes an IsoError that starts with the image's name.

    pycdlib has exceptions of its own for most damage; on the rest it fails as any program that
    trusts its input: a position that is nowhere is a KeyError.
    """
    try:
        yield
    except IsoError as error:
        if error.message.startswith(f"{path}: "):
            raise
        raise IsoError(f"{path}: {error.message}", error.hint) from error
    except PyCdlibException as error:
        words = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        raise IsoError(f"{path}: damaged: {words}", DAMAGED) from error
    except (LookupError, ValueError, ArithmeticError, TypeError, AttributeError) as error:
        raise IsoError(f"{path}: damaged: its structures contradict each other", DAMAGED) from error
    except struct.error as error:
        raise IsoError(f"{path}: damaged: a structure is cut short", DAMAGED) from error
