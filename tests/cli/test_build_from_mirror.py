"""Fetch and build against a mirror that holds a complete stand-in release (not OpenBSD)."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest

from obsdimg import standin
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import ramdisk_key
from support.mirror import Fault
from support.standin_release import DIRECTORY, StandInRelease, standin_release

SIGNIFY = shutil.which("signify-openbsd") or shutil.which("signify")
CONFIG = """
[tunnel]
endpoint = "vpn.example.net"

[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StandInRelease]:
    with standin_release(tmp_path) as made:
        iso = tmp_path / "standin.iso"
        standin.build_iso(iso, iso_size_padding=4_000_000)
        data = iso.read_bytes()
        iso.unlink()
        made.publish(data, hashlib.sha256(data).hexdigest())
        assert made.run("init", "project").returncode == 0
        config = f'[release]\nversion = "6.6"\nmirrors = ["{made.url}"]\n{CONFIG}'
        (tmp_path / "project/obsdimg.toml").write_text(config)
        phrase = tmp_path / "phrase"
        phrase.write_text("correct horse battery staple\n")
        phrase.chmod(0o600)
        yield made


def build(world: StandInRelease, *words: str) -> dict[str, object]:
    """Build with the passphrase in a file; returns the manifest."""
    done = world.run(
        *("build", "-c", "project/obsdimg.toml", "--passphrase-file", "phrase", "--json"), *words
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def read(iso: Path, path: str) -> bytes:
    """A file of an ISO, by its Rock Ridge path."""
    disc = pycdlib.PyCdlib()
    disc.open(str(iso))
    data = io.BytesIO()
    disc.get_file_from_iso_fp(data, rr_path=path)
    disc.close()
    return data.getvalue()


def test_a_killed_fetch_a_resumed_one_and_a_build_from_the_cache(world: StandInRelease) -> None:
    world.mirror.faults[f"{DIRECTORY}/install66.iso"] = [Fault("slow", 0.001)]
    child = world.start("fetch", "-c", "project/obsdimg.toml")
    deadline = time.monotonic() + 60
    while not world.part.exists() or world.part.stat().st_size < 500_000:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=10)
    done = world.run("fetch", "-c", "project/obsdimg.toml")
    assert done.returncode == 0, done.stderr
    first, second = world.mirror.asked("install66.iso")
    assert first is None and second is not None
    world.mirror.log.clear()
    manifest = build(world, "--offline")
    assert world.mirror.log == []
    upstream = manifest["upstream"]
    assert isinstance(upstream, dict)
    assert upstream["verified"] == "signed-list"
    assert world.base.number.hex() in upstream["evidence"]


def test_a_build_fetches_what_is_missing(world: StandInRelease) -> None:
    build(world)
    asked = {path.rsplit("/", 1)[1] for path, _, _ in world.mirror.log}
    assert {"SHA256.sig", "install66.iso", "bash-5.0.11.tgz"} <= asked


@pytest.mark.skipif(SIGNIFY is None, reason="signify-openbsd is not installed")
def test_the_real_signify_verifies_every_set_of_what_was_built(
    world: StandInRelease, tmp_path: Path
) -> None:
    build(world, "-o", "out.iso")
    secret = (tmp_path / "project/secrets/image.sec").read_text()
    sets = tmp_path / "sets"
    sets.mkdir()
    key = ramdisk_key(SignifySecretKey.parse(secret), "6.6")
    (sets / "k.pub").write_text(key.text)
    names = [
        line.split("(")[1].split(")")[0]
        for line in read(tmp_path / "out.iso", "/6.6/amd64/SHA256").decode().splitlines()
    ]
    assert "site66.tgz" in names and "base66.tgz" in names
    for name in [*names, "SHA256.sig"]:
        (sets / name).write_bytes(read(tmp_path / "out.iso", f"/6.6/amd64/{name}"))
    words = [str(SIGNIFY), "-C", "-p", "k.pub", "-x", "SHA256.sig"]
    done = subprocess.run(words, cwd=sets, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(names)


def test_a_forged_iso_on_the_mirror_builds_nothing(world: StandInRelease, tmp_path: Path) -> None:
    path = f"{DIRECTORY}/install66.iso"
    data = bytearray(world.mirror.files[path])
    data[len(data) // 2] ^= 1
    world.mirror.files[path] = bytes(data)
    done = world.run(
        *("build", "-c", "project/obsdimg.toml", "--passphrase-file", "phrase", "-o", "out.iso")
    )
    assert done.returncode == 1 and "not install66.iso" in done.stderr
    assert not (tmp_path / "out.iso").exists()


def test_an_unverified_iso_is_marked_in_the_manifest(world: StandInRelease, tmp_path: Path) -> None:
    assert world.run("fetch", "-c", "project/obsdimg.toml").returncode == 0
    given = tmp_path / "given.iso"
    shutil.copy(world.iso, given)
    manifest = build(world, "--iso", "given.iso", "--unverified")
    upstream = manifest["upstream"]
    assert isinstance(upstream, dict) and upstream["verified"] == "unverified"


@pytest.mark.parametrize("more", [(), ("--offline",), ("--unverified",)])
def test_a_wrong_name_of_the_iso_is_said_before_anything_is_fetched(
    world: StandInRelease, more: tuple[str, ...]
) -> None:
    done = world.run("build", "-c", "project/obsdimg.toml", "--iso", "typo.iso", *more)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: typo.iso: cannot be read: no such file")
    assert world.mirror.log == []
