"""Projects, overlays, hosts and ISOs as they should not be: nothing leaks, nothing breaks."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest

from obsdimg import standin
from obsdimg.cli.main import main
from obsdimg.core.errors import printable
from obsdimg.core.files import create_file, private_dir
from obsdimg.core.progress_rich import RichProgress
from obsdimg.image.inputs import read_inputs
from obsdimg.image.inspection import Inspection, extract
from obsdimg.image.plan import plan_build
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.site.plan import SitePlan


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    assert main(["init", str(folder), "-q"]) == 0
    return folder


def configure(project: Path, text: str) -> list[str]:
    peer = '[[tunnel.peers]]\nname = "laptop"\nipv4 = "10.0.0.2"\n'
    (project / "obsdimg.toml").write_text('[release]\nversion = "6.6"\n' + text + peer)
    return ["check", "-c", str(project / "obsdimg.toml")]


def site(project: Path) -> SitePlan:
    opened, release = Project.open(project / "obsdimg.toml"), load_release("6.6")
    return plan_build(read_inputs(opened, release, release.port("amd64"))).site


@pytest.mark.parametrize("overlay", [".", "..", "secrets", "clients", "overlay/../secrets", "link"])
def test_an_overlay_that_holds_the_secrets_folder_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], overlay: str
) -> None:
    (project / "link").symlink_to(".")
    assert main(configure(project, f'[site]\noverlay = "{overlay}"\n')) == 1
    assert "the clients' keys and the image key would land on the server" in capsys.readouterr().err


@pytest.mark.parametrize("secret", ["server.key", "laptop.key", "laptop.psk"])
def test_an_overlay_file_with_a_key_of_the_project_in_it_is_refused_by_name(
    project: Path, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    words = configure(project, "")
    assert main(words) == 0
    text = (project / "secrets" / secret).read_text()
    (project / "overlay/notes").write_text(f"remember: {text}")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"overlay/notes: holds secrets/{secret}" in said
    assert text.strip() not in said


def test_a_link_with_a_target_that_cannot_be_printed_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "overlay/link").symlink_to("a\nb")
    assert main(configure(project, "")) == 1
    assert r"'a\nb' cannot be printed" in capsys.readouterr().err


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nothing_that_init_and_check_make_is_writable_for_others(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert main(["init", str(tmp_path / "a/b/c"), "-q"]) == 0
        assert main(["check", "-c", str(tmp_path / "a/b/c/obsdimg.toml")]) == 0
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(made) > 10
    for path in made:
        assert not path.stat().st_mode & 0o022, path
        if path.is_dir() or path.parent.name == "secrets":
            assert not path.stat().st_mode & 0o077, path


def test_init_where_a_file_is_in_the_way_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "overlay").write_text("")
    assert main(["init", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/overlay: ")


def test_a_secrets_folder_that_others_may_read_gets_no_keys(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = configure(project, "")
    for path in (project / "secrets").iterdir():
        path.unlink()
    (project / "secrets").chmod(0o755)
    assert main(words) == 1
    assert "others may read it (mode 0755)" in capsys.readouterr().err
    assert list((project / "secrets").iterdir()) == []


def test_a_folder_instead_of_a_secret_is_one_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "secrets/server.key").unlink()
    (project / "secrets/server.key").mkdir(mode=0o700)
    assert main(configure(project, "")) == 1
    assert "server.key: is not a regular file" in capsys.readouterr().err


def test_of_many_runs_that_make_the_same_key_at_once_all_use_one(project: Path) -> None:
    configure(project, "")
    for path in (project / "secrets").iterdir():
        path.unlink()
    start, found = threading.Barrier(8), []

    def run() -> None:
        start.wait()
        keys = Project.open(project / "obsdimg.toml").keys()
        assert keys.server is not None
        found.append((keys.server.reveal(), keys.seal, keys.image.public().base64))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert not [p for p in (project / "secrets").iterdir() if p.name.startswith(".")]


def test_create_file_leaves_what_is_there(tmp_path: Path) -> None:
    assert create_file(tmp_path / "a", b"one")
    assert not create_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_device_or_fifo_is_never_replaced_by_a_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(project / "out")
    words = ["client", "-c", str(project / "obsdimg.toml"), "laptop", "--png"]
    assert main([*words, str(project / "out")]) == 1
    assert "out: is not a regular file" in capsys.readouterr().err
    assert (project / "out").is_fifo()


def test_private_dir_makes_every_missing_parent_private(tmp_path: Path) -> None:
    private_dir(tmp_path / "a/b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", ["", "-1", "²", "1e9", "2147483648", "9" * 30, "0x10", " 1"])
def test_a_source_date_epoch_that_is_no_time_is_one_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: str,
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    assert main(["demo", "-q", str(tmp_path / "d")]) == 1
    assert "is not a number of seconds" in capsys.readouterr().err


def test_the_last_second_of_ffs1_is_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2147483647")
    assert main(["demo", "-q", str(tmp_path / "d")]) == 0


def test_a_path_whose_bytes_are_no_text_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff b")
    assert main(["demo", "-q", folder]) == 0
    assert main(["inspect", f"{folder}/images/demo-66-amd64.iso"]) == 0
    written = json.loads(Path(f"{folder}/images/demo-66-amd64.iso.json").read_bytes())
    assert written["iso"]["name"] == "demo-66-amd64.iso"


def test_names_in_square_brackets_are_no_markup() -> None:
    with RichProgress().step("Hashing [/red]install[b].iso", total=1) as step:
        step.advance(1)


def test_an_extract_never_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    hostile = {
        "site/../../elsewhere/a": b"1",
        "ramdisk/../../../../elsewhere/b": b"2",
        "/elsewhere/c": b"3",
    }
    written = extract(Inspection(Path("x"), extracts=hostile), tmp_path / "out")
    assert len(written) == 3
    assert all(p.resolve().is_relative_to(tmp_path / "out") for p in written)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_an_iso_says_moves_no_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.build_iso(tmp_path / "x")
    hostile = Inspection(tmp_path / "x", boot_conf="set image /a\x1b[2J\n", response=["a = \x9b1m"])
    monkeypatch.setattr("obsdimg.cli.inspect.inspect", lambda path, progress: hostile)
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    assert main(["inspect", str(tmp_path / "x")]) == 0
    out = capsys.readouterr().out
    assert r"set image /a\x1b[2J" in out
    assert out.replace("\n", "").isprintable()
    assert printable("a\nb\udcff") == r"a\nb\udcff"


def test_inspect_ends_with_an_error_where_a_secret_is_found(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "-q", str(tmp_path / "d")]) == 0
    iso = tmp_path / "d/images/demo-66-amd64.iso"
    words = ["inspect", str(iso), "-q", "--secrets", str(tmp_path / "d")]
    assert main(words) == 0
    with iso.open("ab") as stream:
        stream.write((tmp_path / "d/secrets/server.key").read_bytes().ljust(2048, b"\0"))
    assert main(words) == 1
    assert "holds secrets of" in capsys.readouterr().err


@pytest.mark.parametrize(("root", "passes"), [("150M", False), ("400M", True)])
def test_a_root_that_cannot_hold_what_is_sealed_is_refused_before_anything_is_erased(
    project: Path, capsys: pytest.CaptureFixture[str], root: str, passes: bool
) -> None:
    (project / "layout").write_text(f"/\t{root}\nswap\t80M\n/usr\t1G-*\n")
    (project / "overlay/srv").mkdir(parents=True)
    (project / "overlay/srv/large").write_bytes(bytes(30 << 20))
    configure(project, '[disk]\nlayout = "layout"\n')
    code = main(["check", "-c", str(project / "obsdimg.toml")])
    said = capsys.readouterr().err
    assert (code == 0) is passes, said
    assert passes or "`/` has 150 MB, 260 MB are needed" in said


def test_the_head_of_a_published_hosts_file_is_understood(project: Path) -> None:
    lines = [
        "127.0.0.1 localhost.localdomain local",
        "255.255.255.255 broadcasthost",
        "::1 ip6-localhost ip6-loopback",
        "fe80::1%lo0 localhost",
        "ff00::0 ip6-mcastprefix",
        "ff02::1 ip6-allnodes",
        "ff02::3 ip6-allhosts",
        "0.0.0.0 0.0.0.0",
        "0.0.0.0 ads.example.com # not wanted",
    ]
    (project / "list").write_text("\n".join(lines))
    configure(project, "[tunnel]\nblock_lists = ['list']\n")
    sealed = site(project).sealed
    (block,) = (entry for path, entry in sealed.items() if path.endswith("/block.conf"))
    assert block.data == b'local-zone: "ads.example.com" always_nxdomain\n'
