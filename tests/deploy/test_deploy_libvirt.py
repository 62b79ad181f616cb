"""The provider `libvirt` against a libvirtd of its own, and what it says to bad input."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest

from obsdimg.config import Config
from obsdimg.config.load import parse as parse_config
from obsdimg.console.address import parse
from obsdimg.console.remote import open_console
from obsdimg.core.secret import Secret
from obsdimg.deploy import domain_xml
from obsdimg.deploy.libvirt import Libvirt
from obsdimg.deploy.libvirt_volumes import LibvirtVolumes
from obsdimg.deploy.provider import DeployError, InstanceSpec, ProviderError
from obsdimg.deploy.registry import MODULES, opener
from obsdimg.deploy.session import call_at, require_screen, require_screen_for_disk
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


def test_a_machine_has_the_serial_port_to_which_boot_conf_may_send_the_loader() -> None:
    """Without one a 7.7 with host.console = com0 stopped at `switching console to com0`."""
    xml = ET.fromstring(domain_xml.domain(MACHINE))
    (serial,) = xml.iter("serial")
    assert serial.get("type") == "pty"
    assert [e.get("port") for e in serial.iter("target")] == ["0"]


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


def test_behind_nat_on_another_host_the_endpoint_must_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake could never come: better said before anything is made."""
    network = (
        "<network>{}<ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>"
        "<range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>"
    )
    # Without `forward` a network is isolated: its own host reaches it, nobody else.
    for forward, uri, hidden in (
        ("<forward mode='nat'/>", "qemu+ssh://root@hv.example/system", True),
        ("<forward/>", "qemu+ssh://root@hv.example/system", True),
        ("", "qemu+ssh://root@hv.example/system", True),
        ("<forward mode='route'/>", "qemu+ssh://root@hv.example/system", False),
        ("<forward mode='open'/>", "qemu+ssh://root@hv.example/system", False),
        ("<forward mode='nat'/>", URI, False),
    ):
        fake(tmp_path, f'echo "{network.format(forward)}"', monkeypatch)
        there = Libvirt(Virsh(uri))
        assert there.hides() is hidden
        for endpoint in (None, "vpn.example.org"):
            config = _config(uri, endpoint)
            if not hidden:
                assert call_at(config, there) is None
            elif endpoint is not None:
                assert call_at(config, there) == endpoint
            else:
                with pytest.raises(DeployError, match="itself reaches addresses") as caught:
                    call_at(config, there)
                assert "forward port 53/udp" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("console", "encryption", "seen"),
    [("vga", "passphrase", True), ("com0", "none", True), ("com0", "passphrase", False)],
)
def test_an_iso_that_asks_on_the_serial_line_is_refused_before_anything_is_made(
    console: str, encryption: str, seen: bool
) -> None:
    """deploy would look at a blank screen for hours."""
    config = _config(URI, None)
    host = config.host.model_copy(update={"console": console})
    disk = config.disk.model_copy(update={"encryption": encryption})
    config = config.model_copy(update={"host": host, "disk": disk})
    if seen:
        require_screen(config)
        return
    with pytest.raises(DeployError, match="asks for the passphrase on the serial line") as caught:
        require_screen(config)
    assert "deploy --disk" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("console", "loader", "firmware", "seen"),
    [
        ("com0", "console", "bios", False),
        ("com0", "console", "both", False),
        ("com0", "console", "uefi", True),
        ("com0", "firmware", "bios", True),
        ("vga", "console", "bios", True),
    ],
)
def test_a_disk_whose_loader_asks_on_the_serial_line_is_refused(
    console: str, loader: str, firmware: str, seen: bool
) -> None:
    """deploy would look for the loader's question on a screen that never shows it."""
    config = _config(URI, None)
    host = config.host.model_copy(update={"console": console})
    disk = config.disk.model_copy(update={"loader": loader})
    config = config.model_copy(update={"host": host, "disk": disk})
    manifest = cast(Any, SimpleNamespace(firmware=firmware))
    if seen:
        require_screen_for_disk(config, manifest)
        return
    with pytest.raises(DeployError, match="loader asks for the passphrase on the serial") as caught:
        require_screen_for_disk(config, manifest)
    assert 'disk.loader = "firmware"' in str(caught.value.hint)


def _config(uri: str, endpoint: str | None) -> Config:
    return parse_config(
        (
            "[tunnel]\n"
            + (f'endpoint = "{endpoint}"\n' if endpoint else "")
            + '[[tunnel.peers]]\nname = "laptop"\nipv4 = "10.0.0.2"\n'
            + f'[deploy]\nprovider = "libvirt"\nuri = "{uri}"\n'
        ).encode()
    )


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


@pytest.mark.qemu
@pytest.mark.netns
def test_uefi_firmware_without_secure_boot(provider: Libvirt, libvirtd: World) -> None:
    """OpenBSD's loader is not signed: firmware with Secure Boot would not start it."""
    if not list(Path("/usr/share/qemu/firmware").glob("*.json")):
        pytest.skip("ovmf is not installed")
    provider._uefi = True
    iso = libvirtd.folder / "uefi.iso"
    make_disk(iso, "nothing")
    key = provider.create_iso(f"{iso.as_uri()}#{TAG}.iso").id
    made = provider.create_instance(InstanceSpec("default", "1c-256m-4g", LABEL, LABEL, TAG, key))
    try:
        system = ET.fromstring(libvirtd.virsh("dumpxml", LABEL)).find("os")
        assert system is not None
        loader = system.find("loader")
        assert loader is not None
        assert loader.get("secure", "no") == "no"
        assert "secboot" not in str(loader.text)
        assert ".ms." not in str(loader.text)
        kept = Path(str(system.findtext("nvram")))
        assert libvirtd.folder.joinpath("lib/qemu/nvram", kept.name).exists()
    finally:
        provider.delete_instance(made.id)
        provider.delete_iso(key)
    assert provider.instance(LABEL) is None
    assert list((libvirtd.folder / "lib/qemu/nvram").glob("*")) == []


@pytest.mark.qemu
@pytest.mark.netns
def test_another_host_by_ssh(
    provider: Libvirt, libvirtd: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upload, verification, machine and console, with nothing but ssh between here and there."""
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("openssh-server is not installed")
    iso = libvirtd.folder / "far.iso"
    make_disk(iso, "nothing")
    local = provider._virsh
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    with libvirtd.by_ssh(laptop) as uri:
        monkeypatch.setenv("PATH", f"{laptop}:{os.environ['PATH']}")
        there = Libvirt(Virsh(uri), accelerated=False)
        assert there.hides()
        key = there.create_iso(f"{iso.as_uri()}#{TAG}.iso").id
        found = there.iso(key)
        assert found is not None
        assert found.sha512 == hashlib.sha512(iso.read_bytes()).hexdigest()
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        spec = InstanceSpec("default", "1c-256m-4g", LABEL, LABEL, TAG, key)
        made = Libvirt(local, accelerated=False).create_instance(spec)
        try:
            monkeypatch.setenv("PATH", f"{laptop}:{os.environ['PATH']}")
            seen = there.instance(LABEL)
            assert seen is not None
            assert seen.address == made.address
            assert seen.console.startswith("vnc+exec:ssh -p 2222 -W 127.0.0.1:")
            secret = Secret(seen.console_password)
            console = open_console(parse(seen.console), lambda: secret, 180)
            assert console.png().startswith(b"\x89PNG")
            console.close()
        finally:
            monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
            provider.delete_instance(made.id)
            provider.delete_iso(key)


@pytest.mark.netns
def test_a_host_that_ssh_does_not_let_in_is_one_line(
    libvirtd: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("openssh-server is not installed")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with libvirtd.by_ssh(tmp_path) as uri:
        (tmp_path / "known").write_text("")
        with pytest.raises(ProviderError, match="Host key verification failed") as caught:
            Libvirt(Virsh(uri)).isos()
        assert caught.value.message.isprintable()
        assert f"virsh -c {uri} list" in str(caught.value.hint)


@pytest.mark.qemu
@pytest.mark.netns
@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_machine_from_the_image_of_a_disk(
    libvirtd: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Its disk is the image to the last byte, starts, and is as large as the plan says."""
    libvirtd.program(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    there = LibvirtVolumes(Virsh(URI), accelerated=False)
    plain, image = tmp_path / "plain", libvirtd.folder / f"vpn.{form}"
    make_disk(plain, "not so secret")
    os.truncate(plain, 8 << 20)
    subprocess.run(["qemu-img", "convert", "-O", form, plain, image], check=True)
    data = image.read_bytes()
    key = there.create_iso(f"{image.as_uri()}#{TAG}.raw").id
    found = there.iso(key)
    assert found is not None and found.complete
    assert found.sha512 == hashlib.sha512(data).hexdigest()
    assert there.size_agrees(found.size, len(data))
    assert [one.id for one in there.isos()] == [key]
    assert there.offer("default", "1c-256m-4g").gigabyte == 1 << 30
    # A copy that a run which was killed had begun:
    libvirtd.virsh("vol-create-as", "default", f"{TAG}.qcow2", "1M", "--format", "qcow2")
    made = there.create_instance(InstanceSpec("default", "1c-256m-4g", LABEL, LABEL, TAG, key))
    try:
        xml = ET.fromstring(libvirtd.virsh("dumpxml", LABEL))
        (disk,) = xml.iter("disk")
        assert disk.get("device") == "disk"
        assert there.attached_iso(made.id) is None
        there.detach_iso(made.id)
        kept = libvirtd.folder / "lib/images" / f"{TAG}.qcow2"
        said = json.loads(
            subprocess.run(["qemu-img", "info", "-U", "--output=json", kept],
                           capture_output=True, check=True).stdout
        )  # fmt: skip
        assert (said["format"], said["virtual-size"]) == ("qcow2", 4 << 30)
        assert "backing-filename" not in said
        subprocess.run(["qemu-img", "compare", "-U", "-p", plain, kept], check=True)
    finally:
        there.delete_instance(made.id)
        there.delete_iso(key)
    assert libvirtd.virsh("vol-list", "default").strip() == ""


@pytest.mark.netns
def test_what_a_run_left_that_was_killed_before_the_machine_was_there_is_removed(
    provider: Libvirt, libvirtd: World
) -> None:
    """The disk, an encrypted server, would stay for ever: no machine leads to it."""
    real = provider._virsh

    class Killed(BaseException):
        pass

    def dying(*words: str, **more: object) -> str:
        if words[0] == "define":
            raise Killed
        return real(*words, **more)  # type: ignore[arg-type]

    dying.exists, dying.uri = real.exists, real.uri  # type: ignore[attr-defined]
    provider._virsh = dying  # type: ignore[assignment]
    with pytest.raises(Killed):
        provider.create_instance(InstanceSpec("default", "1c-256m-4g", LABEL, LABEL, TAG, "x.iso"))
    provider._virsh = real
    assert f"{TAG}.qcow2" in libvirtd.virsh("vol-list", "default")
    assert "<host" in libvirtd.virsh("net-dumpxml", "default")
    provider.delete_rest(TAG)
    provider.delete_rest(TAG)  # nothing is as good
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
def test_a_machine_that_is_refused_leaves_nothing(
    provider: Libvirt, libvirtd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no QEMU")
    iso = libvirtd.folder / "r.iso"
    make_disk(iso, "x")
    key = provider.create_iso(f"{iso.as_uri()}#{TAG}.iso").id
    real = provider._virsh

    def refusing(*words: str, **more: object) -> str:
        if words[0] == "start":
            raise ProviderError("no memory is left")
        return real(*words, **more)  # type: ignore[arg-type]

    refusing.exists, refusing.uri = real.exists, real.uri  # type: ignore[attr-defined]
    monkeypatch.setattr(provider, "_virsh", refusing)
    with pytest.raises(ProviderError, match="no memory is left"):
        provider.create_instance(InstanceSpec("default", "1c-256m-4g", LABEL, LABEL, TAG, key))
    assert provider.instance(LABEL) is None
    assert not real.exists("vol-info", "--pool", "default", f"{TAG}.qcow2")
    assert TAG not in real("net-dumpxml", "default") and LABEL not in real("net-dumpxml", "default")
    provider.delete_iso(key)


@pytest.mark.netns
def test_a_run_killed_between_making_and_starting_is_found_and_started(
    provider: Libvirt, libvirtd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no QEMU")
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


COPYING = """
import sys
from obsdimg.deploy.libvirt import Libvirt
from obsdimg.deploy.virsh import Virsh
print(Libvirt(Virsh("qemu:///system"))._sha512("vpn.iso"))
"""


def _copying(folder: Path, script: str) -> subprocess.Popen[bytes]:
    """A process that asks virsh, which is `script`, for the hash of a volume; TMPDIR is ./tmp."""
    (folder / "tmp").mkdir()
    (folder / "virsh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "virsh").chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder / "tmp")}
    own["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", COPYING], cwd=folder, env={**os.environ, **own},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_what_is_read_back_is_hashed_and_lies_nowhere(tmp_path: Path) -> None:
    """More than a pipe holds, to where `vol-download` is told to write it."""
    data = b"disk" * 100_000
    (tmp_path / "volume").write_bytes(data)
    child = _copying(tmp_path, 'for to; do :; done; [ "$4" = vol-download ] && cat volume >"$to"')
    said = child.communicate(timeout=60)[0]
    assert said.decode().strip() == hashlib.sha512(data).hexdigest()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_run_that_is_killed_while_it_reads_back_leaves_no_copy(tmp_path: Path) -> None:
    child = _copying(
        tmp_path, 'trap "" HUP PIPE TERM; head -c 50000 /dev/zero; echo $$ >pid.new\n'
        "mv pid.new pid; while :; do sleep 1; done"
    )  # fmt: skip
    end = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert child.poll() is None and time.monotonic() < end, child.communicate()
        time.sleep(0.02)
    child.kill()
    child.communicate(timeout=60)
    assert list((tmp_path / "tmp").iterdir()) == []
    pid = int((tmp_path / "pid").read_text())
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or ") Z " in stat.read_text():
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("virsh goes on")
