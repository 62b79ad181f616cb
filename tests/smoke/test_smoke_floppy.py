"""The machine and the console with a genuine guest: the OpenBSD 5.1 i386 install floppy.

Slow: a kernel boots without acceleration (25 s), once for all the tests below, which build
on each other in the order they stand here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.smoke.console import Console, ExpectationError, Mark
from obsdimg.smoke.expectations import PANIC
from obsdimg.smoke.loader import Loader
from obsdimg.smoke.machine import MachineError, MachineSpec, VirtualMachine
from obsdimg.smoke.plan import Secret

MEDIA = os.environ.get("OBSDIMG_MEDIA")
FLOPPY = Path(MEDIA or "/nonexistent") / "floppy51-i386.img"

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.media,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
    ),
    pytest.mark.skipif(not FLOPPY.is_file(), reason="OBSDIMG_MEDIA has no floppy51-i386.img"),
]

SLOWNESS = 4.0  # the machine may be shared
INSTALLER = Mark("installer", r"\(I\)nstall, \(U\)pgrade or \(S\)hell\? ", "T", 60)
SHELL = Mark("shell", r"^# ", "T", 10)


def _console(machine: VirtualMachine, *secrets: str) -> Console:
    return Console(
        machine.serial,
        secrets=[Secret(s) for s in secrets],
        health=machine.check,
        screenshot=machine.screenshot,
        slowness=SLOWNESS,
    )


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A disk of 64 MB on a file system of 4 MB: the host runs full.  None without root."""
    folder = tmp_path_factory.mktemp("small")
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "obsdimg-test", str(folder)],
            capture_output=True,
        ).returncode
        == 0
    )
    if not mounted:
        yield None
        return
    disk = folder / "d.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], check=True, timeout=30
    )
    yield disk
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def guest(small_disk: Path | None) -> Iterator[tuple[VirtualMachine, Console]]:
    extra = ("-drive", f"file={small_disk},format=qcow2,if=ide,index=0") if small_disk else ()
    spec = MachineSpec(
        memory_mib=128, floppy=FLOPPY, serial_mirror=True, network_card="e1000", extra=extra
    )
    with VirtualMachine(spec) as machine:
        yield machine, _console(machine, "correct horse")


def test_the_loader_is_moved_to_the_serial_line_over_the_bioss_mirror(
    guest: tuple[VirtualMachine, Console],
) -> None:
    machine, console = guest
    Loader(machine, console).to_serial_line()
    console.send("")
    console.expect(Mark("kernel", r"OpenBSD 5\.1 \(RAMDISK\)", "T", 30))
    assert any("switching console to com" in line.text for line in console.lines)


def test_no_spinner_and_no_escape_is_left_in_the_log(guest: tuple[VirtualMachine, Console]) -> None:
    _, console = guest
    texts = [line.text for line in console.lines]
    assert any(t.startswith("booting fd0a:/bsd: 3367832") for t in texts), texts
    assert not any("\x1b" in t or "\b" in t or "|/-" in t for t in texts)


def test_the_installer_comes_up_on_the_serial_line(guest: tuple[VirtualMachine, Console]) -> None:
    _, console = guest
    console.expect(INSTALLER)
    assert any(line.text.startswith("com0: console") for line in console.lines)
    times = [line.at for line in console.lines]
    assert times == sorted(times)


def test_a_shell_runs_commands(guest: tuple[VirtualMachine, Console]) -> None:
    _, console = guest
    console.send("s")
    console.expect(SHELL)
    console.send("echo $((6*7)) is the answer")
    console.expect(Mark("answer", r"^42 is the answer$", "T", 10))
    console.expect(SHELL)


def test_an_echoed_secret_is_masked_in_the_log(guest: tuple[VirtualMachine, Console]) -> None:
    _, console = guest
    console.send("echo correct horse")
    console.expect(Mark("echo", r"^correct horse$", "T", 10))
    console.expect(SHELL)
    log = "\n".join(line.text for line in console.lines)
    assert "correct horse" not in log
    assert "typed: echo ***" in log


def test_the_screen_still_shows_the_loader(guest: tuple[VirtualMachine, Console]) -> None:
    machine, _ = guest
    assert any("switching console to com0" in line for line in machine.screen_text())
    picture = machine.screenshot()
    assert picture.startswith(b"\x89PNG") and len(picture) > 500


def test_a_guest_that_hangs_ends_the_wait_with_evidence(
    guest: tuple[VirtualMachine, Console],
) -> None:
    _, console = guest
    console.send("echo going to sleep; sleep 600")
    start = time.monotonic()
    with pytest.raises(ExpectationError, match="waited 8 s for the shell") as caught:
        console.expect(Mark("never", "never", "T", 2, says="the shell"))
    assert time.monotonic() - start < 12
    assert "going to sleep" in caught.value.message
    assert 5 < len(caught.value.lines) <= 40
    assert caught.value.screenshot and caught.value.screenshot.startswith(b"\x89PNG")
    console.send("\x03", end="")
    console.expect(SHELL)


def test_a_full_disk_of_the_host_is_named(
    guest: tuple[VirtualMachine, Console], small_disk: Path | None
) -> None:
    if small_disk is None:
        pytest.skip("needs root: a file system of 4 MB is mounted")
    machine, console = guest
    console.send("dd if=/dev/zero of=/dev/rwd0c bs=64k count=1000")
    with pytest.raises(MachineError, match="this host's disk is full"):
        console.expect(Mark("done", "records out", "T", 10))
    assert machine.qmp.execute("query-status")["status"] == "io-error"


def test_without_a_mirror_the_keyboard_reaches_the_loader_and_a_panic_is_recognised() -> None:
    spec = MachineSpec(memory_mib=128, floppy=FLOPPY, serial_mirror=False, network_card="e1000")
    with VirtualMachine(spec) as machine:
        console = _console(machine)
        Loader(machine, console).to_serial_line()
        console.send("")
        console.expect(Mark("kernel", r"com0: console", "T", 60))
        machine.qmp.execute("inject-nmi")
        with pytest.raises(ExpectationError, match=r"panic: trap type 9|fatal non-maskable"):
            console.expect(Mark("never", "never", "T", 20, (PANIC,)))
