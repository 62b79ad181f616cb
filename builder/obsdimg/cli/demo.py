"""`obsdimg demo`: the main job on a stand-in medium, with nothing to download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from obsdimg.cli.built import report, write_page
from obsdimg.cli.options import argument, flag
from obsdimg.cli.rehearsing import rehearse, why_not
from obsdimg.cli.rehearsing import report as report_rehearsal
from obsdimg.cli.standing_in import make_stand_in, verified_stand_in
from obsdimg.cli.ui import Ui
from obsdimg.config.document import commented
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, write_file
from obsdimg.core.secret import Secret
from obsdimg.image.inputs import read_inputs
from obsdimg.image.plan import plan_build
from obsdimg.image.write import write
from obsdimg.project.folder import Project
from obsdimg.site.sealing import PUBLIC_ROUNDS

PASSPHRASE = "demo passphrase of no value"  # noqa: S105

RELEASE = "6.6"
"""The stand-in medium is laid out like install66.iso."""

CONFIG = {
    "release": {"version": RELEASE},
    "host": {"name": "demo", "timezone": "UTC"},
    "tunnel": {
        "endpoint": "vpn.example.net",
        "peers": [
            {"name": "laptop", "ipv4": "10.0.0.2", "reach": ["172.16.1.0/24"]},
            {"name": "phone", "ipv4": "10.0.0.3"},
        ],
    },
    "network": {"interfaces": [{"name": "vio1", "ipv4": "172.16.1.3/24"}]},
    "packages": {"carry": False},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    folder: Path = argument(
        metavar="DIR",
        nargs="?",
        type=Path,
        default=Path("obsdimg-demo"),
        help="where to put the project (default: ./obsdimg-demo)",
    )
    verbose: bool = flag("--verbose", help="show the whole rehearsal")


def run(options: Options, ui: Ui) -> int:
    folder: Path = options.folder
    marker = folder / "DEMO"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ObsdimgError(f"{folder}: is not empty and no demo", "choose another folder")
    private_dir(folder)
    write_file(marker, b"Made by `obsdimg demo`; may be removed.\n", 0o644)
    progress = ui.progress()

    release = make_stand_in(folder / "upstream", RELEASE, progress)
    config = folder / "obsdimg.toml"
    write_file(config, commented(CONFIG).encode(), 0o644)
    project = Project.open(config)
    port = release.port("amd64")
    plan = replace(plan_build(read_inputs(project, release, port)), sealing_rounds=PUBLIC_ROUNDS)
    upstream = verified_stand_in(release, folder / "upstream", folder / "cache", progress)
    private_dir(project.images)
    output = project.images / project.image_name()
    secret = Secret(PASSPHRASE)
    built = write(project, plan, upstream, output, lambda: secret, progress)
    said, sealed = plan.response.simulation.answers, plan.site.sealed
    ui.say(f"{len(said)} questions of the installer are answered, {len(sealed)} files land on the")
    ui.say(f"server, all of them sealed with the passphrase: {PASSPHRASE}")
    report(built, write_page(plan, built.iso), ui)
    passed = _rehearse(output, secret, options, ui)
    ui.next("check", "-c", str(config))
    ui.next("inspect", "-c", str(config))
    return 0 if passed else 1


def _rehearse(iso: Path, secret: Secret, options: Options, ui: Ui) -> bool:
    """Play its installer here, if this system can; one line if it went well."""
    reason = why_not()
    if reason is not None:
        ui.info(f"no rehearsal on this system: {reason}")
        return True
    result = rehearse(iso, ui, secret)
    if options.verbose or not result.passed:
        report_rehearsal(result)
    else:
        ui.say(f"rehearsed: {result.message} (all of it: --verbose)")
    return result.passed
