"""The plain partition that makes a BIOS machine's boot loader ask on com0."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.response.hook import HookError, HookSettings, Mode, conf, describe, parse_conf
from support.hook_bench import Bench

TWICE = "correct horse battery\ncorrect horse battery\n"
ON_COM0 = HookSettings(random_fill=False, loader_speed=115200)
UEFI = "OpenBSD 7.7 (RAMDISK_CD) #0: today\nefi0 at bios0: UEFI 2.7\n"
BOOT_CONF = "stty com0 115200\nset tty com0\nset device sr0a\nboot\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench.make(tmp_path)
    made.add_disk("sd0", 8)
    return made


def label(bench: Bench) -> list[tuple[str, ...]]:
    found = re.findall(r"(\w): +(\d+) +(\d+) +(\S+)", bench.text("state/sd0.label"))
    return sorted(found)


def test_a_plain_partition_with_boot_conf_comes_before_the_volume(bench: Bench) -> None:
    run = bench.run(ON_COM0, TWICE)
    assert run.code == 0, run.output
    # All of it, and the volume's metadata behind it, lie in the first MB, which is wiped before
    # each installation and searched for what is there.
    assert label(bench) == [("a", "960", "64", "4.2BSD"), ("d", "15361", "1024", "RAID")]
    assert bench.text("state/plain.boot.conf") == BOOT_CONF
    writes = [call.replace(str(bench.root), "") for call in run.writes]
    made, mounted = "newfs -q -O 1 -b 8192 -f 1024 /dev/rsd0a", "mount -t ffs /dev/sd0a /mnt2"
    assert writes.index("disklabel -E sd0") < writes.index(made) < writes.index(mounted)
    volume = next(n for n, call in enumerate(writes) if call.startswith("bioctl -v -C force"))
    assert writes.index(mounted) < volume and writes[volume].endswith("-s -l sd0d softraid0")
    assert "loader   asks on com0, as a small partition in clear tells it" in run.output
    assert "sd1 is the encrypted volume on sd0d" in run.output
    assert "Which disk is the root disk = sd1" in run.answers
    assert "correct horse" not in bench.text("state/plain.boot.conf")


def test_nothing_of_it_without_the_setting(bench: Bench) -> None:
    run = bench.run(replace(ON_COM0, loader_speed=None), TWICE)
    assert run.code == 0, run.output
    assert label(bench) == [("a", "16321", "64", "RAID")]
    assert not any(call.startswith("mount") for call in run.writes)
    assert "loader" not in run.output


def test_uefi_asks_where_the_firmware_has_its_console(bench: Bench) -> None:
    with (bench.root / "dmesg").open("a") as stream:
        stream.write(UEFI)
    run = bench.run(ON_COM0, TWICE)
    assert run.code == 0, run.output
    assert [(letter, kind) for letter, _, _, kind in label(bench)] == [
        ("a", "RAID"),
        ("i", "MSDOS"),
    ]
    assert not any(call.startswith("mount") for call in run.writes)
    assert "loader" not in run.output


def test_another_raid_partition_is_refused_before_anything_is_erased(bench: Bench) -> None:
    """The loader counts the volumes of all disks: sr0 might be the other one's."""
    bench.add_disk("sd3", 8)
    bench.state("sd3.label", "  a:  16321  64  RAID\n")
    settings = replace(ON_COM0, disk="sd0")
    run = bench.run(settings, TWICE)
    assert run.code == 1 and run.writes == []
    assert "STOPPED: sd3 holds a RAID partition, too" in run.output
    assert 'disk.loader = "firmware"' in run.output and "Nothing was changed" in run.output
    assert bench.run(replace(settings, loader_speed=None), TWICE).code == 0


def test_the_installed_disk_is_known_again(bench: Bench) -> None:
    assert bench.run(ON_COM0, TWICE).code == 0
    run = bench.run(ON_COM0, "yes\n")
    assert run.code == 1 and run.writes == []
    assert "label a: 4.2BSD" in run.output and "label d: RAID (an encrypted volume" in run.output
    again = bench.run(ON_COM0, "wipe sd0\n" + TWICE)
    assert again.code == 0, again.output
    assert label(bench)[-1][0] == "d"


@pytest.mark.parametrize(
    ("what", "said"),
    [("newfs", "newfs failed on sd0a"), ("mount", "sd0a cannot be mounted")],
)
def test_what_fails_is_said_with_its_reason(bench: Bench, what: str, said: str) -> None:
    bench.fail(what)
    run = bench.run(ON_COM0, TWICE)
    assert run.code == 1 and f"STOPPED: {said}:" in run.output
    assert "write error" in run.output or "Invalid argument" in run.output


def test_a_disk_that_no_passphrase_opens_needs_none() -> None:
    with pytest.raises(HookError, match="asks for no passphrase"):
        conf(HookSettings(mode=Mode.NONE, loader_speed=9600))
    assert parse_conf(conf(ON_COM0))["loader"] == "com0 115200"
    assert parse_conf(conf(HookSettings()))["loader"] == ""
    assert (
        describe(ON_COM0)["loader"] == "com0" and describe(HookSettings())["loader"] == "firmware"
    )
