"""`obsdimg fetch`: ISO and packages, downloaded into the cache and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obsdimg.cli.options import WithConfig, flag, option, repeated
from obsdimg.cli.servers import one_server
from obsdimg.cli.ui import Ui
from obsdimg.config import load
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.install_iso import UnverifiedIso, VerifiedIso, obtain_iso
from obsdimg.fetch.packages import VerifiedPackage, obtain_packages
from obsdimg.releases.release import Release, load_release
from obsdimg.site.plan import package_stems


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    release: str | None = option(
        "--release", metavar="N.N", help="fetch this release; no configuration is read"
    )
    port: str | None = option("--port", metavar="NAME", help="with --release (default: amd64)")
    mirror: tuple[str, ...] = repeated(
        "--mirror",
        metavar="URL",
        help="try this mirror first (the folder that holds 6.6/); may be repeated",
    )
    iso: Path | None = option(
        "--iso", type=Path, metavar="F", help="verify this ISO, fetch no other"
    )
    packages: Path | None = option(
        "--packages", type=Path, metavar="DIR", help="take the packages from this folder"
    )
    no_packages: bool = flag("--no-packages", help="only the ISO")
    offline: bool = flag("--offline", help="only verify what is in the cache")
    reverify: bool = flag("--reverify", help="hash the ISO again")
    unverified: bool = flag("--unverified", help="accept an ISO that nobody vouches for")
    json: bool = flag("--json", help="print the result as JSON")


@dataclass(frozen=True)
class _Wanted:
    """What to fetch, from the configuration or from `--release`."""

    release: Release
    port: str
    packages: tuple[str, ...]
    mirrors: tuple[str, ...]


def run(options: Options, ui: Ui) -> int:
    wanted = _wanted(options)
    cache, progress = Cache.default(), ui.progress()
    iso = obtain_iso(
        wanted.release.iso_source(wanted.port, wanted.mirrors),
        cache=cache,
        iso=options.iso,
        offline=options.offline,
        unverified=options.unverified,
        reverify=options.reverify,
        progress=progress,
    )
    if iso.how == "unverified":
        ui.warn(f"{iso.path}: NOT VERIFIED, nobody vouches for it")
    packages: tuple[VerifiedPackage, ...] = ()
    if wanted.packages and not options.no_packages:
        packages = obtain_packages(
            wanted.release.package_source(wanted.port, wanted.mirrors),
            wanted.packages,
            cache=cache,
            folder=options.packages,
            offline=options.offline,
            progress=progress,
        )
    if options.json:
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


def _wanted(options: Options) -> _Wanted:
    if options.release:
        release = load_release(options.release)
        port = options.port or "amd64"
        return _Wanted(release, port, release.wireguard.packages, tuple(options.mirror))

    config = load(options.config, one_server(options))
    release = load_release(config.release.version)
    names = package_stems(config, release)
    mirrors = (*options.mirror, *config.release.mirrors)
    return _Wanted(release, options.port or config.release.port, names, mirrors)
