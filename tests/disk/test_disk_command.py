"""`obsdimg disk`: what it refuses, and whole runs with the scripted guest of the smoke test."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obsdimg.cli import main as cli
from obsdimg.disk.content import open_image
from obsdimg.disk.making import DiskMaking
from support import scripted_guest
from support.real import taken_for_real

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None, reason="qemu-img is not installed"
)
SIZE = 16 << 20
"""What the scripted guest makes."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project of `obsdimg demo` in d/ and its passphrase in ./pass."""
    from obsdimg.cli.demo import PASSPHRASE

    top = tmp_path_factory.mktemp("disk")
    assert cli.main(["demo", "-q", str(top / "d")]) == 0
    taken_for_real(top / "d/images/demo-66-amd64.iso", top / "d/obsdimg.toml")
    (top / "pass").write_text(PASSPHRASE + "\n")
    (top / "pass").chmod(0o600)
    tools = top / "bin"
    tools.mkdir()
    imports = os.pathsep.join(sys.path)
    fake = tools / "qemu-system-x86_64"
    words = f'"{sys.executable}" "{scripted_guest.__file__}" $SCRIPTED_BRANCH'
    fake.write_text(f'#!/bin/sh\nPYTHONPATH="{imports}" exec {words} "$@"\n')
    fake.chmod(0o755)
    return top


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from obsdimg.cli.demo import PASSPHRASE

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OBSDIMG_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("PATH", f"{built / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPTED_BRANCH", "good")
    monkeypatch.setenv("SCRIPTED_PASSPHRASE", PASSPHRASE)
    return tmp_path


def _disk(built: Path, *words: str) -> int:
    given = ["-c", str(built / "d/obsdimg.toml"), "--passphrase-file", str(built / "pass")]
    return cli.main(["disk", "-q", *given, "--size", "16M", "--accelerator", "tcg", *words])


def _refused(capsys: pytest.CaptureFixture[str], built: Path, *words: str) -> str:
    capsys.readouterr()
    assert _disk(built, *words) == 1
    return capsys.readouterr().err


def test_a_whole_run_leaves_the_image_and_what_vouches_for_it(
    built: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _disk(built, "-o", "v.raw.zst", "--keep", "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    image = folder / "v.raw.zst"
    assert manifest["image"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert manifest["image"]["disk_size"] == SIZE
    assert manifest == json.loads((folder / "v.raw.zst.json").read_text())
    assert "an encrypted volume was made" in manifest["checks"] and not manifest["proven"]
    iso = built / "d/images/demo-66-amd64.iso"
    assert manifest["iso"]["sha256"] == hashlib.sha256(iso.read_bytes()).hexdigest()
    assert (manifest["firmware"], manifest["network"]["interface"]) == ("bios", "vio0")
    assert image.stat().st_mode & 0o077 == 0
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "v.raw.zst", "v.raw.zst.json", "v.raw.zst.json.sig", "v.raw.zst.sha256", "v.raw.zst.bmap",
        "cache", "disk-report",
    }  # fmt: skip
    # The disk itself: what the guest wrote, by a judge that is not ours.
    kept, rounds = sorted((folder / "cache/smoke").iterdir())
    assert int(rounds.read_text()) == manifest["kdf_rounds"] == 123
    subprocess.run(["qemu-img", "convert", "-O", "raw", kept, folder / "judge"], check=True)
    digest = hashlib.sha256((folder / "judge").read_bytes()).hexdigest()
    assert manifest["image"]["disk_sha256"] == digest
    # From the kept disk, in another form: the same disk, and no installation.
    assert _disk(built, "-o", "v.qcow2", "--from", "installed", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["image"]["disk_sha256"] == digest
    assert again["kdf_rounds"] == manifest["kdf_rounds"], "from what --keep noted"
    assert not (folder / "v.qcow2.bmap").exists()
    stages = json.loads((folder / "disk-report/report.json").read_text())["stages"]
    assert [s["name"] for s in stages] == ["disk"]
    secret = (built / "pass").read_text().strip()
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".qcow2", ".zst"):
            assert secret.encode() not in path.read_bytes(), path


def test_a_disk_for_both_kinds_of_firmware(
    built: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kept disk stays one for the BIOS; the image is as large as was asked for."""
    said = _refused(capsys, built, "-o", "v.raw", "--firmware", "both")
    assert "demo-66-amd64.iso has no boot loader for UEFI" in said.replace("\n", " ")
    loader = bytes(range(256)) * 1400
    proven = []

    def prove(play: DiskMaking, overlay: Path) -> None:
        proven.append((play.plan.uefi, open_image(overlay).size))
        with play.stage("start", "starts the machine"):
            pass

    monkeypatch.setattr("obsdimg.cli.disk_wishes.efi_boot_image", lambda iso: loader)
    monkeypatch.setattr("obsdimg.cli.disk.find_firmware", lambda: None)
    monkeypatch.setattr(DiskMaking, "prove", prove)
    monkeypatch.setenv("SCRIPTED_BRANCH", "mbr")
    words = ["--firmware", "both", "-o", "v.raw", "--prove", "--online", "--json"]
    assert _disk(built, *words, "--keep") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["firmware"], manifest["image"]["disk_size"]) == ("both", SIZE)
    assert proven == [(False, SIZE), (True, SIZE)]
    disk = (folder / "v.raw").read_bytes()
    assert disk[15 << 20 :] == loader.ljust(1 << 20, b"\0")
    assert disk[446 + 4] == 0xEF
    stages = json.loads((folder / "disk-report/report.json").read_text())["stages"]
    assert [s["name"] for s in stages][-2:] == ["start-bios", "start-uefi"]
    kept = next((folder / "cache/smoke").glob("*.qcow2"))
    assert open_image(kept).size == 15 << 20
    again = ["-o", "w.raw", "--firmware", "both", "--from", "installed", "--json"]
    assert _disk(built, *again) == 0
    same = json.loads(capsys.readouterr().out)["image"]["disk_sha256"]
    assert same == manifest["image"]["disk_sha256"]
    assert [p.name for p in (folder / "cache/smoke").glob("*.qcow2")] == [kept.name]


def test_an_installation_without_a_table_of_the_bios_becomes_no_disk_for_both(
    built: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("obsdimg.cli.disk_wishes.efi_boot_image", lambda iso: bytes(1024))
    said = _refused(capsys, built, "-o", "v.raw", "--firmware", "both")
    assert "has no partition table with one OpenBSD partition" in said.replace("\n", " ")
    assert not (folder / "v.raw").exists()


@pytest.mark.parametrize(
    ("branch", "words"),
    [
        ("no-sets", "installs: .*the guest said: .*found no OpenBSD"),
        ("no-volume", "installs: an encrypted volume was made"),
        ("not-encrypted", "searches the disk .*looks random"),
        ("secret-on-disk", "the disk's passphrase is not on the disk"),
    ],
)
def test_an_iso_that_gives_no_good_disk_gives_no_image(
    built: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    branch: str,
    words: str,
) -> None:

    monkeypatch.setenv("SCRIPTED_BRANCH", branch)
    said = _refused(capsys, built, "-o", "v.raw")
    assert re.search(words, said.replace("\n", " ")), said
    assert {p.name for p in folder.iterdir()} == {"cache", "disk-report"}
    assert not list((folder / "cache/smoke").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc, PR_SET_PDEATHSIG")
def test_nothing_is_left_by_kill_minus_nine(
    built: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the guest installs: no machine, no disk, no image."""
    monkeypatch.setenv("SCRIPTED_BRANCH", "hangs")
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    given = ["-c", built / "d/obsdimg.toml", "--passphrase-file", built / "pass", "--size", "16M"]
    child = subprocess.Popen(
        [sys.executable, "-m", "obsdimg", "disk", *given, "--accelerator", "tcg", "-o", "v.raw"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if b"the start of the installation" in line:
            break
    (runs,) = (folder / "cache/smoke").glob("run-*")
    machines = [pid for pid in _processes() if f"{runs}/".encode() in _words(pid)]
    assert machines and list((folder / "tmp").glob("obsdimg-smoke-*"))
    child.kill()
    child.wait()
    child.stderr.close()
    until = time.monotonic() + 60
    while (
        runs.exists()
        or list((folder / "tmp").glob("obsdimg-*"))
        or any(f"{runs}/".encode() in _words(pid) for pid in machines)
    ):
        assert time.monotonic() < until, list(folder.rglob("*"))
        time.sleep(0.02)
    assert not list(folder.glob("*v.raw*"))


def _processes() -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def _words(pid: int) -> bytes:
    """The command line; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_an_image_from_before_survives_a_run_that_fails(
    built: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "v.raw").write_bytes(b"old")
    monkeypatch.setenv("SCRIPTED_BRANCH", "bootblocks")
    _refused(capsys, built, "-o", "v.raw")
    assert (folder / "v.raw").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("-o", "v.img"), "what form is that?"),
        (("-o", "v.raw", "--format", "qcow2"), "is called raw, and --format says qcow2"),
        (("-o", "none/v.raw"), "there is no such folder"),
        (("-o", "."), "what form is that?"),
        (("none.iso",), "none.iso: there is no such ISO"),
        (("--size", "9000T"), "GB free"),
        (("--from", "installed"), "run once with --keep"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_starts(
    built: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    complaint: str,
) -> None:
    assert complaint in _refused(capsys, built, *words)
    assert {p.name for p in folder.iterdir()} <= {"cache"}


def test_without_encryption_there_is_no_image(
    built: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from obsdimg.smoke import prepare

    monkeypatch.setattr(prepare, "encryption_of", lambda found: "none")
    assert "the image would hold the server's keys in clear" in _refused(capsys, built)


@pytest.mark.parametrize(
    ("names", "card"),
    [
        (["vio0"], "virtio-net-pci"),
        (["em0", "em1"], "e1000"),
        (["vmx0"], "vmxnet3"),
        (["re0"], "rtl8139"),
        (["ix0"], "QEMU has no machine with the cards ix0"),
        (["vio0", "em0"], "vio0, em0 are of different kinds"),
    ],
)
def test_the_machine_that_installs_has_the_card_of_the_configuration(
    names: list[str], card: str
) -> None:
    from types import SimpleNamespace as Some

    from obsdimg.smoke.prepare import SmokePlanError, network_card

    first, *others = names
    network = Some(interface=first, interfaces=[Some(name=name) for name in others])
    project = Some(config=Some(network=network))
    try:
        found = network_card(project)  # type: ignore[arg-type]
    except SmokePlanError as error:
        assert "network.also" in (error.hint or "")
        found = error.message
    assert card in found
    assert network_card(None) == "virtio-net-pci"


def test_the_size_is_that_of_the_plan_where_the_plan_says_one() -> None:
    from types import SimpleNamespace as Some

    from obsdimg.cli.disk_wishes import size_of

    def size(plan: str) -> int:
        project = Some(config=Some(deploy=Some(plan=plan)))
        return size_of(None, project)  # type: ignore[arg-type]

    assert size("1c-1024m-25g") == 25 << 30
    assert size("vc2-1c-1gb") == 10 << 30
    assert size_of(5 << 30, None) == 5 << 30


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "22"], "--port goes with --write"),
        (["--gaps", "skip"], "--gaps goes with --write"),
        (["x.raw", "--write", "a@b:/dev/sda", "--prove"], "--prove is about making the image"),
        (["x.raw", "--write", "a@b:/dev/sda", "--size", "20G"], "--size is about making the image"),
        (["x.raw", "--write", "a@b:/dev/sda", "--port", "70000"], "is not between 1 and 65535"),
        (["--memory", "-5"], "is not between 256 and"),
    ],
)
def test_an_option_that_would_do_nothing_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(["disk", *words]) == 2
    assert says in capsys.readouterr().err
