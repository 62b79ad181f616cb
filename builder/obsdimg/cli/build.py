"""`obsdimg build`: the ISO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.built import report
from obsdimg.cli.options import WithConfig, flag, option, repeated
from obsdimg.cli.ui import Ui
from obsdimg.core import passphrase as phrases
from obsdimg.core.files import private_dir
from obsdimg.core.secret import Secret
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.install_iso import obtain_iso
from obsdimg.fetch.packages import obtain_packages
from obsdimg.image.inputs import read_inputs
from obsdimg.image.plan import BuildPlan, plan_build
from obsdimg.image.write import write
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.site.sealing import rounds_for


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    iso: Path | None = option(
        "--iso", type=Path, metavar="F", help="the install ISO, if you have it"
    )
    output: Path | None = option(
        "-o", "--output", type=Path, metavar="F", help="default: images/HOST-RELEASE-PORT.iso"
    )
    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="the passphrase; else it is asked for"
    )
    packages: Path | None = option(
        "--packages", type=Path, metavar="DIR", help="take packages from this folder alone"
    )
    mirror: tuple[str, ...] = repeated("--mirror", metavar="URL", help="try this mirror first")
    offline: bool = flag("--offline", help="use only what is in the cache")
    reverify: bool = flag("--reverify", help="hash the ISO again")
    unverified: bool = flag("--unverified", help="accept an ISO that nobody vouches for")
    weak_passphrase: bool = flag(
        "--weak-passphrase", help="take a passphrase that is guessed in less than a year"
    )
    rehearse: bool = flag("--rehearse", help="run the ISO's own installer here at the end")
    json: bool = flag("--json", help="print the manifest")


def run(options: Options, ui: Ui) -> int:
    project = Project.open(options.config)
    wanted = project.config.release
    release = load_release(wanted.version)
    port = release.port(wanted.port)
    progress = ui.progress()
    inputs = read_inputs(project, release, port, options.mirror)
    cache = Cache.default()
    if inputs.carries_packages:
        packages = obtain_packages(
            release.package_source(port.name, inputs.mirrors),
            inputs.package_stems,
            cache=cache,
            folder=options.packages,
            offline=options.offline,
            progress=progress,
        )
        inputs = inputs.with_packages(packages)
    plan = plan_build(inputs)
    output = options.output
    if output is None:
        private_dir(project.images)
        output = project.images / project.image_name()
    for text in plan.warnings:
        ui.warn(text)
    upstream = obtain_iso(
        release.iso_source(port.name, inputs.mirrors),
        cache=cache,
        iso=options.iso,
        offline=options.offline,
        unverified=options.unverified,
        reverify=options.reverify,
        progress=progress,
    )
    if options.unverified:
        ui.warn(f"{upstream.path}: NOT VERIFIED; the manifest says so too")
    passphrase = ask_passphrase(
        plan, options.passphrase_file, ui, weak_allowed=options.weak_passphrase
    )
    built = write(project, plan, upstream, output, passphrase, progress)
    if options.json:
        ui.json(built.manifest)
    else:
        report(built, ui)
        ui.info("next: obsdimg rehearse, obsdimg smoke; then upload it and boot it")
    if options.rehearse:
        from obsdimg.cli.rehearsing import rehearse_built

        return rehearse_built(built.iso, ui, passphrase)
    return 0


def ask_passphrase(
    plan: BuildPlan, file: Path | None, ui: Ui, *, weak_allowed: bool = False
) -> Secret | None:
    """The passphrase, if this plan needs one, with a word on its strength.

    Raises PassphraseError for one that is guessed in less than a year.
    """
    if not plan.needs_passphrase:
        return None
    secret = phrases.obtain(file, ui.ask_secret)
    rounds = rounds_for(plan.hook.rounds)
    found = phrases.strength(secret, rounds)
    for line in phrases.report(found, rounds):
        (ui.warn if found.weak else ui.info)(line)
    if found.weak and not weak_allowed:
        raise phrases.PassphraseError(
            "this passphrase is guessed in"
            f" {phrases.duration(found.rich_attacker_seconds)} by somebody who has the ISO",
            "use five or more random words; --weak-passphrase takes it all the same",
        )
    for line in phrases.typing_remarks(secret):
        ui.info(line)
    return secret
