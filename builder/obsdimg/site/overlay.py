"""The overlay: a folder of the user's whose files land on the server as they are.

Read without following links.  Owners become root:wheel; modes are kept.  Refused: devices,
sockets, fifos, absolute links and links that lead out of the overlay, unreadable files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import describe, read_file
from obsdimg.site.files import BASE_DIRECTORIES, check_path
from obsdimg.site.sealing import LARGEST

IGNORED = frozenset({".gitkeep", ".DS_Store", ".gitignore"})


class OverlayError(ObsdimgError):
    """Something in the overlay cannot land on the server; names the file."""


def read_overlay(folder: Path) -> list[Entry]:
    """Everything below `folder`, by path; an overlay that is not there is empty."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise OverlayError(f"{folder}: is not a folder")
    found: list[Entry] = []
    _read(folder, "", folder, found)
    return found


def _read(folder: Path, prefix: str, top: Path, found: list[Entry]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as error:
        raise OverlayError(f"{folder}: cannot be read: {describe(error)}") from error
    for entry in entries:
        if entry.name in IGNORED:
            continue
        path = f"{prefix}/{entry.name}"
        check_path(path)
        mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
        origin = f"{top.name}{path}"
        if entry.is_symlink():
            target = _target(Path(entry.path), path)
            found.append(Entry(path, mode=0o777, origin=origin, kind="link", target=target))
        elif entry.is_dir():
            if path not in BASE_DIRECTORIES:
                found.append(Entry(path, mode=mode, origin=origin, kind="dir"))
            _read(Path(entry.path), path, top, found)
        elif entry.is_file(follow_symlinks=False):
            found.append(Entry(path, _data(Path(entry.path)), mode, origin))
        else:
            raise OverlayError(
                f"{entry.path}: is neither file, folder nor link",
                "devices are made by install.site",
            )


def _target(link: Path, path: str) -> str:
    target = str(link.readlink())
    if not target.isprintable():
        raise OverlayError(f"{link}: its target {target!r} cannot be printed", "rename it")
    if target.startswith("/"):
        raise OverlayError(
            f"{link}: is an absolute link to {target}",
            "make it relative; during the installation / is another system",
        )
    landing = os.path.normpath(path.lstrip("/") + "/../" + target)
    if landing.startswith(".."):
        raise OverlayError(f"{link}: leads out of the overlay, to {target}")
    return target


def _data(path: Path) -> bytes:
    return read_file(path, "file of the overlay", largest=LARGEST)
