"""Release files: every one loads, its keys agree with other sources, errors name the place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from obsdimg.core.resources import resource
from obsdimg.releases.release import ReleaseError, known_releases, load_release, read_release
from obsdimg.signify.errors import KeyUnknownError
from obsdimg.signify.message import SignifyPublicKey

DEBIAN = Path("/usr/share/signify-openbsd-keys")


def test_every_release_from_6_6_to_8_0_is_known() -> None:
    expected = [f"6.{n}" for n in range(6, 10)] + [f"7.{n}" for n in range(10)] + ["8.0"]
    assert list(known_releases()) == expected


@pytest.mark.parametrize("version", known_releases())
def test_a_release_file_describes_its_release(version: str) -> None:
    release = load_release(version)
    port = release.port("amd64")
    assert release.digits == version.replace(".", "")
    assert port.iso == f"install{release.digits}.iso"
    assert port.directory == f"{version}/amd64"
    assert f"base{release.digits}.tgz" in port.sets
    assert release.wireguard.backend == ("wireguard-go" if release.number < (6, 8) else "wg")
    assert bool(release.wireguard.packages) == (release.number < (6, 8))
    assert release.mirrors and all(m.url.startswith("https://") for m in release.mirrors)
    for key in (release.keys.base, release.keys.pkg):
        assert key is not None and key.checked, "two sources must agree"


def test_no_two_keys_of_all_releases_are_the_same() -> None:
    numbers = [
        entry.public().number
        for release in map(load_release, known_releases())
        for entry in (release.keys.base, release.keys.pkg, release.keys.fw)
        if entry is not None
    ]
    assert len(numbers) == len(set(numbers)) >= 39


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's signify-openbsd-keys is not installed")
@pytest.mark.parametrize("kind", ["base", "pkg", "fw"])
def test_keys_agree_with_debian_s_package(kind: str) -> None:
    compared = 0
    for release in map(load_release, known_releases()):
        path = DEBIAN / f"openbsd-{release.digits}-{kind}.pub"
        if path.exists():
            assert release.key(kind) == SignifyPublicKey.parse(path.read_bytes())  # type: ignore[arg-type]
            compared += 1
    assert compared >= 8


@pytest.mark.media
def test_base_keys_agree_with_the_genuine_media() -> None:
    if not (folder := os.environ.get("OBSDIMG_MEDIA")):
        pytest.skip("OBSDIMG_MEDIA is not set: no genuine media")
    for release in map(load_release, known_releases()):
        path = Path(folder) / f"keys/openbsd-{release.digits}-base.pub"
        if not path.exists():
            assert release.number > (7, 8)
            continue
        assert release.base_key == SignifyPublicKey.parse(path.read_bytes())


@pytest.mark.parametrize(
    ("version", "hint"),
    [("6.5", "nearest is 6.6"), ("8.3", "nearest is 8.0"), ("66", "nearest is 6.6")],
)
def test_an_unknown_release_names_the_nearest(version: str, hint: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        load_release(version)
    assert version in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("version", ["", "current", "../../etc/passwd", "6.6\n"])
def test_nonsense_is_no_release(version: str) -> None:
    with pytest.raises(ReleaseError):
        load_release(version)


def test_an_unknown_port_lists_the_known_ones() -> None:
    with pytest.raises(ReleaseError, match="port alpha is not known"):
        load_release("6.6").port("alpha")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('version = "6.6"', 'version = "6.x"', "version"),
        ('version = "6.6"', 'version = "6.7"', "does not belong in this file"),
        ("RWSvK/c+", "RWSv", "keys"),
        ("checked = true", 'checked = "maybe"', "checked"),
        ("efi = false", "efi = false\nefy = true", "efy"),
        ('version = "6.6"', "version = ", "not TOML"),
    ],
)
def test_a_wrong_release_file_names_file_and_key(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    text = resource("images", "66.toml").read_text()
    assert old in text
    path = tmp_path / "66.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ReleaseError) as caught:
        read_release(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert words in caught.value.message


def test_a_missing_package_key_is_an_error_that_says_what_follows(tmp_path: Path) -> None:
    text = resource("images", "66.toml").read_text()
    start = text.index("[keys.pkg]")
    path = tmp_path / "66.toml"
    path.write_text(text[:start] + text[text.index("[keys.fw]") :])
    with pytest.raises(KeyUnknownError) as caught:
        read_release(path).key("pkg")
    assert "images/66.toml has no pkg key" in caught.value.message
