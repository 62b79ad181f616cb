"""`obsdimg client`: the clients of the tunnel."""

from __future__ import annotations

import argparse
from pathlib import Path

from obsdimg.ui import Ui

HELP = "show a client's configuration (text, QR code), or add, remove, rotate, list clients"


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli import add_config_option

    add_config_option(parser)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME | list | add NAME | remove NAME | rotate NAME | show NAME",
        help="a client's name shows its configuration",
    )
    parser.add_argument("--qr", action="store_true", help="as a QR code on the terminal")
    parser.add_argument("--png", type=Path, metavar="F", help="write the QR code as PNG")
    parser.add_argument("--svg", type=Path, metavar="F", help="write the QR code as SVG")
    parser.add_argument("--public-key", metavar="KEY", help="with add: the client's own key")
    parser.add_argument("--split", action="store_true", help="with add: not all traffic")
    parser.add_argument(
        "--server-key", metavar="KEY", help="the public key that the server showed at first boot"
    )
    parser.add_argument("--json", action="store_true", help="with list: as JSON")


def run(args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg import clientcmd

    return clientcmd.run(args, ui)
