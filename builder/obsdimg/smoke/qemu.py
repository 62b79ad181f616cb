"""What QEMU is here, what can accelerate it, and its command line for one machine.

`command_line` is pure: from a `MachineSpec` to the words to run.  Options: qemu(1).
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.process import ProcessError, run
from obsdimg.smoke.plan import EmulatedNetwork

MIB = 1024 * 1024
OLDEST = (6, 0)  # -action (what a reset does) came with 6.0
PNG_SINCE = (7, 1)  # screendump format=png

INSTALL_HINT = (
    "install it: Debian/Ubuntu `apt install qemu-system-x86 qemu-utils`,"
    " Fedora `dnf install qemu-system-x86-core qemu-img`, Homebrew `brew install qemu`"
)


class QemuError(ObsdimgError):
    """QEMU, or something it needs, is missing or too old."""


class Accelerator(enum.Enum):
    """What runs the guest's instructions."""

    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"

    @property
    def slowness(self) -> float:
        """By how much limits grow: 1 with hardware, 6 for QEMU's own translator.

        Measured on 6.6 amd64: 14 s from power-on to the installer without acceleration,
        where hardware needs two to three.
        """
        return 6.0 if self is Accelerator.TCG else 1.0


@dataclass(frozen=True)
class Qemu:
    """A QEMU program and its version."""

    program: Path
    version: tuple[int, int, int]

    @property
    def has_png(self) -> bool:
        return self.version >= PNG_SINCE


@dataclass(frozen=True)
class Forward:
    """A port of the guest that is reachable from this host, on loopback only.

    `host_port` 0 lets the system choose; the machine tells which it became.
    """

    protocol: str  # "tcp" or "udp"
    guest_port: int
    host_port: int = 0


@dataclass(frozen=True)
class MachineSpec:
    """A machine like a small cloud server: BIOS, one CPU, VGA, virtio disk and network."""

    memory_mib: int = 1024
    cdrom: Path | None = None
    floppy: Path | None = None
    disk: Path | None = None  # qcow2
    forwards: tuple[Forward, ...] = ()
    network: EmulatedNetwork = field(default_factory=EmulatedNetwork)
    serial_mirror: bool = True
    """The BIOS shows its text on the serial line and reads keys from it (graphics=off)."""
    uefi: bool = False
    uefi_vars: Path | None = None
    """Where this machine's UEFI variables are kept from one start to the next."""
    board: str = "q35"
    """QEMU's machine type.  On `pc` OpenBSD spends 20 s a boot on looking for IDE drives (6.6
    without acceleration: 33 s to the installer, 13 s on q35).  A floppy needs `pc`."""
    private_networks: tuple[EmulatedNetwork, ...] = ()
    """Networks of further cards; nothing leads out of them."""
    network_card: str = "virtio-net-pci"
    program: str = "qemu-system-x86_64"
    cd_inserted: bool = True
    """Whether the CD is in its drive at power-on; `Machine.insert` puts it there later."""
    online: bool = False
    """The guest reaches the internet and what listens on this host's loopback.  Else it is cut off
    where this system can do that (`isolation.py`)."""
    offline: bool = False
    """QEMU itself cuts the guest off, and then names no router by DHCP."""
    doomed: Path | None = None
    """A folder that goes away, too, if this process dies (kill -9) while the machine runs."""
    extra: tuple[str, ...] = ()


def find_qemu(program: str = "qemu-system-x86_64") -> Qemu:
    """The QEMU called `program` (a name for PATH, or a path) and its version.

    Raises QemuError, with the names of the packages, when it is missing or before 6.0.
    """
    path = shutil.which(program)
    if path is None:
        raise QemuError(f"{program} is not installed", INSTALL_HINT)
    try:
        said = run([path, "--version"], timeout=30).stdout.decode(errors="replace")
    except ProcessError as error:
        raise QemuError(f"{program} does not run: {error.message}", INSTALL_HINT) from error
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise QemuError(f"{path} does not say its version", INSTALL_HINT)
    version = (int(found[1]), int(found[2]), int(found[3]))
    if version < OLDEST:
        raise QemuError(
            f"{path} is version {'.'.join(map(str, version))}; at least 6.0 is needed",
            "upgrade it; " + INSTALL_HINT,
        )
    return Qemu(Path(path), version)


def accelerators() -> list[Accelerator]:
    """What can run an x86 guest here, fastest first; the last one (TCG) always works.

    That /dev/kvm opens does not prove that it works: see `MachineSpec` users, who start over
    with the next one when the guest stops with an internal error.
    """
    found = []
    x86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")
    if sys.platform == "linux" and x86:
        with contextlib.suppress(OSError):
            os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
            found.append(Accelerator.KVM)
    elif sys.platform == "darwin" and x86:
        with contextlib.suppress(ProcessError):
            if run(["sysctl", "-n", "kern.hv_support"], timeout=5).stdout.strip() == b"1":
                found.append(Accelerator.HVF)
    return [*found, Accelerator.TCG]


_FIRMWARE = (
    ("OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"),  # Debian 12, Ubuntu 22.04
    ("OVMF/OVMF_CODE.fd", "OVMF/OVMF_VARS.fd"),  # older Debian
    ("edk2/ovmf/OVMF_CODE.fd", "edk2/ovmf/OVMF_VARS.fd"),  # Fedora
    ("qemu/edk2-x86_64-code.fd", "qemu/edk2-i386-vars.fd"),  # Homebrew, QEMU's own
)


def find_firmware(roots: tuple[Path, ...] | None = None) -> tuple[Path, Path]:
    """UEFI's code and its empty variable store.  Raises QemuError with package names."""
    places = roots or (
        Path("/usr/share"),
        Path("/usr/local/share"),
        Path("/opt/homebrew/share"),
    )
    for root in places:
        for code, variables in _FIRMWARE:
            if (root / code).is_file() and (root / variables).is_file():
                return root / code, root / variables
    raise QemuError(
        "no UEFI firmware (OVMF) found under " + ", ".join(map(str, places)),
        "install it: Debian/Ubuntu `apt install ovmf`, Fedora `dnf install edk2-ovmf`,"
        " Homebrew has it in `qemu`; or leave --uefi away",
    )


def _node(driver: str, node: str, path: Path, **options: Any) -> list[str]:
    """A -blockdev pair: the file, and the format on top of it (JSON: no quoting of commas)."""
    cache = {"direct": False, "no-flush": options.pop("unsafe", False)}
    read_only = bool(options.get("read-only"))
    lower = {"driver": "file", "node-name": f"{node}-file", "filename": str(path),
             "read-only": read_only, "cache": cache}  # fmt: skip
    if read_only:
        lower["locking"] = "off"
    upper = {"driver": driver, "node-name": node, "file": f"{node}-file", "cache": cache, **options}
    return ["-blockdev", json.dumps(lower), "-blockdev", json.dumps(upper)]


def command_line(
    qemu: Qemu,
    spec: MachineSpec,
    accelerator: Accelerator,
    *,
    qmp_fd: int,
    serial_fd: int,
    firmware: tuple[Path, Path] | None = None,
) -> list[str]:
    """The words that start `spec`; `firmware` is UEFI code and this machine's own variables.

    A guest's reset ends in a paused machine (event SHUTDOWN, reason guest-reset), so that the
    caller can take the CD out before it goes on.
    """
    machine = ["pc" if spec.floppy else spec.board, f"accel={accelerator.value}"]
    if spec.serial_mirror:
        machine.append("graphics=off")
    words = [str(qemu.program), "-nodefaults", "-no-user-config", "-name", "obsdimg-smoke"]
    if firmware:
        words += _node("raw", "uefi-code", firmware[0], **{"read-only": True})
        words += _node("raw", "uefi-vars", firmware[1])
        machine += ["pflash0=uefi-code", "pflash1=uefi-vars"]
    words += ["-machine", ",".join(machine), "-smp", "1", "-m", str(spec.memory_mib)]
    if accelerator is not Accelerator.TCG:
        words += ["-cpu", "host"]
    words += ["-display", "none", "-vga", "std", "-rtc", "base=utc"]
    words += ["-action", "reboot=shutdown,shutdown=pause,panic=pause"]
    words += ["-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"]
    words += ["-chardev", f"socket,id=serial,fd={serial_fd}", "-serial", "chardev:serial"]
    if spec.floppy:
        words += _node("raw", "floppy", spec.floppy, **{"read-only": True})
        words += ["-device", "floppy,drive=floppy", "-global", "isa-fdc.bootindexA=0"]
    drive = "ide-cd,bus=ide.1,id=cd,bootindex=1"
    if spec.cdrom:
        words += _node("raw", "cd-medium", spec.cdrom, **{"read-only": True})
        drive += ",drive=cd-medium" if spec.cd_inserted else ""
    words += ["-device", drive]
    if spec.disk:
        # Flushes of the guest are not passed on: the disk outlives the guest, not the host.
        words += _node("qcow2", "disk", spec.disk, unsafe=True, discard="unmap")
        words += ["-device", "virtio-blk-pci,drive=disk,id=disk0,bootindex=2"]
    rules = "".join(
        f",hostfwd={f.protocol}:127.0.0.1:{f.host_port}-{spec.network.guest}:{f.guest_port}"
        for f in spec.forwards
    )
    restrict = ",restrict=on" if spec.offline else ""
    words += ["-netdev", f"user,id=net,{spec.network.option}{restrict}{rules}"]
    # Without its option ROM: no network boot, which would cost seconds at every start.
    words += ["-device", f"{spec.network_card},netdev=net,romfile="]
    for number, private in enumerate(spec.private_networks, 1):
        words += ["-netdev", f"user,id=net{number},restrict=on,{private.option}"]
        words += ["-device", f"{spec.network_card},netdev=net{number},romfile="]
    return [*words, *spec.extra]


def forwarded_ports(usernet: str, wanted: tuple[Forward, ...]) -> Mapping[Forward, int]:
    """Which host port each forward got, from the monitor's `info usernet`.

    Raises QemuError when one is missing.
    """
    found: dict[tuple[str, int], int] = {}
    pattern = re.compile(
        r"^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)", re.M
    )
    for protocol, host_port, guest_port in pattern.findall(usernet):
        found[protocol.lower(), int(guest_port)] = int(host_port)
    try:
        return {f: found[f.protocol, f.guest_port] for f in wanted}
    except KeyError as error:
        raise QemuError(f"QEMU does not report the forwarded port {error.args[0]}") from error
