"""Links that leave docs/ for the site of mkdocs.

A page may point to a file of the repository (`../SECURITY.md`), which is right where somebody reads
the repository itself.  The site has only docs/: there the name of the file stands in the link's
place.  A file that is not there is an error.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

TOP = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text with links to the repository as plain words."""
    folder = posixpath.dirname(page.file.src_uri)

    def plain(found: re.Match[str]) -> str:
        text, target, _anchor = found.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return found.group(0)
        if path.startswith("..") or not (TOP / path).exists():
            raise PluginError(f"{page.file.src_uri}: {target}: there is no such file")
        return text if text.strip("`") == path else f"{text} (`{path}` in the repository)"

    return _LINK.sub(plain, markdown)
