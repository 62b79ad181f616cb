"""Whom this host calls, as which client, and the ways there: a hub, and ssh's command line.

The ssh client is the system's own; it comes through the tunnel by ProxyCommand.  The server
that answers inside the tunnel has proved its WireGuard key, so that the host key of the first
contact is the right one; from then on it stands in the project's `known_hosts`.
"""

from __future__ import annotations

import base64
import hmac
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from obsdimg.config import Config, PeerSettings
from obsdimg.config.hops import is_hop
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.relaunch import own_command, own_environment
from obsdimg.project.folder import Project
from obsdimg.site.clients import find_peer, plan_client, still_missing
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.hub import HubClient, HubError, hub_path
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.stream import HANDSHAKE_SECONDS, Tunnel

OPERATOR: Final = "operator"
"""The name of the client that this host is by itself, if the project has one of that name."""
SSH_PORT: Final = 22
START_SECONDS: Final = 10.0


class AccessError(ObsdimgError):
    """It is not clear how to reach the server, or nobody can log in there."""


@dataclass(frozen=True)
class ServerAccess:
    """Everything that reaching one server takes.  Holds keys; shows none."""

    project: Project
    client: TunnelClient
    """As whom this host calls; keys and endpoint are known."""
    address: Address
    """The server's own in the tunnel."""
    user: str
    """Who logs in."""
    becomes_root: str
    """What makes a command run as root: "" or "doas -n "."""
    given_endpoint: str | None = None
    via: Path | None = None
    """The socket of a hub that is held: ssh then goes there, whatever the project says by now."""

    @property
    def name(self) -> str:
        """The server's name, under which `known_hosts` has its key."""
        return self.project.config.host.name

    @property
    def endpoint(self) -> Endpoint:
        """Where the server is called."""
        assert self.client.endpoint is not None
        return self.client.endpoint

    def at_port(self, port: int) -> ServerAccess:
        """The same way, but at another UDP port of the server."""
        client = replace(self.client, port=port)
        return replace(self, client=client, given_endpoint=str(client.endpoint))

    @property
    def known_hosts(self) -> Path:
        return self.project.root / "known_hosts"

    def hub(self) -> Path:
        """The socket of the process that holds this tunnel."""
        assert self.client.private is not None and self.client.server is not None
        return hub_path(self.client.private.public(), self.client.server, self.endpoint)

    def open_tunnel(self, timeout: float = HANDSHAKE_SECONDS) -> Tunnel:
        """The tunnel in this process, for nobody else.  Raises TunnelDownError."""
        return Tunnel.of(self.client, timeout=timeout)


def find_access(
    project: Project,
    *,
    client: str | None = None,
    endpoint: str | None = None,
    user: str | None = None,
) -> ServerAccess:
    """How to reach the server of `project`.

    `client`: as whom; by default the one called `operator`, or the only one that can.
    `endpoint`: HOST:PORT instead of the configured.  Raises AccessError and its kin.
    """
    config = project.config
    peer = _choose(config, client)
    planned = plan_client(config, project.keys(make=False), peer)
    if endpoint:
        given = Endpoint.parse(endpoint, "--endpoint")
        planned = replace(planned, host=given.host, port=given.port)
    for what, how in still_missing(planned):
        raise AccessError(f"client {peer.name}: not complete yet, it lacks {what}", how)
    if not planned.inside:
        raise AccessError("the server and this client have no address of the same family")
    login, root = _login(config, user)
    return ServerAccess(project, planned, planned.inside[0], login, root, endpoint)


def _choose(config: Config, name: str | None) -> PeerSettings:
    if name is not None:
        peer = find_peer(config, name)
        if peer.public_key is not None:
            raise AccessError(
                f"client {name}: its private key is not here", "choose one whose key was made here"
            )
        if not peer.ssh:
            raise AccessError(
                f"client {name}: may not open ssh to the server (ssh = false)",
                "choose another, or change obsdimg.toml and build anew",
            )
        return peer
    able = [
        peer
        for peer in config.tunnel.peers
        if peer.ssh and peer.public_key is None and not is_hop(peer)
    ]
    own = [peer for peer in able if peer.name == OPERATOR]
    if own or len(able) == 1:
        return (own or able)[0]
    if not able:
        raise AccessError(
            "no client of this project can open ssh from here",
            f"obsdimg client add {OPERATOR}, with ssh = true, its key made here",
        )
    raise AccessError(
        f"as which client? {', '.join(peer.name for peer in able)}",
        f"--as NAME; a client in use elsewhere loses its session, so that one for this computer"
        f" is better: obsdimg client add {OPERATOR}",
    )


def _login(config: Config, user: str | None) -> tuple[str, str]:
    """Who logs in, and how commands there become root's."""
    access = config.access
    if not access.sshd:
        raise AccessError("sshd is off (access.sshd = false)", "there is only the console")
    if user is None:
        if access.admin is not None and access.admin.keys:
            user = access.admin.name
        elif access.root_keys:
            user = "root"
        else:
            raise AccessError(
                "nobody can log in by ssh with a key", "add [access.admin] with keys, build anew"
            )
    return user, "" if user == "root" else "doas -n "


# ---- the hub


def join_hub(access: ServerAccess, timeout: float = HANDSHAKE_SECONDS) -> HubClient:
    """The process that holds the tunnel, started if there is none.

    Raises TunnelDownError and its kin with what that process says.
    """
    path = access.hub()
    deadline = time.monotonic() + timeout + START_SECONDS
    while True:
        try:
            return HubClient(path)
        except HubError:
            if time.monotonic() >= deadline:
                raise
        _start_hub(access, timeout)


def _start_hub(access: ServerAccess, timeout: float) -> None:
    """Start it detached, and wait until it serves, or says why not."""
    words = [*own_command(), "ssh", "--hub", *_words(access), "--timeout", f"{timeout:g}"]
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=own_environment(),
        cwd="/",
        start_new_session=True,
    )
    assert child.stdout is not None
    with child.stdout as stream:
        said = stream.readline().decode("utf-8", "replace").rstrip("\n")
    if said in ("ready", "busy"):
        if said == "busy":
            time.sleep(0.3)
        return
    message, _, hint = said.removeprefix("error ").partition("\t")
    raise AccessError(message or "the tunnel's process ended without a word", hint or None)


def _words(access: ServerAccess) -> list[str]:
    words = ["-c", str(access.project.config_path.resolve()), "--as", access.client.name]
    if access.project.server is not None:
        words += ["--server", access.project.server]
    if access.given_endpoint:
        words += ["--endpoint", access.given_endpoint]
    return words


# ---- ssh


def ssh_options(access: ServerAccess, command: Sequence[str] | None = None) -> dict[str, str]:
    """What ssh_config(5) needs to be told, by name.  `command`: what runs obsdimg."""
    way = _words(access) if access.via is None else ["--via", str(access.via)]
    proxy = [*(command or own_command()), "ssh", *way, "--proxy", "%h", "%p"]
    return {
        "HostName": str(access.address),
        "User": access.user,
        "HostKeyAlias": access.name,
        "UserKnownHostsFile": _quoted(str(access.known_hosts)),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "accept-new",
        "CheckHostIP": "no",
        "HashKnownHosts": "no",
        "ConnectTimeout": "60",
        "ServerAliveInterval": "30",
        "ProxyCommand": " ".join(_word(word) for word in proxy),
    }


def is_host_key_of(line: bytes, name: str) -> bool:
    """Whether a line of known_hosts is about `name`: as it is, or hashed, which is what ssh writes
    where the system's ssh_config says so (Debian's does): |1|SALT|HMAC-SHA1 (hostfile.c)."""
    host = line.split(b" ")[0]
    if not host.startswith(b"|1|"):
        return host == name.encode()
    try:
        salt, digest = (base64.b64decode(part) for part in host.split(b"|")[2:4])
    except ValueError:  # no base64, or not two parts
        return False
    return hmac.digest(salt, name.encode(), "sha1") == digest


def _word(word: str) -> str:
    """One word of ProxyCommand: for the shell, and with its own % doubled."""
    return word if word in ("%h", "%p") else shlex.quote(word).replace("%", "%%")


def _quoted(path: str) -> str:
    """A path in ssh_config(5), where % and blanks mean something."""
    return '"' + path.replace("%", "%%") + '"' if set(path) & set(' %"') else path


def ssh_command(access: ServerAccess, words: Sequence[str], *extra: str) -> list[str]:
    """The command line of ssh; `words`: the remote command, `extra`: options of ssh."""
    options = [f"-o{name}={value}" for name, value in ssh_options(access).items()]
    # `--` would be taken for the command: ssh stops at the host by itself.
    return ["ssh", *options, *extra, access.name, *words]


def ssh_environment() -> Mapping[str, str]:
    """For ssh, whose ProxyCommand is this program."""
    return own_environment()
