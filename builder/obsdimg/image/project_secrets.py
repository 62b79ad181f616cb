"""Every secret of a project, searched for in an ISO: `inspect --secrets`, and a test."""

from __future__ import annotations

from pathlib import Path

from obsdimg.core.progress import Progress
from obsdimg.core.secret import Secret, check_private_folder, read_private
from obsdimg.image.inspection import Inspection, InspectionCheck
from obsdimg.image.secret_search import SecretSearch, search
from obsdimg.project.folder import ProjectError


def project_secrets(folder: Path, passphrase: Secret | None = None) -> dict[str, bytes]:
    """Every secret value below `folder`/secrets, by file name, and the passphrase.

    Raises ProjectError where there is none.
    """
    store = folder / "secrets"
    if not store.is_dir():
        raise ProjectError(f"{store}: there are no secrets here", "give the project's folder")
    check_private_folder(store)
    found: dict[str, bytes] = {}
    for path in sorted(store.iterdir()):
        if path.suffix in (".key", ".psk", ".sec"):
            # Of a signify key the second line is the secret; the first is a comment.
            found[path.name] = read_private(path, "key").strip().splitlines()[-1]
    if passphrase is not None:
        found["passphrase"] = passphrase.reveal().encode()
    return found


def add_secret_check(
    found: Inspection, folder: Path, passphrase: Secret | None, progress: Progress
) -> SecretSearch:
    """Search the inspected ISO and add the verdict to its checks."""
    secrets = project_secrets(folder, passphrase)
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
