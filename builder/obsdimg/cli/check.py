"""`obsdimg check`: what the configuration means, before anything is built.

It writes nothing but the page that `--html` asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obsdimg.cli.options import WithServers, flag, option
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.core.entry import Entry
from obsdimg.core.files import write_file
from obsdimg.image.inputs import read_inputs
from obsdimg.image.plan import BuildPlan, plan_build
from obsdimg.overview.page import overview_page
from obsdimg.releases.release import load_release
from obsdimg.site.ways import ways_in


@dataclass(frozen=True, kw_only=True)
class Options(WithServers):
    """What the command line says."""

    json: bool = flag("--json", help="print as JSON")
    html: Path | None = option(
        "--html",
        type=Path,
        metavar="F",
        own=True,
        help="write one page with a drawing of the network, answers, files, and the pf rules"
        " explained",
    )


def run(options: Options, ui: Ui) -> int:
    project = open_project(options)
    wanted = project.config.release
    release = load_release(wanted.version)
    port = release.port(wanted.port)
    plan = plan_build(read_inputs(project, release, port, only_look=True))
    if options.html is not None:
        write_file(options.html, overview_page(plan))
        ui.info(f"wrote {options.html}")
    if options.json:
        ui.json(as_json(plan))
        return 0
    show(plan, release.version, ui)
    return 0


def as_json(plan: BuildPlan) -> dict[str, Any]:
    """Questions, files and warnings as plain values."""
    return {
        "questions": [
            {
                "question": a.question.text,
                "answer": a.shown,
                "from": _source(a.line.number if a.line else None),
            }
            for a in plan.response.simulation.answers
        ],
        "questions_elsewhere": [
            {
                "where": world,
                "question": a.question.text,
                "answer": a.shown,
                "from": _source(a.line.number if a.line else None),
            }
            for world, a in plan.response.elsewhere
        ],
        "site_set": [
            {"path": f.path, "kind": f.kind, "mode": f"{f.mode:04o}", "origin": f.origin}
            for f in sorted(plan.site.files, key=lambda f: f.path)
        ],
        "sealed": [
            {"path": path, "kind": f.kind, "mode": f"{f.mode:04o}", "origin": f.origin}
            for path, f in sorted(plan.site.sealed.items())
        ],
        "packages": list(plan.inputs.package_stems),
        "packages_carried": plan.inputs.config.packages.carry,
        "ways_in": list(ways_in(plan.inputs.config)),
        "warnings": list(plan.warnings),
    }


def show(plan: BuildPlan, version: str, ui: Ui) -> None:
    """The same for people."""
    ui.say(f"The installer of {version} will ask, and be answered:")
    for answered in plan.response.simulation.answers:
        line = answered.line
        source = _source(line.number if line else None)
        ui.say(f"  {answered.question.text}")
        ui.say(f"      {answered.shown}   [{source}]")
    if plan.response.elsewhere:
        ui.say("and only on some machines:")
    for world, answered in plan.response.elsewhere:
        line = answered.line
        ui.say(f"  {answered.question.text}   (where {world})")
        ui.say(f"      {answered.shown}   [{_source(line.number if line else None)}]")
    ui.say()
    ui.say("Files of the site set, which whoever has the ISO can read:")
    _show_files(plan.site.files, ui)
    ui.say("  0700 /install.site   [runs once, at the end of the installation]")
    if plan.site.sealed:
        ui.say()
        ui.say("Sealed with the passphrase, opened on the encrypted disk:")
        _show_files(plan.site.sealed.values(), ui)
    if stems := plan.inputs.package_stems:
        carried = plan.inputs.carries_packages
        how = "carried in the site set" if carried else "from a mirror, at the first boot"
        ui.say()
        ui.say(f"Packages ({how}): {', '.join(stems)} and what they need")
    ui.say()
    ui.say("Ways in:")
    for way in ways_in(plan.inputs.config):
        ui.say(f"  {way}")
    for text in plan.warnings:
        ui.warn(text)


def _show_files(files: Iterable[Entry], ui: Ui) -> None:
    for entry in sorted(files, key=lambda f: f.path):
        kind = {"dir": "/", "link": " -> " + entry.target}.get(entry.kind, "")
        ui.say(f"  {entry.mode:04o} {entry.path}{kind}   [{entry.origin}]")


def _source(number: int | None) -> str:
    if number is None:
        return "default"
    return "the encryption step" if number == 0 else f"install.conf:{number}"
