"""`obsdimg deploy --disk`: an instance from the installed disk, by a snapshot from a URL."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from obsdimg.core.progress import Progress
from obsdimg.deploy.image import Image, refuse_small_plan
from obsdimg.deploy.provider import DeployError, Offer
from obsdimg.deploy.vultr_snapshots import VultrSnapshots
from obsdimg.disk.content import UNIT, Form, open_image
from obsdimg.disk.manifest import DiskManifest, IsoPart, image_part, write_beside
from obsdimg.disk.writing import write_image
from obsdimg.project.folder import Project, SecretStore
from support.deploy_bench import Bench, bench
from support.fake_vultr import Fault

NOTHING = {"isos": 0, "instances": 0, "firewalls": 0, "vpcs": 0}


def _disk(b: Bench, name: str = "vpn.raw", firmware: str = "bios", units: int = 3) -> str:
    """A disk image of the bench's project, signed as `obsdimg disk` does it."""
    plain, path = b.root / "plain", b.root / name
    plain.write_bytes(os.urandom(UNIT) + bytes(UNIT) + os.urandom(UNIT) * (units - 2))
    form: Form = "raw.zst" if name.endswith(".zst") else "raw"
    with path.open("w+b") as stream:
        written = write_image(open_image(plain), form, stream, Progress())
    manifest = DiskManifest(
        tool="obsdimg", image=image_part(name, written), iso=IsoPart(name="x", sha256="0" * 64),
        release="6.6", firmware=firmware, random_fill=False, kdf_rounds=64, network=None,
        accelerator="tcg", checks=[], proven=False,
    )  # type: ignore[arg-type]  # fmt: skip
    secrets = Project.open(b.root / "obsdimg.toml").secrets
    write_beside(path, manifest, written, SecretStore(secrets, make=False).image_key())
    return name


def test_from_a_disk_to_a_server_that_answers_and_to_nothing_again(b: Bench) -> None:
    disk = _disk(b, firmware="uefi")
    result = b.deploy("--disk", disk)
    assert result.returncode == 0, result.stderr
    assert "127.0.0.1 answers as laptop" in result.stdout and "ISO" not in result.stdout
    assert "snapshot in the account" in result.stderr
    assert "this provider tells no checksum of it" in result.stderr
    assert "its disk is installed: type the passphrase there" in result.stderr
    assert b.fake.left() == {**NOTHING, "instances": 1, "firewalls": 1}
    assert not b.fake.snapshots
    assert b.fake.created.count("snapshot") == 1 and "iso" not in b.fake.created
    assert not any("iso" in request for request in b.fake.log)
    assert b.fake.firmware == ["yes"]
    asked = [line for line in b.fake.log if line.startswith("POST /v2/snapshots")]
    assert asked == ["POST /v2/snapshots/create-from-url"]
    state = b.state()
    assert state["done"] and state["kind"] == "disk" and state["handshake"] > 0

    again = b.deploy("--disk", disk)
    assert (again.returncode, again.stdout) == (0, result.stdout), again.stderr
    assert b.fake.created.count("instance") == 1
    shown = json.loads(b.run("deploy", "status", "--json").stdout)
    assert shown["provider_says"] == {"instance": "active", "iso": None, "iso_attached": None}
    assert "snapshot in the account: none" in b.run("deploy", "status").stdout
    other = b.deploy()
    assert other.returncode == 1 and "was begun with a disk" in other.stderr
    gone = b.run("deploy", "destroy", "--confirm", "vpn")
    assert gone.returncode == 0, gone.stderr
    assert b.fake.left() == NOTHING and not b.state_path.exists()


def test_a_run_that_was_killed_after_asking_finds_its_snapshot_again(b: Bench) -> None:
    disk = _disk(b)
    where = "POST /v2/snapshots/create-from-url"
    b.fake.faults.append(Fault(where, "cut"))
    result = b.deploy("--disk", disk)
    assert result.returncode == 0, result.stderr
    assert b.fake.created.count("snapshot") == 1 and not b.fake.snapshots


def test_a_copy_of_another_size_is_removed_there(tmp_path: Path) -> None:
    with bench(tmp_path, tamper=True) as b:
        result = b.deploy("--disk", _disk(b))
        assert result.returncode == 1
        assert "the provider's copy is not our snapshot (size " in result.stderr
        assert not b.fake.snapshots and b.fake.left() == NOTHING


def test_what_cannot_become_a_machine_is_said_before_anything_is_made(b: Bench) -> None:
    packed = b.deploy("--disk", _disk(b, "vpn.raw.zst"))
    assert packed.returncode == 1 and "takes raw images only" in packed.stderr
    disk = _disk(b)
    both = b.deploy("--disk", disk, "--iso", str(b.iso))
    assert both.returncode == 2 and "--iso and --disk exclude each other" in both.stderr
    (b.root / disk).write_bytes(bytes(3 * UNIT))
    changed = b.deploy("--disk", disk)
    assert changed.returncode == 1 and "is not the disk that" in changed.stderr
    text = (b.root / "obsdimg.toml").read_text()
    (b.root / "obsdimg.toml").write_text(
        text.replace('region = "ams"', 'region = "default"\nprovider = "libvirt"')
    )
    (b.root / "virsh").write_text("#!/bin/sh\n")  # libvirt answers
    (b.root / "virsh").chmod(0o755)
    b.env["PATH"] = f"{b.root}:{b.env.get('PATH', os.environ['PATH'])}"
    libvirt = b.run("deploy", "--yes", "--disk", _disk(b, "vpn.raw.zst"))
    assert libvirt.returncode == 1 and "takes qcow2 and raw images only" in libvirt.stderr
    assert "obsdimg disk --format qcow2" in libvirt.stderr
    text = (b.root / "obsdimg.toml").read_text()
    assert "[host]\n" in text
    (b.root / "obsdimg.toml").write_text(text.replace("[host]\n", '[host]\nconsole = "com0"\n'))
    serial = b.run("deploy", "--yes", "--iso", str(b.iso))
    assert serial.returncode == 1 and "on the serial line" in serial.stderr
    assert b.fake.created == [] and not b.state_path.exists()


@pytest.mark.parametrize(("gigabyte", "fits"), [(1 << 30, True), (10**9, False)])
def test_the_disk_is_compared_with_what_the_provider_calls_a_gigabyte(
    gigabyte: int, fits: bool
) -> None:
    """10 GiB, as `obsdimg disk` makes by default, are more than Vultr's 10 GB."""
    image = Image(Path("vpn.qcow2"), 1, "", "", disk_size=10 << 30)
    offer = Offer("r", "p", "plan-10", 1, 1024, 10, 0.0, gigabyte)
    if fits:
        refuse_small_plan(offer, image)
        return
    with pytest.raises(DeployError, match="has a disk of 10000000000 bytes") as caught:
        refuse_small_plan(offer, image)
    assert "obsdimg disk --size 9536M" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("reported", "good"),
    [(10 << 30, True), (10, True), (11, True), (10240, True), (0, False), (9 << 30, False),
     ((10 << 30) - 512, False)],
)  # fmt: skip
def test_a_size_may_be_rounded_but_not_smaller(reported: int, good: bool) -> None:
    assert VultrSnapshots.size_agrees(None, reported, 10 << 30) is good  # type: ignore[arg-type]
