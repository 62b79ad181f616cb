"""How large a disk must be, and templates that no disk makes large enough."""

from __future__ import annotations

import pytest

from obsdimg.image.space import MB, TemplateTooSmallError, needed_mb
from obsdimg.releases.release import load_release
from obsdimg.response.disklabel_template import DisklabelTemplate, validate

SETS = {"base66.tgz": 700 * MB, "bsd": 16 * MB, "the site set": 4 * MB}
CONTENT = 720 * 9 / 8
"""MB in file systems."""


def template(text: str) -> DisklabelTemplate:
    return validate(text.encode(), where="t", release=load_release("6.6"))


def test_the_automatic_layout_wants_what_the_sets_want() -> None:
    assert needed_mb(SETS, None) == int(CONTENT + 200)


def test_from_a_certain_size_on_it_makes_partitions_of_its_own() -> None:
    large = {"base": 3000 * MB}
    assert needed_mb(large, None) > 3000 * 9 / 8 + 200


@pytest.mark.parametrize(
    ("text", "least"),
    [
        # One file system that takes all.
        ("/ 300M-* 100%\nswap 64M\n", CONTENT + 64),
        # So does the last line, with or without a percentage.
        ("/ 200M\nswap 64M\n/usr 100M-*\n", CONTENT + 64),
        # Its minimum is enough; the rest of the template has to be there all the same.
        ("/ 1G\nswap 64M\n/home 5G-* 10%\n", 1024 + 64 + 5 * 1024),
        # A tenth of what is left.
        ("/ 300M-* 10%\nswap 64M\n", 364 + (CONTENT - 300) * 10),
        # /usr has to hold most of it, and its own share decides.
        ("/ 1G\nswap 64M\n/usr 200M-* 5%\n/home 9M-*\n", 1297 + (CONTENT * 0.75 - 200) * 20),
        (
            "/ 500M\nswap 64M\n/usr 300M-1G 50%\n/usr/local 300M\n",
            1164 + (CONTENT * 0.75 - 600) * 2,
        ),
    ],
)
def test_a_template_needs_a_disk_on_which_it_holds_the_sets(text: str, least: float) -> None:
    least = max(least, CONTENT + 200)
    assert needed_mb(SETS, template(text)) == pytest.approx(least, abs=3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/ 100M\nswap 64M\n", "/ of the template: 100 MB at most, and 810 MB are needed"),
        # A line without a percentage stays at its minimum, whatever its maximum.
        ("/ 100M-*\nswap 64M\n", "/ of the template: 100 MB at most"),
        ("/ 100M-600M 90%\nswap 8G\n", "/ of the template: 600 MB at most"),
        ("/ 5G\nswap 64M\n/usr 500M\n", "/usr of the template: 500 MB at most, and 608 MB"),
        ("/ 5G\nswap 64M\n/usr 100M\n/usr/local 200M-400M 9%\n", "/usr, /usr/local of the"),
        ("/ 300M\nswap 64M\n/home 300M\n/usrlocal 9M\n", "/, /home, /usrlocal of the template"),
    ],
)
def test_one_that_never_holds_them_is_refused_with_both_numbers(text: str, says: str) -> None:
    with pytest.raises(TemplateTooSmallError) as caught:
        needed_mb(SETS, template(text))
    assert says in caught.value.message
    assert "sets.leave_out" in str(caught.value.hint)
