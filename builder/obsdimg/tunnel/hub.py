"""One tunnel for every obsdimg process of this user that needs the same one.

A WireGuard server knows one address of a client at a time: two processes that call with the
same keys would take each other's packets.  So the first that needs a tunnel starts a hub, a
process that holds it and gives streams to everybody who asks over a Unix socket in a folder
of mode 0700; it ends when nobody has needed it for LINGER_SECONDS.

One line a connection:  `connect ADDRESS PORT SECONDS`, answered by `ok` and then the stream;
`renew SECONDS` (a new handshake, now), answered by `ok SECONDS`;  `hold`, answered by `ok
ENDPOINT`, which keeps the hub until the caller closes.  A failure is `error MESSAGE<TAB>HINT`.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from filelock import FileLock
from filelock import Timeout as LockTimeout

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.files import FileError
from obsdimg.core.lifetime import Closing
from obsdimg.core.scratch import runtime_folder
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import TunnelError
from obsdimg.tunnel.ip import Address
from obsdimg.tunnel.keys import WgPublicKey
from obsdimg.tunnel.stream import Tunnel, TunnelDownError
from obsdimg.tunnel.tcp import TcpError, TcpRefusedError

LINGER_SECONDS: Final = 10.0
LINE_BYTES: Final = 2048
LINE_SECONDS: Final = 5.0
_KINDS: Final[dict[str, type[TunnelError]]] = {
    "refused": TcpRefusedError,
    "tcp": TcpError,
    "down": TunnelDownError,
    "other": TunnelError,
}


class HubError(TunnelError):
    """The hub cannot be started or asked."""


def hub_folder() -> Path:
    """Where sockets of this user lie.  Raises HubError."""
    try:
        return runtime_folder()
    except FileError as error:
        raise HubError(error.message, error.hint) from error


def hub_path(client: WgPublicKey, server: WgPublicKey, endpoint: Endpoint) -> Path:
    """The socket of the hub for this pair of keys, at this place."""
    name = hashlib.sha256(client.raw + server.raw + str(endpoint).encode()).hexdigest()[:24]
    return hub_folder() / f"{name}.sock"


# ---- the side that asks


def _ask(path: Path, line: str, timeout: float) -> tuple[socket.socket, str]:
    """Send a request; the connection and what follows `ok`.  Raises the error that was told."""
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        asked.settimeout(timeout)
        asked.connect(str(path))
        asked.sendall(line.encode() + b"\n")
        answer = _read_line(asked)
    except OSError as error:
        asked.close()
        raise HubError(
            f"{path}: the tunnel's process does not answer: {error.strerror or error}",
            "try again without --via: it is started by itself",
        ) from error
    except BaseException:
        asked.close()
        raise
    if answer.startswith("ok"):
        asked.settimeout(None)
        return asked, answer[2:].strip()
    asked.close()
    if not answer:
        raise HubError(f"{path}: the tunnel's process has just ended", "try again")
    kind, _, rest = answer.removeprefix("error ").partition(" ")
    message, _, hint = rest.partition("\t")
    raise _KINDS.get(kind, TunnelError)(message, hint or None)


def _read_line(asked: socket.socket) -> str:
    """One line, byte by byte: what follows it belongs to the stream."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_BYTES:
        byte = asked.recv(1)
        if not byte:
            break
        line += byte
    return line.decode("utf-8", "replace").rstrip("\n")


class HubClient(Closing):
    """Streams from a hub that runs; while this object is open, it does not end."""

    def __init__(self, path: Path) -> None:
        """Raises HubError where none runs at `path`."""
        self.path: Final = path
        self._hold, self.endpoint = _ask(path, "hold", LINE_SECONDS)

    def connect(self, host: Address, port: int, *, timeout: float = 20.0) -> socket.socket:
        """A connection through the tunnel.  Raises TunnelError and its kin."""
        return _ask(self.path, f"connect {host} {port} {timeout:g}", timeout + 2 * LINE_SECONDS)[0]

    def renew(self, timeout: float = 20.0) -> float:
        """A new handshake, now; seconds that it took.  Raises TunnelDownError."""
        done, took = _ask(self.path, f"renew {timeout:g}", timeout + 2 * LINE_SECONDS)
        done.close()
        return float(took)

    def close(self) -> None:
        self._hold.close()


# ---- the side that serves


class Hub:
    """Serves `tunnel` on the socket `path`; only one at a time, by a lock beside it."""

    def __init__(self, path: Path) -> None:
        """Raises HubError where another serves already."""
        self.path: Final = path
        self._lock = FileLock(path.with_suffix(".lock"), mode=0o600)
        try:
            self._lock.acquire(timeout=0)
        except LockTimeout as error:
            raise HubError(f"{path}: another process serves this tunnel") from error
        self._holders = 0
        self._count = threading.Lock()
        self._listening: socket.socket | None = None

    def listen(self) -> None:
        """From here on others may ask.  Raises HubError."""
        self.path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(self.path))
            self.path.chmod(0o600)
            listening.listen(32)
        except OSError as error:
            listening.close()
            raise HubError(f"{self.path}: cannot listen: {error.strerror}") from error
        listening.settimeout(0.5)
        self._listening = listening

    def serve(self, tunnel: Tunnel, linger: float = LINGER_SECONDS) -> None:
        """Answer requests until nobody has needed the tunnel for `linger` seconds."""
        assert self._listening is not None
        needed = time.monotonic()
        while tunnel.alive:
            try:
                asking, _ = self._listening.accept()
            except TimeoutError:
                pass
            else:
                needed = time.monotonic()
                threading.Thread(target=self._answer, args=(tunnel, asking), daemon=True).start()
            if self._holders or tunnel.busy:
                needed = time.monotonic()
            elif time.monotonic() - needed >= linger:
                return

    def close(self) -> None:
        """No further requests."""
        if self._listening is not None:
            self.path.unlink(missing_ok=True)
            self._listening.close()
        self._lock.release()

    def _answer(self, tunnel: Tunnel, asking: socket.socket) -> None:
        with self._count:
            self._holders += 1
        handed = False
        try:
            asking.settimeout(LINE_SECONDS)
            handed = self._do(tunnel, asking, _read_line(asking).split())
        except ObsdimgError as error:
            kinds = [kind for kind, cls in _KINDS.items() if isinstance(error, cls)]
            text = f"error {(kinds or ['other'])[0]} {error.message}\t{error.hint or ''}\n"
            with contextlib.suppress(OSError):
                asking.sendall(text.encode())
        except (OSError, ValueError):
            pass
        finally:
            if not handed:
                asking.close()
            with self._count:
                self._holders -= 1

    def _do(self, tunnel: Tunnel, asking: socket.socket, words: list[str]) -> bool:
        """Carry a request out; True: the socket is the tunnel's now."""
        match words:
            case ["connect", host, port, timeout]:
                local = asking.dup()
                tunnel.attach(
                    ip_address(host),
                    int(port),
                    local,
                    greeting=b"ok\n",
                    timeout=min(float(timeout), 300),
                )
                return False
            case ["renew", timeout]:
                took = tunnel.renew(min(float(timeout), 300))
                asking.sendall(f"ok {took:.3f}\n".encode())
            case ["hold"]:
                asking.sendall(f"ok {tunnel.address}\n".encode())
                asking.settimeout(None)
                while asking.recv(64):
                    pass
            case _:
                asking.sendall(b"error other unknown request\t\n")
        return False
