"""Secrets hide themselves, and a file that holds one is read only if it is private."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from obsdimg.core import secret
from obsdimg.core.secret import Secret, SecretFileError, check_private_folder, read_private

GOOD = "correct horse battery staple"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def test_a_secret_hides_itself() -> None:
    own = Secret(GOOD)
    shown = [repr(own), str(own), f"{own}", f"{own:>10}", repr([own]), f"{[own]}"]
    assert not [text for text in shown if "horse" in text]
    assert own.reveal() == GOOD
    assert own == Secret(GOOD)
    assert own != Secret("another")
    assert own != GOOD
    with pytest.raises(TypeError):
        json.dumps({"passphrase": own})
    with pytest.raises(TypeError):
        pickle.dumps(own)
    assert not hasattr(own, "__dict__")  # nothing that a dump of variables would show


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_private(file, "token") == GOOD.encode()
    assert read_private(file, "token", largest=len(GOOD)) == GOOD.encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610, 0o666])
def test_a_file_that_others_can_touch_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(SecretFileError, match=rf"others may read it \(mode {mode:04o}\)") as caught:
        read_private(file, "token")
    assert str(caught.value.hint).startswith(f"chmod 600 {file}")


def refused(path: Path, message: str) -> None:
    with pytest.raises(SecretFileError, match=message) as caught:
        read_private(path, "token")
    assert "horse" not in f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in caught.value.message


def test_what_is_no_regular_file_is_refused_before_it_is_opened(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = file.parent
    (folder / "link").symlink_to(file)
    os.mkfifo(folder / "fifo", 0o600)
    monkeypatch.setattr(secret.os, "open", lambda *_: pytest.fail("was opened"))
    refused(folder / "link", "is a link")
    refused(folder / "fifo", "not a regular file")
    refused(folder, "not a regular file")
    refused(Path("/dev/null"), "not a regular file")
    refused(folder / "none", "cannot read the token: no such file")


def link(path: Path, original: Path) -> None:
    path.symlink_to(original)


def fifo(path: Path, original: Path) -> None:
    os.mkfifo(path, 0o600)


def other(path: Path, original: Path) -> None:
    path.write_text("another")
    path.chmod(0o600)


def loose(path: Path, original: Path) -> None:
    path.write_text("another")
    path.chmod(0o644)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("put", "message"),
    [
        (link, "cannot read the token"),
        (fifo, "not a regular file"),
        (other, "was exchanged"),
        (loose, "others may read it"),
    ],
)
def test_what_takes_its_place_between_the_look_and_the_opening_is_refused(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    put: Callable[[Path, Path], None],
    message: str,
) -> None:
    kept = file.with_name("kept")
    real = os.open

    def exchanging(path: Path, flags: int) -> int:
        file.rename(kept)
        put(file, kept)
        return real(path, flags)

    monkeypatch.setattr(secret.os, "open", exchanging)
    refused(file, message)


def test_a_file_too_large_for_a_secret_is_not_read_to_its_end(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 40)
    refused(file, "has more than 65536 bytes, too many for a token")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(file: Path) -> None:
    os.chown(file, 4321, -1)
    refused(file, r"belongs to another user \(uid 4321\)")
    file.parent.chmod(0o700)
    check_private_folder(file.parent)
    os.chown(file.parent, 4321, -1)
    with pytest.raises(SecretFileError, match="belongs to another user"):
        check_private_folder(file.parent)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701])
def test_a_folder_that_others_may_look_into_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(SecretFileError, match=f"mode {mode:04o}") as caught:
        check_private_folder(tmp_path)
    assert str(caught.value.hint).startswith(f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    check_private_folder(tmp_path)
