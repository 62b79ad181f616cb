"""A real WireGuard server in network namespaces: wireguard-go, wg, ip, nft (needs root).

Three namespaces, made and removed by `WgWorld`:

    client 198.51.100.2 ---- 198.51.100.1 server 203.0.113.1 ---- 203.0.113.9 outside
           2001:db8:1::2 --- 2001:db8:1::1       2001:db8:2::1 --- 2001:db8:2::9
                              tunnel: 10.0.0.1/24, fd00:53::1/64 on wg0

The outside namespace has no route back to the tunnel's networks: without the server's NAT
nothing returns.  Use: `pytest_plugins`-free, `from support.wg_netns import wg_world` (the
fixture), and mark the test `netns`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey

PROGRAMS = ("wireguard-go", "wg", "ip", "nft", "sysctl")
CLONE_NEWNET = 0x40000000

PORT = 53
SERVER_OUTER4, SERVER_OUTER6 = IPv4Address("198.51.100.1"), IPv6Address("2001:db8:1::1")
CLIENT_OUTER4 = IPv4Address("198.51.100.2")
SERVER4, SERVER6 = IPv4Address("10.0.0.1"), IPv6Address("fd00:53::1")
CLIENT4, CLIENT6 = IPv4Address("10.0.0.2"), IPv6Address("fd00:53::2")
OUTSIDE4, OUTSIDE6 = IPv4Address("203.0.113.9"), IPv6Address("2001:db8:2::9")

NAT = """\
table inet tunnel {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    iifname "wg0" oifname "out0" masquerade
  }
}
"""


def why_not() -> str | None:
    """Why these tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"missing: {', '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing"
    return None


def make_namespace(undo: contextlib.ExitStack, name: str) -> None:
    """A network namespace, and the folder of its sockets; `undo` removes both."""
    _sockets(name).mkdir(mode=0o700)
    undo.callback(shutil.rmtree, _sockets(name), ignore_errors=True)
    run("ip", "netns", "add", name)
    undo.callback(run, "ip", "netns", "del", name, check=False)


def _sockets(namespace: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{namespace}-wireguard"


def inside(namespace: str, *words: str) -> list[str]:
    """The command that runs `words` in a namespace of make_namespace.

    wireguard-go's sockets are named after the interface alone and no part of a network
    namespace: here each namespace has a /run/wireguard of its own, so that tests that run at
    once do not take each other's.
    """
    Path("/run/wireguard").mkdir(mode=0o755, exist_ok=True)
    mounted = 'mount --bind "$0" /run/wireguard && exec "$@"'
    return ["ip", "netns", "exec", namespace, "sh", "-c", mounted, str(_sockets(namespace)), *words]


def run(*words: str, given: str = "", check: bool = True) -> str:
    """Run a program for 20 seconds at most; what it wrote."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=20)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def in_namespace(name: str) -> Iterator[None]:
    """This thread is in the network namespace `name`; sockets made here stay in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {name}")
        try:
            yield
        finally:
            if libc.setns(here, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns back")
    finally:
        os.close(here)
        os.close(there)


def kernel_ping(target: str, size: int) -> bool:
    """One ping from this thread's namespace by Linux's own ICMP socket (icmp(7)).

    Linux verifies every checksum of the answer.  `size`: bytes of payload.  Raises
    TimeoutError after 8 seconds.
    """
    version6 = ":" in target
    protocol = socket.getprotobyname("ipv6-icmp" if version6 else "icmp")
    family = socket.AF_INET6 if version6 else socket.AF_INET
    payload = os.urandom(size)
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as pinger:
        pinger.settimeout(8)
        pinger.connect((target, 0))
        pinger.send(bytes([128 if version6 else 8, 0, 0, 0, 0, 0, 0, 1]) + payload)
        answer = pinger.recv(65536)
    return answer[0] == (129 if version6 else 0) and answer[8:] == payload


@dataclass
class WireguardGo:
    """One wireguard-go in the foreground in `namespace`, as interface `name`; by `with`."""

    namespace: str
    name: str = "wg0"
    log: str = "verbose"
    _process: subprocess.Popen[bytes] | None = None
    _log_file: Path | None = None

    def __enter__(self) -> WireguardGo:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._log_file is not None:
            self._log_file.unlink(missing_ok=True)

    def start(self) -> None:
        """Start and wait (10 s at most) for the control socket."""
        if self._log_file is None:
            fd, name = tempfile.mkstemp(prefix="wireguard-go-")
            os.close(fd)
            self._log_file = Path(name)
        before = len(self.logged())
        with self._log_file.open("ab") as stream:
            self._process = subprocess.Popen(
                inside(self.namespace, "wireguard-go", "-f", self.name),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "LOG_LEVEL": self.log},
            )
        self._wait(lambda: self._listens(before))

    def _listens(self, before: int) -> bool:
        # wg(8) removes a socket that nobody listens on yet, and wireguard-go then gives up: it is
        # not asked before it has said that it listens.
        if self.log == "verbose" and "UAPI listener started" not in self.logged()[before:]:
            return False
        return bool(self.wg("show", self.name, "listen-port", check=False).strip())

    def stop(self) -> None:
        """End it; the interface goes with it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def wg(self, *words: str, given: str = "", check: bool = True) -> str:
        """`wg` in the namespace; configurations by standard input (`/dev/stdin`)."""
        return run(*inside(self.namespace, "wg", *words), given=given, check=check)

    def logged(self) -> str:
        """What wireguard-go has written so far."""
        return "" if self._log_file is None else self._log_file.read_text(errors="replace")

    def _wait(self, ready: object) -> None:
        assert callable(ready)
        limit = time.monotonic() + 10
        while not ready():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"wireguard-go ended: {self.logged()[-500:]}")
            if time.monotonic() > limit:
                raise RuntimeError(f"wireguard-go not ready in 10 s: {self.logged()[-500:]}")
            time.sleep(0.05)


@dataclass
class WgWorld:
    """The namespaces, the server in them, and the keys of one client."""

    server_key: WgPrivateKey = field(default_factory=WgPrivateKey.generate)
    client_key: WgPrivateKey = field(default_factory=WgPrivateKey.generate)
    preshared: PresharedKey = field(default_factory=PresharedKey.generate)
    port: int = PORT

    def __post_init__(self) -> None:
        tag = f"obsd{os.getpid() % 100000}x{os.urandom(2).hex()}"
        self.client, self.server, self.outside = f"{tag}c", f"{tag}s", f"{tag}o"
        self.daemon = WireguardGo(self.server)
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> WgWorld:
        try:
            self._build()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(str(SERVER_OUTER4), self.port)

    @property
    def endpoint6(self) -> Endpoint:
        return Endpoint(str(SERVER_OUTER6), self.port)

    def _build(self) -> None:
        for name in (self.client, self.server, self.outside):
            make_namespace(self._undo, name)
            self.ip(name, "link", "set", "lo", "up")
            self._sysctl(name, "net.ipv4.ping_group_range=0 0")  # for kernel_ping
        self._wire(self.client, "srv0", "198.51.100.2/24", "2001:db8:1::2/64")
        self._wire(self.outside, "srv0", "203.0.113.9/24", "2001:db8:2::9/64")
        self._undo.enter_context(self.daemon)
        self.configure()
        self.forwarding(True)
        self.nft(NAT)

    def _wire(self, far: str, device: str, address4: str, address6: str) -> None:
        """A veth pair between the server and `far`, with addresses that need no waiting."""
        near = "cli0" if far == self.client else "out0"
        self.ip(self.server, "link", "add", near, "type", "veth", "peer", device, "netns", far)
        ends = (
            (far, device, address4, address6),
            (self.server, near, _first(address4), _first(address6)),
        )
        for namespace, name, four, six in ends:
            self.ip(namespace, "address", "add", four, "dev", name)
            self.ip(namespace, "-6", "address", "add", six, "dev", name, "nodad")
            self.ip(namespace, "link", "set", name, "up")

    def ip(self, namespace: str, *words: str) -> str:
        """`ip` in a namespace."""
        return run("ip", "-n", namespace, *words)

    def server_conf(self) -> str:
        """What `wg setconf` gets: the server and its one client."""
        return (
            f"[Interface]\nPrivateKey = {self.server_key.reveal()}\nListenPort = {self.port}\n"
            f"[Peer]\nPublicKey = {self.client_key.public()}\n"
            f"PresharedKey = {self.preshared.reveal()}\n"
            f"AllowedIPs = {CLIENT4}/32, {CLIENT6}/128\n"
        )

    def configure(self, conf: str | None = None) -> None:
        """Give the server its keys (as `server_conf` or `conf`), addresses, and bring it up."""
        self.daemon.wg("setconf", "wg0", "/dev/stdin", given=conf or self.server_conf())
        self.ip(self.server, "address", "replace", f"{SERVER4}/24", "dev", "wg0")
        self.ip(self.server, "-6", "address", "replace", f"{SERVER6}/64", "dev", "wg0", "nodad")
        self.ip(self.server, "link", "set", "wg0", "up")

    def restart(self) -> None:
        """Stop the server and start it anew, configured as before."""
        self.daemon.stop()
        self.daemon.start()
        self.configure()

    def forwarding(self, on: bool) -> None:
        """Whether the server forwards packets, IPv4 and IPv6."""
        value = int(on)
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self._sysctl(self.server, f"{name}={value}")

    def _sysctl(self, namespace: str, setting: str) -> None:
        run("ip", "netns", "exec", namespace, "sysctl", "-qw", setting)

    def nft(self, rules: str) -> None:
        """Replace the server's rules (NAT included) by `rules`."""
        everything = "flush ruleset\n" + rules
        run("ip", "netns", "exec", self.server, "nft", "-f", "-", given=everything)

    def peer_dump(self) -> dict[str, str]:
        """`wg show dump` for the one client: endpoint, handshake, rx, tx."""
        line = self.daemon.wg("show", "wg0", "dump").splitlines()[1]
        words = line.split("\t")
        return dict(
            zip(
                ("public", "psk", "endpoint", "allowed", "handshake", "rx", "tx", "keepalive"),
                words,
                strict=True,
            )
        )


def _first(address: str) -> str:
    """The network's host 1, with its prefix: `198.51.100.1/24`."""
    host, slash, prefix = address.partition("/")
    separator = ":" if ":" in host else "."
    return host.rpartition(separator)[0] + separator + "1" + slash + prefix


@pytest.fixture
def wg_world() -> Iterator[WgWorld]:
    """A running server, its client and the world outside, for one test."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with WgWorld() as world:
        yield world
