"""What every provider promises to `deploy`, as one walk through a machine's life.

A new provider's test calls `walk` with itself (docs/providers.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from obsdimg.deploy.provider import Instance, InstanceSpec, Provider, RemoteIso, UdpRule

TAG = "obsdimg-contract-0123456789ab"
LABEL = "contract"

T = TypeVar("T")


@dataclass(frozen=True)
class Contract:
    """What differs between providers."""

    region: str
    plan: str
    url: str
    """Of the ISO; its last part, or its fragment, holds TAG."""
    size: int
    sha512: str
    firewall: bool = True
    subnet: str = "172.16.1.0/24"
    seconds: float = 60.0


def walk(provider: Provider, contract: Contract) -> None:
    """Everything that `deploy` and `destroy` do, and that each is found again and done once."""
    offer = provider.offer(contract.region, contract.plan)
    assert offer.cpus >= 1
    assert offer.ram >= 256
    assert offer.disk >= 4

    before = {iso.id for iso in provider.isos()}
    asked = provider.create_iso(contract.url)
    iso = _until(lambda: _complete(provider, asked.id), contract.seconds)
    assert iso.sha512 == contract.sha512
    assert provider.size_agrees(iso.size, contract.size)
    assert asked.id not in before
    assert any(TAG in one.filename for one in provider.isos())

    firewall = None
    if contract.firewall:
        firewall = provider.create_firewall(TAG).id
        rule = UdpRule("v4", 53)
        provider.add_firewall_rule(firewall, rule)
        assert rule in provider.firewall_rules(firewall)
        assert any(one.description == TAG for one in provider.firewalls())
    network = provider.create_network(contract.region, TAG, contract.subnet).id
    assert any(one.description == TAG for one in provider.networks())

    assert provider.instances(LABEL) == []
    made = provider.create_instance(
        InstanceSpec(
            region=contract.region, plan=contract.plan, label=LABEL, hostname=LABEL, tag=TAG,
            iso=iso.id, firewall=firewall, network=network,
        )
    )  # fmt: skip
    found = provider.instances(LABEL)
    assert [one.id for one in found] == [made.id]
    assert TAG in found[0].tags
    running = _until(lambda: _addressed(provider, made.id), contract.seconds)
    assert running.label == LABEL
    assert "console" not in repr(running)
    assert provider.attached_iso(made.id) == iso.id

    provider.detach_iso(made.id)
    _until(lambda: provider.attached_iso(made.id) is None or None, contract.seconds)
    _until(lambda: _addressed(provider, made.id), contract.seconds)

    provider.delete_instance(made.id)
    _until(lambda: provider.instance(made.id) is None or None, contract.seconds)
    provider.delete_instance(made.id)  # a missing one is as good
    provider.delete_rest(TAG)
    provider.delete_iso(iso.id)
    provider.delete_iso(iso.id)
    assert provider.iso(iso.id) is None
    if firewall is not None:
        provider.delete_firewall(firewall)
        provider.delete_firewall(firewall)
    provider.delete_network(network)
    provider.delete_network(network)
    assert not any(one.description == TAG for one in provider.networks())


def _complete(provider: Provider, key: str) -> RemoteIso | None:
    iso = provider.iso(key)
    return iso if iso is not None and iso.complete and iso.sha512 else None


def _addressed(provider: Provider, key: str) -> Instance | None:
    instance = provider.instance(key)
    return instance if instance is not None and instance.active and instance.address else None


def _until(look: Callable[[], T | None], seconds: float) -> T:
    end = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.2)
    return found
