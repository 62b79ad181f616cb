"""`obsdimg fetch` as a user runs it: against a loopback mirror, killed, resumed, twice at once."""

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
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirror import Fault, Mirror, closed_port, serve
from obsdimg.media.resign import sign_list
from obsdimg.media.signify import SecretKey
from obsdimg.release import load_release
from obsdimg.resources import resource
from package_maker import package, signed

ISO = os.urandom(3_000_000)
ISO_PATH = "/pub/6.6/amd64/install66.iso"


@dataclass
class Run:
    """A stand-in release on a mirror, and a copy of the package whose images/ has its keys."""

    mirror: Mirror
    package: Path
    cache: Path
    base: SecretKey
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "obsdimg", *words],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cache.parent,
        )

    def fetch(self, *words: str) -> subprocess.CompletedProcess[str]:
        child = self.start(
            "fetch", "--release", "6.6", "--mirror", f"{self.mirror.url}/pub", *words
        )
        out, err = child.communicate(timeout=60)
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    @property
    def part(self) -> Path:
        return self.cache / "6.6/amd64/.install66.iso.part"


@pytest.fixture(scope="module")
def keys() -> tuple[SecretKey, SecretKey]:
    return SecretKey.generate("stand-in base"), SecretKey.generate("stand-in pkg")


@pytest.fixture
def run(tmp_path: Path, keys: tuple[SecretKey, SecretKey]) -> Iterator[Run]:
    base, pkg = keys
    tree = tmp_path / "tree"
    (tree / "images").mkdir(parents=True)
    (tree / "builder").mkdir()
    source = resource("images").parent / "builder" / "obsdimg"
    # A copy, since resource() looks for images/ beside the code that runs.
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, tree / "builder/obsdimg", ignore=ignore)
    text = resource("images", "66.toml").read_text()
    genuine = load_release("6.6")
    for old, new in ((genuine.keys.base, base), (genuine.keys.pkg, pkg)):
        assert old is not None
        text = text.replace(old.key, new.public().base64)
    (tree / "images/66.toml").write_text(text)
    with serve() as mirror:
        sha256 = hashlib.sha256(ISO).hexdigest()
        made = sign_list({"install66.iso": sha256}, base, "6.6")
        mirror.files[ISO_PATH] = ISO
        mirror.files["/pub/6.6/amd64/SHA256.sig"] = made.sha256_sig
        for name in ("wireguard-go-0.0.20190908", "wireguard-tools-0.0.20190913"):
            mirror.files[f"/pub/6.6/packages/amd64/{name}.tgz"] = signed(package(name), pkg)
        mirror.files["/pub/6.6/packages/amd64/index.txt"] = (
            b"-rw-r--r-- 1 0 0 1 Oct 12 2019 wireguard-go-0.0.20190908.tgz\n"
            b"-rw-r--r-- 1 0 0 1 Oct 12 2019 wireguard-tools-0.0.20190913.tgz\n"
        )
        proxy = closed_port()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(tree / "builder"),
            "OBSDIMG_CACHE": str(tmp_path / "cache"),
            # Built-in mirrors are behind a proxy that is not there: nothing leaves this machine.
            "https_proxy": proxy,
            "no_proxy": "127.0.0.1",
        }
        yield Run(mirror, tree, tmp_path / "cache", base, env)


def test_fetch_brings_iso_and_packages_verified(run: Run) -> None:
    done = run.fetch("--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["iso"]["verified"] == "signed-list"
    assert found["iso"]["sha256"] == hashlib.sha256(ISO).hexdigest()
    assert [p["name"] for p in found["packages"]] == [
        "wireguard-go-0.0.20190908",
        "wireguard-tools-0.0.20190913",
    ]
    assert Path(found["iso"]["path"]).read_bytes() == ISO


def test_the_plain_result_names_file_and_evidence(run: Run) -> None:
    done = run.fetch("--no-packages", "--quiet")
    assert done.stdout.splitlines()[0] == str(run.cache / "6.6/amd64/install66.iso")
    assert "signed-list: " in done.stdout and "stand-in" not in done.stderr
    assert done.stderr == ""


def test_a_killed_fetch_leaves_no_iso_and_is_resumed(run: Run) -> None:
    run.mirror.faults[ISO_PATH] = [Fault("slow", 0.001)]
    child = run.start("fetch", "--release", "6.6", "--mirror", f"{run.mirror.url}/pub")
    deadline = time.monotonic() + 30
    while not run.part.exists() or run.part.stat().st_size < 500_000:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=10)
    left = run.part.stat().st_size
    assert 500_000 <= left < len(ISO)
    assert not (run.cache / "6.6/amd64/install66.iso").exists()
    done = run.fetch("--no-packages")
    assert done.returncode == 0, done.stderr
    assert run.mirror.asked("install66.iso") == [None, f"bytes={left}-"]
    assert (run.cache / "6.6/amd64/install66.iso").read_bytes() == ISO
    assert not run.part.exists()


def test_sigterm_ends_a_fetch_that_can_be_resumed(run: Run) -> None:
    run.mirror.faults[ISO_PATH] = [Fault("slow", 0.001)]
    child = run.start("fetch", "--release", "6.6", "--mirror", f"{run.mirror.url}/pub")
    deadline = time.monotonic() + 30
    while not run.part.exists() or run.part.stat().st_size < 300_000:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.terminate()
    _, err = child.communicate(timeout=10)
    assert child.returncode == 143 and "Traceback" not in err
    assert run.fetch("--no-packages").returncode == 0
    assert run.mirror.asked("install66.iso")[1] is not None


def test_two_runs_at_once_download_once(run: Run) -> None:
    run.mirror.faults[ISO_PATH] = [Fault("slow", 0.0005)]
    words = ("fetch", "--release", "6.6", "--mirror", f"{run.mirror.url}/pub", "--no-packages")
    children = [run.start(*words), run.start(*words)]
    results = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], results
    assert run.mirror.asked("install66.iso") == [None]
    assert any("waiting for another run" in err for _, err in results)


def test_a_second_fetch_needs_no_network_and_offline_works(run: Run) -> None:
    assert run.fetch().returncode == 0
    run.mirror.log.clear()
    done = run.fetch("--offline", "--json")
    assert done.returncode == 0, done.stderr
    assert run.mirror.log == []
    assert len(json.loads(done.stdout)["packages"]) == 2


def test_everything_that_was_tried_is_in_the_error(run: Run) -> None:
    run.mirror.files.clear()
    done = run.fetch()
    assert done.returncode == 1
    assert f"{run.mirror.url}/pub/6.6/amd64/SHA256.sig: 404 not found" in done.stderr
    assert "https://cdn.openbsd.org/pub/OpenBSD/6.6/amd64/SHA256.sig: connection refused" in (
        done.stderr
    )
    assert "hint: give the file with --iso F" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_bytes_are_refused_and_nothing_is_left_under_the_name(run: Run) -> None:
    run.mirror.files[ISO_PATH] = bytes(len(ISO))
    done = run.fetch()
    assert done.returncode == 1 and "not install66.iso: its SHA-256 is" in done.stderr
    assert not (run.cache / "6.6/amd64/install66.iso").exists()


def test_a_given_iso_is_verified(run: Run, tmp_path: Path) -> None:
    given = tmp_path / "my.iso"
    given.write_bytes(ISO)
    done = run.fetch("--iso", str(given), "--no-packages")
    assert done.returncode == 0 and "signed-list" in done.stdout
    given.write_bytes(ISO[:-1])
    done = run.fetch("--iso", str(given), "--no-packages")
    assert done.returncode == 1 and "my.iso: not install66.iso" in done.stderr


def test_unverified_is_loud(run: Run, tmp_path: Path) -> None:
    given = tmp_path / "my.iso"
    given.write_bytes(b"whatever")
    done = run.fetch("--iso", str(given), "--no-packages", "--unverified", "--quiet", "--json")
    assert done.returncode == 0
    assert "NOT VERIFIED" in done.stderr
    assert json.loads(done.stdout)["iso"]["verified"] == "unverified"


def test_an_unknown_release_names_the_nearest(run: Run) -> None:
    child = run.start("fetch", "--release", "6.5")
    _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "error: OpenBSD '6.5' is not a release" in err and "hint: the nearest is 6.6" in err


def test_a_cache_that_cannot_be_made_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run.env["OBSDIMG_CACHE"] = str(tmp_path / "file" / "cache")
    done = run.fetch()
    assert done.returncode == 1 and "cannot be made" in done.stderr
    assert "Traceback" not in done.stderr
