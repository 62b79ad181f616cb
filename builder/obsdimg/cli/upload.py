"""`obsdimg upload`: bring the ISO to the provider and compare checksums."""

from __future__ import annotations

import argparse

from obsdimg.cli.ui import Ui

HELP = "bring the ISO to the provider, who downloads it from a URL, a store or this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    from obsdimg.cli.hosting_options import add_hosting_options
    from obsdimg.cli.main import add_config_option

    add_config_option(parser)
    add_hosting_options(parser)
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(args: argparse.Namespace, ui: Ui) -> int:
    """0 when the provider has the ISO, with our checksum.  Raises DeployError."""
    from obsdimg.deploy import session
    from obsdimg.deploy.image import load_image
    from obsdimg.deploy.uploading import Upload
    from obsdimg.project.folder import Project

    project = Project.open(args.config)
    settings = project.config.deploy
    name = args.name or project.config.host.name
    store = session.store_of(project)
    progress = ui.progress()
    with store.lock(name), session.open_provider(project, args.token_file) as provider:
        path = session.image_path(project, args.iso)
        image = load_image(path, args.allow_secrets, progress)
        state = session.begin(project, store, name, settings.label or name, image)
        hosting = session.hosting_of(project, args, state)
        work = Upload(
            provider, store, state,
            limits=session.limits_of(args), progress=progress, say=ui.info,
        )  # fmt: skip
        work.upload(image, hosting, settings.keep_object)
    if args.json:
        ui.json({"name": name, "iso": state.iso.id, "size": image.size, "sha512": image.sha512})
    else:
        ui.say(f"{image.path}: at {provider.name} as {state.iso.id}, size and sha512 agree")
        ui.info("next: obsdimg deploy")
    return 0
