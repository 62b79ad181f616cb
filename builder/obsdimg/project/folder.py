"""A project on the host: the folder with obsdimg.toml, its secrets and what is built there.

    obsdimg.toml    overlay/    secrets/ (0700)    clients/ (0700)    images/

Of several servers each has a folder of its own, servers/NAME/, with secrets/, clients/, images/
and what is remembered of it; the clients' own keys stay in the shared secrets/.

Keys are made by the commands that may (`init`, `build`, `client add` and `rotate`), never
overwritten, and never made anew where they were lost.  Everything in secrets/ is a file of mode
0600 with one value; the passphrase is not among them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from obsdimg.config import Config, load
from obsdimg.config.hops import HopPeer, HopUpstream, hop_name
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import create_file, private_dir, read_file, remove_file
from obsdimg.core.secret import check_private_folder, read_private
from obsdimg.signify.message import SignifySecretKey as ImageKey
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey


class ProjectError(ObsdimgError):
    """The project's folder or its secrets are not as they must be."""


class MissingKeyError(ProjectError):
    """A key that should have been made by the build is not there."""


class LostKeysError(ProjectError):
    """Something was made with keys that are not there any more."""


@dataclass(frozen=True)
class PeerKeys:
    """Of one client: its public key, the private one if made here, the pre-shared key."""

    public: WgPublicKey
    private: WgPrivateKey | None
    preshared: PresharedKey | None


@dataclass(frozen=True)
class HopKeys:
    """Of the next server, where it is one of this project: its public key and the pre-shared."""

    public: WgPublicKey
    preshared: PresharedKey


@dataclass(frozen=True)
class ProjectKeys:
    """Everything secret that a build needs.

    `server` is None where the server makes its key at first boot; `server_public` then
    becomes known later, if at all.  `image` signs the sets; `seal` (32 bytes) makes the salt
    of the sealed file depend on this project.
    """

    image: ImageKey
    seal: bytes
    server: WgPrivateKey | None
    server_public: WgPublicKey | None
    peers: dict[str, PeerKeys]
    hop: HopKeys | None = None


class Project:
    """Paths of a project and its configuration, of one server.

    `folder` is where the configuration is, and what it names; `root` where this server's own
    things are: the same, or servers/NAME below it.
    """

    def __init__(self, config_path: Path, config: Config, server: str | None = None) -> None:
        self.config_path = config_path
        self.config = config
        self.server = server
        self.folder = config_path.resolve().parent
        self.root = self.folder if server is None else self.folder / "servers" / server
        self.secrets = self.root / "secrets"
        self.clients = self.root / "clients"
        self.images = self.root / "images"
        self.client_secrets = self.folder / "secrets"
        self.overlay = self.folder / config.site.overlay

    @classmethod
    def open(cls, config_path: Path, server: str | None = None) -> Project:
        """The project of the configuration at `config_path`, of `server` where it has several.

        Raises ConfigError.
        """
        return cls(config_path, load(config_path, server), server)

    def image_name(self) -> str:
        """`vpn-66-amd64.iso`: host, release and port."""
        release = self.config.release
        return f"{self.config.host.name}-{release.version.replace('.', '')}-{release.port}.iso"

    def keys(self, *, make: bool = True) -> ProjectKeys:
        """All keys; those not there yet are made, unless they were there once (LostKeysError).

        With `make` false they are those of a server that was built already: MissingKeyError
        for one that is not there.  Raises SecretFileError for loose modes.
        """
        if make:
            self.refuse_lost_keys()
        return self._keys(make=make)

    def keys_for_looking(self) -> ProjectKeys:
        """All keys, with stand-ins in memory for those not made yet; nothing is written.

        For a plan that is only looked at.  Raises LostKeysError, SecretFileError.
        """
        self.refuse_lost_keys()
        return self._keys(make=False, stand_in=True)

    def refuse_lost_keys(self) -> None:
        """Raises LostKeysError where new keys would not fit what was made with the old ones.

        An ISO and the clients' files hold keys: where there are such, image.sec and seal.key
        were there too.  A pre-shared key is made after server.key.
        """
        made = [folder for folder in (self.clients, self.images) if _holds_something(folder)]
        missing = [n for n in ("image.sec", "seal.key") if not _there(self.secrets / n)]
        if missing and made:
            folders = " and ".join(f"{folder.name}/" for folder in made)
            raise LostKeysError(
                f"{self.secrets}: {' and '.join(missing)} not there, but {folders} hold what was"
                " made with this project's keys",
                "put secrets/ back (obsdimg restore FILE, or from a copy); or, to start anew with"
                f" keys that no server and no client knows yet, move {folders} away",
            )
        shared = [
            p.name for p in self.config.tunnel.peers if _there(self.secrets / f"{p.name}.psk")
        ]
        own = self.config.tunnel.keys == "build"
        if own and shared and not _there(self.secrets / "server.key"):
            raise LostKeysError(
                f"{self.secrets}: server.key is not there, but {shared[0]}.psk, which was made"
                " after it",
                "put server.key back (obsdimg restore FILE, or from a copy); or, to start anew with"
                " a server that no client knows yet, remove the *.psk files in secrets/, and build",
            )

    def _keys(self, *, make: bool, stand_in: bool = False) -> ProjectKeys:
        def at(folder: Path) -> SecretStore:
            return SecretStore(folder, make=make, stand_in=stand_in)

        store, own_keys = at(self.secrets), at(self.client_secrets)
        tunnel = self.config.tunnel
        own = tunnel.keys == "build"
        server = store.private("server.key") if own else None
        known = self.secrets / "server.pub"
        public = server.public() if server else None
        if public is None and known.exists():
            public = WgPublicKey.parse(read_file(known, "server's public key").decode(), str(known))
        peers = {}
        for peer in tunnel.peers:
            preshared = store.preshared(f"{peer.name}.psk") if own else None
            if isinstance(peer, HopPeer):
                peers[peer.name] = PeerKeys(self._server_key(at, peer.server), None, preshared)
                continue
            private = None if peer.public_key else own_keys.private(f"{peer.name}.key")
            given = WgPublicKey.parse(peer.public_key, peer.name) if peer.public_key else None
            peers[peer.name] = PeerKeys(given or _present(private).public(), private, preshared)
        _refuse_twins(peers, public)
        image, seal = store.image_key(), store.seal_key()
        return ProjectKeys(image, seal, server, public, peers, self._hop(at))

    def _server_key(self, at: Callable[[Path], SecretStore], server: str) -> WgPublicKey:
        """The public key of another server of the file."""
        return at(self._beside(server)).private("server.key").public()

    def _hop(self, at: Callable[[Path], SecretStore]) -> HopKeys | None:
        upstream = self.config.tunnel.upstream
        if not isinstance(upstream, HopUpstream) or self.server is None:
            return None
        public = self._server_key(at, upstream.server)  # a pre-shared key is made after it
        store = at(self._beside(upstream.server))
        return HopKeys(public, store.preshared(f"{hop_name(self.server)}.psk"))

    def _beside(self, server: str) -> Path:
        return self.folder / "servers" / server / "secrets"


class SecretStore:
    """The folder secrets/: one value a file; missing ones are made, loose modes refused.

    With `stand_in` a missing one is made in memory only.
    """

    def __init__(self, folder: Path, *, make: bool = True, stand_in: bool = False) -> None:
        self.folder = folder
        self.make = make
        self.stand_in = stand_in

    def private(self, name: str) -> WgPrivateKey:
        """An X25519 private key (`wg genkey`)."""
        text = self._text(name, lambda: WgPrivateKey.generate().reveal())
        return WgPrivateKey.parse(text, f"secrets/{name}")

    def preshared(self, name: str) -> PresharedKey:
        """A pre-shared key (`wg genpsk`)."""
        text = self._text(name, lambda: PresharedKey.generate().reveal())
        return PresharedKey.parse(text, f"secrets/{name}")

    def image_key(self) -> ImageKey:
        """The signify key that signs this project's sets (`signify -G -n`)."""
        text = self._text("image.sec", lambda: ImageKey.generate("obsdimg image").text())
        return ImageKey.parse(text, where="secrets/image.sec")

    def seal_key(self) -> bytes:
        """32 random bytes, as hexadecimal in the file."""
        text = self._text("seal.key", lambda: secrets.token_hex(32)).strip()
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if len(value) != 32:
            raise ProjectError("secrets/seal.key: not 64 hexadecimal digits", "remove the file")
        return value

    def forget(self, name: str) -> None:
        """Remove a key, so that the next use makes a new one."""
        remove_file(self.folder / name)

    def _text(self, name: str, make: Callable[[], str]) -> str:
        path = self.folder / name
        if not path.exists():
            if self.stand_in:
                if self.folder.exists():
                    check_private_folder(self.folder)
                return make()
            if not self.make:
                raise MissingKeyError(
                    f"{path}: there is no such key", "it is made by `obsdimg build`"
                )
            private_dir(self.folder)
            check_private_folder(self.folder)
            create_file(path, (make().rstrip("\n") + "\n").encode())
        # What another run has just made is as good: every run reads the same.
        check_private_folder(self.folder)
        return read_private(path, "key").decode("ascii", "replace")


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _holds_something(folder: Path) -> bool:
    """Whether `folder` holds more than hidden files."""
    return folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())


def _present(key: WgPrivateKey | None) -> WgPrivateKey:
    assert key is not None
    return key


def _refuse_twins(peers: dict[str, PeerKeys], server: WgPublicKey | None) -> None:
    seen = {server: "the server"} if server else {}
    for name, keys in peers.items():
        if keys.public in seen:
            raise ProjectError(
                f"peer {name}: its key is the same as that of {seen[keys.public]}",
                f"remove secrets/{name}.key to get a new one, or correct public_key",
            )
        seen[keys.public] = name
