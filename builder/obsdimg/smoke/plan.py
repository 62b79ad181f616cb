"""What a smoke test is told: the ISO, the secrets, the peers, and what is expected.

`SmokePlan` is the whole interface of this room; whoever has a configuration translates it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core.secret import Secret
from obsdimg.tunnel.identity import TunnelClient

__all__ = ["EmulatedNetwork", "Login", "Secret", "SmokePlan", "mask"]


@dataclass(frozen=True)
class EmulatedNetwork:
    """The emulated IPv4 network.  By default documentation addresses (RFC 5737): to the
    guest's packet filter its gateway is then the internet, where QEMU's usual 10.0.2.0/24
    would be a private network.  A guest with a fixed address gets the network it expects.
    """

    guest: str = "198.51.100.15"
    prefix: int = 24
    gateway: str = "198.51.100.2"

    @property
    def option(self) -> str:
        """For QEMU's `-netdev user`.  The name server is another free address."""
        net = ipaddress.ip_network(f"{self.guest}/{self.prefix}", strict=False)
        taken = {self.guest, self.gateway}
        name_server = next(str(a) for a in net.hosts() if str(a) not in taken)
        return f"net={net},host={self.gateway},dns={name_server},dhcpstart={self.guest}"

    @property
    def gateway_is_internet(self) -> bool:
        """The server's packet filter counts private networks (RFC 1918, 6598) as its own."""
        inside = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
        gateway = ipaddress.ip_address(self.gateway)
        return not any(gateway in ipaddress.ip_network(n) for n in inside)


@dataclass(frozen=True)
class Login:
    """A way into the guest over ssh, for the checks that need a shell there."""

    user: str
    identity: Path


@dataclass(frozen=True)
class SmokePlan:
    """All that the scenario needs to know.  Sizes in bytes."""

    iso: Path
    release: str  # "6.6"
    passphrase: Secret
    sealing_passphrase: Secret | None = None
    """What opens the sealed secrets, where it differs from the disk's passphrase."""
    peers: tuple[TunnelClient, ...] = ()
    """The clients that call; one without `server` gets the key that the console shows."""
    encrypted: bool = True
    unattended: bool = False
    """The passphrase is embedded in the ISO: the hook asks nothing."""
    disk_size: int = 4 * 1024**3
    memory_mib: int = 1024
    uefi: bool = False
    ssh_open: bool = False
    """ssh answers from outside (not only through the tunnel)."""
    tcp_ports: tuple[int, ...] = (22, 25, 53, 80, 111, 113, 443, 587, 2049, 6000, 8080)
    """TCP ports of the guest that are tried from outside; all but ssh must not be open."""
    login: Login | None = None
    absent: tuple[tuple[str, bytes], ...] = ()
    """What must not be readable on the disk: a name for the report, and the bytes."""
    secrets: tuple[tuple[str, Secret], ...] = ()
    """More secrets, named: masked in every log, searched for on the disk."""
    network: EmulatedNetwork = EmulatedNetwork()
    kdf_rounds: int | None = None
    """bcrypt rounds of the disk's passphrase; None: what takes the guest about a second."""
    private_networks: tuple[EmulatedNetwork, ...] = ()
    """Networks of the machine's further cards, in their order (vio1, vio2 ...)."""
    board: str = "q35"
    network_card: str = "virtio-net-pci"
    """QEMU's name of every card of the machine."""
    guarded: bool = True
    """An installed disk is left alone; False where the configuration says to overwrite it."""
    loader_on_com0: bool = False
    """The disk tells a BIOS machine's loader to ask on com0, with a screen, too (disk.loader)."""
    halts: bool = False
    """After the installation the machine halts and waits instead of rebooting."""
    online: bool = False
    """The guest reaches the internet, and this host's loopback."""
    offline: bool = False
    """QEMU itself cuts the guest off; its DHCP names no router then."""
    idle_seconds: float = 0.0
    """How long the server is left alone between its first boot and its first client."""


def kdf_seconds(rounds: int | None) -> float:
    """How long the boot loader may take over a passphrase, in seconds with acceleration:
    3.3 ms a round in the kernel (E66), the loader is several times slower."""
    return 30.0 + 0.02 * (rounds or 300)


_MASK = "***"


def mask(text: str, secrets: tuple[Secret, ...]) -> str:
    """`text` with every secret replaced by `***`, longest first."""
    values = sorted({s.reveal() for s in secrets if s.reveal()}, key=len, reverse=True)
    if not values:
        return text
    return re.sub("|".join(map(re.escape, values)), _MASK, text)
