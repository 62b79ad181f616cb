"""The machine that a rehearsal pretends to be, and the person at its console.  Typed data only.

The defaults are a small cloud server as Vultr and QEMU give it: one virtio disk (`sd0`), the
install CD (`cd0`), one virtio network interface with DHCP, VGA and a serial port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, Protocol

from obsdimg.response.matching import parse, read_lines

GIB = 1 << 30
SECTOR = 512

Contents = Literal["empty", "foreign", "openbsd", "encrypted"]
"""`foreign`: MBR and an ext4 file system; `openbsd`: an installed system; `encrypted`: a RAID
partition with a CRYPTO volume, which `MachineDisk.passphrase` opens."""


@dataclass(frozen=True)
class MachineDisk:
    """A disk: `size` in bytes, what is on it; `writable` False: read-only media."""

    size: int = 25 * GIB
    contents: Contents = "empty"
    passphrase: str = "old passphrase"  # noqa: S105
    model: str = "VirtIO, Block Device, "
    writable: bool = True


@dataclass(frozen=True)
class Dhcp:
    """What a DHCP server gives out."""

    address: str = "10.0.2.15"
    netmask: str = "255.255.255.0"
    router: str = "10.0.2.2"
    nameservers: tuple[str, ...] = ("10.0.2.3",)
    domain: str = ""


@dataclass(frozen=True)
class MachineNic:
    """A network interface; `dhcp` None: nobody answers there."""

    name: str
    lladdr: str = "52:54:00:12:34:56"
    dhcp: Dhcp | None = Dhcp()  # frozen


@dataclass(frozen=True)
class InstalledSystem:
    """What is on the root file system of the first disk: `files` by path; the CD's folder `sets`
    lies at `place`, too."""

    files: Mapping[str, bytes]
    sets: str
    place: str


@dataclass(frozen=True)
class RehearsalMachine:
    """Everything the installer can see of the machine.

    `memory` in MiB; `serial`: the console is on com0 at `speed`; `aperture`: with a BIOS the VGA
    driver says "aperture needed" (it does on 6.6 and 7.7); `efi`: started by UEFI; `acpi`: the
    version of its ACPI (from 5 on, 7.7 prefers a GPT); `clock` seconds since 1970.
    """

    version: str = "6.6"
    arch: str = "amd64"
    disks: tuple[MachineDisk, ...] = (MachineDisk(),)
    nics: tuple[MachineNic, ...] = (MachineNic("vio0"),)
    cpus: int = 1
    memory: int = 1024
    vga: bool = True
    com: bool = True
    serial: bool = False
    speed: int = 9600
    aperture: bool = True
    efi: bool = False
    acpi: str = "1.0"
    clock: int = 1_570_838_400
    installed: InstalledSystem | None = None


@dataclass(frozen=True)
class MachineChanges:
    """What a user says of the machine; None and False leave what fits the response file.

    `dhcp` False: nobody answers DHCP on the interfaces that the response file names.
    """

    disks: tuple[MachineDisk, ...] | None = None
    nics: tuple[MachineNic, ...] | None = None
    cpus: int | None = None
    serial: bool = False
    efi: bool = False
    dhcp: bool = True

    def applied(self, machine: RehearsalMachine) -> RehearsalMachine:
        """`machine` with these changes."""
        nics = machine.nics if self.nics is None else self.nics
        if not self.dhcp:
            nics = tuple(replace(nic, dhcp=None) for nic in nics)
        return replace(
            machine,
            disks=machine.disks if self.disks is None else self.disks,
            nics=nics,
            cpus=machine.cpus if self.cpus is None else self.cpus,
            serial=machine.serial or self.serial,
            efi=machine.efi or self.efi,
        )


def likely_machine(response: bytes, base: RehearsalMachine) -> RehearsalMachine:
    """`base` with what a response file expects: its network interfaces (a static address means
    that nobody answers DHCP there) and a serial console."""
    entries = [entry for line in read_lines(response) if (entry := parse(line.text))]
    names = [e.value for e in entries if "network interface" in e.key and e.value[-1:].isdigit()]
    static = {
        name
        for name in names
        for e in entries
        if e.key.startswith(f"ipv4 address for {name}") and e.value not in ("dhcp", "autoconf")
    }
    nics = []
    for number, name in enumerate(dict.fromkeys(n for n in names if not n.startswith("vlan"))):
        network = f"10.0.{2 + number}"
        dhcp = None if name in static else Dhcp(f"{network}.15", router=f"{network}.2")
        nics.append(MachineNic(name, f"52:54:00:12:34:{56 + number:02d}", dhcp))
    serial = any(
        e.key.startswith("change the default console") and e.value == "yes" for e in entries
    )
    return replace(base, nics=tuple(nics) or base.nics, serial=serial or base.serial)


@dataclass(frozen=True)
class Reply:
    """What the operator types when `prompt` (a regular expression) ends the console's output.

    `times` limits how often; a `secret` reply is masked in everything that is reported.
    """

    prompt: str
    answer: str
    secret: bool = False
    times: int = 100


PASSPHRASE = "rehearsal passphrase 7"  # noqa: S105
"""What the default operator types; it protects nothing but stand-in disks."""


class TypedPassphrase(Enum):
    """What the operator types where a passphrase is asked for: the user's own, which an ISO that
    was changed on the way may be waiting for, or a made-up one that opens nothing."""

    REAL = "real"
    DUMMY = "dummy"


@dataclass(frozen=True)
class Operator:
    """The person at the console: replies, tried in order at every prompt."""

    answers: tuple[Reply, ...] = ()

    @classmethod
    def default(
        cls,
        passphrase: str = PASSPHRASE,
        *,
        wipe: bool = False,
        typed: TypedPassphrase = TypedPassphrase.REAL,
    ) -> Operator:
        """Types `passphrase` wherever one is asked for (a made-up one if `typed` says so); agrees
        to erase a disk only with `wipe`."""
        phrase = passphrase if typed is TypedPassphrase.REAL else PASSPHRASE
        answers = [Reply(r"(?i:passphrase[^\n]*|the same again): *", phrase, secret=True, times=4)]
        if not wipe:
            answers += [Reply(r"(?s:wipe sd\d+[a-p]?\b.*)Answer: ", "no")]
        else:
            answers += [Reply(r"(?s:wipe (sd\d+[a-p]?)\b(?!.*wipe).*)Answer: ", r"wipe \1")]
        return cls(tuple(answers))


class Known(Protocol):
    """What a release is known to ask."""

    def asks(self, text: str) -> bool:
        """Whether `text` is one of its questions."""

    def answers(self, key: str) -> bool:
        """Whether a line with `key` (lower case) would answer one of its questions."""
