"""`obsdimg completion`: the few lines that teach a shell to complete obsdimg's words."""

from __future__ import annotations

from dataclasses import dataclass

from argcomplete.shell_integration import shellcode

from obsdimg.cli.options import argument
from obsdimg.cli.ui import Ui

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    shell: str = argument(metavar="{bash,zsh,fish}", choices=SHELLS, help="which shell")


def run(options: Options, ui: Ui) -> int:
    """Print them: `eval "$(obsdimg completion bash)"` in ~/.bashrc."""
    ui.say(shellcode(["obsdimg"], shell=options.shell).rstrip("\n"))
    return 0
