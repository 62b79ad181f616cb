"""What obsdimg asks of a provider of virtual machines; a second one implements this protocol.

Everything a provider makes is findable again by what we chose for it (label, tag, description,
file name), because a run may be killed between a request and its answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from obsdimg.core.errors import ObsdimgError


class DeployError(ObsdimgError):
    """Uploading or deploying went wrong; what was reached is in the state file."""


class OverdueError(DeployError):
    """A wait reached its limit."""


class ProviderError(DeployError):
    """The provider refused, failed, or could not be reached."""


class TokenError(ProviderError):
    """There is no token, or the provider does not accept it."""


class MissingError(ProviderError):
    """The provider has no such object (any more)."""


class UncertainError(ProviderError):
    """No answer came: the request may have been carried out.  Look before asking again."""


@dataclass(frozen=True)
class Offer:
    """A plan in a region, as the provider describes it."""

    region: str
    place: str
    plan: str
    cpus: int
    ram: int
    """Mebibytes."""
    disk: int
    """Gigabytes."""
    monthly: float
    """US dollars a month."""
    gigabyte: int = 10**9
    """Bytes that the provider calls one."""


@dataclass(frozen=True)
class RemoteIso:
    """An ISO in the account, or what else the machine is made from.  Until `complete`, size and
    checksum mean nothing."""

    id: str
    filename: str
    status: str
    complete: bool
    size: int
    sha512: str | None
    """Empty: not yet; None: this provider tells none."""


@dataclass(frozen=True)
class Instance:
    """A virtual machine.  `console` is a key to its screen and keyboard: never stored."""

    id: str
    label: str
    tags: tuple[str, ...]
    status: str
    active: bool
    address: str | None
    """Its public address, once it has one."""
    console: str = field(default="", repr=False)
    console_password: str = field(default="", repr=False)
    """The console's own password, where it has one."""


@dataclass(frozen=True)
class InstanceSpec:
    """What to create."""

    region: str
    plan: str
    label: str
    hostname: str
    tag: str
    iso: str
    ipv6: bool = False
    firewall: str | None = None
    network: str | None = None


@dataclass(frozen=True)
class NamedThing:
    """A firewall group or private network, found again by its description."""

    id: str
    description: str


@dataclass(frozen=True)
class UdpRule:
    """Traffic let in: UDP to `port` from anywhere, for IPv4 (`v4`) or IPv6 (`v6`)."""

    family: str
    port: int


class Provider(Protocol):
    """A provider.  Every method raises ProviderError; `delete_*` take a missing object as done.

    The `create_*` methods raise UncertainError where no answer came.
    """

    name: str

    def offer(self, region: str, plan: str) -> Offer:
        """The plan in the region.  Raises ProviderError, naming those there are."""
        ...

    def hides(self) -> bool:
        """Whether only an instance's own host reaches its address: it is behind NAT there."""
        ...

    def isos(self) -> list[RemoteIso]: ...
    def iso(self, key: str) -> RemoteIso | None: ...
    def create_iso(self, url: str) -> RemoteIso: ...
    def delete_iso(self, key: str) -> None: ...
    def size_agrees(self, reported: int, size: int) -> bool:
        """Whether the size that the provider reports is that of a file of `size` bytes."""
        ...

    def instances(self, label: str) -> list[Instance]: ...
    def instance(self, key: str) -> Instance | None: ...
    def create_instance(self, spec: InstanceSpec) -> Instance: ...
    def delete_instance(self, key: str) -> None: ...
    def delete_rest(self, tag: str) -> None:
        """Remove what a run that was killed had made for an instance of `tag` that never came to
        be; there is none with that tag."""
        ...

    def attached_iso(self, key: str) -> str | None:
        """The ISO in the drive of instance `key`; None: the drive is empty."""
        ...

    def detach_iso(self, key: str) -> None: ...

    def firewalls(self) -> list[NamedThing]: ...
    def create_firewall(self, description: str) -> NamedThing: ...
    def firewall_rules(self, key: str) -> list[UdpRule]: ...
    def add_firewall_rule(self, key: str, rule: UdpRule) -> None: ...
    def delete_firewall(self, key: str) -> None: ...

    def networks(self) -> list[NamedThing]: ...
    def create_network(self, region: str, description: str, subnet: str) -> NamedThing:
        """A private network for `subnet` (`172.16.1.0/24`) in `region`."""
        ...

    def delete_network(self, key: str) -> None: ...
