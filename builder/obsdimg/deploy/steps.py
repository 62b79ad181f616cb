"""From an ISO at the provider to a server that answers, step by step.

A step looks at the state, does what is left of it, and saves; every one may be the last of a run
that is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from obsdimg.deploy.handshake import Waiting
from obsdimg.deploy.provider import DeployError, Instance, InstanceSpec, UdpRule
from obsdimg.deploy.work import Work
from obsdimg.tunnel.identity import TunnelClient


@dataclass(frozen=True)
class WantedInstance:
    """What is to be created besides the ISO."""

    region: str
    plan: str
    hostname: str
    ipv6: bool = False
    firewall_ports: tuple[int, ...] = ()
    """UDP ports of a firewall group; empty: no group."""
    network: str = "none"
    """none, create, or the id of a private network."""
    subnet: str = ""
    """Of a private network to create, `172.16.1.0/24`."""


class Deployment(Work):
    """Makes the instance, proves that it serves, takes the ISO out."""

    def create(self, wish: WantedInstance) -> None:
        """Firewall group, private network and instance; waits until it runs."""
        state = self.state
        assert state.iso.id is not None
        if not state.instance.lives:
            state.region, state.plan = wish.region, wish.plan
            self.save()
            self.refuse_taken()
        if wish.firewall_ports and not state.instance.lives:
            self._firewall(wish.firewall_ports)
        if wish.network == "create" and not state.instance.lives:
            self._network(wish)
        elif wish.network != "none":
            state.network_given = wish.network
        spec = InstanceSpec(
            region=state.region,
            plan=state.plan,
            label=state.label,
            hostname=wish.hostname,
            tag=state.mark,
            iso=state.iso.id,
            ipv6=wish.ipv6,
            firewall=state.firewall.id,
            network=state.network.id or state.network_given,
        )
        create = self.provider.create_instance
        self.make(state.instance, "instance", self.find_instance, lambda: create(spec))
        if state.address is None:
            self._await_address()

    def refuse_taken(self) -> None:
        taken = self.provider.instances(self.state.label)
        if taken:
            raise DeployError(
                f"the account has an instance called {self.state.label} already ({taken[0].id})",
                "choose another --label; one that obsdimg made is in deploy/",
            )

    def _await_address(self) -> None:
        state = self.state
        with self.progress.step("Waiting for the instance"):
            for _ in self.looks(self.limits.activate, "the instance to become active"):
                instance = self.instance()
                if instance.active and instance.address is not None:
                    state.address = instance.address
                    self.did(f"the instance runs at {instance.address}")
                    return
                if instance.status not in ("pending", "installing", "active"):
                    raise DeployError(
                        f"the instance {instance.id} is {instance.status}",
                        "look at it at the provider; `obsdimg deploy destroy` removes it",
                    )

    def instance(self) -> Instance:
        """The instance as the provider sees it now.  Raises DeployError: it is gone."""
        key = self.state.instance.id
        found = self.provider.instance(key) if key is not None else None
        if found is None:
            raise DeployError(
                f"the provider has no instance {key} any more",
                "somebody removed it: `obsdimg deploy destroy` cleans up the rest",
            )
        return found

    def _firewall(self, ports: tuple[int, ...]) -> None:
        state, provider = self.state, self.provider
        self.make(
            state.firewall, "firewall group",
            lambda: self.find_named(provider.firewalls()),
            lambda: provider.create_firewall(state.mark),
        )  # fmt: skip
        assert state.firewall.id is not None
        there = provider.firewall_rules(state.firewall.id)
        for rule in (UdpRule(family, port) for port in ports for family in ("v4", "v6")):
            if rule not in there:
                provider.add_firewall_rule(state.firewall.id, rule)

    def _network(self, wish: WantedInstance) -> None:
        state, provider = self.state, self.provider
        self.make(
            state.network, "private network",
            lambda: self.find_named(provider.networks()),
            lambda: provider.create_network(state.region, state.mark, wish.subnet),
        )  # fmt: skip

    def skip_installation(self) -> None:
        """The machine was made from a disk that is installed already."""
        if not self.state.installed:
            self.state.installed = self.state.detached = True
            self.did("its disk is installed already")

    # -- the proof

    def await_installation(self, caller: TunnelClient, enough: Callable[[], bool]) -> None:
        """Wait for the first handshake, or the operator's word that it is installed."""
        state = self.state
        if state.installed:
            return
        with self.progress.step("Waiting for the first handshake"):
            found = self._waiting(caller).for_handshake(
                self.limits.install, self.limits.longest_pause, enough
            )
        state.installed = True
        if found is not None:
            state.handshake_before = found.handshake.seconds
            self.did(f"first handshake, {_ms(found.handshake.seconds)}")
        else:
            self.did("the operator says that the installation is over")

    def detach(self, caller: TunnelClient) -> None:
        """Take the ISO out, which restarts the machine, and see it go silent."""
        state = self.state
        assert state.instance.id is not None
        limit = self.limits.missed_silence
        if not state.detached:
            if self.provider.attached_iso(state.instance.id) is not None:
                limit = self.limits.silence
                self.provider.detach_iso(state.instance.id)
                for _ in self.looks(self.limits.activate, "the ISO to be detached"):
                    if self.provider.attached_iso(state.instance.id) is None:
                        break
            state.detached = True
            self.did("the ISO is detached")
        if state.handshake_before is not None and state.rebooted is None:
            with self.progress.step("Waiting for the restart"):
                waiting = self._waiting(caller)
                state.rebooted = waiting.for_silence(limit, min(1.0, self.limits.longest_pause))
            self.did("it restarts" if state.rebooted else "no restart was seen")

    def await_service(self, caller: TunnelClient) -> None:
        """Wait for the handshake that counts: installed, without the ISO."""
        state = self.state
        if state.handshake is not None:
            return
        with self.progress.step("Waiting for the handshake of the installed server"):
            found = self._waiting(caller).for_handshake(
                self.limits.unlock, self.limits.longest_pause
            )
        assert found is not None
        state.handshake = found.handshake.seconds
        without = " without the ISO" if state.kind == "iso" else ""
        self.did(f"handshake{without}, {_ms(found.handshake.seconds)}")
        if not found.works:
            self.say(f"warning: {found.message}")

    def finish(self, keep_iso: bool) -> None:
        """Remove the ISO from the account, unless it is to stay."""
        state = self.state
        if state.iso.lives and state.iso.id is not None and not keep_iso:
            key = state.iso.id
            self.delete(lambda: self.provider.delete_iso(key), f"the {state.medium}")
            state.iso.gone = True
            self.did(f"the {state.medium} is removed from the account")
        if not state.done:
            state.done = True
            self.did("done")

    def _waiting(self, caller: TunnelClient) -> Waiting:
        called = self.state.called
        assert called is not None
        return Waiting(caller, called, self.sleep)


def _ms(seconds: float | None) -> str:
    return "no time" if seconds is None else f"{seconds * 1000:.1f} ms"
