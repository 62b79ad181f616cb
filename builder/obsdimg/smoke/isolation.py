"""Cuts the guest off from this host: QEMU gets a network namespace with nothing in it.

QEMU's user network leads a guest to the internet and, at the gateway's address, to whatever
listens on the host's loopback.  In a namespace of its own there is neither, while the guest still
gets its address and a router from QEMU.  bubblewrap makes the namespace, without root; the
forwarded ports are sockets of ours that a relay in there serves (`relay.py`).
"""

from __future__ import annotations

import functools
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from obsdimg.core.bubblewrap import find_bubblewrap, forbidden_by
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.lifetime import Closing
from obsdimg.smoke import relay
from obsdimg.smoke.qemu import Forward

FIRST_PORT = 20000
"""Of the forwarded ports inside: nothing else is there, so no port can be in use."""
START_SECONDS = 30.0


class IsolationError(ObsdimgError):
    """The guest is not cut off, though it was to be."""


@dataclass(frozen=True)
class Isolation:
    """What makes the namespace: `words` in front of a command.  None: `missing` says why."""

    words: tuple[str, ...] = ()
    missing: str = ""
    hint: str = ""


@functools.cache
def find_isolation() -> Isolation:
    """Whether this system can cut a guest off; it is tried once."""
    if sys.platform != "linux":
        return Isolation(missing="only Linux has network namespaces")
    bwrap = find_bubblewrap()
    if bwrap is None:
        return Isolation(missing="bwrap is not installed", hint="install the package bubblewrap")
    words = (bwrap, "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--")
    try:
        done = subprocess.run(
            [*words, sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Isolation(missing=f"bwrap cannot be started: {error}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Isolation(missing=f"bwrap makes no namespace: {said}", hint=forbidden_by())
    return Isolation(words)


class Enclosure(Closing):
    """One machine's namespace: `ports` of this host lead to the guest's, `inside` is how QEMU is
    to forward them in there, `fds` go to the process that `wrap` gives the words of.

    Raises OSError where a port is in use.
    """

    def __init__(self, isolation: Isolation, forwards: Sequence[Forward]) -> None:
        self._isolation = isolation
        self._told, self._tell = os.pipe()
        self._sockets: list[socket.socket] = []
        try:
            for forward in forwards:
                self._sockets.append(_bound(forward))
        except OSError:
            self.close()
            raise
        self.ports: Mapping[Forward, int] = {
            forward: sock.getsockname()[1]
            for forward, sock in zip(forwards, self._sockets, strict=True)
        }
        self.inside = tuple(
            replace(forward, host_port=FIRST_PORT + number)
            for number, forward in enumerate(forwards)
        )
        self.fds = (self._tell, *(sock.fileno() for sock in self._sockets))

    def wrap(self, words: Sequence[str], fds: Sequence[int]) -> list[str]:
        """The words that run `words`, which has the file descriptors `fds`, in the namespace."""
        pairs = zip(self.inside, self._sockets, strict=True)
        given = ",".join(f"{f.protocol}:{sock.fileno()}:{f.host_port}" for f, sock in pairs)
        own = ",".join(map(str, fds))
        python = [sys.executable, "-I", "-S", relay.__file__]
        return [*self._isolation.words, *python, str(self._tell), own, given, *words]

    def release(self) -> None:
        """The process has the sockets now: what calls is its affair."""
        for sock in self._sockets:
            sock.close()
        self._sockets = []
        if self._tell >= 0:
            os.close(self._tell)
        self._tell = -1

    def process(self) -> int:
        """The id of the process inside, 0 if it did not start; after `release`.

        Raises IsolationError when its network is this one's.
        """
        ready, _, _ = select.select([self._told], [], [], START_SECONDS)
        said = os.read(self._told, 200).split() if ready else []
        if len(said) != 2:
            return 0
        if said[1].decode() == os.readlink("/proc/self/ns/net"):  # noqa: PTH115
            raise IsolationError("bubblewrap has left the guest in this host's network")
        return int(said[0])

    def close(self) -> None:
        """Close what is left."""
        self.release()
        if self._told >= 0:
            os.close(self._told)
        self._told = -1


def _bound(forward: Forward) -> socket.socket:
    """A socket on this host's loopback.  Raises OSError."""
    kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind)
    try:
        if forward.protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", forward.host_port))
        if forward.protocol == "tcp":
            sock.listen(16)
    except OSError:
        sock.close()
        raise
    return sock
