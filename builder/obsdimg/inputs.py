"""The inputs of a build, by release: where its packages come from.

Between the release files and the media room, which knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping

from obsdimg.config import Config
from obsdimg.media.cache import Cache
from obsdimg.progress import Progress
from obsdimg.release import Port, Release


def carried_packages(
    config: Config,
    release: Release,
    port: Port,
    *,
    cache: Cache,
    offline: bool,
    progress: Progress,
) -> Mapping[str, bytes]:
    """The packages that the site set carries, with their dependencies, verified; by file name."""
    stems = [*release.wireguard.packages, *config.packages.names]
    if not stems or not config.packages.carry:
        return {}
    from obsdimg.media.packages import obtain_packages

    return obtain_packages(release, port, stems, cache=cache, offline=offline, progress=progress)
