"""Secrets: the type that hides one, and the one way to read a file that holds one.

A private file is the user's own, of mode 0600 or less, in a regular file of modest size.  It is
looked at before it is opened and once more through the descriptor, and no link is followed, so
that nothing else can be put in its place and no FIFO or device is waited for.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import Final, final

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import PRIVATE_DIR, PRIVATE_FILE, describe

LARGEST: Final = 64 << 10
"""Bytes; keys, tokens and passphrases have some hundred at the most."""


class SecretFileError(ObsdimgError):
    """A file or folder of secrets is not as it must be; what it holds is never shown."""


@final
class Secret:
    """A text that nobody prints by accident: `repr`, `str` and `format` hide it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; every call is a place to look at in a review."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


def read_private(path: Path, what: str, largest: int = LARGEST) -> bytes:
    """The bytes of a private file; `what` names it in errors (`passphrase`, `token`).

    Raises SecretFileError: not there, not a regular file, another's, open to others, or of more
    than `largest` bytes.
    """
    try:
        before = path.lstat()
        _check_file(path, before)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            _check_file(path, status)
            if (status.st_dev, status.st_ino) != (before.st_dev, before.st_ino):
                raise SecretFileError(f"{path}: was exchanged while it was opened", "try again")
            data = stream.read(largest + 1)
    except OSError as error:
        raise SecretFileError(
            f"{path}: cannot read the {what}: {describe(error)}",
            "give an existing file of mode 0600",
        ) from error
    if len(data) > largest:
        raise SecretFileError(
            f"{path}: has more than {largest} bytes, too many for a {what}", "is it the right file?"
        )
    return data


def check_private_folder(path: Path) -> None:
    """Refuse a folder of secrets that others may look into.  Raises SecretFileError."""
    try:
        status = path.stat()
    except OSError as error:
        raise SecretFileError(f"{path}: cannot be read: {describe(error)}") from error
    _check_owner(path, status, PRIVATE_DIR)


def _check_file(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise SecretFileError(f"{path}: is a link, not a regular file", "give the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise SecretFileError(
            f"{path}: is not a regular file", "one file of mode 0600 for each secret"
        )
    _check_owner(path, status, PRIVATE_FILE)


def _check_owner(path: Path, status: os.stat_result, allowed: int) -> None:
    # What root owns only root can have put there, and only root can read at such a mode.
    if status.st_uid not in (os.geteuid(), 0):
        raise SecretFileError(
            f"{path}: belongs to another user (uid {status.st_uid})",
            f"chown {os.geteuid()} {path}; if that user is not you, make a new secret",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise SecretFileError(
            f"{path}: others may read it (mode {mode:04o})",
            f"chmod {allowed:o} {path}; if the machine has other users, make a new secret",
        )
