"""The hook on other disks and machines: UEFI, too small, somebody else's data, and what is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from obsdimg.core.resources import resource
from obsdimg.response.hook import HookSettings, Mode
from support.hook_bench import MB, Bench, random_data

TWICE = "correct horse battery\ncorrect horse battery\n"
DEFAULT = HookSettings(random_fill=False)
PLAIN = HookSettings(random_fill=False, mode=Mode.NONE)
UEFI = "OpenBSD 7.7 (RAMDISK_CD) #0: today\nefi0 at bios0: UEFI 2.7\n"
ACPI5 = "OpenBSD 7.7 (RAMDISK_CD) #0: today\nacpi0 at bios0: ACPI 5.0\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench.make(tmp_path)
    made.add_disk("sd0", 8)
    return made


def boots(bench: Bench, messages: str) -> None:
    with (bench.root / "dmesg").open("a") as stream:
        stream.write(messages)


class TestUefi:
    def test_the_label_that_the_kernel_makes_up_is_expected(self, bench: Bench) -> None:
        boots(bench, UEFI)
        run = bench.run(DEFAULT, TWICE)
        assert run.code == 0, run.output
        assert "fdisk -gy -b 532480 sd0" in run.writes
        labels = re.findall(r"([ai]): +\d+ +\d+ +(\w+)", bench.text("state/sd0.label"))
        assert sorted(labels) == [("a", "RAID"), ("i", "MSDOS")]
        # The volume lies on the chunk and gets an MBR on every machine.
        assert run.answers[-3:-1] == [
            "Which disk is the root disk = sd1",
            "Use (W)hole disk = whole",
        ]

    def test_without_encryption_the_disk_gets_a_gpt(self, bench: Bench) -> None:
        boots(bench, UEFI)
        run = bench.run(PLAIN)
        assert run.code == 0, run.output
        assert run.answers[-3:] == [
            "Which disk is the root disk = sd0",
            "Use (W)hole disk = gpt",
            "An EFI/GPT disk may not boot. Proceed = yes",
        ]

    @pytest.mark.parametrize("messages", [ACPI5, UEFI + ACPI5])
    def test_bios_with_acpi_5_gets_an_mbr_also_after_an_earlier_start_by_uefi(
        self, bench: Bench, messages: str
    ) -> None:
        boots(bench, messages)
        run = bench.run(DEFAULT, TWICE)
        assert run.code == 0, run.output
        assert "fdisk -iy sd0" in run.writes
        assert bench.run(PLAIN).answers[-2] == "Use (W)hole disk = whole"

    def test_another_partition_in_the_label_still_stops(self, bench: Bench) -> None:
        boots(bench, UEFI)
        bench.state("sd0.label", "  j:  16321  64  MSDOS\n")
        bench.fail("old-label")
        text = (bench.root / "bin/fdisk").read_text()
        (bench.root / "bin/fdisk").write_text(text.replace('MSDOS" >"', 'MSDOS" >>"'))
        run = bench.run(HookSettings(random_fill=False, overwrite=True), TWICE)
        assert run.code == 1
        assert "The old label of sd0 is still in use." in run.output


class TestSize:
    def test_a_disk_that_is_too_small_is_refused_with_numbers_and_untouched(
        self, bench: Bench
    ) -> None:
        run = bench.run(HookSettings(random_fill=False, need_mb=9), TWICE)
        assert run.code == 1 and run.writes == []
        assert "sd0 is too small: 8 MB, 9 MB are needed" in run.output

    def test_the_exact_size_will_do(self, bench: Bench) -> None:
        assert bench.run(HookSettings(random_fill=False, need_mb=8), TWICE).code == 0

    def test_the_efi_system_partition_is_counted(self, bench: Bench) -> None:
        boots(bench, UEFI)
        run = bench.run(HookSettings(random_fill=False, need_mb=8), TWICE)
        assert run.code == 1 and run.writes == []
        assert "8 MB, 268 MB are needed" in run.output


FOREIGN = {
    "Linux swap": (4086, b"SWAPSPACE2"),
    "exFAT file system": (3, b"EXFAT   "),
    "NTFS file system": (3, b"NTFS    "),
    "FAT32 file system": (82, b"FAT32   "),
    "BitLocker volume": (3, b"-FVE-FS-"),
    "APFS container": (32, b"NXSB"),
    "ISO 9660 file system": (32769, b"CD001"),
    "the second copy of a GPT, at its end": (8 * MB - 512, b"EFI PART"),
    "FFS1 file system": (8192 + 1372, b"\x54\x19\x01\x00"),
    "FFS2 file system": (65536 + 1372, b"\x19\x01\x54\x19"),
    "data that this medium does not know (data at its start, zeros at its end)": (
        5000,
        b"a note of somebody",
    ),
    "data that this medium does not know (zeros at its start, data at its end)": (
        8 * MB - 99,
        b"a note",
    ),
}


class TestGuard:
    @pytest.mark.parametrize("what", FOREIGN)
    def test_what_is_there_is_named_and_not_erased(self, bench: Bench, what: str) -> None:
        offset, data = FOREIGN[what]
        with (bench.root / "image/sd0").open("r+b") as stream:
            stream.seek(offset)
            stream.write(data)
        before = (bench.root / "image/sd0").read_bytes()
        run = bench.run(DEFAULT, "no\n" + TWICE)
        assert run.code == 1 and run.writes == []
        assert "sd0 is NOT EMPTY" in run.output
        assert f"           {what}\n" in run.output
        assert (bench.root / "image/sd0").read_bytes() == before

    def test_eight_megabytes_of_text_are_not_empty(self, bench: Bench) -> None:
        (bench.root / "image/sd0").write_bytes(
            b"all work and no play\n" * (8 * MB // 21) + b"x" * 9
        )
        run = bench.run(DEFAULT, "no\n")
        assert run.code == 1 and "data at its start" in run.output

    def test_random_and_zeros_are_told_apart_and_both_are_empty(self, bench: Bench) -> None:
        random_data(bench.root / "image/sd0")
        run = bench.run(DEFAULT, TWICE)
        assert run.code == 0, run.output
        assert "knows: random at its start, random at its end." in run.output

    def test_a_binary_is_not_taken_for_random_data(self, bench: Bench) -> None:
        program = Path(os.path.realpath("/proc/self/exe")).read_bytes()[: 8 * MB]
        (bench.root / "image/sd0").write_bytes(program.ljust(8 * MB, b"\x7f"))
        assert bench.run(DEFAULT, "no\n").code == 1

    def test_nothing_is_promised_of_an_interrupted_installation(self, bench: Bench) -> None:
        bench.state("sd0.label", "  a:  16321  64  RAID\n")
        run = bench.run(DEFAULT, "no\n")
        assert "If an installation was interrupted, its disk will not start" in run.output
        assert "it will start from its disk" not in run.output


def test_the_plain_installer_says_what_it_is(bench: Bench) -> None:
    bench.run(DEFAULT, TWICE)  # writes the files
    start = (bench.root / "start.sh").read_text()
    start = start.replace("AI=true", "AI=false")
    (bench.root / "start.sh").write_text(start)
    run = bench.again("install")
    assert "this is OpenBSD's own installer. It does not encrypt" in run.output
    assert not [call for call in run.journal if call.startswith(("fdisk", "dd", "bioctl"))]


def test_no_line_of_the_dialogue_is_longer_than_79_columns(bench: Bench) -> None:
    bench.state("sd0.label", "  a:  16321  64  RAID\n")
    said = [
        bench.run(HookSettings(need_mb=9), TWICE).output,
        bench.run(HookSettings(random_fill=True), "wipe sd0\nx\n\n" + TWICE).output,
        bench.run(HookSettings(mode=Mode.EMBEDDED, overwrite=True), "", "a passphrase").output,
        bench.run(DEFAULT, "no\n").output,
    ]
    long = [line for text in said for line in text.splitlines() if len(line) > 79]
    assert long == []
    script = resource("response", "obsdimg.sh").read_text()
    script = script.replace("$obsdimg_min", "8").replace("$obsdimg_max", "255")
    inside = re.findall(r"^(?:  [^\s].*|obsdimg: .*)$", script, re.M)
    assert [line for line in inside if len(line) > 79 and "$(" not in line] == []
