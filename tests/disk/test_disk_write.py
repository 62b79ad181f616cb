"""`obsdimg disk --write` against a stand-in for the machine: the scripts run here, by sh."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from obsdimg.cli import main as cli
from obsdimg.core.progress import Progress
from obsdimg.disk.content import UNIT, open_image
from obsdimg.disk.manifest import DiskManifest, IsoPart, NetworkPart, image_part, write_beside
from obsdimg.disk.target import DiskTarget, Rescue, TargetError, read_facts
from obsdimg.disk.transfer import Talk
from obsdimg.disk.writing import write_image
from support.rescue_machine import RescueMachine, make_machine

UNITS = 40
FILLED = {0, 1, 2, 5, 20, 21, 39}
WHERE = "root@rescue.example:/dev/vda"


def _disk() -> bytes:
    source = random.Random(16)
    return b"".join(
        source.randbytes(UNIT) if number in FILLED else bytes(UNIT) for number in range(UNITS)
    )


@pytest.fixture(scope="module")
def disk() -> bytes:
    return _disk()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, disk: bytes) -> Path:
    """The image vpn.raw.zst with what lies beside it; no project."""
    path = tmp_path_factory.mktemp("image") / "vpn.raw.zst"
    _image(path, disk)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: Path) -> Path:
    """A working folder with the image."""
    monkeypatch.chdir(tmp_path)
    for path in packed.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def _image(path: Path, disk: bytes) -> None:
    raw = path.with_name("plain")
    raw.write_bytes(disk)
    with path.open("w+b") as stream:
        written = write_image(open_image(raw), "raw.zst", stream, Progress())
    raw.unlink()
    manifest = DiskManifest(
        tool="obsdimg", image=image_part(path.name, written),
        iso=IsoPart(name="x.iso", sha256="0" * 64), release="7.7", firmware="bios",
        random_fill=False, kdf_rounds=64, network=NetworkPart(interface="vio0", also=["em0"]),
        accelerator="tcg", checks=[], proven=False,
    )  # fmt: skip
    write_beside(path, manifest, written, None)


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RescueMachine:
    found = make_machine(folder / "there", (UNITS + 8) * UNIT)
    monkeypatch.setenv("PATH", f"{found.bin}{os.pathsep}{os.environ['PATH']}")
    return found


def _write(*words: str) -> int:
    return cli.main(["disk", "-q", "vpn.raw.zst", "--write", WHERE, "--yes", *words])


def _there(machine: RescueMachine) -> bytes:
    return machine.disk.read_bytes()


def test_the_disk_over_there_becomes_the_image_and_what_is_behind_stays(
    machine: RescueMachine, disk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _write() == 0
    there = _there(machine)
    assert there[: len(disk)] == disk
    assert there[len(disk) :] == b"\xa5" * 8 * UNIT
    said = capsys.readouterr().out
    assert "written and read back" in said and f"{len(FILLED)} MiB sent" in said
    assert hashlib.sha256(disk).hexdigest() in said


def test_what_is_there_already_is_not_sent_again(
    machine: RescueMachine, disk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _write() == 0
    capsys.readouterr()
    before = machine.disk.stat().st_mtime_ns
    assert _write() == 0
    assert "nothing was written" in capsys.readouterr().out
    assert machine.disk.stat().st_mtime_ns == before


def test_a_broken_connection_leaves_no_disk_that_starts_and_the_next_run_goes_on(
    machine: RescueMachine, disk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.flaw(f"cut:{4 * UNIT}")
    assert _write() == 1
    said = capsys.readouterr().err
    assert "the connection ended: Connection to machine closed" in said
    assert "goes on where it stopped" in said
    assert _there(machine)[:UNIT] == bytes(UNIT)
    assert _write() == 0
    out = capsys.readouterr().out
    # 1, 2 and 5 had arrived, with the zeros around them; the first unit is always sent last.
    assert "  4 MiB sent, 19 MiB were there already" in out, out
    assert _there(machine)[: len(disk)] == disk


def test_whoever_stops_asking_does_not_wait_for_the_rest(
    machine: RescueMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer differs, and 100 more would take a second each."""
    slow = machine.here / "bin" / "sha256sum"
    slow.write_text('#!/bin/sh\ncat >/dev/null; sleep 1; echo "0 -"\n')
    slow.chmod(0o755)
    rescue = Rescue(DiskTarget.parse(WHERE, None, None), machine.here / "socket")
    asked = [f"{number} 1\n".encode() for number in range(100)]
    begin = time.monotonic()
    with Talk(rescue, "read", asked, window=2) as talk:
        assert talk.line() == "0 0"
    assert time.monotonic() - begin < 50


def test_a_flipped_bit_is_found_and_written_again(
    machine: RescueMachine, disk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.flaw(f"flip:{20 * UNIT + 77}")
    assert _write() == 0
    assert "1 pieces written twice" in capsys.readouterr().out
    assert _there(machine)[: len(disk)] == disk


def test_a_disk_that_does_not_keep_a_byte_never_gets_its_start(
    machine: RescueMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.flaw(f"always:{20 * UNIT + 77}")
    assert _write() == 1
    said = capsys.readouterr().err
    assert "does not keep what is written: 1 pieces differ, the first at MiB 20" in said
    assert _there(machine)[:UNIT] == bytes(UNIT)


def test_a_disk_that_ends_early_is_an_error_with_the_place(
    machine: RescueMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.flaw(f"full:{39 * UNIT}")
    assert _write() == 1
    assert "cannot be written at MiB 39: dd: error writing: No space" in capsys.readouterr().err
    assert _there(machine)[:UNIT] == bytes(UNIT)


@pytest.mark.parametrize("gaps", ["skip", "random"])
def test_gaps_are_left_or_filled_only_where_that_is_asked_for(
    machine: RescueMachine, disk: bytes, gaps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _write("--gaps", gaps) == 0
    there = _there(machine)
    for number in range(UNITS):
        unit = there[number * UNIT : (number + 1) * UNIT]
        if number in FILLED:
            assert unit == disk[number * UNIT : (number + 1) * UNIT]
        elif gaps == "skip":
            assert unit == b"\xa5" * UNIT
        else:
            assert len(set(unit)) == 256
    assert f"the rest: {gaps}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda m: m.mounted(f"{m.disk} /mnt ext4 rw 0 0"), "is in use: .* mounted on /mnt"),
        (lambda m: m.mounted(f"{m.disk}1 / ext4 rw 0 0"), "is in use: .*vda1 mounted on /"),
        (
            lambda m: (m.here / "proc/self/mountinfo").write_text(
                "22 1 254:1 / /boot rw - btrfs /dev/root rw\n"
            ),
            "is in use: .*vda1 mounted on /boot",
        ),
        (
            lambda m: (m.here / "proc/swaps").write_text(f"{m.disk}1 partition 1 0 -2\n"),
            "vda1 for swap",
        ),
        (lambda m: (m.sys / "vda1/holders/dm-0").write_text(""), "vda1 by dm-0"),
        (lambda m: (m.sys / "partition").write_text("1"), "is a partition"),
        (lambda m: (m.sys / "ro").write_text("1"), "can only be read"),
        (lambda m: (m.sys / "size").write_text("4096"), "has 2097152 bytes, the image needs"),
        (lambda m: m.disk.unlink(), "is no disk there"),
    ],
)
def test_a_disk_that_must_not_be_written_is_refused_with_the_reason(
    machine: RescueMachine, spoil: object, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(machine)  # type: ignore[operator]
    before = machine.disk.stat().st_mtime_ns if machine.disk.exists() else 0
    assert _write() == 1
    assert re.search(complaint, capsys.readouterr().err)
    assert (machine.disk.stat().st_mtime_ns if machine.disk.exists() else 0) == before


def test_a_machine_without_the_servers_card_is_refused_unless_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = make_machine(folder / "there", UNITS * UNIT, driver="ixgbe")
    monkeypatch.setenv("PATH", f"{machine.bin}{os.pathsep}{os.environ['PATH']}")
    assert _write() == 1
    said = capsys.readouterr().err
    assert "looks for vio0, em0" in said and 'network.also = ["ix0"]' in said
    assert _write("--other-network") == 0


def test_nobody_but_root_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = make_machine(folder / "there", UNITS * UNIT, user=1000)
    monkeypatch.setenv("PATH", f"{machine.bin}{os.pathsep}{os.environ['PATH']}")
    assert _write() == 1
    assert "that is not root" in capsys.readouterr().err


def test_without_yes_and_a_terminal_nothing_is_written(
    machine: RescueMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["disk", "-q", "vpn.raw.zst", "--write", WHERE]) == 1
    assert "would be erased, and nobody is there to agree" in capsys.readouterr().err
    assert _there(machine)[:UNIT] == b"\xa5" * UNIT


@pytest.mark.parametrize("typed", ["y", "/dev/vdb", ""])
def test_another_name_typed_is_a_no(
    machine: RescueMachine,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda: typed)
    assert cli.main(["disk", "-q", "--json", "vpn.raw.zst", "--write", WHERE]) == 1
    said = capsys.readouterr()
    assert "nothing was written" in json.loads(said.out)["error"]["message"]
    # What is to be erased is said, and on stderr, whatever --quiet and --json.
    assert "GiB" in said.err and "Type /dev/" in said.err
    assert _there(machine)[:UNIT] == b"\xa5" * UNIT


def test_no_answer_is_a_no(
    machine: RescueMachine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended() -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ended)
    assert cli.main(["disk", "vpn.raw.zst", "--write", WHERE]) == 1
    assert "no answer" in capsys.readouterr().err
    assert _there(machine)[:UNIT] == b"\xa5" * UNIT


@pytest.mark.parametrize(
    "spoil",
    ["bit", "short", "manifest", "gone"],
)
def test_an_image_that_is_not_the_one_that_was_made_is_never_sent(
    machine: RescueMachine, folder: Path, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = folder / "vpn.raw.zst"
    data = bytearray(image.read_bytes())
    if spoil == "bit":
        data[len(data) // 2] ^= 1
    if spoil == "short":
        del data[-100:]
    image.write_bytes(data)
    beside = folder / "vpn.raw.zst.json"
    if spoil == "manifest":
        beside.write_text(beside.read_text().replace('"kind"', '"sort"'))
    if spoil == "gone":
        beside.unlink()
    assert _write() == 1
    said = capsys.readouterr().err
    assert {
        "bit": "is not the image that was made", "short": "is not the image that was made",
        "manifest": "is no manifest of a disk", "gone": "there is no manifest",
    }[spoil] in said  # fmt: skip
    assert _there(machine)[:UNIT] == b"\xa5" * UNIT


@pytest.mark.parametrize(
    "text",
    ["/dev/sda", "root@host", "root@host:sda", "-oProxyCommand=x:/dev/sda", "a b:/dev/sda",
     "host:/dev/../etc/passwd", "host:/dev/sda;reboot", "host:/etc/passwd"],
)  # fmt: skip
def test_what_names_no_disk_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="is no disk of a machine"):
        DiskTarget.parse(text, None, None)


def test_an_ipv6_address_and_a_link_to_a_disk_are_taken() -> None:
    found = DiskTarget.parse("root@[2001:db8::7]:/dev/disk/by-id/virtio-s1", None, None)
    assert (found.host, found.device) == ("root@2001:db8::7", "/dev/disk/by-id/virtio-s1")


def test_a_machine_that_is_no_linux_is_told_apart() -> None:
    with pytest.raises(TargetError, match="does not answer as a Linux system"):
        read_facts("sh: readlink: not found\nuser=0\n", DiskTarget("h", "/dev/sda"))
