"""ISO images: read one, or write a remastered copy of one.

The public names of this room's ISO part.  Reading is in iso_reader.py, deciding what goes where
in iso_layout.py and iso_tree.py, writing in iso_writer.py, the formats in iso9660.py,
rockridge.py, eltorito.py and transtbl.py.
"""

from __future__ import annotations

from obsdimg.iso.eltorito import BootEntry
from obsdimg.iso.reader import Iso, IsoEntry
from obsdimg.iso.structures import IsoError
from obsdimg.iso.writer import PutFile, Remastered, remaster

__all__ = ["BootEntry", "Iso", "IsoEntry", "IsoError", "PutFile", "Remastered", "remaster"]
