"""How long a release is looked after: the two newest are (openbsd.org/faq/faq5.html).

A release's support ends on the day on which the second release after it comes out, so nothing
but the days of the releases has to be known.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from obsdimg.releases.release import Release, known_releases, load_release


@dataclass(frozen=True)
class Support:
    """What is known of a release's support on a given day."""

    version: str
    announced: bool
    """It is not out yet, as far as this version of obsdimg knows."""
    ended: datetime.date | None
    """The day on which its support ended; None: it is supported, or not out."""
    until: str
    """What ends it: `the release of 8.1`."""

    @property
    def sentence(self) -> str | None:
        """What a user should know, in one line; None where all is well."""
        if self.announced:
            return f"OpenBSD {self.version} is announced; its release file may still change"
        if self.ended is not None:
            return (
                f"OpenBSD {self.version} gets no patches since {self.ended}:"
                f" the newest release is {newest().version}"
            )
        return None


def newest() -> Release:
    """The newest release that is out."""
    newest_first = map(load_release, reversed(known_releases()))
    return next(release for release in newest_first if release.released is not None)


def support(version: str, today: datetime.date) -> Support:
    """The support of `version` as of `today`.  Raises ReleaseError for an unknown release."""
    known = known_releases()
    release = load_release(version)
    second = known[known.index(version) + 2 :][:1]
    ended = load_release(second[0]).released if second else None
    major, minor = release.number
    after = divmod(major * 10 + minor + 2, 10)
    return Support(
        version=version,
        announced=release.released is None or release.released > today,
        ended=ended if ended is not None and ended <= today else None,
        until=f"the release of {after[0]}.{after[1]}",
    )
