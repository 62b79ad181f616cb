"""Providers by the name that stands in `deploy.provider`; docs/providers.md says how to add one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from obsdimg.config import Config
from obsdimg.deploy.provider import DeployError, Provider


class Opener(Protocol):
    """Gives the provider for a configuration, and lets go of it; `token_file` is the user's."""

    def __call__(
        self, config: Config, token_file: Path | None
    ) -> AbstractContextManager[Provider]: ...


MODULES = {"vultr": "obsdimg.deploy.vultr", "libvirt": "obsdimg.deploy.libvirt"}
"""Where the provider of each name registers itself; imported when it is asked for."""

_openers: dict[str, Opener] = {}


def register(name: str) -> Callable[[Opener], Opener]:
    """Decorates the opener of the provider called `name`."""

    def remember(opener: Opener) -> Opener:
        _openers[name] = opener
        return opener

    return remember


def opener(name: str) -> Opener:
    """The opener of `name`.  Raises DeployError: there is no such provider."""
    if name not in _openers and name in MODULES:
        importlib.import_module(MODULES[name])
    if name not in _openers:
        raise DeployError(
            f"deploy.provider: there is no provider {name!r}",
            "providers: " + ", ".join(sorted(MODULES)),
        )
    return _openers[name]
