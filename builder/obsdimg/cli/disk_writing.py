"""`obsdimg disk --write`: the image to the disk of a machine in a rescue system."""

from __future__ import annotations

import sys
from pathlib import Path

from obsdimg.cli.disk import Options
from obsdimg.cli.disk_wishes import DiskUsageError
from obsdimg.cli.guest import GIB, project_at
from obsdimg.cli.servers import project_root
from obsdimg.cli.ui import Ui
from obsdimg.disk.content import Form, open_image
from obsdimg.disk.manifest import DiskManifest, check_file, read_manifest, starts_by
from obsdimg.disk.target import DiskTarget, TargetFacts, ask, connected, refuse, refuse_cards
from obsdimg.disk.transfer import GAPS, Gaps, Writing, pieces_of
from obsdimg.image.comparison import image_key
from obsdimg.project.folder import Project


def write_there(options: Options, where: str, ui: Ui) -> int:
    """0 when the disk over there is the image's.  Nothing is changed there before it was agreed."""
    target = DiskTarget.parse(where, options.port, options.identity)
    project = project_at(options)
    image = _image(options, project)
    key = image_key(project_root(options))
    manifest, vouched = read_manifest(image, key)
    if image_form(image) == "qcow2":
        raise DiskUsageError(
            f"{image}: is QEMU's own form, which no disk has",
            f"make the disk with --format raw.zst, or: qemu-img convert -O raw {image.name} F.raw",
        )
    progress = ui.progress()
    check_file(image, manifest, progress)
    if not vouched:
        ui.warn(f"{image}: no project at hand to say that this is its disk")
    digest = manifest.image.disk_sha256
    gaps: Gaps = next(one for one in GAPS if one == options.gaps)
    with connected(target) as rescue:
        facts = ask(rescue)
        refuse(facts, target, manifest.image.disk_size)
        if manifest.network is not None and not options.other_network:
            names = [manifest.network.interface, *manifest.network.also]
            refuse_cards(facts, target, names)
        _agree(options, target, facts, manifest, gaps, ui)
        # It takes a minute: whoever is refused, or asked, does not wait for it.
        pieces = pieces_of(open_image(image), progress)
        done = Writing(rescue, open_image(image), pieces, gaps, progress).run()
    if options.json:
        ui.json({"target": str(target), "disk_sha256": digest, "gaps": gaps, **vars(done)})
        return 0
    if not done.sent:
        ui.say(f"{target}: had this disk already; nothing was written")
    else:
        ui.say(f"{target}: written and read back")
        ui.say(f"  {done.sent >> 20} MiB sent, {done.kept >> 20} MiB were there already,"
               f" {done.again} pieces written twice")  # fmt: skip
    count = manifest.image.disk_size >> 20
    if gaps == "zero":
        ui.say(f"  sha256 {digest}, the first {count} MiB of the disk")
    else:
        ui.say(f"  {done.verified >> 20} MiB compared; the rest: {gaps}")
    more = (f" -p {target.port}" if target.port else "") + (
        f" -i {target.identity}" if target.identity else ""
    )
    ui.info("then end the rescue mode at the provider, if it has one, then restart it:")
    ui.info(f"  ssh{more} {target.host} reboot")
    ui.info("its console asks for the passphrase: obsdimg unlock, or by hand; then obsdimg probe")
    return 0


def _image(options: Options, project: Project | None) -> Path:
    """The image that is named, or the project's, if there is just one."""
    if options.file is not None:
        if options.file.suffix == ".iso":
            raise DiskUsageError(
                f"{options.file}: is an ISO; a disk is written from an image",
                "obsdimg disk makes it from the ISO",
            )
        return options.file.expanduser()
    if project is None:
        raise DiskUsageError("which image?", "name the one that `obsdimg disk` made")
    stem = Path(project.image_name()).stem
    found = [
        path
        for path in sorted(project.images.glob(f"{stem}*.raw*"))
        if path.name.endswith((".raw", ".raw.zst"))
    ]
    if len(found) != 1:
        raise DiskUsageError(
            f"which image? {', '.join(p.name for p in found)}" if found
            else f"{project.images}: there is no image of a disk",
            "name it" if found else "`obsdimg disk` makes it",
        )  # fmt: skip
    return found[0]


def image_form(path: Path) -> Form:
    """The form of the image at `path`."""
    return open_image(path).form


def _agree(
    options: Options,
    target: DiskTarget,
    facts: TargetFacts,
    manifest: DiskManifest,
    gaps: Gaps,
    ui: Ui,
) -> None:
    """Show what will be erased, and ask for its name.  Raises DiskUsageError: no."""
    image = manifest.image
    show = ui.info if options.yes else ui.tell  # what a question is about, whatever --quiet says
    named = "" if facts.device == target.device else f" ({facts.device})"
    show(f"{target}{named}: {facts.title or 'no name'}, {facts.size / GIB:.1f} GiB")
    for name, size in facts.parts:
        show(f"  has {name}, {size / GIB:.1f} GiB")
    if not facts.parts:
        show("  has no partitions")
    show(f"the image: {image.name}, OpenBSD {manifest.release}, {image.disk_size / GIB:g} GiB,"
            f" {image.stored >> 20} MiB to be sent, for {manifest.firmware}")  # fmt: skip
    left = facts.size - image.disk_size
    if left >= GIB // 4:
        show(f"  {left / GIB:.1f} GiB at the end of the disk stay unused, with what is there")
    if not starts_by(manifest, "uefi" if facts.uefi else "bios"):
        ui.warn(
            f"the rescue system was started by {'UEFI' if facts.uefi else 'BIOS'}, and the image is"
            f" for {manifest.firmware}: does the machine start its disk that way?"
        )
    if gaps == "skip":
        ui.warn("what is on the disk now stays where the image has nothing (--gaps skip)")
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise DiskUsageError(
            f"{target}: would be erased, and nobody is there to agree", "--yes agrees beforehand"
        )
    typed = ui.ask(f"EVERYTHING on it will be erased. Type {target.device} to go on:")
    if typed != target.device:
        raise DiskUsageError(f"{typed!r} is not {target.device!r}: nothing was written")
