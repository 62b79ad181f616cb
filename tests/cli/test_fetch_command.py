"""`obsdimg fetch` as a user runs it: against a loopback mirror, killed, resumed, twice at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mirror import Fault
from support.standin_release import StandInRelease, standin_release

ISO = os.urandom(3_000_000)
ISO_PATH = "/pub/6.6/amd64/install66.iso"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[StandInRelease]:
    with standin_release(tmp_path) as made:
        made.publish(ISO, hashlib.sha256(ISO).hexdigest())
        yield made


def test_fetch_brings_iso_and_packages_verified(run: StandInRelease) -> None:
    done = run.fetch("--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["iso"]["verified"] == "signed-list"
    assert found["iso"]["sha256"] == hashlib.sha256(ISO).hexdigest()
    assert [p["name"] for p in found["packages"]] == [
        "wireguard-go-0.0.20190908",
        "bash-5.0.11",
        "wireguard-tools-0.0.20190913",
    ]
    assert Path(found["iso"]["path"]).read_bytes() == ISO


def test_the_plain_result_names_file_and_evidence(run: StandInRelease) -> None:
    done = run.fetch("--no-packages", "--quiet")
    assert done.stdout.splitlines()[0] == str(run.iso)
    assert "signed-list: " in done.stdout and "stand-in" not in done.stderr
    assert done.stderr == ""


def test_a_killed_fetch_leaves_no_iso_and_is_resumed(run: StandInRelease) -> None:
    run.mirror.faults[ISO_PATH] = [Fault("slow", 0.001)]
    child = run.start("fetch", "--release", "6.6", "--mirror", run.url)
    deadline = time.monotonic() + 30
    while not run.part.exists() or run.part.stat().st_size < 500_000:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=10)
    left = run.part.stat().st_size
    assert 500_000 <= left < len(ISO)
    assert not run.iso.exists()
    done = run.fetch("--no-packages")
    assert done.returncode == 0, done.stderr
    assert run.mirror.asked("install66.iso") == [None, f"bytes={left}-"]
    assert run.iso.read_bytes() == ISO
    assert not run.part.exists()


def test_sigterm_ends_a_fetch_that_can_be_resumed(run: StandInRelease) -> None:
    run.mirror.faults[ISO_PATH] = [Fault("slow", 0.001)]
    child = run.start("fetch", "--release", "6.6", "--mirror", run.url)
    deadline = time.monotonic() + 30
    while not run.part.exists() or run.part.stat().st_size < 300_000:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.terminate()
    _, err = child.communicate(timeout=10)
    assert child.returncode == 143 and "Traceback" not in err
    assert run.fetch("--no-packages").returncode == 0
    assert run.mirror.asked("install66.iso")[1] is not None


def test_two_runs_at_once_download_once(run: StandInRelease) -> None:
    run.mirror.faults[ISO_PATH] = [Fault("slow", 0.0005)]
    words = ("fetch", "--release", "6.6", "--mirror", run.url, "--no-packages")
    children = [run.start(*words), run.start(*words)]
    results = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], results
    assert run.mirror.asked("install66.iso") == [None]
    assert any("waiting for another run" in err for _, err in results)


def test_a_second_fetch_needs_no_network_and_offline_works(run: StandInRelease) -> None:
    assert run.fetch().returncode == 0
    run.mirror.log.clear()
    done = run.fetch("--offline", "--json")
    assert done.returncode == 0, done.stderr
    assert run.mirror.log == []
    assert len(json.loads(done.stdout)["packages"]) == 3


def test_everything_that_was_tried_is_in_the_error(run: StandInRelease) -> None:
    run.mirror.files.clear()
    done = run.fetch()
    assert done.returncode == 1
    assert f"{run.mirror.url}/pub/6.6/amd64/SHA256.sig: 404 not found" in done.stderr
    assert "cdn.openbsd.org" in done.stderr
    assert ": connection refused" in done.stderr
    lines = (done.stderr + done.stdout).count("cdn.openbsd.org")
    assert lines == 1, "each mirror is named once"
    assert "hint: give the file with --iso F" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_bytes_are_refused_and_nothing_is_left_under_the_name(run: StandInRelease) -> None:
    run.mirror.files[ISO_PATH] = bytes(len(ISO))
    done = run.fetch()
    assert done.returncode == 1 and "not install66.iso: its SHA-256 is" in done.stderr
    assert not run.iso.exists()


def test_a_given_iso_is_verified(run: StandInRelease, tmp_path: Path) -> None:
    given = tmp_path / "my.iso"
    given.write_bytes(ISO)
    done = run.fetch("--iso", str(given), "--no-packages")
    assert done.returncode == 0 and "signed-list" in done.stdout
    given.write_bytes(ISO[:-1])
    done = run.fetch("--iso", str(given), "--no-packages")
    assert done.returncode == 1 and "my.iso: not install66.iso" in done.stderr


def test_unverified_is_loud(run: StandInRelease, tmp_path: Path) -> None:
    given = tmp_path / "my.iso"
    given.write_bytes(b"whatever")
    done = run.fetch("--iso", str(given), "--no-packages", "--unverified", "--quiet", "--json")
    assert done.returncode == 0
    assert "NOT VERIFIED" in done.stderr
    assert json.loads(done.stdout)["iso"]["verified"] == "unverified"


def test_an_unknown_release_names_the_nearest(run: StandInRelease) -> None:
    done = run.run("fetch", "--release", "6.5")
    assert done.returncode == 1
    assert "error: OpenBSD '6.5' is not a release" in done.stderr
    assert "hint: the nearest is 6.6" in done.stderr


def test_a_cache_that_cannot_be_made_is_an_error(run: StandInRelease, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run.env["OBSDIMG_CACHE"] = str(tmp_path / "file" / "cache")
    done = run.fetch()
    assert done.returncode == 1 and "cannot be made" in done.stderr
    assert "Traceback" not in done.stderr
