"""Routes to networks behind peers, which change while the server runs.

They stand in the interface's file as the commands that netstart(8) runs at the next start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

_ROUTE = re.compile(r"!/sbin/route -qn (-T \d+ )?add -(inet6?) ([0-9a-f.:]+/\d+) ([0-9a-f.:]+)")


@dataclass(frozen=True)
class RouteChange:
    """What leads from one file to another; `at_once`: the routes are all that differs."""

    forward: tuple[str, ...]
    back: tuple[str, ...]
    at_once: bool

    @classmethod
    def between(cls, before: str, after: str) -> RouteChange:
        """From the text of an interface's file as it is to what it shall be."""
        old, new = _routes(before), _routes(after)
        gone = [route for route in old if route not in new]
        fresh = [route for route in new if route not in old]
        return cls(
            (*(_delete(r) for r in gone), *(_add(r) for r in fresh)),
            (*(_delete(r) for r in fresh), *(_add(r) for r in gone)),
            _rest(before) == _rest(after),
        )


def _routes(text: str) -> list[tuple[str, ...]]:
    """Table, family, network and gateway of each route but the tunnel's own."""
    found = (_ROUTE.fullmatch(line.strip()) for line in text.splitlines())
    return [match.groups(default="") for match in found if match and _is_behind(match)]


def _is_behind(match: re.Match[str]) -> bool:
    """Whether it leads behind a peer: the gateway is the server's own address, in the tunnel."""
    try:
        return ip_address(match[4]) not in ip_network(match[3])
    except ValueError:
        return False


def _rest(text: str) -> list[str]:
    """Everything but these routes and what `apply` does by itself: key, port, peers, comments."""
    return list(_other_lines(text))


def _other_lines(text: str) -> Iterator[str]:
    for raw in text.splitlines():
        line = " ".join(raw.partition("#")[0].split())
        match = _ROUTE.fullmatch(line)
        if line and not line.startswith("wg") and not (match and _is_behind(match)):
            yield line


def _add(route: tuple[str, ...]) -> str:
    table, family, network, gateway = route
    return f"/sbin/route -qn {table}add -{family} {network} {gateway}"


def _delete(route: tuple[str, ...]) -> str:
    """One that is gone already is no fault."""
    table, family, network, gateway = route
    command = f"/sbin/route -qn {table}delete -{family} {network} {gateway}"
    return f"{{ {command} >/dev/null 2>&1; true; }}"
