"""What a smoke test is told: the ISO, the secrets, the peers, and what is expected.

`SmokePlan` is the whole interface of this room; whoever has a configuration translates it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


class Secret:
    """A text that must not be shown: no `str`, `repr` or comparison gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for typing and for masking, nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True)
class Peer:
    """One client of the tunnel, with what it needs to shake hands with the server.

    Keys are base64, as in WireGuard's own files; addresses are text.
    """

    name: str
    private_key: Secret
    server_public_key: str
    preshared_key: Secret | None
    addresses: tuple[str, ...]
    """Its own in the tunnel, e.g. `10.0.0.2/32`."""
    server_port: int
    ping: tuple[str, ...] = ()
    """Addresses inside the tunnel to ping, e.g. the server's own."""
    internet: bool = True
    """It may reach the internet through the server: the emulated gateway is pinged too."""


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
    peers: tuple[Peer, ...] = ()
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
    offline: bool = False
    """No network beyond the emulated gateway: first-boot downloads fail quickly."""


_MASK = "***"


def mask(text: str, secrets: tuple[Secret, ...]) -> str:
    """`text` with every secret replaced by `***`, longest first."""
    values = sorted({s.reveal() for s in secrets if s.reveal()}, key=len, reverse=True)
    if not values:
        return text
    return re.sub("|".join(map(re.escape, values)), _MASK, text)
