"""The machine without an operating system in it: life, death, ports, media, screen."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from obsdimg.smoke.machine import (
    Accelerator,
    Forward,
    MachineDiedError,
    MachineError,
    MachineSpec,
    VirtualMachine,
    make_disk,
)

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
    ),
]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait_gone(pid: int, folder: Path, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not _alive(pid) and not folder.exists():
            return True
        time.sleep(0.05)
    return False


def test_nothing_is_left_after_a_normal_end(tmp_path: Path) -> None:
    before = {p.name for p in Path("/proc/self/fd").iterdir()}
    kept = tmp_path / "kept"
    kept.mkdir()
    with VirtualMachine(MachineSpec(memory_mib=64, doomed=kept)) as machine:
        pid, folder = machine.pid, machine.folder
        assert _alive(pid)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert machine.qmp.execute("query-status")["running"]
    assert not _alive(pid)
    assert not folder.exists()
    assert kept.exists()
    assert {p.name for p in Path("/proc/self/fd").iterdir()} == before


def test_nothing_is_left_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), VirtualMachine(MachineSpec(memory_mib=64)) as machine:
        pid, folder = machine.pid, machine.folder
        _ = 1 / 0
    assert not _alive(pid) and not folder.exists()


CHILD = """
    import sys, time
    from pathlib import Path
    from obsdimg.smoke.machine import MachineSpec, VirtualMachine
    with VirtualMachine(MachineSpec(memory_mib=64, doomed=Path(sys.argv[1]))) as machine:
        print(machine.pid, machine._supervisor.pid, machine.folder, flush=True)
        time.sleep(60)
"""


@pytest.fixture
def child(tmp_path: Path) -> subprocess.Popen[str]:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    (tmp_path / "doomed").mkdir()
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "doomed")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_nothing_is_left_after_kill_minus_nine(
    child: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert child.stdout is not None
    pid, _, folder = child.stdout.readline().split()
    assert _alive(int(pid))
    child.kill()
    child.wait()
    assert _wait_gone(int(pid), Path(folder))
    assert _wait_gone(int(pid), tmp_path / "doomed")
    child.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_qemu_does_not_outlive_its_supervisor_either(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    pid, supervisor, folder = child.stdout.readline().split()
    os.kill(int(supervisor), signal.SIGKILL)
    end = time.monotonic() + 10
    while _alive(int(pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(int(pid))
    child.kill()
    child.wait()
    child.stdout.close()
    shutil.rmtree(folder)


def test_a_killed_qemu_is_reported_with_its_signal_and_command_line() -> None:
    with VirtualMachine(MachineSpec(memory_mib=64)) as machine:
        machine.check()
        os.kill(machine.pid, signal.SIGKILL)
        with pytest.raises(MachineDiedError, match="by signal 9") as caught:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                machine.check()
                time.sleep(0.02)
    assert "qemu-system-x86_64" in (caught.value.hint or "")


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        spec = MachineSpec(memory_mib=64, forwards=(Forward("tcp", 22, port),))
        with (
            pytest.raises(MachineError, match=rf"cannot be forwarded \({port}\)"),
            VirtualMachine(spec),
        ):
            pass


def test_two_machines_get_ports_of_their_own() -> None:
    spec = MachineSpec(memory_mib=64, forwards=(Forward("tcp", 22), Forward("udp", 53)))
    with VirtualMachine(spec) as one, VirtualMachine(spec) as two:
        assert len({*one.ports.values(), *two.ports.values()}) == 4


@pytest.mark.netns
def test_no_free_port_at_all_is_an_error() -> None:
    code = (
        "from pathlib import Path\n"
        "import subprocess\n"
        "subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        "Path('/proc/sys/net/ipv4/ip_local_port_range').write_text('40000 40000')\n"
        "from obsdimg.smoke.machine import *\n"
        "f = (Forward('tcp', 22), Forward('tcp', 25))\n"
        "try:\n"
        "    with VirtualMachine(MachineSpec(memory_mib=64, forwards=f)): print('started')\n"
        "except MachineError as error: print(error.message)\n"
    )
    if not (shutil.which("unshare") and shutil.which("ip")) or os.geteuid() != 0:
        pytest.skip("needs root, unshare and ip: a network namespace with one port")
    run = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "none is free" in run.stdout, run


def test_a_disk_that_is_missing_is_reported_in_qemus_words(tmp_path: Path) -> None:
    spec = MachineSpec(memory_mib=64, disk=tmp_path / "none.qcow2")
    with pytest.raises(MachineDiedError, match="No such file"), VirtualMachine(spec):
        pass


def test_the_disk_is_private_and_has_the_size_asked_for(tmp_path: Path) -> None:
    disk = tmp_path / "d.qcow2"
    make_disk(disk, 64 * 1024**2)
    assert disk.stat().st_mode & 0o777 == 0o600
    with VirtualMachine(MachineSpec(memory_mib=64, disk=disk)) as machine:
        blocks = machine.qmp.execute("query-named-block-nodes", {"flat": True})
        sizes = {b["node-name"]: b["image"]["virtual-size"] for b in blocks}
        assert sizes["disk"] == 64 * 1024**2
        assert machine.written() == 0


def test_a_disk_in_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot make the disk"):
        make_disk(tmp_path / "none/d.qcow2", 1024**2)


def test_the_cd_goes_out_and_in_again(tmp_path: Path) -> None:
    iso = tmp_path / "with, comma.iso"
    iso.write_bytes(bytes(64 * 2048))

    def inserted(machine: VirtualMachine) -> bool:
        (drive,) = (b for b in machine.qmp.execute("query-block") if b["qdev"] == "cd")
        return "inserted" in drive

    with VirtualMachine(MachineSpec(memory_mib=64, cdrom=iso, cd_inserted=False)) as machine:
        assert not inserted(machine)
        machine.insert()
        assert inserted(machine)
        machine.eject()
        assert not inserted(machine)
        machine.insert()
        assert inserted(machine)


def test_a_disk_that_is_no_system_is_seen_on_screen_and_serial_line(tmp_path: Path) -> None:
    iso = tmp_path / "empty.iso"
    iso.write_bytes(bytes(64 * 2048))
    with VirtualMachine(MachineSpec(memory_mib=64, cdrom=iso)) as machine:
        machine.serial.settimeout(20)
        said = b""
        while b"No bootable device" not in said:
            piece = machine.serial.recv(4096)
            assert piece, said
            said += piece
        end = time.monotonic() + 10
        while "No bootable device." not in machine.screen_text():
            assert time.monotonic() < end, machine.screen_text()
            time.sleep(0.05)
        assert machine.screenshot().startswith(b"\x89PNG")


# mov al,0xfe; out 0x64,al: reset by the keyboard controller.
# mov dx,0x604; mov ax,0x2000; out dx,ax: power-off by ACPI on QEMU's `pc`.  Then wait.
RESET_SECTOR = bytes.fromhex("b0fe e664 ebfe")
OFF_SECTOR = bytes.fromhex("ba0406 b80020 ef ebfe")


def _floppy(path: Path, code: bytes) -> Path:
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1474560 - 512))
    return path


def test_a_guest_that_resets_is_paused(tmp_path: Path) -> None:
    floppy = _floppy(tmp_path / "reset.img", RESET_SECTOR)
    with VirtualMachine(MachineSpec(memory_mib=64, floppy=floppy)) as machine:
        assert machine.wait_shutdown(20) == "guest-reset"
        assert machine.qmp.execute("query-status")["status"] == "shutdown"


def test_a_guest_that_powers_off_is_paused_and_boots_again_when_told_to(tmp_path: Path) -> None:
    floppy = _floppy(tmp_path / "off.img", OFF_SECTOR)
    with VirtualMachine(MachineSpec(memory_mib=64, floppy=floppy)) as machine:
        since = 0
        for _ in range(3):
            assert machine.wait_shutdown(20, since) == "guest-shutdown"
            assert machine.qmp.execute("query-status")["status"] == "shutdown"
            since = machine.qmp.count()
            machine.restart()


@pytest.mark.skipif(not os.access("/dev/kvm", os.W_OK), reason="no /dev/kvm here")
def test_an_accelerator_either_works_or_says_that_it_does_not() -> None:
    from obsdimg.smoke.machine import AcceleratorError

    try:
        with VirtualMachine(MachineSpec(memory_mib=64), Accelerator.KVM) as machine:
            assert machine.qmp.execute("query-status")["running"]
    except AcceleratorError as error:
        assert "kvm does not work here" in error.message


def test_uefi_shows_its_own_screen() -> None:
    from obsdimg.smoke.qemu import QemuError, find_firmware

    try:
        find_firmware()
    except QemuError as error:
        pytest.skip(error.message)
    with VirtualMachine(MachineSpec(memory_mib=256, uefi=True)) as machine:
        firmware = machine.folder / "uefi-vars.fd"
        assert firmware.exists()
        machine.serial.settimeout(60)
        said = b""
        while b"UEFI" not in said and b"BdsDxe" not in said:
            piece = machine.serial.recv(4096)
            assert piece, said
            said += piece
    assert not firmware.exists()
