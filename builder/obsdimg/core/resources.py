"""Where the files that ship with the tool are: siteXX/, response/ and images/.

In a checkout they stand at the top of the tree; a wheel carries them in `obsdimg/data/`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(*parts: str) -> Path:
    """The path of a shipped file or folder, e.g. `resource("images", "66.toml")`."""
    inside = _PACKAGE / "data"
    top = inside if inside.is_dir() else _PACKAGE.parents[1]
    return top.joinpath(*parts)
