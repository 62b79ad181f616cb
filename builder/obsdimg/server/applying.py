"""Brings a change to the server, and proves that this host still comes in afterwards.

The server checks the change, makes it in memory, and takes it back by itself unless a
connection that was made after it confirms it: after a new handshake, through the new rules.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.core.process import ProcessError
from obsdimg.core.progress import Progress
from obsdimg.project.folder import Project, ProjectKeys
from obsdimg.server.access import ServerAccess, join_hub
from obsdimg.server.asking import ServerAskError, remote_script, run_script
from obsdimg.server.change import FOLDER, Change, change_archive, plan_change
from obsdimg.server.kept import KeptFiles, ServerMemory
from obsdimg.server.next_release import ReleaseFiles
from obsdimg.server.release_change import plan_release_change
from obsdimg.server.state import parse_state
from obsdimg.site.tunnel import TunnelPlan

FETCH_SECONDS: Final = 120.0
BEGIN_SECONDS: Final = 120.0
ACTIVATION_SECONDS: Final = 3.0
"""The server makes the change two seconds after it has said that it would."""
CONFIRM_SECONDS: Final = 60
FILE_BYTES: Final = 8 << 20


class ApplyError(ObsdimgError):
    """The change was refused, taken back, or what became of it is not known."""


@dataclass(frozen=True)
class ServerFiles:
    """What the server has now: its kept files, and the peers that run."""

    files: Mapping[str, bytes]
    running: tuple[str, ...]


def keys_to_apply(project: Project) -> ProjectKeys:
    """The project's keys; those of new peers are made, the server's own never.

    Raises MissingKeyError where the project has no key of its server: it was not built here.
    """
    return project.keys(make=(project.secrets / "server.key").exists() or _first_boot(project))


def _first_boot(project: Project) -> bool:
    return project.config.tunnel.keys == "first-boot"


def fetch_files(access: ServerAccess, paths: Iterable[str], tunnel: TunnelPlan) -> ServerFiles:
    """Files as they are on the server, and the peers that `tunnel`'s interface has.

    Raises ServerAskError, ApplyError.
    """
    script = remote_script(
        "wireguard.sh",
        "fetch.sh",
        interface=tunnel.interface,
        backend=tunnel.backend,
        files=" ".join(paths),
    )
    said = run_script(access, script, FETCH_SECONDS)
    if len(said) > FILE_BYTES:
        raise ApplyError(f"the server's files are larger than {FILE_BYTES} bytes", "look there")
    running = tuple(peer.public_key for peer in parse_state(said).peers or ())
    return ServerFiles(_unpacked(said.decode("ascii", "replace")), running)


def _unpacked(said: str) -> dict[str, bytes]:
    lines = said.splitlines()
    if "@@contents" not in lines or "@@end" not in lines:
        raise ApplyError("the server's files did not come whole", "try again")
    files: dict[str, bytes] = {}
    path, text = "", ""
    for line in [*lines[lines.index("@@contents") + 1 : lines.index("@@end")], "@ "]:
        if not line.startswith("@ "):
            text += line.strip()
            continue
        if path:
            try:
                files[path] = base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise ApplyError(f"{printable(path)}: did not come whole", "try again") from error
        words = line.split(" ")
        path, text = (words[1], "") if len(words) > 1 else ("", "")
    return files


def find_change(
    access: ServerAccess, keys: ProjectKeys, kept: KeptFiles, memory: ServerMemory
) -> Change:
    """What differs between server and project.  Raises ChangeError and what asking raises."""
    there = fetch_files(access, kept.files, kept.tunnel)
    names = {own.public.text(): name for name, own in keys.peers.items()}
    return plan_change(kept, there.files, names, memory.applied, there.running)


def find_release_change(
    access: ServerAccess, keys: ProjectKeys, files: ReleaseFiles, memory: ServerMemory
) -> tuple[Change, ReleaseFiles, tuple[str, ...]]:
    """What a server that runs the new release still lacks of it; `files` without those that
    somebody edited there, and their paths.  Raises ChangeError and what asking raises."""
    there = fetch_files(access, files.paths, files.before.tunnel)
    files, edited = files.untouched(there.files)
    names = {own.public.text(): name for name, own in keys.peers.items()}
    change = plan_release_change(files, there.files, names, memory.applied, there.running)
    return change, files, edited


def apply_change(
    before: ServerAccess,
    after: ServerAccess,
    change: Change,
    kept: KeptFiles,
    progress: Progress,
    seconds: int = CONFIRM_SECONDS,
) -> None:
    """Make `change`, come back, and confirm it.

    `before` and `after`: how this host reaches the server now and then; they differ where the
    change concerns its own keys or the port.  Raises ApplyError; the server is then as it was,
    or will be within `seconds`, unless the error says otherwise.
    """
    with progress.step(f"Changing {before.name}: checked there, then made in memory"):
        answer = _begin(before, change, kept, seconds)
    if answer == "busy":
        raise ApplyError(
            f"{before.name}: somebody else's change is under way", "try again in a minute or two"
        )
    if answer == "upgrading":
        raise ApplyError(
            f"{before.name}: the next release is being fetched there",
            "when that has ended: obsdimg upgrade goes on with it",
        )
    if answer.startswith("refused"):
        what, _, why = answer.removeprefix("refused ").partition(": ")
        raise ApplyError(
            f"{before.name}: refused there, nothing has changed: {what}: {_readable(why)}",
            "is its disk full?  obsdimg ssh df -h"
            if what == "room"
            else "mend the configuration; `obsdimg check` shows every file",
        )
    started = time.monotonic()
    with progress.step(f"Coming back to {after.name} through the tunnel, to confirm"):
        said = _confirm(before, after, started + seconds)
    if said == "applied":
        return
    if said.startswith("refused"):
        raise ApplyError(
            f"{after.name}: refused there, and taken back: {_readable(said[8:])}",
            "look there: obsdimg ssh 'grep obsdimg-apply /var/log/daemon'",
        )
    raise ApplyError(
        f"{after.name}: {_readable(said) or 'what became of the change is not known'}",
        "look there: obsdimg ssh 'grep obsdimg-apply /var/log/daemon'",
    )


def _readable(why: str) -> str:
    return printable(why.replace(f"{FOLDER}/new", "").strip())[:300]


def _begin(access: ServerAccess, change: Change, kept: KeptFiles, seconds: int) -> str:
    """Send it; what the server says: checked, busy, refused …, or nothing."""
    archive = base64.encodebytes(change_archive(change, kept, seconds)).decode()
    script = remote_script("working.sh", "begin.sh", dir=FOLDER, archive=archive.rstrip("\n"))
    try:
        return _answer(run_script(access, script, BEGIN_SECONDS))
    except (ServerAskError, ProcessError):
        # It may have begun all the same; coming back tells.
        return ""


def _answer(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("@ ")]
    return lines[-1][2:].strip() if lines else ""


def _confirm(before: ServerAccess, after: ServerAccess, deadline: float) -> str:
    """Over a new session and a new connection; tried until `deadline`."""
    last: ObsdimgError | None = None
    time.sleep(ACTIVATION_SECONDS)
    while (left := deadline - time.monotonic()) > 0:
        try:
            with join_hub(after, min(left, 20)) as hub:
                if after.hub() == before.hub():
                    hub.renew(min(left, 20))
                script = remote_script("confirm.sh", dir=FOLDER)
                answer = _answer(run_script(replace(after, via=hub.path), script, 40))
            if answer != "not yet":
                return answer
            time.sleep(1)
        except ObsdimgError as error:
            last = error
            time.sleep(1)
    why = f": {last.message}" if last is not None else ""
    raise ApplyError(
        f"{after.name}: this host did not come back through the tunnel{why}",
        "the server takes the change back by itself; wait a minute, then look with obsdimg status",
    )


def remember(access: ServerAccess, kept: KeptFiles, memory: ServerMemory) -> ServerMemory:
    """Note what the server has now, as obsdimg left it."""
    memory = memory.with_applied(kept.hashes()).with_port(access.endpoint.port)
    memory.save(access.project)
    return memory
