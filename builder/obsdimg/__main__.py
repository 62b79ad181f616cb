"""The program `obsdimg`, also as `python -m obsdimg`."""

from __future__ import annotations

import sys

from obsdimg import __version__


def main() -> int:
    """Run the command line; gives the exit code.  For the version nothing needs to be loaded."""
    if sys.argv[1:] == ["--version"]:
        print(f"obsdimg {__version__}")
        return 0
    from obsdimg.cli.main import main as command

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
