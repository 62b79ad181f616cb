"""Where a server listens: `HOST:PORT`, as WireGuard's configuration files write it."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, Self

from obsdimg.tunnel.errors import EndpointError

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?\Z")
_HINT: Final = "HOST:PORT is expected, for instance vpn.example.org:53 or [2001:db8::1]:53"


@dataclass(frozen=True)
class SocketAddress:
    """One address that a name stands for, ready for a socket."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Endpoint:
    """A host name or address, and a UDP port (1 to 65535)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, place: str = "endpoint") -> Self:
        """The endpoint in `text`; IPv6 addresses stand in brackets.  Raises EndpointError."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise EndpointError(f"{place}: no port in {text.strip()!r}", _HINT)
        if not 1 <= int(port) <= 65535:
            raise EndpointError(f"{place}: port {port} is not between 1 and 65535", _HINT)
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            try:
                IPv6Address(host)
            except ValueError as error:
                raise EndpointError(f"{place}: {host!r} is no IPv6 address", _HINT) from error
        elif not _NAME.match(host):
            raise EndpointError(f"{place}: {host!r} is neither a name nor an address", _HINT)
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(endpoint: Endpoint, timeout: float) -> tuple[SocketAddress, ...]:
    """Every address of `endpoint`, in the system's order of preference.

    Waits `timeout` seconds at most.  Raises EndpointError: no such name, or no answer.
    """
    found: list[SocketAddress] = []
    failed: list[str] = []

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            failed.append((getattr(error, "strerror", None) or str(error)).lower())
            return
        for family, _, _, _, sockaddr in entries:
            if family in (socket.AF_INET, socket.AF_INET6):
                found.append(SocketAddress(family, sockaddr))  # type: ignore[arg-type]

    # getaddrinfo knows no limit of its own; a thread that overstays ends with the process.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise EndpointError(
            f"{endpoint.host}: the name was not resolved within {timeout:g} s",
            "check this machine's name servers, or give the server's address",
        )
    if not found:
        why = failed[0] if failed else "it has no address"
        raise EndpointError(
            f"{endpoint.host}: the name cannot be resolved: {why}",
            "check the name, or give the server's address",
        )
    return tuple(dict.fromkeys(found))
