"""A virtual machine as a context manager that leaves no process, socket or file behind.

QEMU runs under `supervisor.py`, talks over socket pairs (nothing to connect to for others)
and keeps its files in a private folder that goes away with it, also after kill -9 of us.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from obsdimg.console.picture import Picture
from obsdimg.console.reader import Reader
from obsdimg.console.screen import Screen
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.process import ProcessError, run
from obsdimg.smoke import supervisor
from obsdimg.smoke.isolation import Enclosure, Isolation, find_isolation
from obsdimg.smoke.keys import keys
from obsdimg.smoke.qemu import (
    INSTALL_HINT,
    MIB,
    Accelerator,
    Forward,
    MachineSpec,
    Qemu,
    command_line,
    find_firmware,
    find_qemu,
    forwarded_ports,
)
from obsdimg.smoke.qmp import Qmp, QmpError

KEY_HOLD = 0.03  # seconds a key is down: a BIOS reads its buffer 18 times a second or faster
KEY_PAUSE = 0.03


class MachineError(ObsdimgError):
    """The virtual machine could not be started or used."""


class MachineDiedError(MachineError):
    """QEMU ended on its own; carries what it printed and how it was started."""

    def __init__(self, message: str, hint: str | None, output: str, argv: tuple[str, ...]) -> None:
        super().__init__(message, hint)
        self.output = output
        self.argv = argv


class AcceleratorError(MachineError):
    """The accelerator is there but does not run this guest: start over with the next one."""


def make_disk(path: Path, size: int, backing: Path | None = None) -> None:
    """Make a qcow2 file for a disk of `size` bytes, mode 0600; `backing` is a qcow2 below it.

    Raises MachineError.
    """
    words: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing:
        words += ["-b", backing.resolve(), "-F", "qcow2"]
    try:
        path.touch(mode=0o600)
        run([*words, path, str(size)], timeout=60)
    except ProcessError as error:
        hint = INSTALL_HINT if "not found" in error.message else None
        raise MachineError(f"{path}: cannot make the disk: {error.message}", hint) from error
    except OSError as error:
        raise MachineError(f"{path}: cannot make the disk: {error.strerror}") from error


class VirtualMachine:
    """A running machine.  Use it with `with`; the attributes below are valid inside.

    `serial` is the first serial line, `qmp` the control line, `ports` says which host port
    each forward became, `isolated` whether this host's network is out of the guest's reach.
    """

    qmp: Qmp
    serial: socket.socket
    ports: Mapping[Forward, int]
    folder: Path
    isolated: bool

    def __init__(
        self,
        spec: MachineSpec,
        accelerator: Accelerator = Accelerator.TCG,
        qemu: Qemu | None = None,
    ) -> None:
        self.spec = spec
        self.isolation = Isolation() if spec.online else find_isolation()
        self.isolated = bool(self.isolation.words)
        self.accelerator = accelerator
        self.qemu = qemu or find_qemu(spec.program)
        self.pid = 0
        self._argv: tuple[str, ...] = ()
        self._shots = 0
        self._reader = Reader()
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start QEMU.  Raises MachineError (ports in use, no firmware, not starting)."""
        self.folder = Path(tempfile.mkdtemp(prefix="obsdimg-smoke-"))
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        firmware = None
        if self.spec.uefi:
            code, variables = find_firmware()
            own = self.spec.uefi_vars or self.folder / "uefi-vars.fd"
            if not own.exists():
                shutil.copy(variables, own)
            firmware = (code, own)
        with contextlib.ExitStack() as stack:
            self._run(stack, firmware)

    def _run(self, stack: contextlib.ExitStack, firmware: tuple[Path, Path] | None) -> None:
        """Start QEMU; what was opened for it and is not needed afterwards closes with `stack`."""
        ours, theirs = map(stack.enter_context, socket.socketpair())
        self.serial, serial = socket.socketpair()
        stack.enter_context(serial)
        fds: tuple[int, ...] = (theirs.fileno(), serial.fileno())
        spec, enclosure = self.spec, None
        if self.isolated:
            try:
                enclosure = stack.enter_context(Enclosure(self.isolation, spec.forwards))
            except OSError as error:
                raise self._no_port(error.strerror or str(error)) from error
            spec = replace(spec, forwards=enclosure.inside)
        words = command_line(
            self.qemu, spec, self.accelerator, qmp_fd=fds[0], serial_fd=fds[1], firmware=firmware
        )
        self._argv = tuple(words)
        if enclosure:
            words, fds = enclosure.wrap(words, fds), (*fds, *enclosure.fds)
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, str(self.folder),
                 str(self.spec.doomed or ""),
                 ",".join(map(str, fds)), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=fds,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise MachineError(f"cannot start a process: {error.strerror}") from error
        assert self._supervisor.stdout is not None
        self.pid = int(self._supervisor.stdout.readline() or 0)
        theirs.close()
        serial.close()
        if enclosure:
            enclosure.release()
            self.pid = enclosure.process() or self.pid
        try:
            self.qmp = Qmp(ours.dup())
        except QmpError as error:
            if (died := self.death()) is not None:
                raise died from error
            raise MachineError(f"QEMU does not answer: {error.message}") from error
        if enclosure:
            self.ports = enclosure.ports
        else:
            usernet = self.qmp.human("info usernet") if self.spec.forwards else ""
            self.ports = forwarded_ports(usernet, self.spec.forwards)

    def _stop(self) -> None:
        if hasattr(self, "qmp"):
            with contextlib.suppress(ObsdimgError):
                self.qmp.execute("quit", timeout=2)
            self.qmp.close()
        if hasattr(self, "serial"):
            self.serial.close()
        child = self._supervisor
        if child is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(OSError):
            child.stdin.write(b".")
            child.stdin.flush()
        with contextlib.suppress(OSError):
            child.stdin.close()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- state

    def output(self) -> str:
        """What QEMU itself has printed: warnings and errors."""
        with contextlib.suppress(OSError):
            return (self.folder / "program.log").read_text(errors="replace")
        return ""

    def death(self, timeout: float = 2.0) -> MachineError | None:
        """Why QEMU is gone, as an exception to raise; None while it runs."""
        child = self._supervisor
        if child is None or child.stdout is None:
            return MachineError("the virtual machine was not started")
        os.set_blocking(child.stdout.fileno(), False)
        end = time.monotonic() + (timeout if self._qmp_gone() else 0.0)
        line: bytes | None = None
        while not line:
            line = child.stdout.readline()
            if not line and child.poll() is not None:
                line = b"-9"  # the supervisor is gone, and QEMU with it
            if not line:
                if time.monotonic() >= end:
                    return None
                time.sleep(0.02)
        status = int(line)
        return self._explain(status)

    def _qmp_gone(self) -> bool:
        return not hasattr(self, "qmp") or self.qmp.gone.is_set()

    def _explain(self, status: int) -> MachineError:
        output = self.output()
        last = output.strip().splitlines()[-1:] or ["it printed nothing"]
        if "host forwarding rule" in output:
            return self._no_port(last[0])
        if self.isolated and status > 128:
            status = 128 - status  # bubblewrap's way to tell of a signal
        name = self.accelerator.value
        if self.accelerator is not Accelerator.TCG and (
            name in output.lower() or "accel" in output or not hasattr(self, "qmp")
        ):
            return AcceleratorError(f"{name} does not work here: {last[0]}")
        how = f"by signal {-status}" if status < 0 else f"with exit code {status}"
        return MachineDiedError(
            f"QEMU ended {how}: {last[0]}",
            "started as: " + shlex.join(self._argv),
            output,
            self._argv,
        )

    def _no_port(self, why: str) -> MachineError:
        ports = ", ".join(str(f.host_port) for f in self.spec.forwards if f.host_port)
        return MachineError(
            f"a port of this host cannot be forwarded ({ports or 'none is free'}): {why}",
            "something else uses it: choose another, or 0 for any free one",
        )

    def check(self) -> None:
        """Raise what ended or stopped the machine, if something did.

        MachineDiedError: QEMU is gone; AcceleratorError: KVM internal error; MachineError: the
        host's disk is full.  A guest that rebooted or powered off is no error.
        """
        if self._qmp_gone() and (died := self.death()) is not None:
            raise died
        for event in tuple(self.qmp.events):
            if event.name == "BLOCK_IO_ERROR":
                full = bool(event.data.get("nospace"))
                raise MachineError(
                    "the guest's disk: " + ("this host's disk is full" if full else "write error"),
                    f"free some space where {self.spec.disk} is" if full else None,
                )
        if any(e.name == "STOP" for e in tuple(self.qmp.events)):
            self._check_run_state()

    def _check_run_state(self) -> None:
        with contextlib.suppress(QmpError):
            state = self.qmp.execute("query-status")["status"]
            if state == "internal-error":
                raise AcceleratorError(
                    f"{self.accelerator.value} gave up on the guest (internal error)"
                )

    # -- power

    def wait_shutdown(self, timeout: float, since: int = 0) -> str | None:
        """Wait for the guest's reset or power-off: `guest-reset`, `guest-shutdown`, or None.

        The machine is paused then; `restart` goes on.
        """
        event = self.qmp.wait_event(lambda e: e.name == "SHUTDOWN", timeout, since)
        return None if event is None else str(event.data.get("reason", "unknown"))

    def restart(self) -> None:
        """Reset the machine and let it run, whatever state it is in.

        From here on a guest that resets is not paused any more: SeaBIOS itself answers the
        first reset of a machine that has run with a second one, seen on 1.16.
        """
        self.qmp.execute("set-action", {"reboot": "reset"})
        since = self.qmp.count()
        self.qmp.execute("system_reset")
        self.qmp.wait_event(lambda e: e.name == "RESET", 10, since)
        if not self.qmp.execute("query-status")["running"]:
            self.qmp.execute("cont")

    def power_button(self) -> None:
        """Press the power button (ACPI); the guest shuts down if it likes."""
        self.qmp.execute("system_powerdown")

    def written(self) -> int:
        """Writes to the disk since the machine started: a count of operations."""
        for entry in self.qmp.execute("query-blockstats"):
            if entry.get("qdev", "").rstrip("/").endswith("disk0/virtio-backend"):
                return int(entry["stats"]["wr_operations"])
            if entry.get("node-name") == "disk":
                return int(entry["stats"]["wr_operations"])
        raise MachineError("QEMU reports no figures for the disk")

    # -- media

    def eject(self) -> None:
        """Take the CD out, the guest willing or not."""
        self.qmp.execute("blockdev-open-tray", {"id": "cd", "force": True})
        self.qmp.execute("blockdev-remove-medium", {"id": "cd"})

    def insert(self) -> None:
        """Put the CD in, whether the tray is open or not."""
        self.qmp.execute("blockdev-open-tray", {"id": "cd", "force": True})
        self.qmp.execute("blockdev-insert-medium", {"id": "cd", "node-name": "cd-medium"})
        self.qmp.execute("blockdev-close-tray", {"id": "cd"})

    # -- keyboard and screen

    def type_keys(self, text: str, pace: float = KEY_HOLD) -> None:
        """Type `text` on the machine's keyboard (US layout), a key at a time, each down for
        `pace` seconds and followed by as much.
        """
        for character in text:
            pressed = [{"type": "qcode", "data": name} for name in keys(character)]
            self.qmp.execute("send-key", {"keys": pressed, "hold-time": int(pace * 1000)})
            time.sleep(2 * pace)

    def press(self, *names: str) -> None:
        """Press keys together by QEMU's names, e.g. `press("ctrl", "alt", "esc")`."""
        pressed = [{"type": "qcode", "data": name} for name in names]
        self.qmp.execute("send-key", {"keys": pressed, "hold-time": int(KEY_HOLD * 1000)})
        time.sleep(KEY_HOLD + KEY_PAUSE)

    def screen(self) -> Screen:
        """What stands on the screen, read from its picture: text mode, UEFI, efifb."""
        path = self.folder / "picture"
        self.qmp.execute("screendump", {"filename": str(path)})
        data = path.read_bytes()
        path.unlink()
        return self._reader.read(picture_from_ppm(data))

    def screen_text(self) -> list[str]:
        """The screen's rows of text; none where it is blank or shows no text."""
        return self.screen().lines

    def screenshot(self) -> bytes:
        """The screen as a PNG file's bytes."""
        self._shots += 1
        path = self.folder / f"screen{self._shots}"
        arguments = {"filename": str(path)}
        if self.qemu.has_png:
            arguments["format"] = "png"
        self.qmp.execute("screendump", arguments)
        data = path.read_bytes()
        path.unlink()
        return data if self.qemu.has_png else png_from_ppm(data)


def picture_from_ppm(ppm: bytes) -> Picture:
    """A binary PPM (P6, 8 bits a channel).  Raises MachineError for anything else."""
    fields = ppm.split(maxsplit=4)
    if len(fields) < 4 or fields[0] != b"P6" or fields[3] != b"255":
        raise MachineError("QEMU's screen dump is no 8-bit PPM")
    width, height = int(fields[1]), int(fields[2])
    colours = ppm[len(ppm) - width * height * 3 :]
    pixels = bytearray(4 * width * height)
    for channel in range(3):
        pixels[channel::4] = colours[channel::3]
    return Picture(width, height, bytes(pixels))


def png_from_ppm(ppm: bytes) -> bytes:
    """A binary PPM as PNG, for QEMU before 7.1.  Raises MachineError for anything else."""
    return picture_from_ppm(ppm).png()


__all__ = [
    "MIB",
    "Accelerator",
    "AcceleratorError",
    "Forward",
    "MachineDiedError",
    "MachineError",
    "MachineSpec",
    "VirtualMachine",
    "find_qemu",
    "make_disk",
    "picture_from_ppm",
    "png_from_ppm",
]  # fmt: skip
