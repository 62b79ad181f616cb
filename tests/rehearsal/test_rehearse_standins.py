"""Stand-in commands alone: driven with a dict of files, no sandbox."""

from __future__ import annotations

import pytest

import obsdimg.rehearsal.programs  # noqa: F401
from obsdimg.rehearsal import FilesCd, MachineDisk, RehearsalMachine
from obsdimg.rehearsal.call import (
    REGISTRY,
    Call,
    Done,
    Exec,
    Exists,
    ReadFile,
    RefusedError,
    Stdin,
    WriteFile,
)
from obsdimg.rehearsal.disks import StandInDisk, write_openbsd_mbr
from obsdimg.rehearsal.label import BIG, LabelError, allocate, edit, fstab, parse_template
from obsdimg.rehearsal.ramdisk import AMD64_PROGRAMS, amd64_programs, boot_image_path
from obsdimg.rehearsal.root import LOCAL
from obsdimg.rehearsal.world import World

GIB = 1 << 30


class Sandbox:
    """Drives stand-ins against a dict of files."""

    def __init__(self, *disks: MachineDisk, version: str = "6.6") -> None:
        self.world = World(
            RehearsalMachine(version=version, disks=disks or (MachineDisk(),)), FilesCd({})
        )
        self.files: dict[str, bytes] = {}

    def __call__(self, line: str, stdin: bytes = b"") -> Done:
        name, *args = line.split()
        steps = REGISTRY[name, "ramdisk"](Call(name, tuple(args), "/", "ramdisk"), self.world)
        answer: bytes | None = None
        try:
            step = next(steps)
            while True:
                match step:
                    case Stdin():
                        answer = stdin
                    case ReadFile(path):
                        answer = self.files.get(path)
                    case Exists(path):
                        answer = b"" if path in self.files else None
                    case WriteFile(path, data):
                        self.files[path] = data
                        answer = b""
                    case _:
                        answer = b""
                step = steps.send(answer)
        except StopIteration as stop:
            assert isinstance(stop.value, Done | Exec)
            return stop.value if isinstance(stop.value, Done) else Done()

    def chunk(self) -> None:
        assert self("fdisk -iy sd0").out == b"Writing MBR at offset 0.\n"
        assert self("disklabel -E sd0", b"a a\n\n\nRAID\nw\nq\n\n").status == 0


TWICE = b"secret phrase\nsecret phrase\n"


def test_bioctl_of_66_wants_the_passphrase_twice_and_that_of_74_once() -> None:
    old = Sandbox()
    old.chunk()
    assert old("bioctl -c C -s -l sd0a softraid0", b"secret phrase\n").err == (
        b"Passphrases did not match\n"
    )
    assert old("bioctl -c C -s -l sd0a softraid0", TWICE).out == (
        b"softraid0: CRYPTO volume attached as sd1\n"
    )
    new = Sandbox(version="7.4")
    new.chunk()
    assert new("bioctl -c C -s -l sd0a softraid0", b"secret phrase\n").status == 0


def test_bioctl_opens_an_old_volume_unless_it_is_forced() -> None:
    box = Sandbox(MachineDisk(contents="encrypted", passphrase="old one"))
    wrong = box("bioctl -c C -s -l sd0a softraid0", TWICE)
    assert (wrong.status, wrong.err) == (1, b"softraid0: incorrect key or passphrase\n")
    right = box("bioctl -c C -s -l sd0a softraid0", b"old one\nold one\n")
    assert right.status == 0
    assert box.world.disks["sd1"].filesystems == {"a": "ffs"}
    assert box("bioctl -d sd1").status == 0
    forced = box("bioctl -v -C force -c C -r auto -s -l sd0a softraid0", TWICE)
    assert b"Deriving key using bcrypt PBKDF with 123 rounds..." in forced.out
    assert box.world.disks["sd1"].empty


def test_the_volume_takes_the_next_free_unit() -> None:
    box = Sandbox(MachineDisk(), MachineDisk(), MachineDisk())
    box.chunk()
    assert b"attached as sd3" in box("bioctl -c C -s -l sd0a softraid0", TWICE).out


def test_bioctl_needs_a_partition_of_type_raid() -> None:
    box = Sandbox()
    box("fdisk -iy sd0")
    box("disklabel -F /tmp/f -w -A sd0")
    assert box("bioctl -c C -s -l sd0a softraid0", TWICE).status == 1


def test_the_journal_never_holds_the_passphrase() -> None:
    box = Sandbox()
    box.chunk()
    box("bioctl -c C -s -l sd0a softraid0", TWICE)
    assert "secret phrase" not in str(box.world.actions)
    assert box.world.actions[-1].stdin == "<passphrase>"


def test_a_disk_with_a_full_label_has_no_room_for_another_partition() -> None:
    box = Sandbox()
    box.chunk()
    again = box("disklabel -E sd0", b"a b\n\n\nRAID\nw\nq\n")
    assert again.status == 1 or b"No space left" in again.out
    assert set(box.world.disks["sd0"].label) == {"a"}


def test_a_plain_partition_before_the_volume_and_what_is_written_to_it() -> None:
    """As the hook makes it where the boot loader shall ask on com0."""
    box = Sandbox()
    box("fdisk -iy sd0")
    said = box("disklabel -E sd0", b"a a\n\n960\n4.2BSD\na d\n\n\nRAID\nw\nq\n\n").out
    assert b"mount point" not in said  # that is asked with -F only (editor.c, get_mp)
    label = box.world.disks["sd0"].label
    assert (label["a"].offset, label["a"].size, label["a"].fstype) == (64, 960, "4.2BSD")
    assert (label["d"].offset, label["d"].fstype) == (1024, "RAID")
    assert box("newfs -q -O 1 -b 8192 -f 1024 /dev/rsd0a").status == 0
    assert box("mount -t ffs /dev/sd0a /mnt2").status == 0
    assert "/mnt2" in box.world.mounts
    assert box("umount /mnt2").status == 0 and "/mnt2" not in box.world.mounts
    assert box("bioctl -v -C force -c C -r 16 -s -l sd0d softraid0", TWICE).status == 0
    assert box.world.disks["sd1"].chunk == "sd0d"


def test_the_editor_asks_for_a_mount_point_with_a_file_for_it() -> None:
    box = Sandbox()
    box("fdisk -iy sd0")
    said = box("disklabel -F fstab -E sd0", b"a a\n\n960\n4.2BSD\n/boot\nw\nq\n\n").out
    assert b"mount point: [none] /boot" in said
    assert box.world.disks["sd0"].label["a"].mounted == "/boot"


def test_zeros_over_the_start_take_table_label_and_volume_with_them() -> None:
    box = Sandbox(MachineDisk(contents="encrypted"))
    assert b"marcCRAM" in box("dd if=/dev/rsd0c bs=64k count=2").out
    box("dd if=/dev/zero of=/dev/rsd0c bs=1m count=1")
    assert box.world.disks["sd0"].empty
    assert b"marcCRAM" not in box("dd if=/dev/rsd0c bs=64k count=2").out


def test_pieces_of_a_random_fill_are_one_line_of_the_journal() -> None:
    box = Sandbox(MachineDisk(1 << 20))
    for at in range(4):
        box(f"dd if=/dev/urandom of=/dev/rsd0c bs=256k seek={at} count=1")
    assert [a.detail for a in box.world.actions] == ["random from byte 0 to 1048576"]
    assert box("dd if=/dev/urandom of=/dev/rsd0c bs=256k seek=4 count=1").status == 1


def test_a_read_only_disk_refuses_to_be_written() -> None:
    box = Sandbox(MachineDisk(writable=False))
    assert b"Read-only" in box("fdisk -iy sd0").err


@pytest.mark.parametrize(
    "line",
    [
        "fdisk -u sd0",
        "fdisk -e sd0",
        "disklabel -R sd0 proto",
        "bioctl -P sd0",
        "bioctl -c 1 -l sd0a,sd1a softraid0",
        "newfs -m 1 sd0a",
        "dd if=/etc/passwd of=/dev/rsd0c",
        "dd if=/dev/zero of=/dev/rsd0c conv=notrunc oflag=direct",
        "sysctl hw.sensors",
        "ifconfig vio0 mtu 9000",
        "route add -net 10/8 10.0.2.2",
        "stty cols 132",
        "pax -w .",
        "chroot /mnt2 /bin/sh",
        "ed /etc/rc",
        "kbd us",
    ],
)
def test_what_a_stand_in_does_not_know_it_refuses(line: str) -> None:
    with pytest.raises(RefusedError, match=line.split()[0]):
        Sandbox()(line, b"")


def test_encrypt_never_shows_its_argument() -> None:
    with pytest.raises(RefusedError) as caught:
        Sandbox()("encrypt -c secret -- password")
    assert "password" not in caught.value.message


def test_every_program_of_the_amd64_list_has_a_stand_in() -> None:
    assert len(AMD64_PROGRAMS) == 4
    for path in amd64_programs():
        name = path.rpartition("/")[2]
        assert name in ("ksh", "sh", *LOCAL) or (name, "ramdisk") in REGISTRY, name


def disk(size: int) -> StandInDisk:
    made = StandInDisk("sd0", size // 512, "x", "0123456789abcdef")
    write_openbsd_mbr(made)
    return made


def test_a_template_of_66_makes_swap_of_what_is_no_path() -> None:
    (wish,) = parse_template("raid 1G-*\n", raid=False)
    assert wish.fstype == "swap"
    (wish,) = parse_template("RAID *\n", raid=True)
    assert wish.fstype == "RAID"


@pytest.mark.parametrize(
    "text", ["", "/\n", "/ x\n", "/ 1G 5\n", "/ 2G-1G\n", "/ 1G 5% more\n", "/ 1G abc%\n"]
)
def test_a_malformed_template_is_an_error(text: str) -> None:
    with pytest.raises(LabelError):
        parse_template(text, raid=False)


def test_a_layout_keeps_minimum_maximum_and_order() -> None:
    made = disk(30 * GIB)
    wishes = parse_template("/ 1G\nswap 128M\n/usr 1G-2G 60%\n/var 1G-* 40%\n", raid=False)
    made.label = allocate(made, (wishes,))
    sizes = {k: v.size * 512 for k, v in made.label.items()}
    assert sizes["a"] == GIB
    assert sizes["b"] == 128 << 20
    assert sizes["d"] == 2 * GIB
    assert sizes["e"] > 5 * GIB
    assert fstab(made).splitlines()[0] == "0123456789abcdef.a / ffs rw 1 1"
    assert "0123456789abcdef.b none swap sw" in fstab(made)


def test_a_disk_too_small_for_the_layout_is_an_error() -> None:
    with pytest.raises(LabelError, match="not enough space"):
        allocate(disk(5 * GIB), (BIG,))


@pytest.mark.parametrize("script", ["a a\n", "a a\n\n\n", "R a\nq\n", ""])
def test_an_editor_session_that_does_not_end_or_is_not_known_fails(script: str) -> None:
    with pytest.raises(LabelError):
        edit(disk(GIB), script)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("set image /6.6/amd64/bsd.auto\n", "/6.6/amd64/bsd.auto"),
        ("stty com0 115200\nset tty com0\n  set image /6.6/amd64/bsd.rd \n", "/6.6/amd64/bsd.rd"),
    ],
)
def test_the_boot_kernel_is_the_one_that_boot_conf_names(text: str, path: str) -> None:
    assert boot_image_path(text) == path
