"""`obsdimg smoke`: what it refuses before anything boots, and a whole run with the stand-in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from obsdimg.cli import main as cli
from support import scripted_guest
from support.real import taken_for_real


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a program called qemu-system-x86_64: the scripted guest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OBSDIMG_PASSPHRASE_FILE", raising=False)
    tools = tmp_path / "bin"
    tools.mkdir()
    imports = os.pathsep.join(sys.path)
    fake = tools / "qemu-system-x86_64"
    words = f'"{sys.executable}" "{scripted_guest.__file__}" $SCRIPTED_BRANCH'
    fake.write_text(f'#!/bin/sh\nPYTHONPATH="{imports}" exec {words} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPTED_BRANCH", "good")
    return tmp_path


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["smoke", *words]) == 1
    return capsys.readouterr().err


def test_no_iso_and_no_project_is_a_question(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "which ISO?" in _refused(capsys)


def test_a_missing_iso_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.iso: there is no such ISO" in _refused(capsys, "none.iso")


def test_a_file_that_is_no_iso_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.iso").write_bytes(bytes(100000))
    assert "error:" in _refused(capsys, "x.iso")
    assert not (folder / "cache/smoke").exists()


def test_no_qemu_is_said_with_the_packages(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    said = _refused(capsys, "x.iso")
    assert "qemu-system-x86_64 is not installed" in said and "Homebrew" in said


@pytest.mark.parametrize("size", ["0G", "4", "x", "-1G", "1.5G"])
def test_a_size_that_is_none_is_wrong_usage(folder: Path, size: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["smoke", "x.iso", "--disk-size", size])
    assert caught.value.code == 2


@pytest.fixture
def demo(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ISO of `obsdimg demo` (a stand-in, no OpenBSD), and its passphrase in ./pass."""
    from obsdimg.cli.demo import PASSPHRASE

    assert cli.main(["demo", "-q", "d"]) == 0
    capsys.readouterr()
    secret = folder / "pass"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    monkeypatch.setenv("SCRIPTED_PASSPHRASE", PASSPHRASE)
    return taken_for_real(folder / "d/images/demo-66-amd64.iso", folder / "d/obsdimg.toml")


def _smoke(iso: Path, *words: str) -> int:
    options = ["--passphrase-file", "pass", "--disk-size", "16M", "--report", "r"]
    return cli.main(["smoke", "-q", str(iso), *options, *words])


def test_a_whole_run_writes_the_reports_and_leaves_nothing_else(
    demo: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _smoke(demo, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "passed"
    assert report["versions"]["QEMU"] == "9.0.0"
    assert any("no client" in note for note in report["notes"])
    assert {p.name for p in (folder / "r").iterdir()} >= {"report.html", "junit.xml"}
    assert list((folder / "cache/smoke").iterdir()) == []
    text = "".join(
        p.read_text() for p in (folder / "r").iterdir() if p.suffix in (".txt", ".json", ".html")
    )
    assert (folder / "pass").read_text().strip() not in text


def test_a_kept_disk_saves_the_installation(
    demo: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "run once with --keep" in _refused(
        capsys, str(demo), "--passphrase-file", "pass", "--from", "installed", "--disk-size", "16M"
    )
    assert _smoke(demo, "--keep") == 0
    (kept,) = (folder / "cache/smoke").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    capsys.readouterr()
    assert _smoke(demo, "--from", "installed", "--json") == 0
    names = [s["name"] for s in json.loads(capsys.readouterr().out)["stages"]]
    assert "install" not in names and "tunnel-again" in names


def test_a_failed_run_is_exit_one_with_a_report(
    demo: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCRIPTED_BRANCH", "no-sets")
    assert _smoke(demo, "--accelerator", "tcg") == 1
    said = capsys.readouterr().out
    assert said.startswith("FAILED: this ISO does not give you your server: installs")
    assert "found no OpenBSD" in (folder / "r/report.txt").read_text()


def test_an_accelerator_that_fails_is_followed_by_the_next(
    demo: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from obsdimg.smoke import qemu

    monkeypatch.setattr(qemu, "accelerators", lambda: [qemu.Accelerator.KVM, qemu.Accelerator.TCG])
    monkeypatch.setenv("SCRIPTED_BRANCH", "kvm-internal-error")
    assert _smoke(demo, "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert "starting over with tcg" in err
    assert report["versions"]["accelerator"] == "tcg"
    assert any("kvm was tried first" in note for note in report["notes"])


def test_no_room_for_the_disk_is_said_before_anything_starts(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _refused(capsys, str(demo), "--passphrase-file", "pass", "--disk-size", "9000T")
    assert "GB free" in said and "OBSDIMG_CACHE" in said


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        ("a good passphrase\n", 0o644, "others may read"),
        ("short\n", 0o600, "too few"),
        ("two\nlines and more\n", 0o600, "more than one line"),
    ],
)
def test_a_bad_passphrase_file_is_refused(
    demo: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    mode: int,
    complaint: str,
) -> None:
    (folder / "pass").write_text(content)
    (folder / "pass").chmod(mode)
    said = _refused(capsys, str(demo), "--passphrase-file", "pass")
    assert complaint in said and content.splitlines()[0] not in said


def test_the_stock_medium_is_not_ours(
    demo: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock = ("d/upstream/install66.iso", "--passphrase-file", "pass")
    assert "nobody vouches for it" in _refused(capsys, *stock)
    assert "it is not OpenBSD and installs nothing" in _refused(capsys, *stock, "--trust-iso")


@pytest.mark.parametrize(
    ("conf", "mode", "keyboard", "said"),
    [
        ("stty com0 115200\nset tty com0\nset image /6.6/amd64/bsd.auto\n", None, False, True),
        ("set tty com0\n", "passphrase", True, False),  # it is asked on the screen there
        ("set tty com0\n", "none", False, False),
        ("set tty com0\n", "embedded", False, True),
        ("set image /6.6/amd64/bsd.auto\n", "passphrase", False, False),
    ],
)
def test_a_machine_without_a_screen_does_not_show_where_the_loader_asks(
    conf: str, mode: str | None, keyboard: bool, said: bool
) -> None:
    from obsdimg.image.inspection import Inspection
    from obsdimg.smoke.prepare import of_the_screen

    hook = {} if mode is None else {"mode": mode}
    found = Inspection(Path("x.iso"), boot_conf=conf, hook=hook)
    notes = of_the_screen(found, screen=keyboard)
    assert ["where there is one it asks there" in note for note in notes] == (
        [True] if said else []
    )


@pytest.mark.parametrize(
    ("hook", "uefi", "on_com0"),
    [
        ({"loader": "com0 115200"}, False, True),
        ({"loader": "com0 115200"}, True, False),
        ({"loader": ""}, False, False),
        ({}, False, False),  # built before there was such a setting
    ],
)
def test_where_the_loader_will_ask_is_read_from_the_iso(
    hook: dict[str, str], uefi: bool, on_com0: bool
) -> None:
    from obsdimg.image.inspection import Inspection
    from obsdimg.smoke.prepare import loader_on_com0

    found = Inspection(Path("x.iso"), boot_conf="", hook=hook)
    assert loader_on_com0(found, uefi=uefi) is on_com0


def test_the_plan_comes_from_the_project(demo: Path, folder: Path) -> None:
    from obsdimg.core.secret import Secret
    from obsdimg.image.inspection import inspect
    from obsdimg.project.folder import Project
    from obsdimg.smoke import prepare as smokeplan
    from obsdimg.smoke.outside import beyond

    project = Project.open(folder / "d/obsdimg.toml")
    peers, notes = smokeplan.project_clients(project)
    files = [project.clients / f"{peer.name}.conf" for peer in peers]
    read = [smokeplan.client_from_file(path, (), project) for path in files]
    for client, again in zip(peers, read, strict=True):
        for name in (
            "name",
            "private",
            "server",
            "preshared",
            "inside",
            "allowed",
            "port",
            "reach",
        ):
            assert getattr(client, name) == getattr(again, name)
    wishes = smokeplan.SmokeOptions(disk_size=1024**3, memory_mib=512)
    plan = smokeplan.make_plan(inspect(demo), Secret("x"), None, peers, project, wishes)
    assert (plan.release, plan.encrypted, plan.unattended, plan.guarded) == (
        "6.6", True, False, True,
    )  # fmt: skip
    assert not notes and not plan.ssh_open and not plan.halts
    laptop, phone = plan.peers
    assert laptop.port == 53 and list(map(str, laptop.inside)) == ["10.0.0.1"]
    (private,) = plan.private_networks
    assert (private.guest, private.prefix) == ("172.16.1.3", 24)
    assert beyond(laptop, plan.network, plan.private_networks) == [
        "198.51.100.2", private.gateway,
    ]  # fmt: skip
    assert beyond(phone, plan.network, plan.private_networks) == ["198.51.100.2"]
    # Without clients pf lets everybody in by ssh: `smoke` expects it to be open.
    tunnel = project.config.tunnel.model_copy(update={"peers": []})
    alone = Project(project.config_path, project.config.model_copy(update={"tunnel": tunnel}))
    assert smokeplan.make_plan(inspect(demo), Secret("x"), None, (), alone, wishes).ssh_open
