"""`obsdimg demo`: the main job on a stand-in medium, with nothing to download."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from obsdimg import standin
from obsdimg.cli.built import report
from obsdimg.cli.options import argument
from obsdimg.cli.rehearsing import rehearse_built, why_not
from obsdimg.cli.ui import Ui
from obsdimg.config.document import commented
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, write_file
from obsdimg.core.secret import Secret
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.install_iso import obtain_iso
from obsdimg.image.inputs import read_inputs
from obsdimg.image.plan import plan_build
from obsdimg.image.write import write
from obsdimg.project.folder import Project
from obsdimg.releases.release import Release, SourcedKey, load_release
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import sign_list

PASSPHRASE = "demo passphrase of no value"  # noqa: S105

CONFIG = {
    "release": {"version": "6.6"},  # the stand-in medium is laid out like install66.iso
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


def run(options: Options, ui: Ui) -> int:
    folder: Path = options.folder
    marker = folder / "DEMO"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ObsdimgError(f"{folder}: is not empty and no demo", "choose another folder")
    private_dir(folder)
    write_file(marker, b"Made by `obsdimg demo`; may be removed.\n", 0o644)
    progress = ui.progress()

    vendor = SignifySecretKey.generate("stand-in vendor secret key")
    medium = folder / "upstream" / "install66.iso"
    private_dir(medium.parent)
    with progress.step("Making the stand-in medium (it is not OpenBSD)"):
        standin.build_iso(medium, signify_key=vendor)
        listed = {medium.name: hashlib.sha256(medium.read_bytes()).hexdigest()}
        signed = sign_list(listed, vendor, "6.6").sha256_sig
        write_file(medium.parent / "SHA256.sig", signed, 0o644)

    config = folder / "obsdimg.toml"
    write_file(config, commented(CONFIG).encode(), 0o644)
    project = Project.open(config)
    release = standin_release(vendor)
    port = release.port("amd64")
    plan = plan_build(read_inputs(project, release, port))
    upstream = obtain_iso(
        release.iso_source(port.name),
        cache=Cache(folder / "cache"),
        iso=medium,
        offline=True,
        progress=progress,
    )
    private_dir(project.images)
    output = project.images / project.image_name()
    secret = Secret(PASSPHRASE)
    built = write(project, plan, upstream, output, secret, progress)
    ui.say(f"The {len(plan.response.simulation.answers)} questions of the installer are answered,")
    ui.say(f"{len(plan.site.files) + 1} files land on the server, {len(plan.site.sealed)} sealed.")
    report(built, ui)
    ui.say()
    ui.say(f"the passphrase of this demo: {PASSPHRASE}")
    of_it = f"-c {shlex.quote(str(config))}"
    ui.say(f"look into it: obsdimg inspect {of_it}")
    ui.say(f"what was asked and answered: obsdimg check {of_it}")
    reason = why_not()
    if reason is None:
        return rehearse_built(output, ui, secret)
    ui.info(f"no rehearsal on this system: {reason}")
    return 0


def standin_release(vendor: SignifySecretKey) -> Release:
    """6.6 as if `vendor` had signed it: no mirrors, no pinned hash."""
    genuine = load_release("6.6")
    public = vendor.public()
    key = SourcedKey(
        comment=public.comment, key=public.base64, source="made by this demo", checked=True
    )
    port = genuine.port("amd64").model_copy(update={"iso_hash": None})
    keys = genuine.keys.model_copy(update={"base": key})
    return genuine.model_copy(update={"keys": keys, "ports": (port,), "mirrors": ()})
