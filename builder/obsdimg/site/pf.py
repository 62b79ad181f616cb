"""pf.conf(5) read back: its statements, and which UDP ports of the outside lead to the tunnel.

Of pf only the forms of siteXX/common/etc/pf.conf.j2 are known; an overlay may bring another file,
and what it does is then not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from obsdimg.config import Config
from obsdimg.core.entry import Entry
from obsdimg.site.tunnel import TunnelPlan

PF_CONF = "/etc/pf.conf"
_COMMENT = re.compile(r'("[^"]*")|#.*')
_OPEN = re.compile(
    r"pass in on egress(?: (?P<family>inet6?))? proto udp to \(egress\) port (?P<port>\d+) no state"
)
_LED = re.compile(
    r"pass in on egress (?P<family>inet6?) proto udp to \S+ port (?P<port>\d+)"
    r" keep state \(.*\) rdr-to \S+ port (?P<to>\d+)(?: round-robin)?"
)
_NAMES = {"inet": "IPv4", "inet6": "IPv6"}


def statements(text: str) -> Iterator[str]:
    """The statements of a pf.conf: no comments, continued lines joined, blanks made one.

    `#` begins a comment only outside of quotation marks (pf.conf(5), parse.y).
    """
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        if plain := " ".join(_COMMENT.sub(lambda found: found[1] or "", line).split()):
            yield plain


def ports_to(text: str, daemon_port: int) -> set[tuple[str, int]]:
    """The families (`inet`, `inet6`) and UDP ports from which pf lets datagrams to the daemon."""
    found: set[tuple[str, int]] = set()
    for statement in statements(text):
        if (plain := _OPEN.fullmatch(statement)) and int(plain["port"]) == daemon_port:
            families = (plain["family"],) if plain["family"] else tuple(_NAMES)
            found |= {(family, daemon_port) for family in families}
        elif (led := _LED.fullmatch(statement)) and int(led["to"]) == daemon_port:
            found.add((led["family"], int(led["port"])))
    # A port that leads on to the daemon's own needs that one to be open, too.
    return {one for one in found if (one[0], daemon_port) in found}


def shut_out(config: Config, tunnel: TunnelPlan, landing: Iterable[Entry]) -> list[str]:
    """A warning where a port of the settings is not seen to lead to the daemon.

    `landing`: the files of the server, with the pf.conf that it will have.
    """
    pf_conf = next((entry for entry in landing if entry.path == PF_CONF), None)
    if pf_conf is None or not config.tunnel.peers:
        return []
    there = ports_to(pf_conf.data.decode("utf-8", "replace"), tunnel.listen_port)
    network = config.network
    families = [f for f, a in (("inet", network.ipv4), ("inet6", network.ipv6)) if a != "none"]
    ports = (config.tunnel.port, *config.tunnel.also_ports)
    missing = [
        f"UDP {port} over {_NAMES[family]}"
        for port in ports
        for family in families
        if (family, port) not in there
    ]
    if not missing:
        return []
    return [
        f"{pf_conf.origin}: no rule known here lets {', '.join(missing)} in to the tunnel's daemon,"
        f" port {tunnel.listen_port}: see that clients reach it"
    ]
