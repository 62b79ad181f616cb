"""`obsdimg fetch`: ISO and packages, downloaded into the cache and verified."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obsdimg.cli.ui import Ui

if TYPE_CHECKING:
    from obsdimg.fetch.install_iso import UnverifiedIso, VerifiedIso
    from obsdimg.fetch.packages import VerifiedPackage
    from obsdimg.releases.release import Release

HELP = "download and verify ISO and packages into the cache (resumes, several mirrors)"


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli.main import add_config_option

    add_config_option(parser)
    parser.add_argument(
        "--release", metavar="N.N", help="fetch this release; no configuration is read"
    )
    parser.add_argument("--port", metavar="NAME", help="with --release (default: amd64)")
    parser.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="try this mirror first (the folder that holds 6.6/); may be repeated",
    )
    parser.add_argument("--iso", type=Path, metavar="F", help="verify this ISO, fetch no other")
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="take the packages from this folder"
    )
    parser.add_argument("--no-packages", action="store_true", help="only the ISO")
    parser.add_argument("--offline", action="store_true", help="only verify what is in the cache")
    parser.add_argument("--reverify", action="store_true", help="hash the ISO again")
    parser.add_argument(
        "--unverified", action="store_true", help="accept an ISO that nobody vouches for"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


@dataclass(frozen=True)
class _Wanted:
    """What to fetch, from the configuration or from `--release`."""

    release: Release
    port: str
    packages: tuple[str, ...]
    mirrors: tuple[str, ...]


def run(args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg.fetch.cache import Cache
    from obsdimg.fetch.install_iso import obtain_iso
    from obsdimg.fetch.packages import obtain_packages

    wanted = _wanted(args)
    cache, progress = Cache.default(), ui.progress()
    iso = obtain_iso(
        wanted.release.iso_source(wanted.port),
        cache=cache,
        iso=args.iso,
        offline=args.offline,
        mirrors=wanted.mirrors,
        unverified=args.unverified,
        reverify=args.reverify,
        progress=progress,
    )
    if iso.how == "unverified":
        ui.warn(f"{iso.path}: NOT VERIFIED, nobody vouches for it")
    packages: tuple[VerifiedPackage, ...] = ()
    if wanted.packages and not args.no_packages:
        packages = obtain_packages(
            wanted.release.package_source(wanted.port),
            wanted.packages,
            cache=cache,
            folder=args.packages,
            offline=args.offline,
            mirrors=wanted.mirrors,
            progress=progress,
        )
    if args.json:
        ui.json(as_json(wanted.release, wanted.port, iso, packages))
    else:
        show(iso, packages, ui)
    return 0


def as_json(
    release: Release,
    port: str,
    iso: VerifiedIso | UnverifiedIso,
    packages: tuple[VerifiedPackage, ...],
) -> dict[str, Any]:
    """The result as plain values."""
    return {
        "release": release.version,
        "port": port,
        "iso": {
            "path": str(iso.path),
            "size": iso.size,
            "sha256": iso.sha256,
            "verified": iso.how,
            "evidence": iso.evidence,
        },
        "packages": [
            {
                "name": package.name,
                "size": len(package.data),
                "sha256": package.sha256,
                "signed_on": package.signed_on,
                "key": str(package.key),
                "origin": package.origin,
            }
            for package in packages
        ],
    }


def show(iso: VerifiedIso | UnverifiedIso, packages: tuple[VerifiedPackage, ...], ui: Ui) -> None:
    """The same for people."""
    ui.say(f"{iso.path}")
    ui.say(f"  {iso.size} bytes, sha256 {iso.sha256}")
    ui.say(f"  {iso.how}: {iso.evidence}")
    for package in packages:
        ui.say(f"{package.file_name}")
        ui.say(f"  {len(package.data)} bytes, signed {package.signed_on} with {package.key}")


def _wanted(args: argparse.Namespace) -> _Wanted:
    from obsdimg.releases.release import load_release

    if args.release:
        release = load_release(args.release)
        port = args.port or "amd64"
        return _Wanted(release, port, release.wireguard.packages, tuple(args.mirror))
    from obsdimg.config import load

    config = load(args.config)
    release = load_release(config.release.version)
    names = (*release.wireguard.packages, *config.packages.names)
    mirrors = (*args.mirror, *config.release.mirrors)
    return _Wanted(release, args.port or config.release.port, names, mirrors)
