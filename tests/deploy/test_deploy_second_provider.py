"""A second provider, in memory: the steps need nothing of Vultr, and no order of faults makes two.

Every call may do its work and then lose the answer, lose the request, or take the whole process
with it (before or after); hypothesis chooses.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.deploy.image import Image
from obsdimg.deploy.provider import (
    Instance,
    InstanceSpec,
    NamedThing,
    Offer,
    Provider,
    ProviderError,
    RemoteIso,
    UdpRule,
    UncertainError,
)
from obsdimg.deploy.removal import Removal
from obsdimg.deploy.state import State, Store
from obsdimg.deploy.steps import Deployment, WantedInstance
from obsdimg.deploy.uploading import Upload
from obsdimg.deploy.work import Waits

IMAGE = Image(Path("x.iso"), 10, "a" * 64, "b" * 128)
WISH = WantedInstance("here", "small", "vpn", False, (53, 443), "create", "10.1.0.0/24")
LIMITS = Waits(first_pause=0.0, longest_pause=0.0, settle=(0.0, 0.0))


class Killed(BaseException):
    """The process ends here, as far as it can tell."""


@dataclass
class Memory:
    """A provider that keeps everything in dictionaries."""

    fates: Iterator[str]
    name: str = "Memory"
    things: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"iso": {}, "instance": {}, "firewall": {}, "network": {}}
    )
    rules: dict[str, list[UdpRule]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    rest: set[str] = field(default_factory=set)
    """Tags of disks, made before their instances."""

    @contextlib.contextmanager
    def fate(self, creates: bool = False) -> Iterator[None]:
        fate = next(self.fates, "")
        if fate == "kill before":
            raise Killed
        if fate == "lost before":
            raise UncertainError("lost") if creates else ProviderError("lost")
        yield
        if fate == "kill after":
            raise Killed
        if fate == "lost after":
            raise UncertainError("lost") if creates else ProviderError("lost")

    def _new(self, kind: str) -> str:
        self.made.append(kind)
        return f"{kind}-{len(self.made)}"

    def offer(self, region: str, plan: str) -> Offer:
        return Offer(region, "Here", plan, 1, 1024, 25, 5.0)

    def hides(self) -> bool:
        return False

    def isos(self) -> list[RemoteIso]:
        with self.fate():
            return list(self.things["iso"].values())

    def iso(self, key: str) -> RemoteIso | None:
        with self.fate():
            found = self.things["iso"].get(key)
            if found is not None:
                self.things["iso"][key] = replace(found, status="complete", complete=True)
            return found  # type: ignore[no-any-return]

    def create_iso(self, url: str) -> RemoteIso:
        with self.fate(creates=True):
            key, name = self._new("iso"), url.rpartition("/")[2]
            self.things["iso"][key] = RemoteIso(key, name, "pending", False, 10, "b" * 128)
            return self.things["iso"][key]  # type: ignore[no-any-return]

    def delete_iso(self, key: str) -> None:
        with self.fate():
            self.things["iso"].pop(key, None)

    def size_agrees(self, reported: int, size: int) -> bool:
        return reported == size

    def instances(self, label: str) -> list[Instance]:
        with self.fate():
            return [i for i in self.things["instance"].values() if i.label == label]

    def instance(self, key: str) -> Instance | None:
        with self.fate():
            return self.things["instance"].get(key)

    def create_instance(self, spec: InstanceSpec) -> Instance:
        self.rest.add(spec.tag)
        with self.fate(creates=True):
            key = self._new("instance")
            assert spec.iso in self.things["iso"]
            assert spec.firewall in self.things["firewall"]
            assert spec.network in self.things["network"]
            made = Instance(key, spec.label, (spec.tag,), "active", True, "192.0.2.1")
            self.things["instance"][key] = made
            self.things["drive"] = {key: spec.iso}
            return made

    def delete_instance(self, key: str) -> None:
        with self.fate():
            found = self.things["instance"].pop(key, None)
            self.rest -= set(found.tags if found else ())

    def delete_rest(self, tag: str) -> None:
        with self.fate():
            assert all(tag not in one.tags for one in self.things["instance"].values())
            self.rest.discard(tag)

    def attached_iso(self, key: str) -> str | None:
        with self.fate():
            return self.things["drive"].get(key)

    def detach_iso(self, key: str) -> None:
        with self.fate():
            self.things["drive"].pop(key, None)

    def firewalls(self) -> list[NamedThing]:
        with self.fate():
            return list(self.things["firewall"].values())

    def create_firewall(self, description: str) -> NamedThing:
        with self.fate(creates=True):
            key = self._new("firewall")
            self.rules[key] = []
            self.things["firewall"][key] = NamedThing(key, description)
            return NamedThing(key, description)

    def firewall_rules(self, key: str) -> list[UdpRule]:
        with self.fate():
            return list(self.rules[key])

    def add_firewall_rule(self, key: str, rule: UdpRule) -> None:
        with self.fate():
            self.rules[key].append(rule)

    def delete_firewall(self, key: str) -> None:
        with self.fate():
            self.things["firewall"].pop(key, None)

    def networks(self) -> list[NamedThing]:
        with self.fate():
            return list(self.things["network"].values())

    def create_network(self, region: str, description: str, subnet: str) -> NamedThing:
        with self.fate(creates=True):
            key = self._new("network")
            self.things["network"][key] = NamedThing(key, description)
            return NamedThing(key, description)

    def delete_network(self, key: str) -> None:
        with self.fate():
            self.things["network"].pop(key, None)

    def counts(self) -> dict[str, int]:
        return {k: len(v) for k, v in self.things.items() if k != "drive"}


class Nowhere:
    """A host that is there already."""

    @contextlib.contextmanager
    def offer(self, image: Image, state: State, save: Any, progress: Any) -> Iterator[str]:
        state.hosting = "s3"
        save()
        yield f"https://host.example/{state.file_name}"

    def clean(self, state: State) -> None:
        return


def run_once(provider: Provider, store: Store) -> None:
    """What one run of `deploy` does, up to the detached ISO."""
    state = store.load("vpn") or State.begin("vpn", "memory", "vpn", "a" * 64, "b" * 128, 10)
    work = Deployment(provider, store, state, limits=LIMITS, sleep=lambda s: None)
    if not state.instance.lives:
        upload = Upload(provider, store, state, limits=LIMITS, sleep=lambda s: None)
        upload.upload(IMAGE, Nowhere(), False)
    work.create(WISH)
    state.installed = True
    work.detach(None)  # type: ignore[arg-type]
    work.finish(keep_iso=False)


def again_and_again(action: Any) -> int:
    """Run `action` until it ends well; how often it took."""
    for count in range(1, 200):
        try:
            action()
        except (Killed, ProviderError):
            continue
        return count
    raise AssertionError("never done")


FATES = st.lists(
    st.sampled_from(["", "", "kill before", "kill after", "lost before", "lost after"]),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(making=FATES, removing=FATES)
def test_no_order_of_faults_makes_two_or_forgets_one(
    making: list[str], removing: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, provider = Store(Path(folder) / "deploy"), Memory(iter(making))
        again_and_again(lambda: run_once(provider, store))
        assert provider.counts() == {"iso": 0, "instance": 1, "firewall": 1, "network": 1}
        assert sorted(provider.made) == ["firewall", "instance", "iso", "network"]
        (rules,) = provider.rules.values()
        assert set(rules) == {UdpRule(f, p) for f in ("v4", "v6") for p in (53, 443)}

        provider.fates = iter(removing)

        def remove() -> None:
            state = store.load("vpn")
            if state is not None:
                Removal(provider, store, state, limits=LIMITS, sleep=lambda s: None).destroy(None)

        again_and_again(remove)
        assert set(provider.counts().values()) == {0}
        assert not provider.rest
        assert store.names() == []


@settings(max_examples=60, deadline=None)
@given(making=FATES, removing=FATES)
def test_giving_up_at_any_moment_leaves_nothing(making: list[str], removing: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, provider = Store(Path(folder) / "deploy"), Memory(iter(making))
        with contextlib.suppress(Killed, ProviderError):
            run_once(provider, store)
        provider.fates = iter(removing)

        def remove() -> None:
            state = store.load("vpn")
            if state is not None:
                Removal(provider, store, state, limits=LIMITS, sleep=lambda s: None).destroy(None)

        again_and_again(remove)
        assert set(provider.counts().values()) == {0}
        assert not provider.rest


def test_without_faults_it_takes_one_run(tmp_path: Path) -> None:
    store, provider = Store(tmp_path), Memory(iter(()))
    assert again_and_again(lambda: run_once(provider, store)) == 1
    assert provider.made == ["iso", "firewall", "network", "instance"]


@pytest.mark.parametrize("calls", range(24))
def test_killed_at_each_call_in_turn_and_given_up_nothing_is_left(
    tmp_path: Path, calls: int
) -> None:
    store, provider = Store(tmp_path), Memory(iter([*[""] * calls, "kill before"]))
    with contextlib.suppress(Killed):
        run_once(provider, store)
    state = store.load("vpn")
    assert state is not None
    provider.fates = iter(())
    Removal(provider, store, state, limits=LIMITS, sleep=lambda s: None).destroy(None)
    assert set(provider.counts().values()) == {0}
    assert not provider.rest
