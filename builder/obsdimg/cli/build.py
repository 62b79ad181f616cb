"""`obsdimg build`: the ISO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as cache_result
from pathlib import Path

from obsdimg.cli.built import report, write_page
from obsdimg.cli.options import WithServers, flag, option, repeated
from obsdimg.cli.passphrase import find_passphrase
from obsdimg.cli.servers import open_project
from obsdimg.cli.standing_in import stand_in, verified_stand_in
from obsdimg.cli.ui import Ui
from obsdimg.core import passphrase as phrases
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import identity, private_dir
from obsdimg.core.secret import Secret
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.install_iso import obtain_iso
from obsdimg.fetch.packages import obtain_packages
from obsdimg.image.inputs import read_inputs
from obsdimg.image.medium import built_on_stand_in
from obsdimg.image.plan import BuildPlan, plan_build
from obsdimg.image.write import Built, write
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.site.ways import ways_in


class StandInError(ObsdimgError):
    """A trial would take the place of the real thing."""


@dataclass(frozen=True, kw_only=True)
class Options(WithServers):
    """What the command line says."""

    iso: Path | None = option(
        "--iso", type=Path, metavar="F", help="the install ISO, if you have it"
    )
    output: Path | None = option(
        "-o", "--output", type=Path, metavar="F", own=True,
        help="default: images/HOST-RELEASE-PORT.iso",
    )  # fmt: skip
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
    stand_in: bool = flag(
        "--stand-in",
        help="on the stand-in medium of `obsdimg demo`: nothing to download; the ISO can be"
        " inspected and rehearsed, and installs nothing",
    )
    weak_passphrase: bool = flag(
        "--weak-passphrase", help="take a passphrase that is guessed in less than a year"
    )
    rehearse: bool = flag("--rehearse", help="run the ISO's own installer here at the end")
    json: bool = flag("--json", help="print the manifest")


def run(options: Options, ui: Ui) -> int:
    project = open_project(options)
    wanted = project.config.release
    release = load_release(wanted.version)
    port = release.port(wanted.port)
    progress = ui.progress()
    if options.stand_in:
        return _on_stand_in(options, project, ui)
    if options.iso is not None:
        identity(options.iso)  # a wrong name, before packages and the passphrase
    output = _output(options, project)
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
    plan = plan_build(inputs, with_passphrase=phrases.is_given(options.passphrase_file))
    _forewarn(plan, ui)
    ask = _asked(options, plan, ui)
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
    built = write(project, plan, upstream, output, ask, progress)
    return _report(options, plan, built, ask, ui)


def _forewarn(plan: BuildPlan, ui: Ui) -> None:
    """The warnings, and how one gets into a server whose tunnel is dead, before it is one."""
    for text in plan.warnings:
        ui.warn(text)
    *_, last = ways_in(plan.inputs.config)
    ui.info(f"Ways in: {last}")


def _output(options: Options, project: Project) -> Path:
    """Where the ISO goes; the project's own folder for it is made."""
    if options.output is not None:
        return options.output.expanduser()
    private_dir(project.images)
    return project.images / project.image_name()


def _asked(options: Options, plan: BuildPlan, ui: Ui) -> Callable[[], Secret | None]:
    """Gives the passphrase; asks for it once, however often it is called."""
    find = find_passphrase(plan, options.passphrase_file, ui, weak_allowed=options.weak_passphrase)
    return cache_result(find)


def _on_stand_in(options: Options, project: Project, ui: Ui) -> int:
    """The same on the stand-in medium, without packages; a real ISO is never written over."""
    if options.iso or options.packages or options.unverified:
        raise UsageError(
            "--stand-in goes without --iso, --packages and --unverified", "leave them away"
        )
    output = _output(options, project)
    if output.is_file() and not built_on_stand_in(output):
        raise StandInError(
            f"{output}: is there already, and is no stand-in", "choose another file with -o"
        )
    packages = project.config.packages.model_copy(update={"carry": False})
    config = project.config.model_copy(update={"packages": packages})
    progress = ui.progress()
    with stand_in(config.release.version, progress) as (release, folder):
        port = release.port("amd64")
        inputs = read_inputs(Project(options.config, config, project.server), release, port)
        plan = plan_build(inputs, with_passphrase=phrases.is_given(options.passphrase_file))
        _forewarn(plan, ui)
        ui.warn("built on the stand-in medium: it shows everything, and installs nothing")
        ask = _asked(options, plan, ui)
        upstream = verified_stand_in(release, folder, folder / "cache", progress)
        built = write(project, plan, upstream, output, ask, progress)
    return _report(options, plan, built, ask, ui)


def _report(
    options: Options, plan: BuildPlan, built: Built, ask: Callable[[], Secret | None], ui: Ui
) -> int:
    """What was built, and what comes next; with --rehearse its rehearsal."""
    passed = True
    page = write_page(plan, built.iso)
    if options.json:
        ui.json(built.manifest)
    else:
        report(built, page, ui)
    if options.rehearse:
        from obsdimg.cli.rehearsing import rehearse
        from obsdimg.cli.rehearsing import report as report_rehearsal

        result = rehearse(built.iso, ui, ask())
        passed = result.passed
        if options.json:
            ui.info(f"rehearsed: {result.verdict.value}: {result.message}")
        else:
            report_rehearsal(result)
    elif not options.json:
        where = options.command_words()
        iso = [] if options.output is None else [str(built.iso)]
        ui.next("rehearse", *where, *iso)
        if not options.stand_in:
            ui.next("smoke", *where, *iso)
            ui.info("then upload it (obsdimg upload, or by hand) and boot it")
    return 0 if passed else 1
