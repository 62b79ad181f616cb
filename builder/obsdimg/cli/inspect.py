"""`obsdimg inspect`: what is in an ISO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import WithConfig, argument, flag, option
from obsdimg.cli.passphrase import existing
from obsdimg.cli.servers import one_server, project_root
from obsdimg.cli.ui import Ui
from obsdimg.cli.which_iso import project_iso
from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.core.progress import Progress
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.download import DownloadError
from obsdimg.fetch.install_iso import OfflineError, obtain_iso
from obsdimg.image.comparison import (
    Comparison,
    against_manifest,
    against_upstream,
    image_key,
    standing,
)
from obsdimg.image.inspection import Inspection, InspectionCheck, extract, inspect
from obsdimg.image.project_secrets import add_secret_check
from obsdimg.iso import Iso
from obsdimg.iso.standin import is_stand_in
from obsdimg.releases.release import known_releases, load_release
from obsdimg.signify.message import SignifyPublicKey

PROMPT = "Passphrase to search for, too (Enter alone: none)"
LIMITS = ("min", "max", "conf_complete")
"""Lines of the encryption step's settings that are the same in every ISO."""


@dataclass(frozen=True, kw_only=True)
class Options(WithConfig):
    """What the command line says."""

    iso: Path | None = argument(
        metavar="ISO", nargs="?", type=Path, help="default: the ISO of the project"
    )
    json: bool = flag("--json", help="print as JSON")
    extract: Path | None = option(
        "--extract", type=Path, metavar="DIR", help="write what was put in to DIR"
    )
    manifest: Path | None = option(
        "--manifest", type=Path, metavar="F", help="what was built (default: ISO.json)"
    )
    upstream: Path | None = option(
        "--upstream", type=Path, metavar="F",
        help="compare with the ISO as OpenBSD made it (default without a manifest: the cache)",
    )  # fmt: skip
    secrets: Path | None = option(
        "--secrets", type=Path, metavar="PROJECT",
        help="search the ISO for every secret of the project in this folder",
    )  # fmt: skip
    passphrase_file: Path | None = option(
        "--passphrase-file", type=Path, metavar="F", help="with --secrets: search for it, too"
    )


def run(options: Options, ui: Ui) -> int:
    """1 when a check fails; what cannot be judged is said, and no failure."""
    progress = ui.progress()
    path = project_iso(options.iso, options)
    found = inspect(path, progress)
    folder = options.secrets or project_root(options)
    server = one_server(options)
    if options.secrets is not None and server and (folder / "servers" / server).is_dir():
        folder = folder / "servers" / server
    judge(found, image_key(folder), options.manifest, options.upstream, progress)
    leaked = False
    if options.secrets is not None:
        phrase = existing(options.passphrase_file, ui, PROMPT)
        leaked = bool(add_secret_check(found, options.secrets, phrase, progress).findings)
    if options.json:
        ui.json(found.as_dict())
    else:
        show(found, ui)
    if options.extract is not None:
        for written in extract(found, options.extract):
            ui.info(f"wrote {written}")
    if leaked:
        raise ObsdimgError(
            f"{path}: holds secrets of {options.secrets} in clear",
            "give it to nobody; the failed check above says where they are",
        )
    return 0 if found.passed else 1


def judge(
    found: Inspection,
    key: SignifyPublicKey | None,
    manifest: Path | None,
    upstream: Path | None,
    progress: Progress,
) -> None:
    """Hold the ISO against its manifest, else against the upstream ISO, and add what came out."""
    judged = standing(found.path, key, progress, manifest)
    passed = {"built": True, "matches": True, "changed": False, "unknown": None}[judged.state]
    found.sha256 = judged.sha256
    found.checks.append(InspectionCheck("the ISO is what its manifest says", passed, judged.detail))
    if judged.state == "matches":
        found.checks.append(InspectionCheck("the manifest is this project's", None, judged.detail))
    with Iso.open(found.path) as iso:
        results: list[Comparison] = []
        if judged.manifest is not None:
            site = {
                name.removeprefix("site"): data
                for name, data in found.extracts.items()
                if name.startswith("site/")
            }
            results += against_manifest(iso, judged.manifest, site if found.site_set else None)
        if upstream is None and judged.manifest is None:
            upstream = _cached(found.directory)
        if upstream is not None:
            results.append(_genuine(upstream, found.directory, progress))
            with Iso.open(upstream) as other:
                results += against_upstream(iso, other, progress)
        elif judged.manifest is None:
            name = "every file against the ISO as OpenBSD made it"
            results.append(Comparison(name, None, "neither a manifest nor --upstream is at hand"))
    found.checks += [InspectionCheck(r.name, r.passed, r.detail) for r in results]


def _genuine(upstream: Path, directory: str, progress: Progress) -> Comparison:
    """Whether OpenBSD vouches for what the ISO is compared with: a signed list beside it or in the
    cache, or the hash in the release file.  Nothing is fetched."""
    name = "the upstream ISO is OpenBSD's own"
    version, _, port = directory.strip("/").partition("/")
    if is_stand_in(upstream):
        return Comparison(name, None, "it is the stand-in medium")
    if version not in known_releases():
        return Comparison(name, None, f"OpenBSD {printable(version)[:20]} is not known")
    try:
        source = load_release(version).iso_source(port or "amd64")
        found = obtain_iso(
            source, cache=Cache.default(), iso=upstream, offline=True, progress=progress
        )
    except (OfflineError, DownloadError) as error:
        return Comparison(name, None, f"nobody vouches for it here: {error.message}")
    except ObsdimgError as error:
        return Comparison(name, False, error.message)
    return Comparison(name, True, found.evidence)


def _cached(directory: str) -> Path | None:
    """The upstream ISO of that release in the cache, if it is there: it was verified on its way."""
    version, _, port = directory.strip("/").partition("/")
    if version not in known_releases():
        return None
    name = load_release(version).port(port or "amd64").iso
    path = Cache.default().path(directory.strip("/"), name)
    return path if path.is_file() else None


def show(found: Inspection, ui: Ui) -> None:
    """The story of an ISO, top to bottom; whatever its names and files hold, a line is a line."""

    def say(text: str) -> None:
        ui.say(printable(text))

    say(f"{found.path}: {found.size} bytes, {found.volume_id!r}")
    if found.stand_in:
        say("Built on obsdimg's stand-in medium: it is not OpenBSD and installs nothing.")
    if found.support:
        say(found.support)
    say("Boot entries:")
    for entry in found.boot_entries:
        at = entry["file"] or f"sector {entry['lba']}"
        say(f"  {entry['platform']}, emulation {entry['media']}, {at}")
    say("/etc/boot.conf:")
    for line in found.boot_conf.splitlines():
        say(f"  {line}")
    say("Kernels with a ramdisk:")
    for kernel in found.kernels:
        form = "gzip, " if kernel["gzip"] else ""
        say(
            f"  {kernel['path']}: {form}{kernel['machine']}, ramdisk of {kernel['ramdisk_bytes']}"
            f" bytes found by {kernel['ramdisk_located_by']}, {kernel['ramdisk_free_bytes']} free"
        )
    if found.ramdisk_changes:
        say("The ramdisk that boots, against that of bsd.rd:")
        for change in found.ramdisk_changes:
            say(f"  {change['change']:8} {change['path']} ({change['size']} bytes)")
    if found.response:
        say("Response file:")
        for line in found.response:
            if line and not line.startswith("#"):
                say(f"  {line}")
    if found.hook:
        say("Encryption step:")
        say("  " + ", ".join(f"{k} = {v}" for k, v in found.hook.items() if v and k not in LIMITS))
    if found.sets:
        say("Sets:")
        for entry in found.sets:
            say(f"  {entry['state']:9} {entry['name']} ({entry['size']} bytes)")
    if found.site_set:
        say("Site set:")
        for entry in found.site_set:
            slash = "/" if entry["kind"] == "dir" else ""
            say(f"  {entry['mode']} {entry['path']}{slash}")
    if found.in_clear:
        say("Whoever has this ISO reads:")
        for line in found.in_clear:
            say(f"  {line}")
    say("Checks:")
    for check in found.checks:
        word = {True: "ok", False: "FAIL", None: "not checked"}[check.passed]
        say(f"  {word:11}  {check.name}" + (f": {check.detail}" if check.detail else ""))
