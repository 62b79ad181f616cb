"""ISO images: read one, or write a remastered copy of one.

pycdlib reads them, takes files in and writes directories; what it cannot do is here: it reads
through view.py, keeps everything in its place in edit.py, and writer.py copies the rest.
"""

from __future__ import annotations

from obsdimg.iso.edit import PutFile
from obsdimg.iso.errors import IsoError
from obsdimg.iso.reader import BootEntry, Iso
from obsdimg.iso.records import IsoEntry
from obsdimg.iso.writer import Remastered, copy, remaster

__all__ = [
    "BootEntry",
    "Iso",
    "IsoEntry",
    "IsoError",
    "PutFile",
    "Remastered",
    "copy",
    "remaster",
]
