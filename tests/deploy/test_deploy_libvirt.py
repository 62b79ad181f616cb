"""The provider `libvirt` against a libvirtd of its own, and what it says to bad input."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from obsdimg.deploy import domain_xml
from obsdimg.deploy.libvirt import Libvirt
from obsdimg.deploy.provider import ProviderError
from obsdimg.deploy.registry import MODULES, opener
from obsdimg.deploy.virsh import Virsh
from support.libvirt_world import URI, World, world
from support.loader_guest import make_disk
from support.provider_contract import LABEL, TAG, Contract, walk

MACHINE = domain_xml.Machine(
    "vpn", TAG, "kvm", 1, 1024, "default", "d.qcow2", "i.iso", "default", "52:54:00:01:02:03",
    False, "sesame12", "private",
)  # fmt: skip


def test_a_machine_starts_its_disk_before_the_iso_and_shows_itself_on_loopback_only() -> None:
    xml = ET.fromstring(domain_xml.domain(MACHINE))
    order = {d.get("device"): d.find("boot").get("order") for d in xml.iter("disk")}  # type: ignore[union-attr]
    assert order == {"disk": "1", "cdrom": "2"}
    graphics = xml.find("devices/graphics")
    assert graphics is not None
    assert graphics.get("passwd") == "sesame12"
    assert [e.get("address") for e in graphics.iter("listen")] == ["127.0.0.1"]
    assert [i.find("source").get("network") for i in xml.iter("interface")] == [  # type: ignore[union-attr]
        "default", "private",
    ]  # fmt: skip


def test_names_cannot_break_out_of_the_xml() -> None:
    from dataclasses import replace

    evil = "x'/><disk type='file'><source file='/etc/shadow'/></disk><y z='"
    xml = ET.fromstring(domain_xml.domain(replace(MACHINE, label=evil, iso=evil)))
    assert xml.findtext("name") == evil
    assert len(list(xml.iter("disk"))) == 2


def test_providers_register_themselves_by_name() -> None:
    for name in MODULES:
        assert callable(opener(name))
    with pytest.raises(ProviderError.__mro__[1], match="no provider 'nimbus'"):
        opener("nimbus")


def fake(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Libvirt:
    (folder / "virsh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "virsh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Libvirt(Virsh(URI))


def test_without_virsh_the_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProviderError, match="virsh: program not found") as caught:
        Libvirt(Virsh(URI)).isos()
    assert caught.value.hint
    assert "libvirt-clients" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'error: failed to connect to the hypervisor' >&2; exit 1", "failed to connect"),
        ("echo 'error: bad \x1b[31mred' >&2; exit 1", "bad"),
        ("exit 3", "exit code 3"),
    ],
)
def test_what_virsh_says_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    with pytest.raises(ProviderError, match=says) as caught:
        fake(tmp_path, script, monkeypatch).isos()
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("plan", ["huge", "1-1024-10", "1c-1024m", "0c-m-g"])
def test_a_plan_is_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: str) -> None:
    with pytest.raises(ProviderError, match="no size of a machine") as caught:
        fake(tmp_path, "exit 0", monkeypatch).offer("default", plan)
    assert "1c-1024m-10g" in str(caught.value.hint)


def test_the_console_of_another_host_goes_through_ssh() -> None:
    there = Libvirt(Virsh("qemu+ssh://root@hv.example:2222/system"))
    assert there._console(5901) == "vnc+exec:ssh -p 2222 -W 127.0.0.1:5901 root@hv.example"
    assert Libvirt(Virsh(URI))._console(5900) == "vnc://127.0.0.1:5900"


# -- on a libvirtd


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("libvirt")
    with world(folder / "d") as made:
        yield made


@pytest.fixture
def provider(libvirtd: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Libvirt:
    libvirtd.program(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Libvirt(Virsh(URI), accelerated=False)


@pytest.mark.qemu
@pytest.mark.netns
def test_libvirt_keeps_the_providers_contract(
    provider: Libvirt, libvirtd: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obsdimg.deploy.libvirt.SHUTDOWN_SECONDS", 3.0)
    iso = libvirtd.folder / "source.iso"
    make_disk(iso, "nothing")
    data = iso.read_bytes()
    url = f"{iso.as_uri()}#{TAG}.iso"
    walk(
        provider,
        Contract("default", "1c-256m-4g", url, len(data), hashlib.sha512(data).hexdigest(),
                 firewall=False),
    )  # fmt: skip
    assert libvirtd.virsh("vol-list", "default").strip() == ""
    assert "<host" not in libvirtd.virsh("net-dumpxml", "default")


@pytest.mark.netns
def test_an_upload_that_was_cut_short_does_not_count(provider: Libvirt, libvirtd: World) -> None:
    name = f"{TAG}.iso"
    libvirtd.virsh("vol-create-as", "default", name, "65536B", "--format", "raw",
                   "--allocation", "0")  # fmt: skip
    assert [iso.id for iso in provider.isos()] == []
    iso = libvirtd.folder / "again.iso"
    iso.write_bytes(bytes(range(256)) * 256)
    made = provider.create_iso(f"{iso.as_uri()}#{name}")
    assert made.complete
    found = provider.iso(name)
    assert found is not None
    assert found.sha512 == hashlib.sha512(iso.read_bytes()).hexdigest()
    provider.delete_iso(name)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("region", "network", "says"),
    [
        ("attic", "default", "no storage pool 'attic'"),
        ("default", "moon", "no network 'moon'"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    provider: Libvirt, region: str, network: str, says: str
) -> None:
    provider._network = network
    with pytest.raises(ProviderError, match=says) as caught:
        provider.offer(region, "1c-256m-4g")
    assert "default" in str(caught.value.hint)


@pytest.mark.netns
def test_a_run_killed_between_making_and_starting_is_found_and_started(
    provider: Libvirt, libvirtd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no QEMU")
    from obsdimg.deploy.provider import InstanceSpec

    iso = libvirtd.folder / "k.iso"
    make_disk(iso, "x")
    key = provider.create_iso(f"{iso.as_uri()}#{TAG}.iso").id
    real = provider._virsh

    class Killed(BaseException):
        pass

    def dying(*words: str, **more: object) -> str:
        if words[0] == "start":
            raise Killed
        return real(*words, **more)  # type: ignore[arg-type]

    spec = InstanceSpec("default", "1c-256m-4g", LABEL, LABEL, TAG, key)
    dying.exists, dying.uri = real.exists, real.uri  # type: ignore[attr-defined]
    monkeypatch.setattr(provider, "_virsh", dying)
    with pytest.raises(Killed):
        provider.create_instance(spec)
    monkeypatch.setattr(provider, "_virsh", real)
    found = provider.instances(LABEL)
    assert len(found) == 1
    assert found[0].active
    provider.delete_instance(found[0].id)
    provider.delete_iso(key)
