"""`obsdimg backup` and `restore`: keys come back from one encrypted file, or nothing changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyrage
import pytest

from obsdimg.cli.main import main
from obsdimg.core.archive import gzip, tar
from obsdimg.core.entry import Entry
from obsdimg.project import backup

PHRASE = "correct horse battery staple of mine"


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


class Desk:
    """A project with a backup of it; scrypt takes its time, so it was made once."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str] | None = None) -> None:
        self.folder, self._capsys = folder, capsys
        self.project, self.file = folder / "vpn", folder / "vpn.backup.age"
        self.phrase = folder / "phrase"

    @property
    def capsys(self) -> pytest.CaptureFixture[str]:
        assert self._capsys is not None
        return self._capsys

    def fill(self) -> None:
        self.phrase.write_text(PHRASE + "\n")
        self.phrase.chmod(0o600)
        assert main(["init", str(self.project), "--peer", "laptop", "-q"]) == 0
        (self.project / "clients").mkdir(0o700)
        (self.project / "clients/laptop.conf").write_text("[Interface]\n")
        (self.project / "overlay/etc").mkdir()
        (self.project / "overlay/etc/motd").write_text("hello\n")
        (self.project / "overlay/etc/other").symlink_to("motd")
        (self.project / "images/vpn.iso").write_text("large")
        assert self.backup() == 0

    def backup(self, *words: str) -> int:
        config, out = str(self.project / "obsdimg.toml"), str(self.file)
        file = ["--passphrase-file", str(self.phrase)]
        return main(["backup", "-c", config, "-o", out, *file, *words])

    def restore(self, *words: str, file: Path | None = None) -> tuple[int, str]:
        self.capsys.readouterr()
        phrase = ["-q", "--passphrase-file", str(self.phrase)]
        code = main(["restore", str(file or self.file), *phrase, *words])
        said = self.capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    Desk(folder).fill()
    return folder


@pytest.fixture
def desk(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    shutil.copytree(template, tmp_path / "desk", symlinks=True)
    return Desk(tmp_path / "desk", capsys)


def test_lost_keys_come_back_as_they_were(desk: Desk) -> None:
    before = tree(desk.project)
    shutil.rmtree(desk.project / "secrets")
    assert main(["check", "-c", str(desk.project / "obsdimg.toml")]) == 1
    assert "obsdimg restore FILE" in desk.capsys.readouterr().err
    code, said = desk.restore(str(desk.project))
    assert code == 0 and "5 files restored" in said, said
    assert tree(desk.project) == before
    assert (desk.project / "secrets").stat().st_mode & 0o777 == 0o700
    assert main(["check", "-c", str(desk.project / "obsdimg.toml")]) == 0


def test_the_whole_project_comes_back_elsewhere_without_isos(desk: Desk) -> None:
    assert desk.file.stat().st_mode & 0o777 == 0o600
    there = desk.folder / "new"
    code, said = desk.restore(str(there))
    assert code == 0, said
    left = {name for name in tree(desk.project) if not name.startswith("images/")}
    found = tree(there)
    assert set(found) == left
    assert all(found[name][1] == tree(desk.project)[name][1] for name in left)
    assert (there / "overlay/etc/other").readlink() == Path("motd")
    assert all(mode & 0o777 == 0o600 for n, (mode, _) in found.items() if n.startswith("secrets"))


def test_modes_and_files_of_public_keys_come_back_too(desk: Desk) -> None:
    config = desk.project / "obsdimg.toml"
    site = desk.project / "overlay/var/www/site"
    site.mkdir(parents=True)
    clients = desk.project / "overlay/var/www/clients"  # not the project's own of that name
    clients.mkdir()
    (clients / ".hidden").write_text("x\n")
    (clients / ".hidden").chmod(0o644)
    for folder in (site, clients, site.parent, site.parent.parent):
        folder.chmod(0o755)
    (desk.project / "keys").mkdir()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me"
    (desk.project / "keys/me.pub").write_text(key + "\n")
    elsewhere = desk.folder / "other.pub"
    elsewhere.write_text(key.replace("me", "other") + "\n")
    text = config.read_text()
    config.write_text(f'access.admin.keys = ["./keys/me.pub", "{elsewhere}"]\n{text}')
    config.chmod(0o600)
    desk.file.unlink()
    words = ["-c", str(config), "-o", str(desk.file), "--passphrase-file", str(desk.phrase)]
    assert main(["backup", "--json", *words]) == 0
    made = json.loads(desk.capsys.readouterr().out)
    assert made["left_out"] == [str(elsewhere)]
    there = desk.folder / "new"
    code, said = desk.restore(str(there))
    assert code == 0, said
    assert (there / "overlay/var/www/site").stat().st_mode & 0o777 == 0o755
    assert (there / "overlay/var/www/clients").stat().st_mode & 0o777 == 0o755
    assert (there / "overlay/var/www/clients/.hidden").stat().st_mode & 0o777 == 0o644
    assert (there / "obsdimg.toml").stat().st_mode & 0o777 == 0o600
    assert (there / "secrets").stat().st_mode & 0o777 == 0o700
    assert main(["check", "-c", str(there / "obsdimg.toml")]) == 0, desk.capsys.readouterr().err


def test_what_differs_stops_it_and_nothing_is_written(desk: Desk) -> None:
    (desk.project / "secrets/laptop.key").unlink()
    (desk.project / "secrets/server.key").write_text("another\n")
    before = tree(desk.project)
    code, said = desk.restore(str(desk.project))
    assert code == 1
    assert "is not as in the backup: secrets/server.key" in said
    assert "hint: nothing was restored" in said
    assert tree(desk.project) == before


def test_no_secret_stands_in_it_and_age_opens_it(desk: Desk) -> None:
    data = desk.file.read_bytes()
    for path in (desk.project / "secrets").iterdir():
        assert path.read_bytes().strip() not in data
    packed = pyrage.passphrase.decrypt(data, PHRASE)
    assert packed[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("damage", ["passphrase", "bit", "text"])
def test_a_damaged_backup_or_a_wrong_passphrase_is_one_error(desk: Desk, damage: str) -> None:
    data = bytearray(desk.file.read_bytes())
    if damage == "passphrase":
        desk.phrase.write_text("hunter2 another of mine\n")
    elif damage == "bit":
        data[-50] ^= 1
    else:
        data[:] = b"no backup"
    desk.file.write_bytes(data)
    code, said = desk.restore(str(desk.folder / "new"))
    assert code == 1 and said.startswith("error: ") and "hint: " in said
    assert "no backup of obsdimg" in said if damage == "text" else "does not open it" in said
    assert "hunter2" not in said
    assert not (desk.folder / "new").exists()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([Entry("/../evil", b"x")], "leads out of the project"),
        ([Entry("/a", kind="link", target="/tmp"), Entry("/a/b", b"x")], "leads out"),
        ([Entry("/secrets/x", b"x")], "holds no obsdimg.toml"),
    ],
    ids=["dots", "through a link", "no configuration"],
)
def test_a_backup_that_leads_elsewhere_is_refused(entries: list[Entry], says: str) -> None:
    with pytest.raises(backup.BackupError, match=says):
        backup.unpack(gzip(tar(entries)), "x")


def test_a_link_in_the_project_is_not_followed_out_of_it(desk: Desk) -> None:
    shutil.rmtree(desk.project / "secrets")
    (desk.folder / "elsewhere").mkdir()
    (desk.project / "secrets").symlink_to(desk.folder / "elsewhere")
    code, said = desk.restore(str(desk.project))
    assert code == 1 and "leads out of" in said
    assert list((desk.folder / "elsewhere").iterdir()) == []


def test_a_backup_needs_keys_and_a_passphrase_that_holds(desk: Desk) -> None:
    assert desk.backup() == 1
    assert "is there already" in desk.capsys.readouterr().err
    desk.file.unlink()
    desk.phrase.write_text("password1\n")
    assert desk.backup() == 1
    assert "is guessed in" in desk.capsys.readouterr().err
    assert not desk.file.exists()
    desk.phrase.write_text(PHRASE + "\n")
    shutil.rmtree(desk.project / "secrets")
    assert desk.backup() == 1
    assert "hold what was made with this project's keys" in desk.capsys.readouterr().err
    shutil.rmtree(desk.project / "clients")
    shutil.rmtree(desk.project / "images")
    assert desk.backup() == 1
    assert "there are no keys yet" in desk.capsys.readouterr().err
    assert not desk.file.exists()


def test_what_lies_outside_of_the_project_is_named(desk: Desk) -> None:
    desk.file.unlink()
    config = desk.project / "obsdimg.toml"
    config.write_text(config.read_text().replace('#site.overlay = "', 'site.overlay = "../'))
    desk.capsys.readouterr()
    assert desk.backup("--json") == 0
    said = desk.capsys.readouterr()
    assert "../overlay: is outside of the project" in said.err
    shown = json.loads(said.out)
    assert shown["left_out"] == ["../overlay"]
    assert "secrets/server.key" in shown["holds"]
    code, text = desk.restore("--list")
    assert code == 0 and text.splitlines() == sorted(shown["holds"])
