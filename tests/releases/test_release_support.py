"""What is supported is computed from the days of the releases alone."""

from __future__ import annotations

import datetime

import pytest

from obsdimg.cli.main import main
from obsdimg.config.model import ReleaseSettings
from obsdimg.releases.support import newest, support

TODAY = datetime.date(2026, 11, 26)


@pytest.mark.parametrize(
    ("version", "ended", "announced"),
    [
        ("6.6", datetime.date(2020, 10, 18), False),
        ("7.7", datetime.date(2026, 5, 19), False),
        ("7.8", None, False),
        ("7.9", None, False),
        ("8.0", None, True),
    ],
)
def test_the_two_newest_that_are_out_are_supported(
    version: str, ended: datetime.date | None, announced: bool
) -> None:
    found = support(version, TODAY)
    assert (found.ended, found.announced) == (ended, announced)
    assert (found.sentence is None) == (version in ("7.8", "7.9"))


def test_support_ends_on_the_day_and_not_before() -> None:
    assert support("7.7", datetime.date(2026, 5, 18)).ended is None
    assert support("7.7", datetime.date(2026, 5, 19)).ended == datetime.date(2026, 5, 19)


def test_the_default_is_the_newest_release_that_is_out() -> None:
    assert ReleaseSettings().version == newest().version


def test_the_list_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6.6  2019-10-17  wireguard-go  no patches since 2020-10-18"
    assert lines[-1].endswith("announced")
