"""Public ssh keys that the configuration gives by a file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError, describe, open_regular

LARGEST = 64 << 10
"""Bytes of a file with public keys."""


class KeyFileError(ObsdimgError):
    """The file holds no public ssh key, or cannot be read."""


def names_a_file(text: str) -> bool:
    """Whether `text` is a path, such as `~/.ssh/id_ed25519.pub`.

    A piece of a private key that stands here by mistake is none: it would be repeated in errors.
    """
    return text.isprintable() and (text.endswith(".pub") or text.startswith(("~/", "./", "../")))


def keys_in_file(text: str, folder: Path) -> list[str]:
    """The keys in the file called `text`, a line each; `~` is the user's own folder, and what is
    no whole path is relative to `folder`.  Raises KeyFileError; a private key is never repeated.
    """
    try:
        path = folder / Path(text).expanduser()
        with open_regular(path) as stream:
            data = stream.read(LARGEST + 1)
    except FileError as error:
        raise KeyFileError(error.message, error.hint) from error
    except (OSError, RuntimeError, ValueError) as error:
        why = describe(error) if isinstance(error, OSError) else str(error)
        raise KeyFileError(
            f"{text}: cannot read the public ssh key: {why}", "ssh-keygen -t ed25519 makes one"
        ) from error
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if b"PRIVATE KEY" in data or len(data) > LARGEST or not keys:
        raise KeyFileError(f"{text}: is no public ssh key", "give the file that ends in .pub")
    return keys


def key_files(table: Mapping[str, Any]) -> list[str]:
    """The names of files with public keys that a configuration's table gives, those of
    [servers.NAME] included."""
    found: list[str] = []
    servers = table.get("servers")
    tables = [table, *(servers.values() if isinstance(servers, dict) else ())]
    for one in tables:
        access = one.get("access") if isinstance(one, dict) else None
        admin = access.get("admin") if isinstance(access, dict) else None
        for place, setting in ((admin, "keys"), (access, "root_keys")):
            given = place.get(setting) if isinstance(place, dict) else None
            names = given if isinstance(given, list) else []
            found += [text for text in names if isinstance(text, str) and names_a_file(text)]
    return list(dict.fromkeys(found))
