"""`obsdimg rehearse` as a user runs it, on an ISO that `obsdimg demo` built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import obsdimg.standin
from obsdimg.cli import demo
from obsdimg.cli.main import main
from obsdimg.core.resources import resource
from obsdimg.ffs import FileSystem
from obsdimg.standin import copy_scripts
from support.genuine_installer import genuine_ramdisk
from support.rehearsal_stage import needs_sandbox


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "obsdimg", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_sandbox()
    folder = tmp_path_factory.mktemp("demo") / "project"
    done = run("demo", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    phrase = folder / "phrase"
    phrase.write_text(f"{demo.PASSPHRASE}\n")
    phrase.chmod(0o600)
    return folder


def iso_of(project: Path) -> Path:
    (found,) = (project / "images").glob("*.iso")
    return found


def test_the_demo_installs_with_the_hook_and_opens_its_sealed_secrets(
    project: Path, tmp_path: Path
) -> None:
    transcript = tmp_path / "transcript"
    done = run(
        *("rehearse", iso_of(project), "--json", "--quiet"),
        *("--passphrase-file", project / "phrase", "--transcript", transcript),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "installed"
    # Two lines answer questions that other machines are asked.
    assert {line["text"] for line in found["unused_lines"]} <= {
        "Default IPv4 route = none",
        "Do you expect to run the X Window System = no",
    }
    bioctl = [a for a in found["disk_actions"] if a["program"] == "bioctl"]
    assert [a["stdin"] for a in bioctl] == ["<passphrase>"]
    assert "new CRYPTO volume" in bioctl[0]["detail"]
    by_hook = [q["answer"] for q in found["questions"] if q["line"] == 0]
    assert by_hook == ["sd1", "whole"]
    files = {f["path"]: f for f in found["site_files"]}
    assert files["/etc/wireguard/server.conf"]["mode"] == "0600"
    assert files["/obsdimg.sealed"]["gone"]
    assert files["/install.site"]["gone"]
    assert files["/obsdimg.steps"]["gone"]
    assert files["/etc/hostname.vio1"]["mode"] == "0640"
    assert demo.PASSPHRASE not in done.stdout + transcript.read_text()
    assert transcript.stat().st_mode & 0o777 == 0o600


def test_without_the_passphrase_of_the_build_it_says_what_to_give(project: Path) -> None:
    done = run("rehearse", iso_of(project), "--quiet")
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "waiting: This passphrase does not open the sealed secrets" in said
    assert "--passphrase-file" in said


def test_a_disk_that_holds_something_is_not_erased_without_the_operators_word(
    project: Path,
) -> None:
    words = ("rehearse", iso_of(project), "--json", "--quiet", "--nic", "vio0", "--nic", "vio1")
    words += ("--passphrase-file", project / "phrase", "--disk", "25G:encrypted")
    refused = run(*words)
    assert refused.returncode == 1
    assert refused.stderr == ""
    found = json.loads(refused.stdout)
    assert (found["verdict"], found["disk_actions"]) == ("hook-failed", [])
    assert found["message"] == "sd0 was left as it is. Nothing was changed."
    agreed = run(*words, "--wipe")
    assert json.loads(agreed.stdout)["verdict"] == "installed", agreed.stdout


def test_where_nobody_answers_dhcp_the_other_world_is_seen(project: Path) -> None:
    done = run("rehearse", iso_of(project), "--json", "--quiet", "--no-dhcp")
    found = json.loads(done.stdout)
    names = {q["text"] for q in found["questions"]}
    assert "DNS nameservers? (IP address list or 'none')" in names or (
        found["verdict"] == "no-answer"
    ), found


def test_an_iso_that_nobody_vouches_for_gets_no_real_passphrase(
    project: Path, tmp_path: Path
) -> None:
    """What is typed to a changed ISO may go anywhere: the real passphrase only on request."""
    changed = tmp_path / "changed.iso"
    changed.write_bytes(iso_of(project).read_bytes())
    words = ("--json", "--passphrase-file", project / "phrase")
    dummy = run("rehearse", changed, *words)
    assert "a made-up passphrase is typed" in dummy.stderr
    assert json.loads(dummy.stdout)["verdict"] != "installed"
    real = run("rehearse", changed, *words, "--trust-iso")
    assert json.loads(real.stdout)["verdict"] == "installed"


def test_a_machine_without_the_outer_interface_fails_and_the_inner_one_is_not_asked_for(
    project: Path,
) -> None:
    done = run("rehearse", iso_of(project), "--quiet", "--nic", "em0")
    assert done.returncode == 1
    assert "bad-answer: 'vio0' is not a valid choice." in done.stdout
    assert "vio1" not in done.stdout


def test_the_report_has_every_section_and_the_verdict_last(project: Path) -> None:
    done = run("rehearse", iso_of(project), "--quiet", "--passphrase-file", project / "phrase")
    sections = (
        "What the installer asked",
        "What was done to disks",
        "Sets, signature",
        "as they land",
    )
    places = [done.stdout.index(section) for section in sections]
    assert places == sorted(places)
    assert done.stdout.rstrip().splitlines()[-1].startswith("installed:")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--disk", "big"), "--disk big: not a disk"),
        (("--nic", "vio0:some"), "--nic vio0:some: not an interface"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line_and_a_hint(
    project: Path, words: tuple[str, ...], message: str
) -> None:
    done = run("rehearse", iso_of(project), "--quiet", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}\nhint: ")


def test_what_is_no_install_iso_is_one_line_and_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "x.iso"
    path.write_bytes(b"nothing")
    done = run("rehearse", path, "--quiet")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.media
def test_an_iso_built_from_the_genuine_ramdisk_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: our build on a medium with the genuine 6.6 scripts, then that ISO's own
    installer, with hook, signed sets and sealed secrets."""
    needs_sandbox()
    ours = resource("builder", "obsdimg", "standin", "ramdisk", "install.md").read_bytes()
    fill = copy_scripts(FileSystem(genuine_ramdisk()), {"/install.md": ours})
    original = obsdimg.standin.build_iso

    def genuine_iso(path: Path, **options: object) -> object:
        key = options["signify_key"]
        return original(path, ramdisk_files=with_key(fill, key), signify_key=key)  # type: ignore[arg-type]

    monkeypatch.setattr(obsdimg.standin, "build_iso", genuine_iso)
    assert main(["demo", "--quiet", "--verbose", str(tmp_path / "project")]) == 0, (
        capsys.readouterr().out
    )
    shown = capsys.readouterr().out
    assert "\ninstalled:" in shown
    assert "Relinking" not in shown


def with_key(fill: object, key: object) -> object:
    from obsdimg.signify.signing import ramdisk_key

    def filled(system: FileSystem) -> None:
        fill(system)  # type: ignore[operator]
        path = "/etc/signify/openbsd-66-base.pub"
        system.remove(path)
        system.write_file(path, ramdisk_key(key, "6.6").text.encode())  # type: ignore[arg-type]

    return filled
