"""The parts of the smoke room that need no guest: keys, cleaning, masking, command line."""

from __future__ import annotations

import io
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from obsdimg.smoke import expectations as says
from obsdimg.smoke import qemu as qemu_module
from obsdimg.smoke.console import Cleaner, Console, ExpectationError
from obsdimg.smoke.keys import UntypableError, keys
from obsdimg.smoke.machine import MachineError, picture_from_ppm, png_from_ppm
from obsdimg.smoke.plan import Secret, SmokePlan, mask
from obsdimg.smoke.play import absent_secrets
from obsdimg.smoke.qemu import (
    Accelerator,
    Forward,
    MachineSpec,
    Qemu,
    QemuError,
    command_line,
    find_firmware,
    find_qemu,
    forwarded_ports,
)
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("a", ("a",)), ("Z", ("shift", "z")), ("5", ("5",)), ("%", ("shift", "5")),
        (" ", ("spc",)), ("\n", ("ret",)), ("/", ("slash",)), ("?", ("shift", "slash")),
        ('"', ("shift", "apostrophe")), ("|", ("shift", "backslash")),
        (">", ("shift", "dot")), ("_", ("shift", "minus")), ("~", ("shift", "grave_accent")),
    ],
)  # fmt: skip
def test_a_character_becomes_the_keys_of_the_us_layout(
    character: str, expected: tuple[str, ...]
) -> None:
    assert keys(character) == expected


def test_every_printable_ascii_character_has_keys_of_its_own() -> None:
    made = [keys(chr(code)) for code in range(32, 127)]
    assert len(set(made)) == 95


@pytest.mark.parametrize("character", ["ä", "€", "\x07"])
def test_a_character_without_a_key_is_refused_without_being_shown(character: str) -> None:
    with pytest.raises(UntypableError) as caught:
        keys(character)
    assert character not in caught.value.message


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("|\b/\b-\bboot> ", "boot> "),
        ("booting hd0a:/bsd: \\\b|\b/\b3367832|\b/\b+404692", "booting hd0a:/bsd: 3367832+404692"),
        ("\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1)\r\n", "SeaBIOS (version 1)\n"),
        ("one\r\ntwo\n\rthree", "one\ntwo\nthree"),
        ("a-b|c/d\n", "a-b|c/d\n"),
        ("10%\r20%\r100%\n", "10%\r20%\r100%\n"),
        ("nul\0 bell\x07\n", "nul bell\n"),
    ],
)
def test_what_a_terminal_would_swallow_is_removed(raw: str, clean: str) -> None:
    cleaner = Cleaner()
    assert cleaner.feed(raw) + cleaner.flush() == clean


@given(st.lists(st.integers(1, 3), min_size=1, max_size=40))
def test_cleaning_does_not_depend_on_how_the_text_is_cut(sizes: list[int]) -> None:
    raw = "\x1b[2J|\b/\b-\bboot> set\r\nx\n\r>> B\x1b[1;31mOOT\\\b|\b done - ok\r\n"
    whole = Cleaner()
    expected = whole.feed(raw) + whole.flush()
    pieces = Cleaner()
    out, at = "", 0
    for size in sizes:
        out += pieces.feed(raw[at : at + size])
        at += size
    out += pieces.feed(raw[at:]) + pieces.flush()
    assert out == expected == "boot> set\nx\n>> BOOT done - ok\n"


@pytest.mark.parametrize("pause_after", range(1, 12))
def test_a_pause_between_lf_and_cr_does_not_spoil_the_next_line(pause_after: int) -> None:
    raw = "real\n\rOpenBSD 6.6\r\nx"
    cleaner = Cleaner()
    out = cleaner.feed(raw[:pause_after]) + cleaner.flush()
    out += cleaner.feed(raw[pause_after:]) + cleaner.flush()
    assert out == "real\nOpenBSD 6.6\nx"


LEFT = b"obsdimg: STOPPED: sd0 was left as it is. Nothing was changed.\r\n"


@pytest.mark.parametrize("cut", [0, len("obsdimg: STOPPED: s"), len(LEFT) - 4, len(LEFT)])
def test_a_line_that_comes_in_pieces_is_judged_when_it_is_whole(cut: int) -> None:
    """Its beginning is that of a failure."""
    ours, guests = socket.socketpair()
    pieces = [LEFT[cut:]]
    with ours, guests:
        guests.sendall(LEFT[:cut])
        # `health` is called while the line is silent.
        console = Console(ours, health=lambda: guests.sendall(pieces.pop() if pieces else b""))
        assert console.expect(says.LEFT_ALONE, says.NEW_PASSPHRASE) is says.LEFT_ALONE


def test_another_stop_of_the_encryption_step_is_a_failure_with_its_words() -> None:
    ours, guests = socket.socketpair()
    with ours, guests:
        guests.sendall(b"obsdimg: STOPPED: sd0 cannot be read.\r\n")
        with pytest.raises(ExpectationError, match=r"STOPPED: sd0 cannot be read\.") as caught:
            Console(ours).expect(says.LEFT_ALONE, says.NEW_PASSPHRASE)
    assert caught.value.failure is says.STOPPED


def test_masking_prefers_the_longest_secret_and_leaves_the_rest() -> None:
    secrets = (Secret("abc"), Secret("abcdef"), Secret(""))
    assert mask("x abcdef y abc z", secrets) == "x *** y *** z"


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"


def test_a_ppm_becomes_a_png_with_the_same_pixels() -> None:
    pixels = bytes(range(2 * 3 * 3))
    png = png_from_ppm(b"P6\n3 2\n255\n" + pixels)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    image = Image.open(io.BytesIO(png))
    assert image.size == (3, 2)
    assert image.convert("RGB").tobytes() == pixels


def test_a_ppm_becomes_a_picture_for_the_reader() -> None:
    picture = picture_from_ppm(b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06")
    assert (picture.width, picture.height) == (2, 1)
    assert picture.pixels == b"\x01\x02\x03\0\x04\x05\x06\0"


@pytest.mark.parametrize("bad", [b"", b"P5\n1 1\n255\nx", b"P6\n1 1\n65535\nxxxxxx"])
def test_another_picture_format_is_refused(bad: bytes) -> None:
    with pytest.raises(MachineError):
        png_from_ppm(bad)


def _fake_program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_missing_qemu_is_named_with_its_packages() -> None:
    with pytest.raises(QemuError) as caught:
        find_qemu("qemu-system-nowhere")
    assert "qemu-system-nowhere is not installed" in caught.value.message
    for system in ("Debian", "Fedora", "Homebrew"):
        assert system in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'QEMU emulator version 5.2.0 (Debian)'", "is version 5.2.0; at least 6.0"),
        ("echo hello", "does not say its version"),
        ("exit 3", "does not run"),
    ],
)
def test_a_qemu_that_will_not_do_is_refused(tmp_path: Path, script: str, complaint: str) -> None:
    with pytest.raises(QemuError, match=complaint):
        find_qemu(_fake_program(tmp_path / "qemu", script))


def test_the_version_tells_whether_screens_can_be_png(tmp_path: Path) -> None:
    old = find_qemu(_fake_program(tmp_path / "old", "echo 'QEMU emulator version 6.2.0'"))
    new = find_qemu(_fake_program(tmp_path / "new", "echo 'QEMU emulator version 7.1.0'"))
    assert (old.has_png, new.has_png) == (False, True)


def test_missing_uefi_firmware_is_named_with_its_packages(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="no UEFI firmware") as caught:
        find_firmware((tmp_path,))
    assert "ovmf" in (caught.value.hint or "")


def test_firmware_is_found_where_distributions_put_it(tmp_path: Path) -> None:
    folder = tmp_path / "edk2/ovmf"
    folder.mkdir(parents=True)
    for name in ("OVMF_CODE.fd", "OVMF_VARS.fd"):
        (folder / name).touch()
    assert find_firmware((tmp_path,)) == (folder / "OVMF_CODE.fd", folder / "OVMF_VARS.fd")


def _words(spec: MachineSpec, accelerator: Accelerator = Accelerator.TCG) -> list[str]:
    return command_line(Qemu(Path("q"), (7, 2, 0)), spec, accelerator, qmp_fd=5, serial_fd=6)


def test_the_machine_is_the_one_of_the_design() -> None:
    words = " ".join(_words(MachineSpec(disk=Path("d.qcow2"), cdrom=Path("a,b.iso"))))
    for piece in (
        "-smp 1", "-m 1024", "-vga std", "virtio-blk-pci,drive=disk", "virtio-net-pci,netdev=net",
        "q35,accel=tcg,graphics=off", '"filename": "a,b.iso"', "reboot=shutdown,shutdown=pause",
    ):  # fmt: skip
        assert piece in words


def test_the_screen_can_be_left_to_itself() -> None:
    assert "graphics=off" not in " ".join(_words(MachineSpec(serial_mirror=False)))


def test_ports_are_forwarded_on_loopback_only() -> None:
    spec = MachineSpec(forwards=(Forward("udp", 53), Forward("tcp", 22, 2222)))
    netdev = next(w for w in _words(spec) if w.startswith("user,"))
    assert netdev.endswith(
        ",hostfwd=udp:127.0.0.1:0-198.51.100.15:53,hostfwd=tcp:127.0.0.1:2222-198.51.100.15:22"
    )


def test_the_monitor_tells_which_port_was_chosen() -> None:
    said = """Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  15       127.0.0.1 35109       10.0.2.15    22     0     0
  UDP[HOST_FORWARD]  14       127.0.0.1 46049       10.0.2.15    53     0     0
"""
    tcp, udp = Forward("tcp", 22), Forward("udp", 53)
    assert forwarded_ports(said, (tcp, udp)) == {tcp: 35109, udp: 46049}
    with pytest.raises(QemuError, match="forwarded port"):
        forwarded_ports(said, (Forward("udp", 22),))


def test_the_accelerators_end_with_the_one_that_always_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert qemu_module.accelerators()[-1] is Accelerator.TCG
    monkeypatch.setattr(qemu_module.platform, "machine", lambda: "arm64")
    assert qemu_module.accelerators() == [Accelerator.TCG]


def test_the_supervisor_is_a_script_of_the_standard_library_alone() -> None:
    from obsdimg.smoke import supervisor

    run = subprocess.run(
        ["python3", "-I", "-S", supervisor.__file__, "/nonexistent", "", "", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
    )
    assert b"ModuleNotFoundError" not in run.stderr


@pytest.mark.parametrize(("encrypted", "searched"), [(True, True), (False, False)])
def test_without_encryption_the_servers_pre_shared_keys_are_on_its_disk(
    encrypted: bool, searched: bool
) -> None:
    private, shared = WgPrivateKey.generate(), PresharedKey.generate()
    laptop = TunnelClient("laptop", private, None, shared, (), (), (), None, 53)
    plan = SmokePlan(Path("x.iso"), "7.7", Secret("phrase"), peers=(laptop,), encrypted=encrypted)
    names = [name for name, _ in absent_secrets(plan)]
    assert names[:2] == ["the disk's passphrase", "the private key of laptop"]
    assert ("the pre-shared key of laptop" in names) is searched
