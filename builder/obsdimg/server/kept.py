"""The files on a running server that obsdimg keeps as the project says, and the project's memory
of that server: what was applied last, and what its disk looked like in clear at first sight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from obsdimg.core.documents import from_json
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import private_dir, read_file, write_file
from obsdimg.project.folder import Project, ProjectKeys
from obsdimg.releases.release import load_release
from obsdimg.site.overlay import read_overlay
from obsdimg.site.plan import Materials, plan_site
from obsdimg.site.tunnel import SERVER_KEY_MARK, TunnelPlan

MEMORY: Final = "known_server.json"
"""Beside `known_hosts`; holds hashes, and no secret."""
_KEY_FILES: Final = (
    "/etc/wireguard/server.conf",
    "/etc/hostname.wg0",
    "/etc/wireguard/upstream.conf",
    "/etc/hostname.wg1",
)
"""Files with the server's private key; the tunnel's own stands before that to the next server."""
_KEPT: Final = (
    "/etc/crontab",
    "/etc/doas.conf",
    "/etc/hostname.tun0",
    "/etc/hostname.tun1",
    "/etc/pf.conf",
    "/etc/rc.d/obsdimg_wg",
    "/etc/rc.d/obsdimg_wg_up",
    "/etc/wireguard/names",
    "/usr/local/sbin/obsdimg-audit",
    "/usr/local/sbin/obsdimg-outside6",
    "/usr/local/sbin/obsdimg-rescue",
    "/usr/local/sbin/obsdimg-tunnel",
    "/usr/local/sbin/obsdimg-upkeep",
    "/usr/local/sbin/obsdimg-watch",
)
"""Written at installation and by nobody else: not rc.conf.local, which rcctl(8) edits, and not
sysctl.conf, to which the installer adds a line for X."""


class MemoryFileError(ObsdimgError):
    """The project's memory of the server cannot be read."""


@dataclass(frozen=True)
class KeptFiles:
    """What the server should have.  Holds secrets; shows none."""

    files: Mapping[str, Entry] = field(repr=False)
    tunnel: TunnelPlan = field(repr=False)

    @property
    def key_files(self) -> tuple[str, ...]:
        """Those with the server's private key, the tunnel's own first."""
        return tuple(path for path in _KEY_FILES if path in self.files)

    def hashes(self) -> dict[str, str]:
        """SHA-256 by path; not of a file with a key that only the server knows."""
        return {
            path: digest(file.data)
            for path, file in self.files.items()
            if path not in _KEY_FILES or SERVER_KEY_MARK.encode() not in file.data
        }


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kept_files(project: Project, keys: ProjectKeys) -> KeptFiles:
    """The kept files of `project` with `keys`."""
    config = project.config
    release = load_release(config.release.version)
    overlay = read_overlay(project.overlay)
    plan = plan_site(config, release, keys, Materials(overlay=overlay))
    wanted = {*_KEPT, *_KEY_FILES}
    entries = [*plan.files, *plan.sealed.values()]
    found = {e.path: e for e in entries if e.kind == "file" and e.path in wanted}
    return KeptFiles(dict(sorted(found.items())), plan.tunnel)


@dataclass(frozen=True)
class ServerMemory:
    """What the project remembers of its server."""

    boot_area: str | None = None
    applied: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path, as obsdimg wrote the files last."""
    port: int | None = None
    """The UDP port at which the server was reached last: the project may have another already."""
    upgrading: str | None = None
    """The release into which the server was restarted; None: it is through with the last one."""
    booted: int | None = None
    """When it had been started before that, seconds since 1970."""

    @classmethod
    def load(cls, project: Project) -> ServerMemory:
        """The memory, empty at first.  Raises MemoryFileError."""
        path = project.root / MEMORY
        if not path.exists():
            return cls()
        try:
            said = from_json(read_file(path, "memory of the server"))
            applied = said.get("applied") or {}
            area = said.get("boot_area")
            port, booted = said.get("port"), said.get("booted")
            upgrading = said.get("upgrading")
            good = isinstance(applied, dict) and isinstance(area, str | None)
            good = good and isinstance(port, int | None) and isinstance(booted, int | None)
            good = good and isinstance(upgrading, str | None)
            if good and all(isinstance(v, str) for v in applied.values()):
                return cls(area, applied, port, upgrading, booted)
        except (ValueError, AttributeError):
            pass
        raise MemoryFileError(f"{path}: is damaged", "remove it; what it knew is learnt again")

    def save(self, project: Project) -> Path:
        """Write it; where."""
        path = project.root / MEMORY
        text = json.dumps({k: v for k, v in asdict(self).items() if v}, indent=2, sort_keys=True)
        private_dir(project.root)
        write_file(path, (text + "\n").encode())
        return path

    def with_boot_area(self, area: str) -> ServerMemory:
        return replace(self, boot_area=area)

    def with_applied(self, hashes: Mapping[str, str]) -> ServerMemory:
        return replace(self, applied={**self.applied, **hashes})

    def with_port(self, port: int) -> ServerMemory:
        return replace(self, port=port)

    def with_upgrade(self, target: str | None, booted: int | None = None) -> ServerMemory:
        return replace(self, upgrading=target, booted=booted)
