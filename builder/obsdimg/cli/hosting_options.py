"""Options that `upload` and `deploy` share; nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_hosting_options(parser: argparse.ArgumentParser) -> None:
    """Options of `upload` and `deploy` about the ISO, its host and the token."""
    parser.add_argument(
        "--iso", type=Path, metavar="F", help="default: images/HOST-RELEASE-PORT.iso"
    )
    parser.add_argument("--name", help="name of the deployment (default: host.name)")
    host = parser.add_mutually_exclusive_group()
    host.add_argument("--url", metavar="URL", help="the ISO is hosted there already")
    host.add_argument(
        "--serve",
        metavar="HOST:PORT",
        help="serve it from this machine, which the provider reaches at HOST:PORT",
    )
    parser.add_argument(
        "--listen", metavar="ADDR:PORT", help="with --serve: listen there (default: HOST:PORT)"
    )
    parser.add_argument(
        "--s3-keys", type=Path, metavar="F", help="keys of the object store (default: AWS_...)"
    )
    parser.add_argument(
        "--allow-secrets", action="store_true", help="upload an ISO that holds its passphrase"
    )
    parser.add_argument(
        "--upload-limit",
        type=float,
        metavar="MIN",
        help="how long the provider may take to download the ISO (default: 120)",
    )
    add_token_option(parser)
    parser.add_argument(
        "--pause",
        type=float,
        default=None,
        metavar="S",
        help="longest pause between two looks (default: 20 s)",
    )


def add_token_option(parser: argparse.ArgumentParser) -> None:
    """`--token-file`: never the token itself."""
    parser.add_argument(
        "--token-file", type=Path, metavar="F", help="the token (default: VULTR_API_KEY, keyring)"
    )
