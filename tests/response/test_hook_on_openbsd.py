"""The hook's functions on a genuine OpenBSD (the 5.1 install floppy, in QEMU).

Genuine ksh, sed, grep, dd, fdisk, disklabel and MAKEDEV on emulated disks; that floppy has no
bioctl, which is the one thing pretended.  Slow: boots a machine without acceleration.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.response.hook import HookSettings, ramdisk_files
from support.floppy_console import Floppy
from support.genuine_installer import media

pytestmark = [pytest.mark.media, pytest.mark.qemu, pytest.mark.slow]

# The hook, without its last lines that start it, and a bioctl that knows no volume.
_PRELUDE = """
AI=false UU=false VERSION=66
. /tmp/s/obsdimg.conf
. /tmp/s/obsdimg.sh
bioctl() { :; }
obsdimg_choose_table
"""


def disk(path: Path, megabytes: int) -> Path:
    with path.open("wb") as stream:
        stream.truncate(megabytes << 20)
    return path


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floppy]:
    """wd0: blank.  wd1: the hook's files.  wd2: random data.  wd3: ext4, or blank."""
    folder = tmp_path_factory.mktemp("floppy")
    files = folder / "files"
    files.mkdir()
    for entry in ramdisk_files(HookSettings(disk="wd0")):
        (files / entry.path[1:]).write_bytes(entry.data)
    (files / "prelude").write_text(_PRELUDE)
    archive = disk(folder / "files.tar", 2)
    packed = subprocess.run(
        ["tar", "--format=ustar", "-C", str(files), "-cf", "-", "."],
        capture_output=True,
        check=True,
    ).stdout
    archive.write_bytes(packed + bytes(1 << 20))
    noise = bytearray(os.urandom(8 << 20))
    noise[510:512] = b"\0\0"
    (folder / "random").write_bytes(noise)
    ext4 = disk(folder / "ext4", 16)
    if shutil.which("mke2fs", path="/sbin:/usr/sbin:/bin:/usr/bin"):
        tool = shutil.which("mke2fs", path="/sbin:/usr/sbin:/bin:/usr/bin")
        subprocess.run([str(tool), "-q", "-t", "ext4", str(ext4)], check=True)
    disks = [disk(folder / "blank", 64), archive, folder / "random", ext4]
    with Floppy(media("floppy51-i386.img"), disks, keep=disks[:1]) as console:
        console.blank = disks[0]  # type: ignore[attr-defined]
        console.run("cd /dev; sh MAKEDEV wd0 wd1 wd2 wd3; mknod urandom c 45 2")
        console.run("mkdir -p /tmp/s; cd /tmp/s; pax -rf /dev/rwd1c; cd /")
        # The floppy's shell runs as sh, which has no (( )); install.sub is run by ksh.
        console.child.send("ksh\r")
        console.child.expect("# ")
        console.child.send("PS1='obsdimg-ready# '\r")
        console.child.expect_exact("\nobsdimg-ready# ")
        console.run(". /tmp/s/prelude")
        yield console


def test_blank_and_random_disks_are_empty_and_a_file_system_is_seen(shell: Floppy) -> None:
    assert shell.run("obsdimg_contents wd0; print $?").strip() == "0"
    assert shell.run("obsdimg_contents wd2; print $?").strip() == "0"
    if shutil.which("mke2fs", path="/sbin:/usr/sbin:/bin:/usr/bin"):
        assert "ext2, ext3 or ext4" in shell.run("obsdimg_contents wd3")


def test_disks_are_found_measured_and_named(shell: Floppy) -> None:
    assert shell.run("obsdimg_disks").split() == ["wd0", "wd1", "wd2", "wd3"]
    said = shell.run("obsdimg_geometry wd0; print $obsdimg_sectors $obsdimg_mb; obsdimg_model wd0")
    assert said.split("\n")[:2] == ["131072 64", "QEMU HARDDISK"]
    assert shell.run("obsdimg_writable wd0 && print yes").strip() == "yes"
    assert shell.run("obsdimg_writable cd0 || print no").strip() == "no"


def test_a_raid_partition_is_made_also_over_an_old_label(shell: Floppy) -> None:
    make = "obsdimg_wipe_start wd0; obsdimg_make_chunk wd0; obsdimg_label wd0"
    assert shell.run(make).strip() == "a RAID"
    assert shell.run(make).strip() == "a RAID"
    found = shell.run("obsdimg_contents wd0")
    assert "MBR partition 3: type A6 OpenBSD" in found
    assert "label a: RAID" in found


def test_the_guard_takes_one_answer_only(shell: Floppy) -> None:
    for answer, code in (("yes", 1), ("wipe", 1), ("wipe wd0", 0)):
        shell.child.send("(obsdimg_overwrite=no; obsdimg_guard wd0); print code $?\r")
        shell.child.expect("Answer: $", timeout=60)
        shell.child.send(f"{answer}\r")
        shell.child.expect(rf"code {code}\r", timeout=60)
        shell.child.expect_exact("obsdimg-ready# ")


def test_a_passphrase_is_read_as_typed_and_not_shown(shell: Floppy) -> None:
    shell.child.send('obsdimg_ask_passphrase; print -r -- "<$obsdimg_pass>"\r')
    shown = ""
    for text in ("short", r"pass word \n$x", r"pass word \n$X", *[r"pass word \n$x"] * 2):
        shell.child.expect(["New passphrase: $", "The same again: $"], timeout=60)
        shown += shell.child.before or ""
        shell.child.send(f"{text}\r")
    shell.child.expect_exact(r"<pass word \n$x>", timeout=60)
    shown += shell.child.before or ""
    shell.child.expect_exact("obsdimg-ready# ")
    assert "Shorter than 8" in shown
    assert "The two differ" in shown
    assert "pass word" not in shown
    assert " echo " in shell.run("stty -a")


def test_random_data_covers_the_disk(shell: Floppy) -> None:
    said = shell.run("obsdimg_geometry wd0; obsdimg_fill_disk wd0", seconds=300)
    assert "random data: 64 of 64 MB" in said
    data = shell.blank.read_bytes()  # type: ignore[attr-defined]
    assert all(any(data[at : at + 512]) for at in range(0, len(data), 512))
