"""What is remembered between two runs: `deploy/NAME.json`, written whole after every step.

Before anything is created, the state says that it is about to be, and under which mark it can be
found again; after a kill at any moment the next run looks before it asks.  The file holds no
token and no console address; it is private all the same (an object store's upload, an unguessable
path).
"""

from __future__ import annotations

import contextlib
import datetime
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obsdimg.core.documents import from_json
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, read_file, write_file
from obsdimg.deploy.provider import DeployError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True)


class Thing(_Record):
    """Something at the provider: none; about to be made (`asked`); made (`id`); gone again."""

    asked: bool = False
    id: str | None = None
    gone: bool = False

    @property
    def lives(self) -> bool:
        """Whether it may exist: it was made or asked for, and is not gone."""
        return (self.asked or self.id is not None) and not self.gone


class StateEvent(_Record):
    """A step that was done, and when (UTC)."""

    at: str
    step: str


class State(_Record):
    """One deployment.  `mark` is in the names of everything it makes."""

    format: Literal[1] = 1
    name: str
    provider: str
    mark: str
    label: str
    kind: Literal["iso", "disk"] = "iso"
    """What the machine is made from: our ISO, or the image of a disk (`iso` then is it)."""
    iso_sha256: str
    iso_sha512: str
    iso_size: int
    """Bytes."""
    hosting: Literal["url", "s3", "serve", "direct"] | None = None
    host_url: str | None = None
    """Where the ISO is hosted, without any signature: a URL, or the store's."""
    host_path: str | None = None
    """serve: the unguessable part of the path."""
    object: Thing = Field(default_factory=Thing)
    """s3: the object; its `id` is the key."""
    isos_before: list[str] = []
    """ISOs of the account before ours was asked for."""
    iso: Thing = Field(default_factory=Thing)
    iso_verified: bool = False
    region: str = ""
    plan: str = ""
    firewall: Thing = Field(default_factory=Thing)
    network: Thing = Field(default_factory=Thing)
    network_given: str | None = None
    """A private network that was there before and stays."""
    instance: Thing = Field(default_factory=Thing)
    address: str | None = None
    call_at: str | None = None
    """Name or address at which the server is called, where that is not `address`."""
    installed: bool = False
    """The installation is over: a handshake, or the operator's word."""
    handshake_before: float | None = None
    """Seconds that the first handshake took; None: there was none."""
    detached: bool = False
    rebooted: bool | None = None
    """Whether the server was seen to go silent after the ISO was taken out."""
    handshake: float | None = None
    """Seconds that the last handshake took."""
    done: bool = False
    removing: bool = False
    """`destroy` has begun: there is no way but on."""
    events: list[StateEvent] = []

    @classmethod
    def begin(
        cls,
        name: str,
        provider: str,
        label: str,
        sha256: str,
        sha512: str,
        size: int,
        kind: Literal["iso", "disk"] = "iso",
    ) -> State:
        """A deployment of which nothing exists yet."""
        mark = f"obsdimg-{name[:24].rstrip('-')}-{secrets.token_hex(6)}"
        return cls(
            name=name, provider=provider, mark=mark, label=label,
            iso_sha256=sha256, iso_sha512=sha512, iso_size=size, kind=kind,
        )  # fmt: skip

    @property
    def empty(self) -> bool:
        """Nothing of it exists at the provider or at a host, as far as anybody knows."""
        things = (self.object, self.iso, self.firewall, self.network, self.instance)
        return not self.removing and not any(thing.lives for thing in things)

    @property
    def file_name(self) -> str:
        """Of the ISO where it is hosted: the provider shows it, and we find it by it."""
        return f"{self.mark}.{'iso' if self.kind == 'iso' else 'raw'}"

    @property
    def medium(self) -> str:
        """What the provider calls it."""
        if self.kind == "iso":
            return "ISO"
        return "volume" if self.provider == "libvirt" else "snapshot"

    @property
    def called(self) -> str | None:
        """The name or address at which the server is called; None: not known yet."""
        return self.call_at or self.address

    def note(self, step: str) -> None:
        """Remember that `step` was done now."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.events.append(StateEvent(at=now, step=step))


class Store:
    """The folder deploy/ of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The state file of deployment `name`.  Raises DeployError for a name that is none."""
        if not _NAME.fullmatch(name):
            raise DeployError(
                f"{name!r}: no name for a deployment", "lower-case letters, digits and dashes"
            )
        return self.folder / f"{name}.json"

    def names(self) -> list[str]:
        """The deployments that have a state file."""
        return sorted(p.stem for p in self.folder.glob("*.json") if _NAME.fullmatch(p.stem))

    def load(self, name: str) -> State | None:
        """The state of `name`; None: there is none.  Raises DeployError for a damaged file."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            return State.model_validate(from_json(read_file(path, "deployment's state")))
        except (ValueError, ValidationError) as error:
            raise DeployError(
                f"{path}: is damaged, or of another version of obsdimg",
                "see at the provider what exists; then move the file away",
            ) from error

    def save(self, state: State) -> None:
        """Write the file whole."""
        private_dir(self.folder)
        text = state.model_dump_json(indent=2) + "\n"
        write_file(self.path(state.name), text.encode())

    def forget(self, name: str) -> None:
        """Remove the file: nothing is left of this deployment."""
        self.path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def nothing_left(self, state: State) -> Iterator[None]:
        """Forget the deployment where what is done inside fails and leaves nothing of it."""
        try:
            yield
        except ObsdimgError:
            if state.empty:
                self.forget(state.name)
            raise

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other runs from the same deployment.  Raises DeployError: one is under way."""
        path = self.path(name)
        private_dir(self.folder)
        lock = FileLock(path.with_name(f".{name}.lock"), timeout=0, mode=0o600)
        try:
            lock.acquire()
        except Timeout as error:
            raise DeployError(
                f"{path}: another obsdimg works on this deployment", "wait until it is done"
            ) from error
        try:
            yield
        finally:
            lock.release()
