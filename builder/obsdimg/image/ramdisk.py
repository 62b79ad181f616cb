"""What obsdimg changes in the installer's ramdisk: the response file, the hook, the key.

Pure: an FFS image in, an image of the same length out.  The names are those that install.sub
looks for (6.6 to 7.8): `/auto_install.conf` starts the unattended installation, `/install.md`
is sourced at every start, `/etc/signify/openbsd-XX-base.pub` verifies the sets.
"""

from __future__ import annotations

from collections.abc import Iterable

from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.ffs import FileSystem
from obsdimg.response.hook import hooked

RESPONSE = "/auto_install.conf"
INSTALL_MD = "/install.md"
TEMPLATE = "/disklabel.tmpl"


class RamdiskError(ObsdimgError):
    """The ramdisk is not that of the release's installer, or was changed before."""


def key_path(digits: str) -> str:
    """Where the installer of release `digits` (`66`) has the key that verifies the sets."""
    return f"/etc/signify/openbsd-{digits}-base.pub"


def check_ramdisk(files: FileSystem, digits: str) -> None:
    """Refuse a ramdisk that is no installer of this release, or was remastered already.

    Raises RamdiskError.
    """
    if files.exists(RESPONSE):
        raise RamdiskError(
            f"the ISO's ramdisk already holds {RESPONSE}: it was remastered before",
            "start from the ISO as OpenBSD made it",
        )
    missing = [p for p in ("/install.sub", INSTALL_MD) if not files.exists(p)]
    if missing:
        raise RamdiskError(
            f"the ISO's ramdisk has no {missing[0]}: this is not an installer of OpenBSD",
            "take install66.iso or a later one",
        )
    if not files.exists(key_path(digits)):
        found = list(files.listdir("/etc/signify")) if files.exists("/etc/signify") else []
        keys = ", ".join(n for n in found if n.endswith("-base.pub")) or "none"
        raise RamdiskError(
            f"the ISO's ramdisk has no {key_path(digits)} (there: {keys})",
            "the ISO is of another release than release.version says",
        )


def edit_ramdisk(image: bytes, digits: str, files: Iterable[Entry], epoch: int) -> bytes:
    """`image` with `files` added or replaced and the hook's line at the end of install.md.

    `digits` are the release's; `epoch`: time of the new files, seconds since 1970.  Raises
    RamdiskError, NoRoomError and other FfsError.
    """
    system = FileSystem(image)
    check_ramdisk(system, digits)
    for file in sorted(files, key=lambda entry: entry.path):
        system.write_file(file.path, file.data, mode=file.mode, mtime=epoch)
    before = system.stat(INSTALL_MD)
    data = hooked(system.read_file(INSTALL_MD))
    system.write_file(
        INSTALL_MD, data, mode=before.mode, uid=before.uid, gid=before.gid, mtime=epoch
    )
    return system.image()
