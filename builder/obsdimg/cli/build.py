"""`obsdimg build`: the ISO."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from obsdimg.cli.ui import Ui

if TYPE_CHECKING:
    from obsdimg.core.passphrase import Secret
    from obsdimg.image.build import Built, Plan

HELP = "build the ISO that installs the server by itself"


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli.main import add_config_option

    add_config_option(parser)
    parser.add_argument("--iso", type=Path, metavar="F", help="the install ISO, if you have it")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="F", help="default: images/HOST-RELEASE-PORT.iso"
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="F", help="the passphrase; else it is asked for"
    )
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="take packages from this folder alone"
    )
    parser.add_argument(
        "--mirror", action="append", default=[], metavar="URL", help="try this mirror first"
    )
    parser.add_argument("--offline", action="store_true", help="use only what is in the cache")
    parser.add_argument("--reverify", action="store_true", help="hash the ISO again")
    parser.add_argument(
        "--unverified", action="store_true", help="accept an ISO that nobody vouches for"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="run the ISO's own installer here at the end"
    )
    parser.add_argument("--json", action="store_true", help="print the manifest")


def run(args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg.core.files import private_dir
    from obsdimg.fetch.cache import Cache
    from obsdimg.fetch.install_iso import obtain_iso
    from obsdimg.fetch.packages import obtain_packages
    from obsdimg.image import build
    from obsdimg.project.folder import Project
    from obsdimg.releases.release import load_release
    from obsdimg.site.files import SiteFile
    from obsdimg.site.plan import PACKAGES

    project = Project.open(args.config)
    wanted = project.config.release
    release = load_release(wanted.version)
    port = release.port(wanted.port)
    progress = ui.progress()
    keys = project.keys()
    plan = build.plan(project, release, port, keys)
    output = args.output
    if output is None:
        private_dir(project.images)
        output = project.images / project.image_name()
    for text in plan.warnings:
        ui.warn(text)
    cache = Cache.default()
    mirrors = (*args.mirror, *wanted.mirrors, *(m.url for m in release.mirrors))
    source = release.iso_source(port.name)
    upstream = obtain_iso(
        source,
        cache=cache,
        iso=args.iso,
        offline=args.offline,
        mirrors=mirrors,
        unverified=args.unverified,
        reverify=args.reverify,
        progress=progress,
    )
    if args.unverified:
        ui.warn(f"{upstream.path}: NOT VERIFIED; the manifest says so too")
    if plan.packages and plan.carried:
        found = obtain_packages(
            release.package_source(port.name),
            plan.packages,
            cache=cache,
            folder=args.packages,
            offline=args.offline,
            mirrors=mirrors,
            progress=progress,
        )
        carried = [SiteFile(f"{PACKAGES}/{p.file_name}", p.data, 0o644, p.evidence) for p in found]
        plan = build.plan(project, release, port, keys, carried)
    passphrase = ask_passphrase(plan, args.passphrase_file, ui)
    built = build.write(project, release, port, keys, plan, upstream, output, passphrase, progress)
    if args.json:
        ui.json(built.manifest)
    else:
        report(built, ui)
    if args.rehearse:
        from obsdimg.cli.rehearse import rehearse_iso

        return rehearse_iso(built.iso, ui, passphrase)
    return 0


def ask_passphrase(plan: Plan, file: Path | None, ui: Ui) -> Secret | None:
    """The passphrase, if this plan needs one, with a word on its strength."""
    from obsdimg.core import passphrase as phrases
    from obsdimg.site.sealing import ITERATIONS

    if not plan.needs_passphrase:
        return None
    secret = phrases.obtain(file, ui.ask_secret)
    found = phrases.strength(secret, ITERATIONS)
    for line in phrases.report(found, ITERATIONS):
        (ui.warn if found.weak else ui.info)(line)
    for line in phrases.typing_remarks(secret):
        ui.info(line)
    return secret


def report(built: Built, ui: Ui) -> None:
    """Where things are, and what comes next."""
    ui.say(f"{built.iso}")
    ui.say(f"  {built.size} bytes, sha256 {built.sha256}")
    ui.say(f"  manifest {built.iso.name}.json, checksum {built.iso.name}.sha256")
    for path in built.clients:
        ui.say(f"  client {path}")
    ui.info("next: obsdimg rehearse, obsdimg smoke; then upload it and boot it")
