"""FFS1, the file system of OpenBSD's ramdisks and floppies: read it, and edit it in place.

`FileSystem` takes the bytes of an image and gives bytes of the same length back; all maps
and counts stay as a genuine fsck_ffs wants them.  `make_image` makes an empty one.  The
format is described in fs(5), inode(5) and dir(5), and in sys/ufs/ffs/fs.h.
"""

from obsdimg.ffs.errors import DamagedError, FfsError, NoRoomError, UnsupportedError
from obsdimg.ffs.filesystem import FileSystem, Stat
from obsdimg.ffs.mkfs import make_image
from obsdimg.ffs.volume import Free

__all__ = [
    "DamagedError",
    "FfsError",
    "FileSystem",
    "Free",
    "NoRoomError",
    "Stat",
    "UnsupportedError",
    "make_image",
]
