"""What `build` and `demo` say of a finished ISO."""

from __future__ import annotations

from obsdimg.cli.ui import Ui
from obsdimg.image.write import Built


def report(built: Built, ui: Ui) -> None:
    """Where things are, and what they are."""
    ui.say(f"{built.iso}")
    ui.say(f"  {built.size} bytes, sha256 {built.sha256}")
    ui.say(f"  manifest {built.iso.name}.json, checksum {built.iso.name}.sha256")
    for path in built.clients:
        ui.say(f"  client {path}")
