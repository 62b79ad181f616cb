"""How this program starts itself once more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import obsdimg


def own_command() -> list[str]:
    """What runs this program once more, without the present folder on its path."""
    return [sys.executable, "-P", "-m", "obsdimg"]


def own_environment() -> dict[str, str]:
    """The environment in which `own_command` finds this very package."""
    here = str(Path(obsdimg.__file__).resolve().parent.parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
