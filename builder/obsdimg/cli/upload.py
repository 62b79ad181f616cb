"""`obsdimg upload`: bring the ISO to the provider and compare checksums."""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.cli.hosting import WithHosting, hosting_choice
from obsdimg.cli.options import flag
from obsdimg.cli.servers import open_project
from obsdimg.cli.ui import Ui
from obsdimg.deploy import session
from obsdimg.deploy.image import check_image, load_image
from obsdimg.deploy.uploading import Upload
from obsdimg.image.comparison import image_key


@dataclass(frozen=True, kw_only=True)
class Options(WithHosting):
    """What the command line says."""

    json: bool = flag("--json", help="the result as JSON")


def run(options: Options, ui: Ui) -> int:
    """0 when the provider has the ISO, with our checksum.  Raises DeployError."""
    project = open_project(options)
    settings = project.config.deploy
    name = options.name or project.config.host.name
    store = session.store_of(project)
    project = session.at_region(project, store.load(name))
    progress = ui.progress()
    path = session.image_path(project, options.iso)
    # What the words and the files here say, before any credential is looked for.
    limits = session.waits(options.pause, options.upload_limit)
    session.hosting_of(project, hosting_choice(options), store.load(name))
    check_image(path, options.allow_secrets)
    with store.lock(name), session.open_provider(project, options.token_file) as provider:
        image = load_image(path, options.allow_secrets, progress, image_key(project.root))
        state = session.begin(project, store, name, settings.label or name, image)
        hosting = session.hosting_of(project, hosting_choice(options), state)
        state.region = session.region_of(project.config)
        with store.nothing_left(state):
            work = Upload(
                provider, store, state, limits=limits, progress=progress, say=ui.info
            )  # fmt: skip
            work.upload(image, hosting, settings.keep_object)
    if options.json:
        ui.json({"name": name, "iso": state.iso.id, "size": image.size, "sha512": image.sha512})
    else:
        ui.say(f"{image.path}: at {provider.name} as {state.iso.id}, size and sha512 agree")
        ui.next("deploy", *options.command_words())
    return 0
