"""`obsdimg release`: what is known of each release; learn one that is newer than this tool."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obsdimg.cli.options import argument, flag, option, repeated
from obsdimg.cli.trial import InstallerTrial, try_installer
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import UsageError, printable
from obsdimg.core.files import private_dir, write_file
from obsdimg.core.scratch import run_folder, runtime_folder
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.install_iso import UnverifiedIso, obtain_iso
from obsdimg.releases import learn
from obsdimg.releases.release import (
    known_releases,
    load_release,
    read_release,
    release_files,
    user_folder,
)
from obsdimg.releases.support import newest, support


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    action: str = argument(
        metavar="{list,learn}", nargs="?", choices=("list", "learn"), default="list",
        help="list: every known release (default); learn: a newer one, from its ISO",
    )  # fmt: skip
    iso: Path | None = option(
        "--iso", type=Path, metavar="F",
        help="with learn: the new install ISO, with its SHA256.sig beside it",
    )  # fmt: skip
    before: Path | None = option(
        "--from", type=Path, metavar="F",
        help="with learn: the ISO of the release before it (default: cache or mirror)",
    )  # fmt: skip
    mirror: tuple[str, ...] = repeated(
        "--mirror", metavar="URL", help="with learn: try this mirror first"
    )
    offline: bool = flag("--offline", help="with learn: fetch nothing")
    json: bool = flag("--json", help="print as JSON")


def run(options: Options, ui: Ui) -> int:
    if options.action == "list":
        _list(options, ui)
        return 0
    return _learn(options, ui)


def _list(options: Options, ui: Ui) -> None:
    today = datetime.date.today()
    rows: list[dict[str, Any]] = []
    files = release_files()
    for version in known_releases():
        release, state = load_release(version), support(version, today)
        rows.append(
            {
                "version": version,
                "released": release.released,
                "supported": not state.announced and state.ended is None,
                "ended": state.ended,
                "newest": version == newest().version,
                "wireguard": release.wireguard.backend,
                "learned": release.learned,
                "file": str(files[version]),
            }
        )
    if options.json:
        ui.json(rows)
        return
    for row in rows:
        state = support(row["version"], today)
        if state.announced:
            text = "announced"
        elif state.ended is not None:
            text = f"no patches since {state.ended}"
        else:
            text = f"supported until {state.until}" + (", the newest" if row["newest"] else "")
        learned = f"; learnt: {row['file']}" if row["learned"] else ""
        day = row["released"] or ""
        ui.say(f"{row['version']}  {day!s:10}  {row['wireguard']:12}  {text}{learned}")


def _learn(options: Options, ui: Ui) -> int:
    if options.iso is None:
        raise UsageError("release learn: which ISO?", "give it with --iso install81.iso")
    iso, progress = options.iso.expanduser(), ui.progress()
    version = learn.announced_version(iso)
    if version in known_releases():
        raise learn.LearnError(
            f"OpenBSD {version} is known already ({release_files()[version]})",
            "set release.version to it and build",
        )
    earlier = learn.predecessor_of(version)
    if earlier not in known_releases():
        raise learn.LearnError(
            f"OpenBSD {version} can only be learnt from {earlier}, which is not known either",
            f"learn {earlier} first",
        )
    before = load_release(earlier)
    found = obtain_iso(
        before.iso_source("amd64", options.mirror), cache=Cache.default(), iso=options.before,
        offline=options.offline, progress=progress,
    )  # fmt: skip
    assert not isinstance(found, UnverifiedIso)  # only asked for with unverified=True
    digits = version.replace(".", "")
    keys = learn.successor_keys(found, before, digits, progress)
    verified = learn.verify(iso, keys["base"], digits, progress)
    port = learn.read_port(iso, version, before.port("amd64"))
    today = datetime.date.today()
    about = (version, before, port, keys, verified, today)
    with run_folder(runtime_folder()) as folder:
        draft = folder / f"{digits}.toml"
        write_file(draft, learn.release_file(*about))
        release = read_release(draft)
    tried = try_installer(iso, release, found.path, progress)
    proven, traps = _findings(tried, earlier, today)
    path = private_dir(user_folder()) / f"{digits}.toml"
    write_file(path, learn.release_file(*about, proven=proven, traps=traps))
    if tried.not_rehearsed is not None:
        ui.warn(
            f"its installer was not rehearsed ({tried.not_rehearsed}): rehearse an ISO on a system"
            " that can, before you trust it"
        )
    if options.json:
        about_it = {"version": version, "file": str(path), "base_key": keys["base"].base64}
        ui.json({**about_it, **tried.as_dict()})
        return 1 if tried.failed else 0
    ui.say(f"OpenBSD {version}: learnt from {earlier}, {path}")
    ui.say(f"  base key {keys['base'].base64}, from {before.port('amd64').iso}")
    ui.say(f"  {iso}: listed in SHA256.sig, which that key signed")
    ui.say(f"Its installer, compared with that of {earlier}, and rehearsed here:")
    for line in tried.lines() or ["  the same questions, in the same words"]:
        ui.say(printable(line))
    if tried.failed:
        raise learn.LearnError(
            f"OpenBSD {version}: its installer does not go through as that of {earlier} does"
            f" ({len(tried.failed)} of {len(tried.rehearsals)} rehearsals failed)",
            f"{path} stays: answer what is new with [[answers]] in obsdimg.toml and see that"
            " `obsdimg rehearse` passes, or take a newer obsdimg",
        )
    ui.info(f'for a project that is there: release.version = "{version}"')
    ui.next("init", f"vpn{digits}", "--release", version)
    return 0


def _findings(
    tried: InstallerTrial, earlier: str, today: datetime.date
) -> tuple[list[str], list[str]]:
    """What the release file says of the trial: what was run, and what bites."""
    traps = [f"Its installer asks in new words: {question.text}" for question in tried.new]
    traps += [
        f"Rehearsed on {today} ({machine}): {result.message}"
        for machine, result in tried.rehearsals
        if not result.passed
    ]
    good = [machine for machine, result in tried.rehearsals if result.passed]
    proven = [f"{today}, its installer's own script rehearsed as {earlier}'s: {'; '.join(good)}."]
    return proven if good else [], [printable(text) for text in traps]
