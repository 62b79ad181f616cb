"""The ramdisk hook by itself: what it says, what it does to which disk, and what it leaves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from obsdimg.response.hook import After, HookSettings, Mode
from support.hook_bench import Bench, random_data, shell

PASS = r"correct horse \n $HOME `x` 'q\"  battery"
TWICE = f"{PASS}\n{PASS}\n"
DEFAULT = HookSettings(random_fill=False)
RAID_LABEL = "  a:            16321               64    RAID                    \n"
FFS_LABEL = "  a:            16321               64  4.2BSD   2048 16384 12958 \n"
OPENBSD_MBR = (
    "Offset: 0\tSignature: 0xAA55\n"
    " 0: 00      0   0   0 -      0   0   0 [           0:           0 ] unused      \n"
    "*3: A6      0   1   2 -    521 254  63 [          64:     8385866 ] OpenBSD     \n"
)
GPT = (
    "Usable LBA: 34 to 8388574 [8388608 Sectors]\n"
    "   #: type                                 [       start:         size ]\n"
    "   0: EFI Sys                              [          64:          960 ]\n"
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench.make(tmp_path)
    made.add_disk("sd0", 8)
    return made


def test_a_blank_disk_becomes_an_encrypted_volume_and_the_root_disk(bench: Bench) -> None:
    run = bench.run(DEFAULT, TWICE)
    assert run.code == 0, run.output
    assert "INNER CONTINUES" in run.output
    assert run.answers[-3] == "Which disk is the root disk = sd1"
    assert run.writes == [
        "dd if=/dev/zero of=/dev/rsd0c bs=1m seek=0 count=1",
        "fdisk -iy sd0",
        "disklabel -E sd0",
        "bioctl -v -C force -c C -r auto -s -l sd0a softraid0",
        "dd if=/dev/zero of=/dev/rsd1c bs=1m seek=0 count=1",
        "newfs sd0",
    ]
    assert bench.text("stdin.disklabel") == "a a\n\n\nRAID\nw\nq\n\n"
    assert bench.text("stdin.bioctl") == TWICE


def test_the_outer_process_changes_nothing(bench: Bench) -> None:
    (bench.root / "only-outer").touch()
    run = bench.run(DEFAULT, TWICE)
    assert "OUTER CONTINUES" in run.output
    assert run.writes == []


def test_the_passphrase_is_never_an_argument_and_reaches_install_site_only(bench: Bench) -> None:
    run = bench.run(DEFAULT, TWICE)
    assert not [call for call in run.journal if "horse" in call]
    assert PASS not in run.output
    assert bench.text("bioctl.environment") == "unset\n"
    assert bench.text("newfs.environment") == "unset\n"
    assert bench.text("chroot.environment").splitlines() == [
        f"/install.site {PASS}",
        "/bin/true unset",
    ]
    left = [p for p in bench.root.rglob("*") if p.is_file() and p.name not in KNOWN_HOLDERS]
    assert not [p for p in left if b"horse" in p.read_bytes()]


KNOWN_HOLDERS = {"stdin.bioctl", "exported", "chroot.environment"}


def test_echo_is_off_while_the_passphrase_is_typed_and_on_afterwards(bench: Bench) -> None:
    run = bench.run(DEFAULT, TWICE)
    assert [c for c in run.journal if c.startswith("stty")] == ["stty -echo", "stty echo"]


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        ("\n", "Empty."),
        ("short\n", "Shorter than 8"),
        ("x" * 256 + "\n", "Longer than 255"),
        ("  padded passphrase\n", "Begins or ends with a blank"),
        ("padded passphrase \n", "Begins or ends with a blank"),
        ("pässphräse\n", "cannot read"),
        ("tab\tinside it\n", "cannot read"),
        (f"{PASS}\n{PASS}x\n", "The two differ"),
        (f"{PASS}\n\n", "The two differ"),
    ],
)
def test_a_passphrase_that_cannot_be_used_is_asked_for_again(
    bench: Bench, first: str, complaint: str
) -> None:
    run = bench.run(DEFAULT, first + TWICE)
    assert complaint in run.output
    assert run.code == 0
    assert bench.text("exported") == f"{PASS}\n"


@pytest.mark.parametrize("typed", ["", f"{PASS}\n", "\n\nshort\n"])
def test_when_nobody_is_there_nothing_happens(bench: Bench, typed: str) -> None:
    run = bench.run(DEFAULT, typed)
    assert run.code == 1
    assert "STOPPED: No passphrase was given" in run.output
    assert "CONTINUES" not in run.output
    assert run.writes == []
    assert run.journal[-1] == "stty echo"


USED = {
    "RAID partition": {"sd0.label": RAID_LABEL},
    "file system": {"sd0.label": FFS_LABEL},
    "MBR partition": {"sd0.mbr": OPENBSD_MBR},
    "GPT partition": {"sd0.mbr": GPT},
    "attached volume": {
        "volumes": "softraid0 0 Online 80000 sd9 CRYPTO\n 0 Online 8 0:0.0 noencl <sd0a>\n"
    },
}


@pytest.mark.parametrize("what", USED)
@pytest.mark.parametrize(
    "answer", ["", "\n", "y\n", "yes\n", "wipe\n", "wipe sd1\n", "wipe sd0 \n"]
)
@pytest.mark.parametrize("mode", [Mode.PASSPHRASE, Mode.NONE])
def test_a_disk_in_use_is_left_alone(bench: Bench, what: str, answer: str, mode: Mode) -> None:
    for name, text in USED[what].items():
        bench.state(name, text)
    run = bench.run(HookSettings(mode=mode, random_fill=True), answer)
    assert run.code == 1
    assert "sd0 is NOT EMPTY" in run.output
    assert "STOPPED: sd0 was left as it is" in run.output
    assert "Detach the ISO" in run.output
    assert "CONTINUES" not in run.output
    assert run.writes == []


@pytest.mark.parametrize("what", USED)
def test_wipe_and_the_name_of_the_disk_erase_it(bench: Bench, what: str) -> None:
    for name, text in USED[what].items():
        bench.state(name, text)
    run = bench.run(DEFAULT, "wipe sd0\n" + TWICE)
    assert run.code == 0, run.output
    assert run.answers[-3] == "Which disk is the root disk = sd1"
    assert ("bioctl -d sd9" in run.journal) == (what == "attached volume")


def test_overwrite_erases_without_a_question(bench: Bench) -> None:
    bench.state("sd0.label", RAID_LABEL)
    run = bench.run(HookSettings(random_fill=False, overwrite=True), TWICE)
    assert run.code == 0
    assert "overwrite = true" in run.output


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [
        (0, b"LUKS\xba\xbe", "LUKS"),
        (0, b"XFSB", "XFS"),
        (536, b"LVM2 001", "LVM"),
        (1080, b"\x53\xef", "ext4"),
        (65600, b"_BHRfS_M", "btrfs"),
        (80 * 512, b"marcCRAM", "softraid metadata"),
    ],
)
def test_volumes_and_file_systems_without_a_label_are_noticed(
    bench: Bench, offset: int, magic: bytes, name: str
) -> None:
    with (bench.root / "image/sd0").open("r+b") as disk:
        disk.seek(offset)
        disk.write(magic)
    run = bench.run(DEFAULT, "no\n")
    assert name in run.output
    assert run.code == 1
    assert run.writes == []


def test_random_data_on_a_disk_counts_as_empty(bench: Bench) -> None:
    random_data(bench.root / "image/sd0")
    run = bench.run(DEFAULT, TWICE)
    assert "holds no partition" in run.output
    assert run.code == 0


def test_the_volume_is_whatever_bioctl_says(bench: Bench) -> None:
    (bench.root / "next-volume").write_text("sd2\n")
    run = bench.run(DEFAULT, TWICE)
    assert run.answers[-3] == "Which disk is the root disk = sd2"
    assert "dd if=/dev/zero of=/dev/rsd2c bs=1m seek=0 count=1" in run.writes
    assert not [call for call in run.writes if "rsd1c" in call]


def test_the_answer_is_a_line_of_its_own_after_a_file_without_newline(bench: Bench) -> None:
    (bench.root / "tmp/ai/ai.install.conf").write_text("System hostname = vpn")
    run = bench.run(DEFAULT, TWICE)
    assert "System hostname = vpn" in run.answers
    assert run.answers[-3] == "Which disk is the root disk = sd1"


def test_two_disks_are_a_question_for_the_configuration(bench: Bench) -> None:
    bench.add_disk("sd3", 8)
    run = bench.run(DEFAULT, TWICE)
    assert "STOPPED: There is more than one disk: sd0 sd3" in run.output
    assert run.code == 1
    assert run.writes == []


def test_with_two_disks_the_named_one_is_used_and_the_other_never_touched(bench: Bench) -> None:
    other = bench.add_disk("sd3", 8)
    random_data(other)
    before = other.read_bytes()
    run = bench.run(HookSettings(disk="sd0"), TWICE)
    assert run.code == 0
    assert other.read_bytes() == before
    assert not [call for call in run.writes if "sd3" in call]


def test_a_named_disk_that_is_missing_stops(bench: Bench) -> None:
    run = bench.run(HookSettings(disk="sd7"), TWICE)
    assert "STOPPED: There is no disk sd7" in run.output
    assert run.writes == []


def test_no_disk_at_all_stops(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path)
    run = bench.run(DEFAULT, TWICE)
    assert "STOPPED: No disk was found" in run.output
    assert run.code == 1


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("fdisk", "could not write the partition table of sd0"),
        ("disklabel", "disklabel failed on sd0"),
        ("disklabel-silently", "made no RAID partition"),
        ("bioctl", "could not make the encrypted volume"),
        ("bioctl-silently", "did not say which disk"),
        ("dd", "Writing to sd0 failed"),
    ],
)
def test_after_a_failure_nothing_continues(bench: Bench, failure: str, message: str) -> None:
    bench.fail(failure)
    run = bench.run(DEFAULT, TWICE)
    assert run.code == 1
    assert "STOPPED" in run.output
    assert message in run.output
    assert "INNER CONTINUES" not in run.output
    assert not [call for call in run.writes if call.startswith("newfs")]
    assert run.answers == ["System hostname = vpn"]


def test_an_old_label_that_the_kernel_still_uses_stops(bench: Bench) -> None:
    bench.state("sd0.label", RAID_LABEL)
    bench.fail("old-label")
    run = bench.run(DEFAULT, "wipe sd0\n" + TWICE)
    assert "STOPPED: The old label of sd0 is still in use." in run.output
    assert run.writes[-1] == "fdisk -iy sd0"


def test_a_disk_that_fdisk_cannot_read_is_not_taken_for_empty(bench: Bench) -> None:
    (bench.root / "bin/fdisk").write_text("#!/bin/sh\nexit 1\n")
    run = bench.run(DEFAULT, TWICE)
    assert "nobody knows what it holds" in run.output
    assert run.writes == []


def test_a_volume_that_cannot_be_detached_stops(bench: Bench) -> None:
    for name, text in USED["attached volume"].items():
        bench.state(name, text)
    bench.fail("detach")
    run = bench.run(DEFAULT, "wipe sd0\n" + TWICE)
    assert "sd9 cannot be detached" in run.output
    assert run.writes == ["bioctl -d sd9"]


def test_random_fill_covers_every_sector_and_reports(bench: Bench) -> None:
    disk = bench.root / "image/sd0"
    with disk.open("r+b") as stream:
        stream.truncate(200 * (1 << 20) + 3 * 512)
    run = bench.run(HookSettings(), TWICE)
    assert run.code == 0
    data = disk.read_bytes()
    assert data[: 1 << 20] == bytes(1 << 20)
    assert all(any(data[at : at + 512]) for at in range(1 << 20, len(data), 512))
    assert "random data: 200 of 200 MB" in run.output
    assert "random data: done" in run.output


def test_rounds_are_passed_on(bench: Bench) -> None:
    run = bench.run(HookSettings(random_fill=False, rounds=8192), TWICE)
    assert "bioctl -v -C force -c C -r 8192 -s -l sd0a softraid0" in run.writes


def test_without_encryption_the_disk_itself_is_the_root_disk(bench: Bench) -> None:
    run = bench.run(HookSettings(mode=Mode.NONE, random_fill=False))
    assert run.code == 0
    assert "NOT encrypted" in run.output
    assert run.answers[-3] == "Which disk is the root disk = sd0"
    assert run.writes == ["dd if=/dev/zero of=/dev/rsd0c bs=1m seek=0 count=1", "newfs sd0"]


def test_an_embedded_passphrase_is_used_and_announced(bench: Bench) -> None:
    run = bench.run(HookSettings(mode=Mode.EMBEDDED, random_fill=False), embedded=PASS)
    assert run.code == 0
    assert "The passphrase is written in this ISO" in run.output
    assert bench.text("stdin.bioctl") == TWICE


KEYDISK = HookSettings(mode=Mode.KEYDISK, keydisk="sd3a", random_fill=False)


def test_a_key_disk_opens_the_volume_and_nobody_is_asked(bench: Bench) -> None:
    bench.add_disk("sd3", 1)
    bench.state("sd3.label", RAID_LABEL)
    run = bench.run(KEYDISK)
    assert run.code == 0, run.output
    assert "bioctl -v -C force -c C -k sd3a -l sd0a softraid0" in run.writes
    assert not [call for call in run.writes if "rsd3" in call]


def test_a_missing_key_disk_stops(bench: Bench) -> None:
    run = bench.run(KEYDISK)
    assert "STOPPED: The key disk sd3a is missing" in run.output
    assert run.writes == []


def test_a_key_partition_of_another_type_stops(bench: Bench) -> None:
    bench.add_disk("sd3", 1)
    bench.state("sd3.label", FFS_LABEL)
    run = bench.run(KEYDISK)
    assert "sd3a is no partition of type RAID" in run.output
    assert run.writes == []


def test_another_machines_key_is_not_overwritten(bench: Bench) -> None:
    disk = bench.add_disk("sd3", 1)
    bench.state("sd3.label", RAID_LABEL)
    with disk.open("r+b") as stream:
        stream.seek(16 * 512)
        stream.write(b"marcCRAM")
    run = bench.run(KEYDISK, "\n")
    assert "sd3a already holds a key" in run.output
    assert run.code == 1
    assert run.writes == []


def test_halt_replaces_reboot_for_a_success_only(bench: Bench) -> None:
    run = bench.run(HookSettings(random_fill=False, after=After.HALT), TWICE)
    assert run.code == 0, run.output
    script = bench.text("sbin/reboot")
    assert "exec /sbin/halt -p" in script
    assert "/tmp/ai/ai.done" in script
    assert bench.text("tmp/obsdimg.sbin/reboot") == "the real reboot\n"


def test_by_default_reboot_stays_what_it_is(bench: Bench) -> None:
    bench.run(DEFAULT, TWICE)
    assert bench.text("sbin/reboot") == "the real reboot\n"


def test_an_incomplete_settings_file_stops_before_anything(bench: Bench) -> None:
    bench.run(DEFAULT, "")
    conf = bench.root / "obsdimg.conf"
    conf.write_text("".join(conf.read_text().splitlines(keepends=True)[:3]))
    script = bench.root / "start.sh"
    done = subprocess.run(
        [shell(), str(script), "", ""],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": f"{bench.root}/bin"},
        timeout=20,
    )
    assert b"missing or incomplete" in done.stdout
    assert done.returncode == 1
