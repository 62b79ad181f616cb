"""Disk templates: what disklabel -T would refuse or misread is refused before the build."""

from __future__ import annotations

import pytest

from obsdimg.releases.release import load_release
from obsdimg.response.disklabel_template import DisklabelTemplateError, validate

GOOD = b"/ 300M-1G 5%\nswap 128M-512M 10%\n/usr\t1G-2G 60%\n/home 100M-* 25%\n"


def test_a_good_template_keeps_its_bytes_and_tells_its_size() -> None:
    template = validate(GOOD, where="disk.tmpl", release=load_release("6.6"))
    assert template.data == GOOD
    assert [e.mount_point for e in template.entries] == ["/", "swap", "/usr", "/home"]
    assert template.entries[3].max_kb is None
    assert template.entries[2].percent == 60
    assert template.min_kb == (300 + 128 + 1024 + 100) * 1024
    assert template.remarks == ()


@pytest.mark.parametrize(
    "line",
    [
        "/x 1G",
        "/x 1g-2G",
        "/x 1-2G",
        "/x 1.5G-2T 5%",
        "/x 512k-* 5",
        "/var/log 80M-1G 0%",
        "/x 1G ",
    ],
)
def test_lines_that_disklabel_reads_as_meant(line: str) -> None:
    validate(f"/ 1G\nswap 1G\n{line}\n".encode(), where="t", release=load_release("6.6"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "t:3: empty"),
        ("   ", "t:3: empty"),
        ("# comment", "t:3: a comment"),
        (" /x 1G", "t:3: begins with a blank"),
        ("/x 1G\r", "t:3: a carriage return"),
        ("/x", "t:3: 1 fields"),
        ("/x 1G 5% more", "t:3: 4 fields"),
        ("raid 1G", "t:3: raid: templates of 6.6 know no RAID partition"),
        ("RAID *", "t:3: RAID: templates of 6.6 know no RAID"),
        ("Swap 1G", "t:3: Swap: neither a path nor swap"),
        ("home 1G", "t:3: home: neither a path nor swap"),
        ("swap2 1G", "t:3: swap2: neither a path nor swap"),
        ("/x/ 1G", "t:3: /x/: not a plain path"),
        ("//x 1G", "t:3: //x: not a plain path"),
        ("/x 1", "t:3: 1: no unit"),
        ("/x 1-2", "t:3: 1-2: the maximum has no unit"),
        ("/x 1G-2", "t:3: 1G-2: the maximum has no unit"),
        ("/x 1G-", "t:3: 1G-: not a size"),
        ("/x 1GB", "t:3: 1GB: not a size"),
        ("/x 1e3M", "t:3: 1e3M: not a size"),
        ("/x *", "t:3: \\*: not a size"),
        ("/x 0M-1G", "t:3: 0M-1G: a minimum of nothing"),
        ("/x 2G-1G", "t:3: 2G-1G: the minimum is above the maximum"),
        ("/x 1G x%", "t:3: x%: not a percentage"),
        ("/x 1G 101%", "t:3: 101%: not a percentage"),
        ("/x 1G -5%", "t:3: -5%: not a percentage"),
        ("/ 1G", "t:3: / again \\(line 1\\)"),
        ("swap 1G", "t:3: swap again"),
        ("/x 1G 99%", "the percentages add up to 104%"),
        ("/x 1G é", "t:3: not ASCII"),
    ],
)
def test_a_mistake_is_named_with_its_line(line: str, message: str) -> None:
    with pytest.raises(DisklabelTemplateError, match=f"^{message}|: {message}"):
        validate(f"/ 1G 5%\nswap 1G\n{line}\n".encode(), where="t", release=load_release("6.6"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no newline"),
        ("/ 1G\nswap 1G", "no newline"),
        ("swap 1G\n/usr 1G\n", "no line for /"),
        ("/ 1G\n/usr 1G\n", "no line for swap"),
        ("swap 1G\n/ 1G\n", "t:2: / is not on the first line"),
        ("/ 1G\n/usr 1G\nswap 1G\n", "t:3: swap is not on the second line"),
        ("/ 1G\nswap 1G\n" + "".join(f"/p{i} 1M\n" for i in range(14)), "t:16: more than 15"),
    ],
)
def test_a_template_as_a_whole(text: str, message: str) -> None:
    with pytest.raises(DisklabelTemplateError, match=message):
        validate(text.encode(), where="t", release=load_release("6.6"))


def test_raid_and_star_are_known_from_7_3() -> None:
    text = b"/ 1G\nswap 1G\nRAID *\n"
    assert validate(text, where="t", release=load_release("7.3")).entries[2].max_kb is None
    with pytest.raises(DisklabelTemplateError):
        validate(text, where="t", release=load_release("7.2"))


def test_a_maximum_that_is_never_reached_is_remarked() -> None:
    template = validate(b"/ 1G-2G\nswap 1G\n/home 1G-*\n", where="t", release=load_release("6.6"))
    assert template.remarks == ("t:1: without a percentage / stays at MIN",)
