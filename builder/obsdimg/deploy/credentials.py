"""Tokens and keys: read from a variable, a private file or the keyring; shown nowhere."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core.secret import Secret, read_private
from obsdimg.deploy.provider import TokenError

VARIABLE = "VULTR_API_KEY"
"""As vultr-cli and the Terraform provider call it."""
KEYRING = ("obsdimg", "vultr")
"""Service and user under which the keyring has the token."""


@dataclass(frozen=True)
class S3Keys:
    """An access key of an S3-compatible object store."""

    access: str
    secret: Secret
    session: Secret | None = None


def find_token(file: Path | None, environ: Mapping[str, str] = os.environ) -> Secret:
    """The provider's token: from `file`, else the variable, else the keyring.

    Raises TokenError or SecretFileError; neither repeats what was found.
    """
    if file is not None:
        return _checked(_private_text(file, "token"), str(file))
    if text := environ.get(VARIABLE):
        return _checked(text, VARIABLE)
    if importlib.util.find_spec("keyring") is not None and (text := _from_keyring()):
        return _checked(text, "keyring")
    raise TokenError(
        "there is no token for the provider",
        f"set {VARIABLE}, or give --token-file FILE (mode 0600), or store it with"
        f" `keyring set {KEYRING[0]} {KEYRING[1]}`",
    )


def find_s3_keys(file: Path | None, environ: Mapping[str, str] = os.environ) -> S3Keys:
    """The object store's key: from `file` (as ~/.aws/credentials), else from the variables
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if set, AWS_SESSION_TOKEN.

    Raises TokenError, SecretFileError.
    """
    if file is not None:
        values = _ini(_private_text(file, "object store's keys"))
        where = str(file)
    else:
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        values = {name: environ.get(name.upper(), "") for name in names}
        where = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    access, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
    if not access or not secret:
        raise TokenError(
            "there are no keys for the object store",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --s3-keys FILE (mode 0600)"
            " with lines like those of ~/.aws/credentials",
        )
    session = values.get("aws_session_token")
    return S3Keys(
        _checked(access, where).reveal(),
        _checked(secret, where),
        _checked(session, where) if session else None,
    )


def _private_text(path: Path, what: str) -> str:
    return read_private(path, what).decode("utf-8", "replace")


def _checked(text: str, place: str) -> Secret:
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise TokenError(f"{place}: this is no token: one word of letters, digits and punctuation")
    return Secret(text)


def _ini(text: str) -> dict[str, str]:
    """`name = value` lines of the first section, or before any."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip().startswith("[") and values:
            break
        name, equals, value = line.partition("=")
        if equals:
            values[name.strip().lower()] = value.strip()
    return values


def _from_keyring() -> str | None:
    import keyring  # type: ignore[import-not-found,unused-ignore]

    try:
        found = keyring.get_password(*KEYRING)
    except Exception:
        return None  # a keyring that is locked or has no backend is as good as none
    return str(found) if found else None
