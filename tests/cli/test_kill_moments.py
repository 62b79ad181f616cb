"""kill -9 before every single change that a command makes to the project's files.

What is there afterwards is whole, nothing of a key lies in a file of another name, and the same
command, or the one that is named, goes on from there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.project.folder import Project
from support.killing import Forker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="O_TMPFILE")
INIT = ("init", "-q", "-y", "--endpoint", "vpn.example.net", "--ssh-key", "../id.pub")
ADMIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@x"


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    found = Forker(tmp_path_factory.mktemp("forker"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def made(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a client that is to be changed."""
    top = tmp_path_factory.mktemp("made")
    (top / "id.pub").write_text(f"{ADMIN}\n")
    (top / "p").mkdir()
    assert forker.run(top / "p", *INIT).code == 0
    assert forker.run(top / "p", "client", "add", "tablet").code == 0
    return top


@pytest.fixture
def top(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def again(top: Path, made: Path) -> Path:
    """The project as it was made."""
    shutil.rmtree(top / "p")
    shutil.copytree(made / "p", top / "p")
    return top / "p"


def whole(project: Path, complete: bool = True) -> None:
    """Every file is complete, keys lie in private folders only, and the commands take them
    (`complete`: none that must be there is missing)."""
    for folder in ("secrets", "clients"):
        if (project / folder).exists():
            assert (project / folder).stat().st_mode & 0o777 == 0o700
    for path in (project / "secrets").glob("*"):
        size = {".key": 45, ".psk": 45}.get(path.suffix, 0)
        size = 65 if path.name == "seal.key" else size
        assert not size or path.stat().st_size == size, path
        assert path.stat().st_mode & 0o777 == 0o600
    for path in (project / "clients").glob("*.conf"):
        assert path.read_bytes().endswith(b"\n") and b"[Peer]" in path.read_bytes()
    if (project / "obsdimg.toml").exists() and complete:
        Project.open(project / "obsdimg.toml").keys_for_looking()


def hidden(project: Path) -> list[str]:
    """Files of ours that have no name of their own yet."""
    return [p.name for p in project.rglob(".*") if p.is_file() and p.name != ".gitignore"]


def test_init(forker: Forker, top: Path) -> None:
    fresh = top / "fresh"
    fresh.mkdir()
    count = forker.run(fresh, *INIT).changes
    assert count > 20
    for number in range(1, count + 1, 5):
        shutil.rmtree(fresh)
        fresh.mkdir()
        assert forker.run(fresh, *INIT, at=number).code == -9
        assert hidden(fresh) == []
        whole(fresh)
        if not (fresh / "obsdimg.toml").exists():
            assert forker.run(fresh, *INIT).code == 0
            whole(fresh)


def test_client_add(forker: Forker, top: Path, made: Path) -> None:
    words = ("client", "add", "desk")
    count = forker.run(again(top, made), *words).changes
    assert count > 10
    for number in range(1, count + 1, 2):
        project = again(top, made)
        assert forker.run(project, *words, at=number).code == -9
        assert all(name.startswith(".obsdimg.toml.") for name in hidden(project))
        whole(project)
        if "desk" in (project / "obsdimg.toml").read_text():
            words_then = ("client", "rotate", "desk")
        else:
            words_then = words
        assert forker.run(project, *words_then).code == 0
        whole(project)
        assert (project / "clients/desk.conf").exists()
        assert not [name for name in hidden(project) if "desk" in name]


@pytest.mark.parametrize("action", ["rotate", "remove"])
def test_client_change(forker: Forker, top: Path, made: Path, action: str) -> None:
    """Afterwards, or after the same command once more, the old keys are nowhere."""
    words = ("client", action, "tablet")
    old = [(made / f"p/secrets/tablet.{kind}").read_bytes().strip() for kind in ("key", "psk")]
    project = again(top, made)
    count = forker.run(project, *words).changes
    assert count >= 5
    for number in range(1, count + 1, 3 if action == "rotate" else 1):
        project = again(top, made)
        assert forker.run(project, *words, at=number).code == -9
        whole(project)
        done = forker.run(project, *words)
        assert done.code == 0 or "there is no client tablet" in done.said, done.said
        assert hidden(project) == []
        for path in project.rglob("*"):
            assert not path.is_file() or not [k for k in old if k in path.read_bytes()], path
        assert (project / "clients/tablet.conf").exists() == (action == "rotate")


def test_backup_and_restore(forker: Forker, top: Path, made: Path) -> None:
    (top / "phrase").write_text("correct horse battery staple nine\n")
    (top / "phrase").chmod(0o600)
    given = ("--passphrase-file", "../phrase")
    words = ("backup", "-q", "-o", "../b.age", "--weak-passphrase", *given)
    count = forker.run(again(top, made), *words).changes
    whole_backup = (top / "b.age").read_bytes()
    assert whole_backup.startswith(b"age-encryption.org/v1")
    (top / "b.age").unlink()
    assert forker.run(top / "p", *words, at=count).code == -9
    left = [p.name for p in top.iterdir() if p.is_file() and p.name not in ("id.pub", "phrase")]
    assert left == []
    (top / "b.age").write_bytes(whole_backup)
    back = top / "back"
    back.mkdir()
    words = ("restore", "-q", "../b.age", *given)
    assert forker.run(back, *words, at=25).code == -9
    assert hidden(back) == [] and list((back / "secrets").iterdir())
    whole(back, complete=False)
    assert forker.run(back, *words).code == 0
    found = {p.name: p.read_bytes() for p in (back / "secrets").iterdir()}
    assert found == {p.name: p.read_bytes() for p in (made / "p/secrets").iterdir()}


def test_removing_a_client_that_was_never_there_removes_nothing(forker: Forker, top: Path) -> None:
    """Only what is in clients/ counts as half removed, by its plain name."""
    (top / "p/secrets/other.conf").write_text("x")
    for name in ("nobody", "server", "../secrets/other"):
        done = forker.run(top / "p", "client", "remove", name)
        assert done.code == 1 and "there is no client" in done.said
    assert (top / "p/secrets/server.key").exists() and (top / "p/secrets/other.conf").exists()


def test_what_is_being_written_is_nobodys_leftover(tmp_path: Path) -> None:
    """Two write the same file at once: the second does not take away what the first has."""
    from obsdimg.core.files import atomic_file, remove_file, write_file

    (tmp_path / "f").write_text("old")
    part = tmp_path / ".f.0123abcd.part"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'w')\n"
         "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()", part],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    strange = [tmp_path / name for name in (".f.part", ".g.0123abcd.part", ".f.0123abcd.part~")]
    for path in strange:
        path.touch()
    with atomic_file(tmp_path / "f") as stream:
        stream.write(b"new")
    assert part.exists()
    holder.communicate(b"\n")
    write_file(tmp_path / "f", b"newer")
    assert not part.exists() and all(path.exists() for path in strange)
    part.touch()
    remove_file(tmp_path / "f")
    assert not part.exists() and not (tmp_path / "f").exists()
