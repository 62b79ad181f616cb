"""Every secret of a project, and what is to be sealed with them, searched for in an ISO:
`inspect --secrets`, and tests.  Of a project with several servers those of all."""

from __future__ import annotations

from pathlib import Path

from obsdimg.config.load import parse_table, read_configuration
from obsdimg.config.servers import server_names
from obsdimg.config.types import DISABLED
from obsdimg.core.progress import Progress
from obsdimg.core.secret import Secret, check_private_folder, read_private
from obsdimg.image.inspection import Inspection, InspectionCheck
from obsdimg.image.secret_search import SecretSearch, search
from obsdimg.project.folder import Project, ProjectError
from obsdimg.site.plan import SEALED
from obsdimg.tunnel.keys import WgPrivateKey


def project_secrets(folder: Path, passphrase: Secret | None = None) -> dict[str, bytes]:
    """Every secret value below `folder` by file name, of all its servers where it has several; and
    the passphrase.

    Raises ProjectError where there is none.
    """
    stores = [
        s for s in (folder / "secrets", *sorted(folder.glob("servers/*/secrets"))) if s.is_dir()
    ]
    if not stores:
        raise ProjectError(
            f"{folder / 'secrets'}: there are no secrets here", "give the project's folder"
        )
    found: dict[str, bytes] = {}
    for store in stores:
        check_private_folder(store)
        for path in sorted(store.iterdir()):
            if path.suffix in (".key", ".psk", ".sec"):
                # Of a signify key the second line is the secret; the first is a comment.
                value = read_private(path, "key").strip().splitlines()[-1]
                found[str(path.relative_to(folder)).removeprefix("secrets/")] = value
    if passphrase is not None:
        found["passphrase"] = passphrase.reveal().encode()
    return found


def sealed_values(project: Project) -> dict[str, bytes]:
    """What an ISO with a sealed file does not say although it is no key: password hashes, ssh keys,
    public keys of server, peers and next server; by what they are.

    Names and addresses are sealed, too, but too short to be searched for in an ISO of any size.
    Nothing is made.  Raises SecretFileError, KeyTextError.
    """
    access, tunnel = project.config.access, project.config.tunnel
    found: dict[str, str] = {}
    if access.root_password != DISABLED:
        found["root's password hash"] = access.root_password
    for number, key in enumerate(access.root_keys, start=1):
        found[f"root's ssh key {number}"] = key.split()[1]
    if access.admin is not None:
        if access.admin.password != DISABLED:
            found["the administrator's password hash"] = access.admin.password
        for number, key in enumerate(access.admin.keys, start=1):
            found[f"the administrator's ssh key {number}"] = key.split()[1]
    if tunnel.upstream is not None and tunnel.upstream.public_key:
        found["the next server's public key"] = tunnel.upstream.public_key
    names = {f"{peer.name}.key": f"{peer.name}'s public key" for peer in tunnel.peers}
    for file, what in {"server.key": "the server's public key", **names}.items():
        places = (project.secrets / file, project.client_secrets / file)
        path = next((place for place in places if place.exists()), None)
        if path is not None:
            text = read_private(path, "key").decode("ascii", "replace")
            found[what] = WgPrivateKey.parse(text, f"secrets/{file}").public().text()
    given = {f"{p.name}'s public key": p.public_key for p in tunnel.peers if p.public_key}
    return {what: text.encode() for what, text in {**found, **given}.items()}


def _all_sealed_values(folder: Path) -> dict[str, bytes]:
    """Those of every server of the project in `folder`."""
    settings = folder / "obsdimg.toml"
    servers = server_names(parse_table(read_configuration(settings), str(settings)), str(settings))
    found: dict[str, bytes] = {}
    for server in servers or (None,):
        place = "" if server is None else f"{server}: "
        values = sealed_values(Project.open(settings, server))
        found |= {f"{place}{what}": value for what, value in values.items()}
    return found


def add_secret_check(
    found: Inspection, folder: Path, passphrase: Secret | None, progress: Progress
) -> SecretSearch:
    """Search the inspected ISO and add the verdict to its checks."""
    if folder.parent.name == "servers" and (folder.parent.parent / "obsdimg.toml").exists():
        folder = folder.parent.parent  # one server of several: what is secret is everywhere
    secrets = project_secrets(folder, passphrase)
    if any(entry["path"] == SEALED for entry in found.site_set):
        if (folder / "obsdimg.toml").exists():
            secrets |= _all_sealed_values(folder)
        else:
            detail = f"{folder}: no obsdimg.toml says what that is"
            found.checks.append(
                InspectionCheck("what is sealed is not in clear as well", None, detail)
            )
    with progress.step(f"Searching the ISO for {len(secrets)} secrets"):
        result = search(found.path, secrets)
    where = "; ".join(str(f) for f in result.findings[:5])
    passed = f"{len(secrets)} searched for in {result.streams} files, {result.size} bytes"
    found.checks.append(
        InspectionCheck(
            "no secret of the project is in the ISO", not result.findings, where or passed
        )
    )
    return result
