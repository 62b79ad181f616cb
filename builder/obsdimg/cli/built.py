"""What `build` and `demo` say of a finished ISO."""

from __future__ import annotations

from pathlib import Path

from obsdimg.cli.ui import Ui
from obsdimg.core.files import write_file
from obsdimg.image.plan import BuildPlan
from obsdimg.image.write import Built
from obsdimg.overview.page import overview_page


def write_page(plan: BuildPlan, iso: Path) -> Path:
    """Write the page that shows this server beside its ISO.  Raises FileError."""
    path = Path(f"{iso}.html")
    write_file(path, overview_page(plan))
    return path


def report(built: Built, page: Path, ui: Ui) -> None:
    """Where things are, and what they are."""
    ui.say(f"{built.iso}")
    ui.say(f"  {built.size} bytes, sha256 {built.sha256}")
    ui.say(f"  manifest {built.iso.name}.json, checksum {built.iso.name}.sha256")
    ui.say(f"  what it will be, to look at in a browser: {page}")
    for path in built.clients:
        ui.say(f"  client {path}")
