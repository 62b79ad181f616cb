"""obsdimg build, as a user runs it, on the stand-in medium: what comes out, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest

from obsdimg import standin
from obsdimg.cli.main import main
from obsdimg.core.entry import Entry
from obsdimg.core.secret import Secret
from obsdimg.ffs import FileSystem
from obsdimg.image.project_secrets import project_secrets
from obsdimg.image.secret_search import search
from obsdimg.iso import Iso, remaster
from obsdimg.kernel.bootkernel import BootKernel
from support.sealed import open_sealed

PASSPHRASE = "correct horse battery staple"
CONFIG = """
[release]
version = "6.6"
[host]
name = "vpn"
[access.admin]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@x"]
[tunnel]
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
[packages]
carry = false
"""


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("medium") / "install66.iso"
    standin.build_iso(path)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    folder = tmp_path / "project"
    assert main(["init", str(folder), "-q"]) == 0
    (folder / "obsdimg.toml").write_text(CONFIG)
    phrase = folder / "phrase"
    phrase.write_text(PASSPHRASE + "\n")
    phrase.chmod(0o600)
    return folder


def words(project: Path, iso: Path, *more: str) -> list[str]:
    return [
        *("build", "-c", str(project / "obsdimg.toml"), "--iso", str(iso), "--unverified", "-q"),
        *("--passphrase-file", str(project / "phrase"), *more),
    ]


def result(project: Path) -> Path:
    return project / "images" / "vpn-66-amd64.iso"


def refused(capsys: pytest.CaptureFixture[str], project: Path, argv: list[str], text: str) -> None:
    """The command fails with one error line that holds `text`, a hint, and no trace on disk."""
    capsys.readouterr()
    before = {p for p in project.rglob("*") if p.name != "clients"}
    assert main(argv) == 1
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    assert text in errors[0]
    after = {p for p in project.rglob("*") if p.name != "clients"}
    new = {p for p in after - before if p.parent.name not in ("secrets", "clients")}
    assert not new, "nothing is written"


def test_the_iso_holds_what_the_manifest_says_and_its_checksum_is_right(
    project: Path, medium: Path
) -> None:
    assert main(words(project, medium)) == 0
    iso = result(project)
    done = subprocess.run(
        ["sha256sum", "-c", f"{iso.name}.sha256"], cwd=iso.parent, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads(Path(f"{iso}.json").read_text())
    assert manifest["upstream"]["verified"] == "unverified"
    assert manifest["secrets_in_clear"] is False
    put = {f["path"]: f for f in manifest["files"]}
    assert set(put) == {
        *(f"/6.6/amd64/{n}" for n in ("bsd.auto", "site66.tgz", "SHA256", "SHA256.sig")),
        "/etc/boot.conf",
        *(p for p in put if p.endswith("TRANS.TBL")),
    }
    with Iso.open(iso) as opened, Iso.open(medium) as stock:
        assert opened.read("/6.6/amd64/bsd.rd") == stock.read("/6.6/amd64/bsd.rd")
        assert opened.read("/etc/boot.conf") == b"set image /6.6/amd64/bsd.auto\n"
        kernel = BootKernel.parse(opened.read("/6.6/amd64/bsd.auto"))
    ramdisk = FileSystem(kernel.ramdisk)
    assert ramdisk.stat("/auto_install.conf").mode == 0o600
    assert ramdisk.read_file("/install.md").endswith(b". /obsdimg.sh\n")
    conf = result(project).with_name("vpn-66-amd64.install.conf").read_bytes()
    assert ramdisk.read_file("/auto_install.conf") == conf
    for path in (*iso.parent.iterdir(), *(project / "clients").iterdir()):
        assert path.stat().st_mode & 0o077 in (0, 0o044), path
        assert not (path.stat().st_mode & 0o044) or path.suffix in (".sha256",), path


def test_the_same_project_gives_the_same_bytes(project: Path, medium: Path) -> None:
    assert main(words(project, medium)) == 0
    first = result(project).read_bytes()
    time.sleep(1.1)
    assert main(words(project, medium)) == 0
    assert result(project).read_bytes() == first


def test_source_date_epoch_dates_everything_new(
    project: Path, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert main(words(project, medium)) == 0
    with Iso.open(result(project)) as iso:
        dates = {e.path: e.mtime for e in iso.entries()}
    assert dates["/6.6/amd64/bsd.auto"] == dates["/6.6/amd64/site66.tgz"] == 1000000000
    assert dates["/6.6/amd64/bsd.rd"] != 1000000000


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")
def test_other_programs_read_the_iso(project: Path, medium: Path, tmp_path: Path) -> None:
    assert main(words(project, medium)) == 0
    out = tmp_path / "out"
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", result(project), "-extract", "/", out],
        check=True,
        capture_output=True,
    )
    listing = subprocess.run(
        ["tar", "-tzvf", out / "6.6/amd64/site66.tgz", "--numeric-owner"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    members = {line.split()[-1]: line.split()[:2] for line in listing.splitlines()}
    assert members == {
        "install.site": ["-rwx------", "0/0"],
        "obsdimg.sealed": ["-rw-------", "0/0"],
    }
    inside = sealed_in((out / "6.6/amd64/site66.tgz").read_bytes())
    assert inside["/etc/pf.conf"].mode == 0o600


def sealed_in(site_set: bytes) -> dict[str, Entry]:
    """The files in the sealed file of a site set, by path."""
    with tarfile.open(fileobj=io.BytesIO(site_set), mode="r:gz") as archive:
        stream = archive.extractfile("obsdimg.sealed")
        assert stream is not None
        return {e.path: e for e in open_sealed(stream.read(), Secret(PASSPHRASE))}


@pytest.mark.parametrize("console", ["vga", "com0"])
def test_no_output_holds_a_secret(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str], console: str
) -> None:
    text = (
        (project / "obsdimg.toml")
        .read_text()
        .replace('name = "vpn"', f'name = "vpn"\nconsole = "{console}"', 1)
    )
    (project / "obsdimg.toml").write_text(text)
    argv = [w for w in words(project, medium) if w != "-q"]
    assert main(argv) == 0
    assert main(["inspect", str(result(project))]) == 0
    assert main(["check", "-c", str(project / "obsdimg.toml")]) == 0
    secrets = project_secrets(project, Secret(PASSPHRASE))
    assert len(secrets) >= 5
    assert not search(result(project), secrets).findings
    printed = "".join(capsys.readouterr())
    written = [p for p in (project / "images").iterdir() if p.suffix != ".iso"]
    everything = printed.encode() + b"".join(p.read_bytes() for p in written)
    for name, value in secrets.items():
        assert value not in everything, name


def test_an_embedded_passphrase_is_said_loudly_and_marked(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (project / "obsdimg.toml").open("a") as stream:
        stream.write('[disk]\nencryption = "embedded"\n')
    assert main(words(project, medium)) == 0
    assert "embedded in the ISO" in capsys.readouterr().err
    assert json.loads(Path(f"{result(project)}.json").read_text())["secrets_in_clear"] is True
    assert main(["inspect", str(result(project)), "-q"]) == 1
    assert "FAIL         no passphrase in the ISO" in capsys.readouterr().out
    assert search(result(project), {"passphrase": PASSPHRASE.encode()}).findings


def test_without_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["build", "-c", str(tmp_path / "obsdimg.toml")]
    refused(capsys, tmp_path, argv, "no configuration here")


def damaged(tmp_path: Path, medium: Path, kind: str) -> Path:
    """A medium that is wrong in one way."""
    path = tmp_path / f"{kind}.iso"
    data = medium.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no ISO":
        path.write_bytes(b"hello world\n" * 20000)
    elif kind == "other release":
        standin.build_iso(path, version="6.7")
    elif kind == "no El Torito":
        at = data.index(b"EL TORITO SPECIFICATION")
        path.write_bytes(data[:at] + b"NO SUCH THING IS IN HERE"[:23] + data[at + 23 :])
    elif kind == "no kernel":
        path.write_bytes(data.replace(b"bsd.rd", b"bsd.rx").replace(b"BSD.RD", b"BSD.RX"))
    elif kind == "no ramdisk":
        standin.build_iso(path, kernel=b"\x7fELF" + bytes(4000))
    else:
        with Iso.open(medium) as iso:
            kernel = BootKernel.parse(iso.read("/6.6/amd64/bsd.rd"))
        standin.build_iso(path, kernel=kernel.with_ramdisk(_broken(kernel.ramdisk, kind)))
    return path


def _broken(image: bytes, kind: str) -> bytes:
    changed = bytearray(image)
    magic = 8192 + 1372
    if kind == "FFS2":
        struct.pack_into("<I", changed, magic, 0x19540119)
    elif kind == "big-endian":
        struct.pack_into(">I", changed, magic, 0x011954)
    elif kind == "damaged":
        changed[8192 : 8192 + 64] = bytes(64)
    elif kind == "full":
        system = FileSystem(image)
        system.write_file("/filler", bytes(system.free().bytes - 8192))
        return system.image()
    return bytes(changed)


DAMAGES = {
    "truncated": "",
    "empty": "empty",
    "no ISO": "not an ISO",
    "other release": "the ISO is of 6.7/amd64, not of 6.6/amd64",
    "no El Torito": "no boot entry",
    "no kernel": "has no /6.6/amd64/bsd.rd",
    "no ramdisk": "boot kernel",
    "FFS2": "FFS2",
    "big-endian": "big-endian",
    "damaged": "",
    "full": "",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_medium_that_will_not_do_is_refused(
    project: Path, medium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = damaged(tmp_path, medium, kind)
    refused(capsys, project, words(project, path), DAMAGES[kind])


def test_an_iso_made_by_obsdimg_is_refused(
    project: Path, medium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(project, medium)) == 0
    again = tmp_path / "again.iso"
    shutil.copy(result(project), again)
    for path in (project / "images").iterdir():
        path.unlink()
    refused(capsys, project, words(project, again), "made by obsdimg")


def test_a_foreign_ramdisk_change_is_refused(
    project: Path, medium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Iso.open(medium) as iso:
        kernel = BootKernel.parse(iso.read("/6.6/amd64/bsd.rd"))
    system = FileSystem(kernel.ramdisk)
    system.write_file("/auto_install.conf", b"x = y\n")
    path = tmp_path / "foreign.iso"
    with path.open("w+b") as stream, Iso.open(medium) as iso:
        changes = {"/6.6/amd64/bsd.rd": kernel.with_ramdisk(system.image())}
        remaster(iso, stream, changes, epoch=0)
    # Its SHA256 no longer fits either: that is said first.
    refused(capsys, project, words(project, path), "differs from the list on the ISO")


def _bad_overlay(folder: Path, kind: str) -> None:
    overlay = folder / "overlay"
    if kind == "fifo":
        os.mkfifo(overlay / "pipe")
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(overlay / "sock"))
        server.close()
    elif kind == "absolute link":
        (overlay / "link").symlink_to("/etc/passwd")
    elif kind == "link out":
        (overlay / "link").symlink_to("../../etc/passwd")
    elif kind == "sealed path":
        (overlay / "etc/wireguard").mkdir(parents=True)
        (overlay / "etc/wireguard/server.conf").write_text("x")
    elif kind == "file for folder":
        (overlay / "etc").mkdir()
        (overlay / "etc/wireguard").write_text("x")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("fifo", "neither file, folder nor link"),
        ("socket", "neither file, folder nor link"),
        ("absolute link", "is an absolute link to /etc/passwd"),
        ("link out", "leads out of the overlay"),
        ("sealed path", "is written by obsdimg"),
        ("file for folder", "/etc/wireguard is a file"),
    ],
)
def test_an_overlay_that_cannot_land_is_refused(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str], kind: str, text: str
) -> None:
    _bad_overlay(project, kind)
    refused(capsys, project, words(project, medium), text)


def test_overlay_files_land_with_their_modes(project: Path, medium: Path) -> None:
    (project / "overlay/etc/ssl").mkdir(parents=True)
    (project / "overlay/etc/ssl/x.pem").write_text("certificate")
    (project / "overlay/etc/ssl/x.pem").chmod(0o640)
    (project / "overlay/opt/tool").mkdir(parents=True)
    (project / "overlay/opt/tool/run").write_text("#!/bin/sh\n")
    (project / "overlay/opt/tool/run").chmod(0o755)
    assert main(words(project, medium)) == 0
    iso = pycdlib.PyCdlib()
    iso.open(str(result(project)))
    packed = io.BytesIO()
    iso.get_file_from_iso_fp(packed, rr_path="/6.6/amd64/site66.tgz")
    iso.close()
    inside = sealed_in(packed.getvalue())
    assert inside["/etc/ssl/x.pem"].mode == 0o640
    assert inside["/opt/tool/run"].mode == 0o755
    assert inside["/opt/tool/run"].data == b"#!/bin/sh\n"
    site = json.loads(Path(f"{result(project)}.json").read_text())["site_set"]
    assert "/opt/tool/run" not in {e["path"] for e in site}, "sealed: the manifest may be seen"


def test_an_output_folder_that_is_missing(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = words(project, medium, "-o", str(project / "nowhere" / "x.iso"))
    refused(capsys, project, argv, "there is no such folder")


def test_the_upstream_iso_is_never_overwritten(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = medium.read_bytes()
    refused(capsys, project, words(project, medium, "-o", str(medium)), "is the upstream ISO")
    assert medium.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs takes root")
def test_a_full_disk_leaves_nothing(
    project: Path, medium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        argv = words(project, medium, "-o", str(small / "x.iso"))
        refused(capsys, project, argv, "2 MB free, ")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_loose_modes_on_a_secret_are_refused(
    project: Path, medium: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(project, medium)) == 0
    (project / "secrets/server.key").chmod(0o644)
    result(project).unlink()
    refused(capsys, project, words(project, medium), "others may read it (mode 0644)")


@pytest.fixture(scope="module")
def big_medium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("big") / "big.iso"
    standin.build_iso(path, iso_size_padding=150 << 20)
    yield path
    path.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("wait", [0.0, 0.15])
def test_a_build_that_is_ended_leaves_nothing_that_looks_finished(
    project: Path, big_medium: Path, number: signal.Signals, wait: float
) -> None:
    argv = [sys.executable, "-m", "obsdimg", *words(project, big_medium)]
    argv = [word for word in argv if word != "-q"]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if "Editing the ramdisk" in line:
            break
    time.sleep(wait)
    child.send_signal(number)
    said = child.communicate(timeout=60)[1]
    code = child.returncode
    assert "Traceback" not in said
    left = [p.name for p in (project / "images").iterdir()]
    if code == 0:
        pytest.skip("the build was quicker than the signal")
    assert left == []
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
