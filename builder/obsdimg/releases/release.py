"""What the tool knows about each OpenBSD release: one TOML file a release in `images/`.

`load_release("6.6")` reads `images/66.toml` into a frozen Release.  Every key, hash and mirror in
those files says where it comes from (`source`) and whether a second, independent source agreed
(`checked`).  Nothing in them is guessed: what is not known is left out, and using it is an error
that says so.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from obsdimg.core.documents import from_toml
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import read_file
from obsdimg.core.resources import resource
from obsdimg.fetch.install_iso import IsoSource
from obsdimg.fetch.packages import PackageSource
from obsdimg.signify.errors import KeyUnknownError, VerificationError
from obsdimg.signify.message import SignifyPublicKey

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 as 64 lower-case hex digits."""

KeyKind = Literal["base", "pkg", "fw"]
"""base: the sets and ISOs; pkg: packages; fw: firmware."""


class ReleaseError(ObsdimgError):
    """A release is not known, or its file in images/ is wrong."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class SourcedKey(_Frozen):
    """A signify public key, where it comes from, and whether two sources agreed."""

    comment: str
    key: str
    source: str
    checked: bool

    @property
    def text(self) -> str:
        """The key file, as in /etc/signify."""
        return f"untrusted comment: {self.comment}\n{self.key}\n"

    def public(self) -> SignifyPublicKey:
        """The key as a value.  Raises MalformedKey."""
        return SignifyPublicKey.parse(self.text, self.comment)


class ReleaseKeys(_Frozen):
    """The public keys of a release; one that is not known is None."""

    base: SourcedKey
    pkg: SourcedKey | None = None
    fw: SourcedKey | None = None


class KnownHash(_Frozen):
    """A file's SHA-256.  Verifies on its own only if `checked`: two sources, or a signed list."""

    sha256: Sha256
    source: str
    checked: bool


class Port(_Frozen):
    """A port of a release, as its install ISO and its folder on the mirrors are laid out."""

    name: str
    iso: str
    """File name of the install ISO, which carries the sets."""
    directory: str
    """Folder of the port, on the ISO and below a mirror's base: `6.6/amd64`."""
    boot_conf: str
    """Path of boot(8)'s configuration on the ISO, without a leading slash."""
    sets: tuple[str, ...]
    """Sets in the order in which the installer extracts them, without kernels."""
    kernels: tuple[str, ...]
    """Kernel files that are offered as sets; `bsd.rd` is the installer's own."""
    install_notes: str
    """The file that the installer looks for to recognise a folder of sets."""
    efi: bool
    """Whether the ISO has an El Torito entry for EFI."""
    iso_hash: KnownHash | None = None


class Mirror(_Frozen):
    """The base of a mirror (the folder that holds `6.6/`), and what is known of its keeping it."""

    url: str
    source: str
    checked: bool


class Wireguard(_Frozen):
    """How this release does WireGuard, and the packages (stems) needed for it."""

    backend: Literal["wireguard-go", "wg"]
    packages: tuple[str, ...] = ()


class Installer(_Frozen):
    """What differs from release to release in the installer's ramdisk."""

    dhcp_client: Literal["dhclient", "dhcpleased"]
    network_question: str
    """The question that asks for an interface, as far as a response file needs it."""
    autoinstall: str
    """What /.profile runs first, to look for an upgrade that waits."""
    fdisk_gpt: str
    """fdisk(8)'s options for a whole disk with GPT and an EFI System partition."""
    partitions: Annotated[int, Field(ge=16, le=52)]
    """Most partitions of a disklabel (MAXPARTITIONS), `c` among them."""
    template_raid: bool
    """Whether `disklabel -T` knows `RAID` and `*`."""
    newfs: Literal["FFS1", "FFS2"]
    """What newfs(8) makes by default."""
    kdf_rounds: str
    """Rounds of bioctl(8) without -r: a number, or `auto`."""
    kdf_least: int
    """Fewest rounds that bioctl(8) takes."""
    passphrase_twice: bool
    """Whether `bioctl -s` reads the passphrase twice."""
    gpt_default: str
    """When the installer makes GPT its own default (MDEFI)."""
    efi_loaders: tuple[str, ...]
    """What installboot(8) copies from /usr/mdec to an EFI System partition."""
    native_encryption: bool
    """Whether an unattended installation can answer the installer's own encryption question."""
    source: str


class Release(_Frozen):
    """An OpenBSD release."""

    version: Annotated[str, StringConstraints(pattern=r"^\d\.\d$")]
    released: datetime.date | None = None
    """The day it came out; None: announced only."""
    keys: ReleaseKeys
    ports: tuple[Port, ...]
    installer: Installer
    questions: Annotated[str, StringConstraints(pattern=r"^\d\d$")] | None = None
    """The table of questions it is held to, where it has none of its own: `80`."""
    learned: str | None = None
    """How this file came to be, where `obsdimg release learn` wrote it."""
    mirrors: tuple[Mirror, ...]
    wireguard: Wireguard
    package_directories: tuple[str, ...]
    """Folders of packages below a mirror's base; `{port}` is the port.  The first wins."""
    proven: tuple[str, ...] = ()
    """What was run of this release, with the day and what it ran on; empty: nothing was."""
    traps: tuple[str, ...] = ()
    """Notes for people: what bites in this release."""

    @property
    def digits(self) -> str:
        """The version as file names have it: `66`."""
        return self.version.replace(".", "")

    @property
    def question_table(self) -> str:
        """The release whose table of questions counts, as `66`."""
        return self.questions or self.digits

    @property
    def number(self) -> tuple[int, int]:
        """The version for comparing: (6, 6)."""
        major, minor = self.version.split(".")
        return int(major), int(minor)

    @cached_property
    def base_key(self) -> SignifyPublicKey:
        """The key that signs SHA256.sig."""
        return self.keys.base.public()

    def key(self, kind: KeyKind) -> SignifyPublicKey:
        """The public key of `kind`.  Raises KeyUnknownError where the release file has none."""
        entry: SourcedKey | None = getattr(self.keys, kind)
        if entry is None:
            raise KeyUnknownError(
                f"images/{self.digits}.toml has no {kind} key of OpenBSD {self.version}",
                f"nothing signed with it can be verified; add [keys.{kind}] from /etc/signify"
                " of an installed system",
            )
        return entry.public()

    def port(self, name: str) -> Port:
        """The port called `name`.  Raises ReleaseError."""
        for port in self.ports:
            if port.name == name:
                return port
        known = ", ".join(p.name for p in self.ports)
        raise ReleaseError(f"OpenBSD {self.version}: port {name} is not known", f"known: {known}")

    def mirror_urls(self, first: Iterable[str] = ()) -> tuple[str, ...]:
        """The bases of mirrors, none twice: `first`, then those known to have this release."""
        urls = (*first, *(mirror.url for mirror in self.mirrors))
        return tuple(dict.fromkeys(url.rstrip("/") for url in urls))

    def iso_source(self, port: str = "amd64", mirrors: Iterable[str] = ()) -> IsoSource:
        """What fetch.install_iso needs to obtain and verify this release's ISO."""
        entry = self.port(port)
        return IsoSource(
            release=self.version,
            directory=entry.directory,
            name=entry.iso,
            key=self.base_key,
            pinned=entry.iso_hash,
            mirrors=self.mirror_urls(mirrors),
        )

    def package_source(self, port: str = "amd64", mirrors: Iterable[str] = ()) -> PackageSource:
        """What fetch.packages needs to obtain and verify packages.  Raises KeyUnknownError."""
        return PackageSource(
            release=self.version,
            port=self.port(port).name,
            directories=tuple(d.format(port=port) for d in self.package_directories),
            key=self.key("pkg"),
            mirrors=self.mirror_urls(mirrors),
        )


def user_folder() -> Path:
    """Where release files of the user's own are: OBSDIMG_RELEASES, else the configuration folder
    (`~/.config/obsdimg/releases` on Linux)."""
    named = os.environ.get("OBSDIMG_RELEASES")
    return Path(named) if named else platformdirs.user_config_path("obsdimg") / "releases"


def release_files() -> dict[str, Path]:
    """Every known version with its file, oldest first.

    Those that ship with the tool count; a file of the user's own adds a release, and never
    replaces one that ships.
    """
    found: dict[str, Path] = {}
    for folder in (resource("images"), user_folder()):
        for path in folder.glob("[0-9][0-9].toml"):
            found.setdefault(f"{path.stem[0]}.{path.stem[1]}", path)
    return dict(sorted(found.items()))


def known_releases() -> tuple[str, ...]:
    """The versions that have a release file, oldest first."""
    return tuple(release_files())


def load_release(version: str) -> Release:
    """The release called `version` (`6.6`).  Raises ReleaseError, naming the nearest known one."""
    path = release_files().get(version)
    if path is None:
        raise ReleaseError(
            f"OpenBSD {version!r} is not a release that this version of obsdimg knows",
            _suggest(version),
        )
    return read_release(path)


def read_release(path: Path) -> Release:
    """The release in the file `path`.  Raises ReleaseError with file and key, or FileError."""
    data = read_file(path, "release file")
    try:
        release = Release.model_validate(from_toml(data))
        for kind in ("base", "pkg", "fw"):
            entry: SourcedKey | None = getattr(release.keys, kind)
            if entry is not None:
                entry.public()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{path}: {where}: {first['msg']}") from error
    except ValueError as error:
        raise ReleaseError(f"{path}: not TOML: {error}") from error
    except VerificationError as error:
        raise ReleaseError(f"{path}: keys: {error.message}") from error
    if release.digits != path.stem:
        raise ReleaseError(f"{path}: version: {release.version} does not belong in this file")
    return release


def _suggest(version: str) -> str:
    known = known_releases()
    digits = re.sub(r"[^0-9]", "", version)
    if not known:
        return "the folder images/ holds no release file: reinstall obsdimg"
    if len(digits) != 2:
        return f"known: {', '.join(known)}"
    nearest = min(known, key=lambda name: abs(int(name.replace(".", "")) - int(digits)))
    learn = ""
    if int(digits) > max(int(name.replace(".", "")) for name in known):
        learn = f"; `obsdimg release learn --iso install{digits}.iso` learns a newer one"
    return f"the nearest is {nearest}; known: {', '.join(known)}{learn}"
