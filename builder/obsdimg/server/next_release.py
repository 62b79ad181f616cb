"""The release after a server's own, and what of its site set is different there.

sysupgrade(8) goes one release at a time.  What obsdimg put on the server stays through it; where
the new release wants other files (siteXX/files.toml), `apply` has the way to bring them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.project.folder import Project, ProjectKeys
from obsdimg.releases.release import Release, known_releases, load_release
from obsdimg.releases.support import newest
from obsdimg.server.kept import KeptFiles, kept_files
from obsdimg.site.overlay import read_overlay
from obsdimg.site.plan import FIRST, PACKAGES, STEPS, Materials, plan_site

_ONCE = (FIRST, STEPS, "/install.site", "/usr/local/sbin/obsdimg-firsttime")
"""What is for the installation and the first boot only."""
RESOLV = "/etc/resolv.conf"


class NextReleaseError(ObsdimgError):
    """There is no release to go to, or obsdimg does not know it."""


def is_version(text: str) -> bool:
    """Whether it is a release as `uname -r` says it."""
    return re.fullmatch(r"[1-9][0-9]?\.[0-9]", text) is not None


def next_version(version: str) -> str:
    """The release after `version`: `6.9` is followed by `7.0`, as sysupgrade(8) counts."""
    major, minor = divmod(int(version.replace(".", "")) + 1, 10)
    return f"{major}.{minor}"


def previous_version(version: str) -> str:
    """The release before `version`."""
    major, minor = divmod(int(version.replace(".", "")) - 1, 10)
    return f"{major}.{minor}"


def next_release(version: str) -> Release:
    """The release after `version`.  Raises NextReleaseError where it is not out or not known."""
    target = next_version(version)
    if target in known_releases():
        release = load_release(target)
        if release.released is not None or release.learned is not None:
            return release
    latest = newest().version
    digits = target.replace(".", "")
    raise NextReleaseError(
        f"OpenBSD {version}: this version of obsdimg knows no release {target} that is out"
        f" (the newest it knows is {latest})",
        f"if {target} is out: obsdimg release learn --iso install{digits}.iso, or a newer obsdimg",
    )


def with_release(project: Project, version: str) -> Project:
    """The same project with its server at `version`."""
    config = project.config
    release = config.release.model_copy(update={"version": version})
    return Project(
        project.config_path, config.model_copy(update={"release": release}), project.server
    )


@dataclass(frozen=True)
class ReleaseFiles:
    """What the server has at the old release, and what it wants at the new one.  Holds secrets."""

    before: KeptFiles = field(repr=False)
    after: KeptFiles = field(repr=False)
    """With the files beyond those that `apply` keeps, where they differ between the two."""
    old: Mapping[str, Entry] = field(repr=False)
    """Those further files as the old release has them."""

    @property
    def gone(self) -> tuple[str, ...]:
        """Paths that the new release does not have any more."""
        there = {*self.before.files, *self.old}
        return tuple(sorted(there - self.after.files.keys()))

    @property
    def paths(self) -> tuple[str, ...]:
        """Everything that is to be looked at."""
        return tuple(sorted({*self.before.files, *self.after.files, *self.old}))

    @property
    def switches(self) -> bool:
        """Whether WireGuard moves into the kernel (6.8)."""
        return self.before.tunnel.backend != self.after.tunnel.backend

    @property
    def same(self) -> bool:
        """Whether the new release wants nothing else."""
        return self.paths == tuple(sorted(self.before.files)) and all(
            self.before.files[path].data == file.data for path, file in self.after.files.items()
        )

    def in_words(self) -> str:
        """What is brought after the upgrade; "" where nothing is."""
        known = {**self.before.files, **self.old}
        fresh = [path for path in self.after.files if path not in known]
        changed = [
            path
            for path, file in self.after.files.items()
            if path in known and known[path].data != file.data
        ]
        parts = (("changed", changed), ("new", fresh), ("gone", self.gone))
        return "; ".join(f"{word} {', '.join(paths)}" for word, paths in parts if paths)

    def untouched(self, actual: Mapping[str, bytes]) -> tuple[ReleaseFiles, tuple[str, ...]]:
        """Without those further files that are not as the old release has them, and their paths:
        rcctl(8) and people edit them."""
        edited = tuple(
            path
            for path, file in self.old.items()
            if path in actual
            and actual[path] != file.data
            and not (path in self.after.files and actual[path] == self.after.files[path].data)
        )
        if not edited:
            return self, ()
        files = {p: f for p, f in self.after.files.items() if p not in edited}
        old = {p: f for p, f in self.old.items() if p not in edited}
        return replace(self, after=replace(self.after, files=files), old=old), edited


def release_files(project: Project, keys: ProjectKeys, old: str, new: str) -> ReleaseFiles:
    """What differs for the server of `project` between the releases `old` and `new`."""
    first, second = with_release(project, old), with_release(project, new)
    before, after = kept_files(first, keys), kept_files(second, keys)
    further_old = _further(first, keys, before)
    further_new = _further(second, keys, after)
    differing = {
        path
        for path in {*further_old, *further_new}
        if path not in further_old
        or path not in further_new
        or further_old[path].data != further_new[path].data
    }
    files = {**after.files, **{p: further_new[p] for p in differing if p in further_new}}
    if _resolvd_off(further_new) and not _resolvd_off(further_old):
        files[RESOLV] = _resolv(second)
    return ReleaseFiles(
        before,
        replace(after, files=dict(sorted(files.items()))),
        {path: further_old[path] for path in sorted(differing) if path in further_old},
    )


def _further(project: Project, keys: ProjectKeys, kept: KeptFiles) -> dict[str, Entry]:
    """The files of the site set that `apply` does not keep."""
    release = load_release(project.config.release.version)
    plan = plan_site(
        project.config, release, keys, Materials(overlay=read_overlay(project.overlay))
    )
    found = {e.path: e for e in [*plan.files, *plan.sealed.values()] if e.kind == "file"}
    return {
        path: entry
        for path, entry in found.items()
        if path not in kept.files and path not in _ONCE and not path.startswith(f"{PACKAGES}/")
    }


def _resolvd_off(files: Mapping[str, Entry]) -> bool:
    entry = files.get("/etc/rc.conf.local")
    return entry is not None and b"resolvd_flags=NO" in entry.data


def _resolv(project: Project) -> Entry:
    """The resolvers of the project, as install.site writes them."""
    lines = [f"nameserver {address}\n" for address in project.config.network.dns]
    text = "".join(lines) + "lookup file bind\n"
    return Entry(RESOLV, text.encode(), 0o644, "siteXX/common/install.site.d/05-network.j2")
