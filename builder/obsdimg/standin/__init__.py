"""The stand-in medium: an ISO with the layout and the names of install66.iso, and nothing of it.

For `obsdimg demo`, tests and benchmarks.  It says everywhere that it is not OpenBSD: to whom
boots it, to whom reads its files, and to whom lists it.
"""

from obsdimg.standin.medium import StandIn, build_iso
from obsdimg.standin.ramdisk import FillRamdisk, copy_scripts, standin_files
from obsdimg.standin.sets import NOT_OPENBSD

__all__ = [
    "NOT_OPENBSD",
    "FillRamdisk",
    "StandIn",
    "build_iso",
    "copy_scripts",
    "standin_files",
]
