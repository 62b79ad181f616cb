"""What each line of the generated pf.conf means, in a sentence, under the one whom it concerns.

The forms are those of siteXX/common/etc/pf.conf.j2; a line of another form (from an overlay) is
shown without a sentence.  Nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obsdimg.site.pf import statements
from obsdimg.site.tunnel import TunnelPlan

EVERYBODY = "Every client"
SERVER = "The server itself"
OUTSIDE = "From outside"
LEAVING = "On the way out"
BASIS = "For all packets"

_ORDER = (EVERYBODY, OUTSIDE, SERVER, LEAVING, BASIS)


@dataclass(frozen=True)
class ExplainedRule:
    """A statement of pf.conf as it stands there, and its sentence; empty: not known here."""

    text: str
    means: str


@dataclass(frozen=True)
class RuleGroup:
    """The rules of one client, or of one part of the traffic."""

    title: str
    rules: tuple[ExplainedRule, ...]


@dataclass(frozen=True)
class _Names:
    """Addresses and networks in pf.conf, and what a sentence calls them."""

    peers: dict[str, tuple[str, str]]
    """A client's address, or a network behind it: the client, and the subject of a sentence."""
    networks: dict[str, str]


_FORMS: tuple[tuple[str, str, str], ...] = (
    # Under a client's name: the address after `from` is its own.
    (r"pass in on \$tunnel \S+ from (?P<peer>\S+) to ! <inside> tag TO_INTERNET rtable 1",
     "", "may reach the internet, by the next server only."),
    (r"pass in on \$tunnel \S+ from (?P<peer>\S+) to ! <inside> tag TO_INTERNET",
     "", "may reach the internet: every address that is not private."),
    (r"pass in on \$tunnel \S+ from (?P<peer>\S+) to (?P<to>\S+) tag TO_PRIVATE",
     "", "may reach the network {to} behind the server."),
    (r"pass in on \$tunnel \S+ from (?P<peer>\S+) to (?P<to>\S+) tag TO_SITE",
     "", "may reach the network {to} behind another client."),
    (r"pass in on \$private\d+ \S+ from (?P<from>\S+) to (?P<peer>\S+) tag TO_SITE",
     "", "is reached from {from}, behind the server."),
    (r"match on \$tunnel \S+ proto tcp (?:from|to) (?P<peer>\S+) label \".*\""
     r" scrub \(max-mss (?P<size>\d+)\)",
     "", "has an MTU of its own: TCP segments of {size} bytes at most."),
    (r"pass in on \$tunnel \S+ from (?P<peer>\S+) to (?P<to>\S+) tag TO_CLIENT",
     "", "may reach the other clients."),
    (r"pass in quick on \$tunnel \S+ proto tcp from (?P<peer>\S+) to (?P<to>\S+) port 22",
     "", "may log in to the server by ssh."),
    # Every client.
    (r"pass in quick on \$tunnel \S+ proto icmp6? from (?P<net>\S+) to \S+ icmp6?-type echoreq",
     EVERYBODY, "{net} may ping the server."),
    (r"pass out on \$tunnel \S+ proto icmp6? from \S+ to (?P<net>\S+) icmp6?-type echoreq",
     EVERYBODY, "The server may ping {net}."),
    (r"pass in quick on \$tunnel \S+ proto \{ tcp udp \} from (?P<net>\S+) to \S+ port 53",
     EVERYBODY, "{net} may ask the server's resolver, unbound."),
    (r"block in quick on \$tunnel to \(self\)",
     EVERYBODY, "Nothing else of the server is reached from the tunnel, at any of its addresses."),
    (r"pass out on \$tunnel tagged TO_SITE",
     EVERYBODY, "What goes to a network behind a client goes untranslated: it knows who calls."),
    (r"pass out on \$tunnel tagged TO_CLIENT",
     EVERYBODY, "What one client sends to another goes back into the tunnel."),
    # From outside.
    (r"pass in on egress(?: inet)? proto udp to \(egress\) port (?P<port>\d+) no state",
     OUTSIDE, "WireGuard's own port, UDP {port}. It answers nobody but its clients; no state, so"
     " that forged packets fill no table."),
    (r"pass out on egress(?: inet)? proto udp from \(egress\) port (?P<port>\d+) no state",
     OUTSIDE, "WireGuard's answers, from UDP {port}."),
    (r"pass in on egress \S+ proto udp to \S+ port (?P<port>\d+) keep state \(.*\)"
     r" rdr-to \S+ port (?P<to>\d+)(?: round-robin)?",
     OUTSIDE, "UDP {port} leads to WireGuard's own port {to}; a state that gets no answer is"
     " dropped after 5 seconds."),
    (r"pass in on egress proto tcp to \(egress\) port 22 keep state \(.*\)",
     OUTSIDE, "ssh is open to everybody; who connects too often is shut out."),
    (r"pass in quick on egress proto tcp from <window> to \(egress\) port 22 keep state \(.*\)",
     OUTSIDE, "ssh is open to everybody for a while after the first boot; who connects too often is"
     " shut out."),
    (r"pass in quick on egress proto tcp from <rescue> to \(egress\) port 22 keep state \(.*\)",
     OUTSIDE, "ssh is open to everybody for a while when no client was heard; who connects too"
     " often is shut out."),
    (r"block in quick on egress proto tcp from <intruders> to any port 22",
     OUTSIDE, "Who tried ssh too often gets no ssh for half an hour."),
    # The server itself.
    (r"pass out on egress proto \{ tcp udp \} from \(egress\) to port 53",
     SERVER, "The server may ask resolvers."),
    (r"pass out on egress proto udp from \(egress\) to port 123",
     SERVER, "The server may ask for the time."),
    (r"pass out on egress proto tcp from \(egress\) to port \{ 80 443 \}",
     SERVER, "The server may fetch patches and packages."),
    (r"pass out on \S+ inet proto udp from port 68 to port 67",
     SERVER, "The server may ask for an address by DHCP."),
    (r"pass out on \S+ inet6? proto icmp6? from \S+ icmp6?-type echoreq",
     SERVER, "The server may ping."),
    (r"pass on egress inet6 proto icmp6 icmp6-type \{ .* \}",
     SERVER, "IPv6 finds neighbours and routers."),
    (r"pass out on egress proto udp from \(egress\) to port (?P<port>\d+)",
     SERVER, "The server may call the next server, at UDP {port}."),
    (r"pass out on (?:tun1|wg1) proto \{ tcp udp \} from \S+ to port 53",
     SERVER, "unbound asks resolvers through the next server."),
    # On the way out.
    (r"block out quick on egress tagged TO_INTERNET",
     LEAVING, "What clients send to the internet never leaves beside the next server."),
    (r"pass out on egress inet6? tagged TO_INTERNET nat-to .*",
     LEAVING, "What clients send to the internet leaves under the server's address."),
    (r"pass out on (?P<on>\S+) inet tagged TO_INTERNET nat-to .*",
     LEAVING, "What clients send to the internet goes to the next server, by {on}."),
    (r"pass out on (?P<on>\S+) inet6? tagged TO_PRIVATE nat-to .*",
     LEAVING, "What clients send to a private network leaves under the server's address there."),
    # The basis.
    (r"table <inside> const .*",
     BASIS, "Addresses that are not the internet: private, local and multicast ones."),
    (r"table <intruders> persist", BASIS, "Who tried ssh too often."),
    (r"table <window> persist", BASIS, "Who may use ssh after the first boot: all, for a while."),
    (r"table <rescue> persist", BASIS, "Who may use ssh when no client was heard: all, a while."),
    (r"table <outside6> persist", BASIS, "The server's global IPv6 addresses."),
    (r"set block-policy drop", BASIS, "What is refused gets no answer."),
    (r"set limit states \d+", BASIS, "How many connections are remembered at most."),
    (r"set skip on lo", BASIS, "The server's talk with itself is not looked at."),
    (r"match in all scrub \(.*\)", BASIS, "Packets are made regular."),
    (r"match on \$tunnel \S+ proto tcp scrub \(max-mss (?P<size>\d+)\)",
     BASIS, "TCP segments fit into the tunnel: {size} bytes at most."),
    (r"antispoof quick for .*",
     BASIS, "Nobody outside an interface's network may pretend to be in it."),
    (r"block all", BASIS, "Nothing passes, in either direction, that no other rule names."),
    (r'(?P<name>\w+) = "(?P<what>\S+)"', BASIS, "{name} stands for {what}."),
)  # fmt: skip


def explain(text: str, tunnel: TunnelPlan) -> tuple[RuleGroup, ...]:
    """The statements of `text` in groups: a group for each client, then the rest; none is lost."""
    names = _Names(
        peers={
            source: (peer.name, peer.name if source == a.ip else f"{source}, behind {peer.name},")
            for peer in tunnel.peers
            for a in peer.addresses
            for source in a.sources
        },
        networks={a.network: "every client" for a in tunnel.addresses}
        | {route.network: route.network for route in tunnel.routes},
    )
    groups: dict[str, list[ExplainedRule]] = {peer.name: [] for peer in tunnel.peers}
    others: dict[str, list[ExplainedRule]] = {title: [] for title in _ORDER}
    for statement in statements(text):
        peer, title, means = _meaning(statement, names)
        place = groups[peer] if peer is not None else others[title]
        place.append(ExplainedRule(statement, means))
    found = [*groups.items(), *((title, others[title]) for title in _ORDER)]
    return tuple(RuleGroup(title, tuple(rules)) for title, rules in found if rules)


def _meaning(statement: str, names: _Names) -> tuple[str | None, str, str]:
    """The client whom a statement concerns (else None), its group, and its sentence."""
    for form, title, sentence in _FORMS:
        found = re.fullmatch(form, statement)
        if found is None:
            continue
        given = found.groupdict()
        if "net" in given:
            if given["net"] not in names.networks:
                continue
            given["net"] = names.networks[given["net"]]
        if title:
            said = sentence.format(**given)
            return None, title, said[0].upper() + said[1:]
        if given["peer"] in names.peers:
            peer, subject = names.peers[given["peer"]]
            return peer, title, f"{subject} {sentence.format(**given)}"
    return _named_in(statement, names), BASIS, ""


def _named_in(statement: str, names: _Names) -> str | None:
    """The one client whose address stands in a statement of another form."""
    words = re.split(r"[\s{},]+", statement)
    found = {names.peers[word][0] for word in words if word in names.peers}
    return found.pop() if len(found) == 1 else None
