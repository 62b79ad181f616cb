"""QEMU with a console to connect to; ends with its `with` block, by its process id only."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


class Qemu:
    """A running QEMU.  `folder` holds its sockets: vnc, serial, qmp."""

    def __init__(self, folder: Path, child: subprocess.Popen[bytes]) -> None:
        self.folder, self.child = folder, child
        self.vnc = f"vnc+unix://{folder / 'vnc'}"
        self.serial = f"serial+unix://{folder / 'serial'}"

    def qmp(self, *commands: str, **arguments: object) -> None:
        """Run QMP commands; `arguments` are those of the last."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(20)
            line.connect(str(self.folder / "qmp"))
            stream = line.makefile("rwb")
            stream.readline()
            for name in ("qmp_capabilities", *commands):
                order = {"execute": name}
                if arguments and name == commands[-1]:
                    order["arguments"] = arguments
                stream.write(json.dumps(order).encode() + b"\n")
                stream.flush()
                while b'"return"' not in (answer := stream.readline()):
                    assert answer and b'"error"' not in answer, answer

    def reset(self) -> None:
        self.qmp("system_reset")


@contextlib.contextmanager
def qemu(
    folder: Path,
    *options: str | Path,
    vnc: Sequence[str] = (),
    program: str = "qemu-system-i386",
) -> Iterator[Qemu]:
    """QEMU with `options`, VNC on a Unix socket or as `vnc` says.  Skips where it is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    folder.mkdir(exist_ok=True)
    words = [program, "-nodefaults", "-display", "none", "-vga", "std", "-m", "64"]
    words += ["-nic", "none", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"]
    words += ["-serial", f"unix:{folder / 'serial'},server=on,wait=off"]
    for one in vnc or (f"unix:{folder / 'vnc'}",):
        words += ["-vnc", one]
    child = subprocess.Popen(
        [*words, *map(str, options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr").open("wb"),
    )
    try:
        machine = Qemu(folder, child)
        end = time.monotonic() + 30
        while True:
            try:
                machine.qmp()  # it answers when everything is there
                break
            except OSError:
                assert child.poll() is None, (folder / "stderr").read_text()
                assert time.monotonic() < end, "QEMU does not start"
                time.sleep(0.05)
        yield machine
    finally:
        child.kill()
        child.wait()
