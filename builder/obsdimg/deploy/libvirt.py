"""The provider `libvirt`: a machine of one's own, through virsh (docs/providers.md).

`deploy.region` is a storage pool, `deploy.plan` a size (`1c-1024m-10g`), `deploy.network` one of
libvirt's networks, in which the machine gets a fixed address.  Everything is findable by the
deployment's mark: volumes and private networks have it in their name, the machine in its
description.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
import secrets
import string
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

from obsdimg.config import Config
from obsdimg.deploy import domain_xml
from obsdimg.deploy.provider import (
    Instance,
    InstanceSpec,
    MissingError,
    NamedThing,
    Offer,
    Provider,
    ProviderError,
    RemoteIso,
    UdpRule,
    UncertainError,
)
from obsdimg.deploy.registry import register
from obsdimg.deploy.virsh import Virsh

POOL = "default"
PLAN = "1c-1024m-10g"
_PLAN = re.compile(r"(\d{1,3})c-(\d{2,7})m-(\d{1,5})g")
UPLOAD_SECONDS = 3600.0
SHUTDOWN_SECONDS = 90.0
"""How long a system has to power off by its button; the boot loader and the installer do not."""
VNC_PASSWORD = 8
"""Characters: VNC compares no more."""


class Libvirt:
    """libvirt at `uri`; see provider.Provider for what the methods promise."""

    name = "libvirt"
    suffix = ".iso"
    """Of the volumes that machines are made from."""

    def __init__(
        self,
        virsh: Virsh,
        network: str = "default",
        *,
        pool: str = POOL,
        uefi: bool = False,
        accelerated: bool = True,
    ) -> None:
        self._virsh = virsh
        self._network, self._pool = network, pool
        self._uefi, self._accelerated = uefi, accelerated

    # -- what there is

    def offer(self, region: str, plan: str) -> Offer:
        pool = region or POOL
        found = _PLAN.fullmatch(PLAN if plan.startswith("vc2-") else plan)
        if found is None:
            raise ProviderError(
                f"deploy.plan: {plan!r} is no size of a machine", f"CPUs-MiB-GB, such as {PLAN}"
            )
        try:
            state = self._virsh("pool-info", pool)
        except MissingError as error:
            pools = self._virsh("pool-list", "--all", "--name").split()
            raise ProviderError(
                f"deploy.region: libvirt has no storage pool {pool!r}",
                f"pools: {', '.join(pools) or 'none'} (virsh pool-define-as makes one)",
            ) from error
        if not re.search(r"^State:\s+running", state, re.MULTILINE):
            raise ProviderError(
                f"deploy.region: the storage pool {pool!r} is not started",
                f"virsh -c {self._virsh.uri} pool-start {pool}",
            )
        self._check_network()
        cpus, ram, disk = map(int, found.groups())
        host = self._virsh("hostname").strip()
        return Offer(pool, host, found[0], cpus, ram, disk, 0.0, gigabyte=1 << 30)  # virsh's G

    def _check_network(self) -> None:
        try:
            info = self._virsh("net-info", self._network)
        except MissingError as error:
            names = self._virsh("net-list", "--all", "--name").split()
            raise ProviderError(
                f"deploy.network: libvirt has no network {self._network!r}",
                f"networks: {', '.join(names) or 'none'}",
            ) from error
        if not re.search(r"^Active:\s+yes", info, re.MULTILINE):
            raise ProviderError(
                f"deploy.network: the network {self._network!r} is not started",
                f"virsh -c {self._virsh.uri} net-start {self._network}",
            )
        self._range()

    def hides(self) -> bool:
        if not urlsplit(self._virsh.uri).hostname:
            return False
        _, _, xml = self._range()
        forward = xml.find("forward")
        return forward is None or forward.get("mode", "nat") == "nat"

    # -- ISOs: raw volumes of the pool.  One that is not uploaded whole does not count.

    def isos(self) -> list[RemoteIso]:
        names = [line.split()[0] for line in self._virsh("vol-list", self._pool).splitlines()
                 if line.strip()]  # fmt: skip
        found = [self._iso(name) for name in names if name.endswith(self.suffix)]
        return [iso for iso in found if iso is not None and iso.complete]

    def iso(self, key: str) -> RemoteIso | None:
        found = self._iso(key)
        if found is None or not found.complete:
            return found
        return replace(found, sha512=self._sha512(key))

    def create_iso(self, url: str) -> RemoteIso:
        parts = urlsplit(url)
        if parts.scheme != "file" or not parts.fragment:
            raise ProviderError(
                "libvirt takes the file from this host", "leave --url and --serve away"
            )
        path, name = Path(unquote(parts.path)), parts.fragment
        if self._iso(name) is not None:
            self.delete_iso(name)  # an upload that was cut short
        size = path.stat().st_size
        self._virsh("vol-create-as", self._pool, name, f"{size}B", "--format", "raw",
                    "--allocation", "0")  # fmt: skip
        self._virsh("vol-upload", "--pool", self._pool, name, path, seconds=UPLOAD_SECONDS)
        made = self._iso(name)
        assert made is not None
        return made

    def delete_iso(self, key: str) -> None:
        self._delete_volume(key)

    def size_agrees(self, reported: int, size: int) -> bool:
        return reported == size

    def _iso(self, name: str) -> RemoteIso | None:
        try:
            xml = ET.fromstring(self._virsh("vol-dumpxml", "--pool", self._pool, name))  # noqa: S314
        except MissingError:
            return None
        # `physical`: bytes of the file; of a qcow2 `capacity` is the size of the disk in it.
        size = int(xml.findtext("physical") or xml.findtext("capacity") or 0)
        allocation = int(xml.findtext("allocation") or 0)
        complete = 0 < size <= allocation
        return RemoteIso(name, name, "complete" if complete else "pending", complete, size, "")

    def _sha512(self, name: str) -> str:
        """Of what is really there, by downloading it: into this process, never into a file."""
        digest = hashlib.sha512()
        words = ("vol-download", "--pool", self._pool, name, "/dev/stdout")
        self._virsh.pour(words, digest.update, UPLOAD_SECONDS)
        return digest.hexdigest()

    def _delete_volume(self, name: str) -> None:
        with contextlib.suppress(MissingError):
            self._virsh("vol-delete", "--pool", self._pool, name)

    # -- machines

    def instances(self, label: str) -> list[Instance]:
        found = self.instance(label)
        if found is None:
            return []
        if found.status == "shut off" and found.tags and found.tags[0].startswith("obsdimg-"):
            self._virsh("start", label)  # a run was killed between making and starting it
            found = self.instance(label)
        return [found] if found is not None else []

    def instance(self, key: str) -> Instance | None:
        try:
            text = self._virsh("dumpxml", "--security-info", key)
        except MissingError:
            return None
        xml = ET.fromstring(text)  # noqa: S314 (of libvirt itself)
        status = self._virsh("domstate", key).strip()
        mac = xml.find("devices/interface/mac")
        address = self._reserved(mac.get("address", "")) if mac is not None else None
        graphics = xml.find("devices/graphics[@type='vnc']")
        port = int(graphics.get("port", "-1")) if graphics is not None else -1
        return Instance(
            xml.findtext("uuid") or key,
            xml.findtext("name") or key,
            (xml.findtext("description") or "",),
            "active" if status == "running" else status,
            status == "running",
            address,
            self._console(port) if port > 0 else "",
            graphics.get("passwd", "") if graphics is not None else "",
        )

    def _console(self, port: int) -> str:
        """VNC listens on the hypervisor's loopback: over ssh where that is another host."""
        parts = urlsplit(self._virsh.uri)
        if not parts.hostname:
            return f"vnc://127.0.0.1:{port}"
        user = f"{parts.username}@" if parts.username else ""
        ssh_port = f" -p {parts.port}" if parts.port else ""
        return f"vnc+exec:ssh{ssh_port} -W 127.0.0.1:{port} {user}{parts.hostname}"

    def create_instance(self, spec: InstanceSpec) -> Instance:
        offer = self.offer(spec.region, spec.plan)
        self._pool = offer.region
        disk = f"{spec.tag}.qcow2"
        mac = _mac(spec.tag)
        alphabet = string.ascii_letters + string.digits
        machine = domain_xml.Machine(
            spec.label, spec.tag, self._kind(), offer.cpus, offer.ram, self._pool, disk,
            self._in_drive(spec.iso), self._network, mac, self._uefi,
            "".join(secrets.choice(alphabet) for _ in range(VNC_PASSWORD)), spec.network,
        )  # fmt: skip
        try:
            self._make_disk(disk, offer.disk, spec.iso)
            self._reserve(mac, spec.hostname)
            self._virsh("define", "/dev/stdin", stdin=domain_xml.domain(machine))
            self._virsh("start", spec.label)
        except UncertainError:
            raise
        except ProviderError:
            # Refused: nobody looks for it later, so what came before goes.  The first error counts.
            with contextlib.suppress(ProviderError):
                found = self.instance(spec.label)
                if found is not None and spec.tag in found.tags:
                    self.delete_instance(spec.label)
                self.delete_rest(spec.tag)
            raise
        made = self.instance(spec.label)
        assert made is not None
        return made

    def _make_disk(self, name: str, gibibytes: int, medium: str) -> None:
        """The machine's disk, for what will be installed from `medium`: an empty one."""
        if not self._virsh.exists("vol-info", "--pool", self._pool, name):
            self._virsh("vol-create-as", self._pool, name, f"{gibibytes}G", "--format", "qcow2")

    def _in_drive(self, medium: str) -> str | None:
        """What is in the machine's CD drive; None: it has no drive."""
        return medium

    def _kind(self) -> str:
        """kvm where the hypervisor has it."""
        if not self._accelerated:
            return "qemu"
        try:
            self._virsh("domcapabilities", "--virttype", "kvm", "--arch", "x86_64")
        except ProviderError:
            return "qemu"
        return "kvm"

    def delete_instance(self, key: str) -> None:
        try:
            xml = ET.fromstring(self._virsh("dumpxml", key))  # noqa: S314
        except MissingError:
            return
        with contextlib.suppress(ProviderError):
            self._virsh("destroy", key)
        tag = xml.findtext("description") or ""
        pool = xml.find("devices/disk[@device='disk']/source")
        if pool is not None and pool.get("pool"):
            self._pool = str(pool.get("pool"))
        if tag.startswith("obsdimg-"):
            self._delete_volume(f"{tag}.qcow2")
        mac = xml.find("devices/interface/mac")
        if mac is not None:
            self._release(mac.get("address", ""))
        uefi = ["--nvram"] if xml.find("os/nvram") is not None else []
        self._virsh("undefine", key, *uefi)  # at last: until then it is found again

    def delete_rest(self, tag: str) -> None:
        self._delete_volume(f"{tag}.qcow2")
        self._release(_mac(tag))

    def attached_iso(self, key: str) -> str | None:
        xml = ET.fromstring(self._virsh("dumpxml", key))  # noqa: S314
        source = xml.find("devices/disk[@device='cdrom']/source")
        if source is None:
            return None
        return source.get("volume") or source.get("file")

    def detach_iso(self, key: str) -> None:
        """Take it out, and restart: by the power button where the system listens to it."""
        self._virsh("change-media", key, "sda", "--eject", "--force", "--live", "--config")
        self._virsh("shutdown", key, "--mode", "acpi")
        end = time.monotonic() + SHUTDOWN_SECONDS
        while time.monotonic() < end:
            if self._virsh("domstate", key).strip() == "shut off":
                self._virsh("start", key)
                return
            time.sleep(1)
        self._virsh("reset", key)

    # -- addresses: a reservation in the network's DHCP, so that it is known from the beginning

    def _range(self) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address, ET.Element]:
        xml = ET.fromstring(self._virsh("net-dumpxml", self._network))  # noqa: S314
        for ip in xml.findall("ip"):
            found = ip.find("dhcp/range")
            if found is not None and ":" not in found.get("start", ":"):
                start, end = (ipaddress.IPv4Address(found.get(k, "")) for k in ("start", "end"))
                return start, end, xml
        raise ProviderError(
            f"deploy.network: the network {self._network!r} gives no IPv4 addresses by DHCP",
            "choose one of libvirt's NAT or routed networks (virsh net-list)",
        )

    def _hosts(self) -> dict[str, str]:
        _, _, xml = self._range()
        return {h.get("mac", "").lower(): h.get("ip", "") for h in xml.iter("host")}

    def _reserved(self, mac: str) -> str | None:
        return self._hosts().get(mac.lower())

    def _reserve(self, mac: str, name: str) -> None:
        if self._reserved(mac):
            return
        start, end, _ = self._range()
        leases = self._virsh("net-dhcp-leases", self._network)
        taken = {*self._hosts().values(), *re.findall(r"\d+\.\d+\.\d+\.\d+", leases)}
        for number in range(int(start), int(end) + 1):
            address = str(ipaddress.IPv4Address(number))
            if address not in taken:
                self._update("add", f"<host mac='{mac}' name='{name}' ip='{address}'/>")
                return
        raise ProviderError(f"deploy.network: {self._network!r} has no free address left")

    def _release(self, mac: str) -> None:
        if address := self._reserved(mac):
            self._update("delete", f"<host mac='{mac}' ip='{address}'/>")

    def _update(self, how: str, xml: str) -> None:
        self._virsh("net-update", self._network, how, "ip-dhcp-host", xml, "--live", "--config")

    # -- private networks; a filter of its own a machine behind NAT does not need

    def firewalls(self) -> list[NamedThing]:
        return []

    def create_firewall(self, description: str) -> NamedThing:
        raise ProviderError("libvirt: no firewall groups", "set deploy.firewall = false")

    def firewall_rules(self, key: str) -> list[UdpRule]:
        return []

    def add_firewall_rule(self, key: str, rule: UdpRule) -> None:
        raise ProviderError("libvirt: no firewall groups", "set deploy.firewall = false")

    def delete_firewall(self, key: str) -> None:
        return

    def networks(self) -> list[NamedThing]:
        names = self._virsh("net-list", "--all", "--name").split()
        return [NamedThing(name, name) for name in names]

    def create_network(self, region: str, description: str, subnet: str) -> NamedThing:
        self._virsh("net-define", "/dev/stdin", stdin=domain_xml.network(description, description))
        self._virsh("net-start", description)
        self._virsh("net-autostart", description)
        return NamedThing(description, description)

    def delete_network(self, key: str) -> None:
        with contextlib.suppress(MissingError):
            self._virsh("net-info", key)
            with contextlib.suppress(ProviderError):
                self._virsh("net-destroy", key)
            self._virsh("net-undefine", key)


def _mac(tag: str) -> str:
    """A MAC address that belongs to the deployment, in QEMU's range."""
    digest = hashlib.sha256(tag.encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


@register("libvirt")
@contextlib.contextmanager
def open_libvirt(config: Config, token_file: Path | None) -> Iterator[Provider]:
    """libvirt as `deploy.uri` says; there is no token, virsh and ssh know who one is."""
    yield connect(config, Libvirt, config.deploy.firmware == "uefi")


def connect(config: Config, kind: type[Libvirt], uefi: bool) -> Libvirt:
    """The provider `kind` of libvirt for machines that `uefi` or the BIOS starts, with a look
    whether libvirt answers.  Raises ProviderError."""
    settings = config.deploy
    virsh = Virsh(settings.uri)
    virsh("version")
    return kind(
        virsh,
        settings.network,
        pool=settings.region or POOL,
        uefi=uefi,
        accelerated=settings.accelerator == "auto",
    )
