"""The stand-in medium for `demo` and `build --stand-in`: nothing to download, nothing installed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obsdimg import standin
from obsdimg.core.files import private_dir, write_file
from obsdimg.core.progress import Progress
from obsdimg.core.scratch import run_folder
from obsdimg.fetch.cache import Cache
from obsdimg.fetch.install_iso import UnverifiedIso, VerifiedIso, obtain_iso
from obsdimg.releases.release import Release, SourcedKey, load_release
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import sign_list


def make_stand_in(folder: Path, version: str, progress: Progress) -> Release:
    """Write the medium for `version` and its signed list into `folder`; the release it fits.

    That is OpenBSD's release as if a key made here had signed it.
    """
    vendor = SignifySecretKey.generate("stand-in vendor secret key")
    release = standin_release(vendor, version)
    port = release.port("amd64")
    medium = private_dir(folder) / port.iso
    with progress.step("Making the stand-in medium (it is not OpenBSD)"):
        efi = float(version) >= 7.0
        standin.build_iso(medium, version=version, signify_key=vendor, efi=efi)
        listed = {medium.name: hashlib.sha256(medium.read_bytes()).hexdigest()}
        signed = sign_list(listed, vendor, version).sha256_sig
        write_file(folder / "SHA256.sig", signed, 0o644)
    return release


def verified_stand_in(
    release: Release, folder: Path, cache: Path, progress: Progress
) -> VerifiedIso | UnverifiedIso:
    """The medium in `folder`, verified as any other ISO is."""
    port = release.port("amd64")
    return obtain_iso(
        release.iso_source(port.name),
        cache=Cache(cache),
        iso=folder / port.iso,
        offline=True,
        progress=progress,
    )


@contextmanager
def stand_in(version: str, progress: Progress) -> Iterator[tuple[Release, Path]]:
    """The same in a folder that is gone afterwards: the release, and the folder."""
    with run_folder(private_dir(Cache.default().path("stand-in").parent)) as folder:
        yield make_stand_in(folder, version, progress), folder


def standin_release(vendor: SignifySecretKey, version: str = "6.6") -> Release:
    """A release as if `vendor` had signed it: no mirrors, no pinned hash."""
    genuine = load_release(version)
    public = vendor.public()
    key = SourcedKey(comment=public.comment, key=public.base64, source="made here", checked=True)
    port = genuine.port("amd64").model_copy(update={"iso_hash": None})
    keys = genuine.keys.model_copy(update={"base": key})
    return genuine.model_copy(update={"keys": keys, "ports": (port,), "mirrors": ()})
