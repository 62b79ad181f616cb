"""A release that this version of obsdimg does not know, learnt from its verified predecessor.

The base set of each release carries the public keys of the next one (etc/signify; distrib/sets/
lists/base/mi), so an ISO that was verified vouches for its successor: the new keys come out of the
old base set, the new signed list is checked with them, and the new ISO against that list.  Only
then is the new ISO read.  What cannot be read from it (the questions, the installer's facts) is
taken over from the predecessor and marked as such; a rehearsal shows where that is wrong.
"""

from __future__ import annotations

import datetime
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import tomlkit

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file
from obsdimg.core.progress import Progress
from obsdimg.fetch.install_iso import LIST, VerifiedIso
from obsdimg.iso import Iso
from obsdimg.releases.release import Port, Release
from obsdimg.signify.message import SignifyPublicKey
from obsdimg.signify.sha256list import VerifiedFile, read_signed_list, verify_file

KINDS = ("base", "pkg", "fw")
_LARGEST_KEY = 1024
_MOST_MEMBERS = 200_000
_LARGEST_SET = 8 << 30
"""Bytes of an unpacked base set; 7.7's has 1.2 GB."""


class LearnError(ObsdimgError):
    """The ISO teaches nothing, and why."""


def announced_version(iso: Path) -> str:
    """The release that the list beside `iso` says it is signed for, `8.1`; nothing is verified.

    Raises LearnError without a list, FileError.
    """
    path = iso.parent / LIST
    if not path.is_file():
        raise LearnError(
            f"{iso}: there is no {LIST} beside it, so nothing says that it is genuine",
            f"download {LIST} from the same folder of the mirror and put it there",
        )
    first = read_file(path, "signed list")[:200].split(b"\n")[0].decode("ascii", "replace")
    found = re.search(r"openbsd-(\d)(\d)-base\.pub", first)
    if found is None:
        raise LearnError(
            f"{path}: is not signed with a base key of OpenBSD", f"take {LIST} from the mirror"
        )
    return f"{found[1]}.{found[2]}"


def predecessor_of(version: str) -> str:
    """The release before `version`: `8.0` for `8.1`, `7.9` for `8.0`."""
    number = int(version.replace(".", "")) - 1
    return f"{number // 10}.{number % 10}"


def successor_keys(
    predecessor: VerifiedIso, release: Release, digits: str, progress: Progress
) -> dict[str, SignifyPublicKey]:
    """The keys of the next release (`digits`, `81`) by kind, from the base set of `predecessor`.

    Raises LearnError where they are not there, IsoError.
    """
    port = release.port("amd64")
    base = f"base{release.digits}.tgz"
    wanted = {f"etc/signify/openbsd-{digits}-{kind}.pub": kind for kind in KINDS}
    found: dict[str, SignifyPublicKey] = {}
    with (
        progress.step(f"Looking for the keys of the next release in {base}"),
        Iso.open(predecessor.path) as iso,
        iso.open_file(f"/{port.directory}/{base}") as stream,
    ):
        try:
            with tarfile.open(fileobj=stream, mode="r|gz") as archive:
                for count, member in enumerate(archive):
                    if count > _MOST_MEMBERS or archive.offset > _LARGEST_SET:
                        raise LearnError(f"{predecessor.path}: {base}: larger than any base set")
                    kind = wanted.get(member.name.removeprefix("./"))
                    if kind is None or not member.isreg() or member.size > _LARGEST_KEY:
                        continue
                    data = archive.extractfile(member)
                    assert data is not None
                    found[kind] = SignifyPublicKey.parse(data.read(_LARGEST_KEY), member.name)
                    if len(found) == len(wanted):
                        break
        except (tarfile.TarError, OSError, EOFError) as error:
            raise LearnError(f"{predecessor.path}: {base}: cannot be read: {error}") from error
    if "base" not in found:
        raise LearnError(
            f"{base} of OpenBSD {release.version} holds no key of the next release",
            f"its etc/signify has no openbsd-{digits}-base.pub",
        )
    return found


def verify(iso: Path, key: SignifyPublicKey, digits: str, progress: Progress) -> VerifiedFile:
    """`iso`, shown to be the install ISO of the release `digits` by the list beside it.

    Raises VerificationError, FileError.
    """
    where = iso.parent / LIST
    listed = read_signed_list(read_file(where, "signed list"), key, str(where))
    return verify_file(iso, listed, name=f"install{digits}.iso", progress=progress)


def read_port(iso: Path, version: str, pattern: Port) -> Port:
    """The port as the (verified) `iso` shows it; `pattern`: that of the predecessor, for order.

    Raises LearnError for an ISO of another layout, IsoError.
    """
    digits = version.replace(".", "")
    directory = f"{version}/{pattern.name}"
    with Iso.open(iso) as opened:
        names = {entry.path for entry in opened.entries()}
        efi = any(entry.platform == "efi" for entry in opened.boot_entries)
    here = {name.rpartition("/")[2] for name in names if name.startswith(f"/{directory}/")}
    if "bsd.rd" not in here:
        raise LearnError(
            f"{iso}: has no /{directory}/bsd.rd: its layout is not the one that obsdimg knows",
            "it needs a newer obsdimg",
        )
    old = [re.sub(r"\d\d\.tgz$", f"{digits}.tgz", name) for name in pattern.sets]
    sets = [name for name in old if name in here]
    sets += sorted(n for n in here if re.fullmatch(rf"[a-z]+{digits}\.tgz", n) and n not in sets)
    for name in (f"base{digits}.tgz", "SHA256", pattern.install_notes):
        if name not in here:
            raise LearnError(f"{iso}: has no /{directory}/{name}", "it needs a newer obsdimg")
    if f"/{pattern.boot_conf}" not in names:
        raise LearnError(f"{iso}: has no /{pattern.boot_conf}", "it needs a newer obsdimg")
    kernels = tuple(name for name in pattern.kernels if name in here)
    return pattern.model_copy(
        update={
            "iso": f"install{digits}.iso",
            "directory": directory,
            "sets": tuple(sets),
            "kernels": kernels,
            "efi": efi,
            "iso_hash": None,
        }
    )


def release_file(
    version: str,
    before: Release,
    port: Port,
    keys: Mapping[str, SignifyPublicKey],
    iso: VerifiedFile,
    today: datetime.date,
    *,
    proven: Iterable[str] = (),
    traps: Iterable[str] = (),
) -> bytes:
    """The text of the release file, in the form of those in images/; `proven` and `traps` are what
    was found out about its installer."""
    source = f"base{before.digits}.tgz of OpenBSD {before.version}, whose ISO was verified"
    as_before = f"as in {before.version}; nobody has looked yet"
    values = {
        "version": version,
        "released": today,
        "questions": before.question_table,
        "learned": f"by obsdimg release learn on {today}, from {before.version}",
        "package_directories": [
            d.replace(before.version, version) for d in before.package_directories
        ],
        "proven": list(proven),
        "traps": [
            f"Learnt, not checked: the installer's facts are those of {before.version}.",
            *traps,
        ],
        "installer": {**before.installer.model_dump(), "source": as_before},
        "wireguard": {
            "backend": before.wireguard.backend,
            "packages": list(before.wireguard.packages),
        },
        "keys": {
            kind: {
                "comment": key.comment,
                "key": key.base64,
                "source": source,
                "checked": False,
            }
            for kind, key in keys.items()
        },
        "ports": [
            {
                **port.model_dump(exclude={"iso_hash"}),
                "iso_hash": {
                    "sha256": iso.sha256,
                    "source": f"{LIST}, signed with {keys['base']}",
                    "checked": True,
                },
            }
        ],
        "mirrors": [mirror.model_dump() for mirror in before.mirrors],
    }
    head = f"# OpenBSD {version}, learnt by obsdimg from a verified {before.version}.\n\n"
    return (head + tomlkit.dumps(values)).encode()
