"""Obtaining the ISO: fetched, cached, given; verified or refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from obsdimg.fetch.cache import Cache
from obsdimg.fetch.download import DownloadError, ExpiredMirrorError
from obsdimg.fetch.http import Timeouts
from obsdimg.fetch.install_iso import (
    IsoSource,
    OfflineError,
    UnverifiedIso,
    VerifiedIso,
    obtain_iso,
)
from obsdimg.releases.release import load_release
from obsdimg.signify.errors import (
    BadSignatureError,
    HashMismatchError,
    MissingFromListError,
    VerificationError,
    WrongKeyError,
)
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import sign_list
from support.mirror import Fault, Mirror, closed_port, serve

QUICK = Timeouts(connect=2, read=1, tries=2, first_wait=0.01, longest_wait=0.05)
ISO = os.urandom(400_000)
SHA256 = hashlib.sha256(ISO).hexdigest()
DIRECTORY = "6.6/amd64"


@dataclass(frozen=True)
class Pin:
    sha256: str
    checked: bool
    source: str = "a test"


@dataclass
class World:
    """A stand-in release on a mirror, and an empty cache."""

    mirror: Mirror
    key: SignifySecretKey
    source: IsoSource
    cache: Cache
    folder: Path

    def obtain(self, **options: object) -> VerifiedIso | UnverifiedIso:
        source = options.pop("source", self.source)
        assert isinstance(source, IsoSource)
        first = options.pop("mirrors", ())
        source = replace(source, mirrors=(*first, *source.mirrors))  # type: ignore[misc]
        return obtain_iso(source, cache=self.cache, limits=QUICK, **options)  # type: ignore[arg-type]

    def publish(self, sha256: str = SHA256, key: SignifySecretKey | None = None) -> bytes:
        signed = sign_list({"install66.iso": sha256, "bsd.rd": "0" * 64}, key or self.key, "6.6")
        self.mirror.files[f"/pub/{DIRECTORY}/SHA256.sig"] = signed.sha256_sig
        return signed.sha256_sig

    def asked(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for path, _, _ in self.mirror.log]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    key = SignifySecretKey.generate("stand-in base")
    with serve() as mirror:
        mirror.files[f"/pub/{DIRECTORY}/install66.iso"] = ISO
        source = IsoSource(
            "6.6", DIRECTORY, "install66.iso", key.public(), None, (f"{mirror.url}/pub",)
        )
        made = World(mirror, key, source, Cache(tmp_path / "cache"), tmp_path)
        made.publish()
        yield made


@pytest.fixture
def given(world: World) -> Path:
    path = world.folder / "mine.iso"
    path.write_bytes(ISO)
    return path


# Fetching


def test_the_iso_is_fetched_and_verified_by_the_signed_list(world: World) -> None:
    iso = world.obtain()
    assert isinstance(iso, VerifiedIso)
    assert (iso.sha256, iso.size, iso.how) == (SHA256, 400_000, "signed-list")
    assert "signed with stand-in base public key" in iso.evidence
    assert iso.path == world.cache.root / DIRECTORY / "install66.iso"
    assert world.asked() == ["SHA256.sig", "install66.iso"]


def test_a_second_run_asks_the_network_for_nothing(world: World) -> None:
    world.obtain()
    world.mirror.log.clear()
    assert world.obtain() == world.obtain(offline=True)
    assert world.asked() == []


def test_a_warm_run_hashes_nothing_unless_reverify(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.obtain()
    hashed = []
    real = Cache.hash_file

    def watch(self: Cache, path: Path, **options: bool) -> object:
        found = real(self, path, **options)  # type: ignore[arg-type]
        hashed.append(not found.remembered)
        return found

    monkeypatch.setattr(Cache, "hash_file", watch)
    world.obtain()
    assert hashed == [False]
    world.obtain(reverify=True)
    assert hashed == [False, True]


def test_damage_in_the_cache_is_noticed_and_mended(world: World) -> None:
    iso = world.obtain()
    with iso.path.open("r+b") as stream:
        stream.write(b"damage")
    assert world.obtain().sha256 == SHA256
    assert iso.path.read_bytes() == ISO


def test_damage_in_the_cache_is_an_error_offline_and_stays_for_a_look(world: World) -> None:
    iso = world.obtain()
    iso.path.write_bytes(b"damage")
    with pytest.raises(OfflineError):
        world.obtain(offline=True)
    assert iso.path.read_bytes() == b"damage"


def test_an_empty_cache_offline_says_what_to_do(world: World) -> None:
    with pytest.raises(OfflineError) as caught:
        world.obtain(offline=True)
    assert "not in the cache" in caught.value.message
    assert "obsdimg fetch" in str(caught.value.hint)
    assert "give the file with --iso F" in str(caught.value.hint)
    assert "--mirror" not in str(caught.value.hint)
    assert world.asked() == []


def test_a_mirror_with_wrong_bytes_is_left_for_the_next(world: World) -> None:
    with serve() as bad:
        bad.files.update(world.mirror.files)
        bad.faults[f"/pub/{DIRECTORY}/install66.iso"] = [Fault("wrong", always=True)]
        iso = world.obtain(mirrors=[f"{bad.url}/pub", f"{world.mirror.url}/pub"])
    assert iso.sha256 == SHA256
    assert world.asked() == ["install66.iso"]


def test_a_list_signed_by_another_key_is_not_believed(world: World) -> None:
    world.publish(key=SignifySecretKey.generate("forger"))
    with pytest.raises(DownloadError, match="signed by key number"):
        world.obtain()
    assert world.asked() == ["SHA256.sig"], "the ISO is not even asked for"


def test_a_list_with_a_forged_hash_is_not_believed(world: World) -> None:
    good = world.publish()
    world.mirror.files[f"/pub/{DIRECTORY}/SHA256.sig"] = good.replace(b"0" * 64, b"1" * 64)
    with pytest.raises(DownloadError, match="signature does not verify"):
        world.obtain()


def test_an_iso_that_every_mirror_serves_wrongly_is_refused(world: World) -> None:
    world.mirror.files[f"/pub/{DIRECTORY}/install66.iso"] = bytes(400_000)
    with pytest.raises(DownloadError, match=r"not install66\.iso: its SHA-256 is"):
        world.obtain()
    assert not (world.cache.root / DIRECTORY / "install66.iso").exists()


def test_an_old_release_that_left_the_mirrors_lists_them_and_offers_iso(world: World) -> None:
    world.mirror.files.clear()
    with pytest.raises(ExpiredMirrorError) as caught:
        world.obtain()
    assert f"{world.mirror.url}/pub/6.6/amd64/SHA256.sig: 404" in caught.value.message
    assert "--iso F" in str(caught.value.hint)


def test_a_checked_pin_stands_in_for_a_list_that_is_gone(world: World) -> None:
    del world.mirror.files[f"/pub/{DIRECTORY}/SHA256.sig"]
    iso = world.obtain(source=replace(world.source, pinned=Pin(SHA256, checked=True)))
    assert iso.how == "pinned"
    assert "a test" in iso.evidence


def test_an_unchecked_pin_never_stands_alone(world: World) -> None:
    del world.mirror.files[f"/pub/{DIRECTORY}/SHA256.sig"]
    with pytest.raises(ExpiredMirrorError):
        world.obtain(source=replace(world.source, pinned=Pin(SHA256, checked=False)))


def test_a_bad_signature_is_not_waived_by_a_pin(world: World, given: Path) -> None:
    (given.parent / "SHA256.sig").write_bytes(world.publish().replace(b"0" * 64, b"1" * 64))
    with pytest.raises(BadSignatureError):
        world.obtain(iso=given, source=replace(world.source, pinned=Pin(SHA256, checked=True)))


def test_a_list_that_contradicts_a_checked_pin_is_an_error(world: World) -> None:
    with pytest.raises(HashMismatchError, match="another hash than the release file"):
        world.obtain(source=replace(world.source, pinned=Pin("1" * 64, checked=True)))
    assert world.obtain(source=replace(world.source, pinned=Pin("1" * 64, checked=False)))


# A given ISO


def test_a_given_iso_is_verified_by_the_list_of_a_mirror(world: World, given: Path) -> None:
    iso = world.obtain(iso=given)
    assert isinstance(iso, VerifiedIso) and iso.path == given
    assert world.asked() == ["SHA256.sig"]


def test_a_given_iso_is_verified_by_the_list_beside_it_without_network(
    world: World, given: Path
) -> None:
    (given.parent / "SHA256.sig").write_bytes(world.publish())
    iso = world.obtain(iso=given, offline=True)
    assert iso.how == "signed-list" and str(given.parent) in iso.evidence
    assert world.asked() == []


def test_a_list_beside_it_of_another_release_is_the_wrong_key(world: World, given: Path) -> None:
    other = SignifySecretKey.generate("openbsd 6.7 base")
    (given.parent / "SHA256.sig").write_bytes(world.publish(key=other))
    with pytest.raises(WrongKeyError, match=r"SHA256\.sig: signed by key number"):
        world.obtain(iso=given)


def test_a_given_iso_is_verified_by_a_checked_pin_offline(world: World, given: Path) -> None:
    pinned = replace(world.source, pinned=Pin(SHA256, checked=True))
    assert world.obtain(iso=given, offline=True, source=pinned).how == "pinned"


def test_a_given_iso_with_a_flipped_byte_is_refused(world: World, given: Path) -> None:
    data = bytearray(ISO)
    data[200_000] ^= 1
    given.write_bytes(data)
    with pytest.raises(HashMismatchError, match=r"mine\.iso: not install66\.iso"):
        world.obtain(iso=given)


def test_another_file_of_the_release_is_called_by_its_name(world: World, given: Path) -> None:
    given.write_bytes(b"kernel")
    signed = sign_list(
        {"install66.iso": SHA256, "cd66.iso": hashlib.sha256(b"kernel").hexdigest()},
        world.key,
        "6.6",
    )
    (given.parent / "SHA256.sig").write_bytes(signed.sha256_sig)
    with pytest.raises(HashMismatchError, match=r"this is cd66\.iso, not install66\.iso"):
        world.obtain(iso=given)


def test_a_list_that_lacks_the_iso_is_said_so(world: World, given: Path) -> None:
    signed = sign_list({"bsd": "0" * 64}, world.key, "6.6")
    (given.parent / "SHA256.sig").write_bytes(signed.sha256_sig)
    with pytest.raises(MissingFromListError, match=r"does not list install66\.iso"):
        world.obtain(iso=given)


def test_a_given_iso_nobody_can_vouch_for_is_refused_unless_unverified(
    world: World, given: Path
) -> None:
    with pytest.raises(OfflineError) as caught:
        world.obtain(iso=given, offline=True)
    hint = str(caught.value.hint)
    assert "SHA256.sig beside the ISO" in hint and "--iso" not in hint and "--mirror" not in hint
    iso = world.obtain(iso=given, offline=True, unverified=True)
    assert isinstance(iso, UnverifiedIso) and not isinstance(iso, VerifiedIso)
    assert (iso.how, iso.sha256) == ("unverified", SHA256)


def test_unverified_does_not_apply_to_downloads(world: World) -> None:
    with pytest.raises(VerificationError, match="needs --iso"):
        world.obtain(unverified=True)


def test_all_failures_are_in_the_error(world: World, given: Path) -> None:
    closed = closed_port()
    with pytest.raises(DownloadError) as caught:
        world.obtain(
            iso=given,
            mirrors=[closed],
            source=replace(world.source, mirrors=(f"{world.mirror.url}/nothing",)),
        )
    assert f"{closed.removeprefix('http://')}: connection refused" in caught.value.message
    assert f"{world.mirror.url}/nothing/6.6/amd64/SHA256.sig: 404" in caught.value.message


def test_the_release_files_give_a_source() -> None:
    source = load_release("6.6").iso_source()
    assert (source.directory, source.name) == ("6.6/amd64", "install66.iso")
    assert source.key.number.hex() == "af2bf73e7057b6e0"
    assert source.pinned is not None and not source.pinned.checked
    checked = load_release("7.6").iso_source().pinned
    assert checked is not None and checked.checked
