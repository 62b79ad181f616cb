"""libvirt's XML for a machine like a small cloud server (libvirt.org/formatdomain.html)."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET

NAMESPACE = "urn:obsdimg:domain"


@dataclass(frozen=True)
class Machine:
    """What a domain is made from.  `ram` in MiB; `disk` and `iso` are volumes of `pool`."""

    label: str
    tag: str
    kind: str
    """kvm, or qemu (without acceleration)."""
    cpus: int
    ram: int
    pool: str
    disk: str
    iso: str | None
    """In its CD drive; None: it has none, and starts from its disk."""
    network: str
    mac: str
    uefi: bool
    console_password: str
    private_network: str | None = None


def domain(machine: Machine) -> str:
    """virtio disk and network, BIOS or UEFI, VGA with VNC on the hypervisor's loopback, com0.

    The disk starts before the CD: an empty disk lets the ISO start, an installed one does not.
    """
    top = ET.Element("domain", type=machine.kind)
    _add(top, "name", machine.label)
    _add(top, "description", machine.tag)
    _add(top, "memory", str(machine.ram), unit="MiB")
    _add(top, "vcpu", str(machine.cpus))
    system = _add(top, "os", **({"firmware": "efi"} if machine.uefi else {}))
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    if machine.uefi:
        # Left to itself libvirt takes firmware with Secure Boot, which starts no OpenBSD.
        firmware = _add(system, "firmware")
        for feature in ("enrolled-keys", "secure-boot"):
            _add(firmware, "feature", enabled="no", name=feature)
    features = _add(top, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if machine.kind == "kvm":
        _add(top, "cpu", mode="host-passthrough")
    _add(top, "clock", offset="utc")
    _add(top, "on_reboot", "restart")
    _add(top, "on_crash", "destroy")
    devices = _add(top, "devices")
    _volume(devices, machine.pool, machine.disk, "disk", "qcow2", "vda", "virtio", 1)
    if machine.iso is not None:
        _volume(devices, machine.pool, machine.iso, "cdrom", "raw", "sda", "sata", 2)
    _card(devices, machine.network, machine.mac)
    if machine.private_network:
        _card(devices, machine.private_network, None)
    # Without a port a loader that boot.conf sends to com0 hangs there (seen on a 7.7).
    _add(_add(devices, "serial", type="pty"), "target", port="0")
    graphics = _add(
        devices, "graphics", type="vnc", autoport="yes", passwd=machine.console_password
    )
    _add(graphics, "listen", type="address", address="127.0.0.1")
    video = _add(devices, "video")
    _add(video, "model", type="vga")
    _add(devices, "rng", model="virtio").append(_element("backend", "/dev/urandom", model="random"))
    _add(devices, "memballoon", model="none")
    return ET.tostring(top, encoding="unicode")


def volume(name: str, size: int) -> str:
    """A qcow2 volume of `size` bytes (libvirt.org/formatstorage.html)."""
    top = ET.Element("volume")
    _add(top, "name", name)
    _add(top, "capacity", str(size), unit="bytes")
    _add(_add(top, "target"), "format", type="qcow2")
    return ET.tostring(top, encoding="unicode")


def network(name: str, tag: str) -> str:
    """A network between machines only: no forwarding, no address, no DHCP."""
    top = ET.Element("network")
    _add(top, "name", name)
    metadata = _add(top, "metadata")
    metadata.append(_element(f"{{{NAMESPACE}}}tag", tag))
    return ET.tostring(top, encoding="unicode")


def _volume(
    devices: ET.Element, pool: str, name: str, device: str, kind: str, target: str, bus: str,
    order: int,
) -> None:  # fmt: skip
    disk = _add(devices, "disk", type="volume", device=device)
    _add(disk, "driver", name="qemu", type=kind, **({"cache": "none"} if device == "disk" else {}))
    _add(disk, "source", pool=pool, volume=name)
    _add(disk, "target", dev=target, bus=bus)
    if device == "cdrom":
        _add(disk, "readonly")
    _add(disk, "boot", order=str(order))


def _card(devices: ET.Element, network: str, mac: str | None) -> None:
    card = _add(devices, "interface", type="network")
    if mac is not None:
        _add(card, "mac", address=mac)
    _add(card, "source", network=network)
    _add(card, "model", type="virtio")
    _add(card, "rom", enabled="no")  # no network boot, which would cost seconds at every start


def _add(parent: ET.Element, tag: str, /, text: str | None = None, **attributes: str) -> ET.Element:
    child = _element(tag, text, **attributes)
    parent.append(child)
    return child


def _element(tag: str, /, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.Element(tag, attributes)
    element.text = text
    return element
