"""A parser and evaluator for the subset of pf.conf(5) that obsdimg generates.

Written from the manual page of 6.6 and not from the templates.  It knows: macros, tables,
lists, `set`, `match … scrub`, `antispoof`, `block`, `pass`, tags, `quick`, rdr-to, nat-to,
anchors.  Whatever else it meets is an error.  The last matching rule wins, `quick` at once.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

Net = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Packet:
    """One packet at one interface; `tag` as an earlier rule left it."""

    direction: str
    interface: str
    src: str
    dst: str
    proto: str = "tcp"
    port: int | None = None
    sport: int | None = None
    icmp: str = ""
    tag: str = ""


@dataclass
class Rule:
    text: str
    action: str
    direction: str = ""
    quick: bool = False
    on: str = ""
    not_on: bool = False
    family: str = ""
    proto: str = ""
    src: str = "any"
    sport: str = ""
    dst: str = "any"
    port: str = ""
    icmp: str = ""
    tag: str = ""
    tagged: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    passed: bool
    tag: str
    rule: str
    options: dict[str, str]


@dataclass
class World:
    """Interfaces with addresses and networks, and which of them are egress."""

    addresses: dict[str, list[str]]
    egress: str


class PfError(Exception):
    pass


class PfConf:
    def __init__(self, text: str, world: World) -> None:
        self.world = world
        self.macros: dict[str, str] = {}
        self.tables: dict[str, list[Net]] = {}
        self.rules: list[Rule] = []
        self.settings: dict[str, str] = {}
        self.anchors: list[str] = []
        self.scrubs: list[str] = []
        for line in _lines(text):
            self._line(line)

    def decide(self, packet: Packet) -> Verdict:
        if packet.interface in self.settings.get("skip", "").split():
            return Verdict(True, packet.tag, "set skip", {})
        last = Verdict(True, packet.tag, "(no rule)", {})
        for rule in self.rules:
            if self._matches(rule, packet):
                last = Verdict(
                    rule.action == "pass", rule.tag or packet.tag, rule.text, rule.options
                )
                if rule.quick:
                    break
        return last

    def route(self, packet: Packet, out: str) -> tuple[Verdict, Verdict | None]:
        """In on its interface and, if it passes, out on another, with the tag it got."""
        first = self.decide(packet)
        if not first.passed:
            return first, None
        return first, self.decide(replace(packet, direction="out", interface=out, tag=first.tag))

    def _line(self, line: str) -> None:
        if match := re.fullmatch(r'(\w+)\s*=\s*"([^"]*)"', line):
            self.macros[match[1]] = match[2]
            return
        line = re.sub(r"\$(\w+)", lambda m: self.macros[m[1]], line)
        words = line.split()
        if words[0] == "table":
            match = re.fullmatch(r"table <(\w+)> (?:persist|const \{ ([^}]*) \})", line)
            if match is None:
                raise PfError(line)
            self.tables[match[1]] = [ipaddress.ip_network(n) for n in (match[2] or "").split()]
        elif words[0] == "set":
            if words[1] not in ("block-policy", "skip", "limit"):
                raise PfError(line)
            self.settings[words[1]] = " ".join(words[2:]).removeprefix("on ").replace("lo", "lo0")
        elif words[0] == "match":
            if " scrub (" not in line:
                raise PfError(line)
            self.scrubs.append(line)
        elif words[0] == "anchor":
            self.anchors.append(line)
        elif words[0] == "antispoof":
            for variant in _expand(line):
                self._antispoof(variant)
        elif words[0] in ("block", "pass"):
            for variant in _expand(line):
                self.rules.append(_rule(variant))
        else:
            raise PfError(f"unknown: {line}")

    def _antispoof(self, line: str) -> None:
        match = re.fullmatch(r"antispoof quick for (\w+)", line)
        if match is None:
            raise PfError(line)
        for interface in self._interfaces(match[1]):
            for address in self.world.addresses[interface]:
                own = ipaddress.ip_interface(address)
                family = "inet" if own.version == 4 else "inet6"
                self.rules.append(
                    Rule(line, "block", "in", True, interface, True, family, src=str(own.network))
                )
                self.rules.append(
                    Rule(line, "block", "in", True, "", False, family, src=str(own.ip))
                )

    def _interfaces(self, name: str) -> list[str]:
        return [self.world.egress] if name == "egress" else [name]

    def _matches(self, rule: Rule, p: Packet) -> bool:
        version = ipaddress.ip_address(p.src).version
        if rule.direction and rule.direction != p.direction:
            return False
        if rule.on and (p.interface in self._interfaces(rule.on)) == rule.not_on:
            return False
        if rule.family and rule.family != ("inet" if version == 4 else "inet6"):
            return False
        if rule.proto and rule.proto != p.proto:
            return False
        if rule.icmp and rule.icmp != p.icmp:
            return False
        if rule.port and int(rule.port) != (p.port or -1):
            return False
        if rule.sport and int(rule.sport) != (p.sport or -1):
            return False
        if rule.tagged and rule.tagged != p.tag:
            return False
        return self._host(rule.src, p.src) and self._host(rule.dst, p.dst)

    def _host(self, spec: str, address: str) -> bool:
        if spec == "any":
            return True
        if spec.startswith("! "):
            return not self._host(spec[2:], address)
        ip = ipaddress.ip_address(address)
        if match := re.fullmatch(r"<(\w+)>", spec):
            return any(ip in net for net in self.tables[match[1]])
        if match := re.fullmatch(r"\((\w+)(:0)?\)", spec):
            names = list(self.world.addresses) if match[1] == "self" else self._interfaces(match[1])
            own = [a for i in names for a in self.world.addresses[i]]
            return any(ipaddress.ip_interface(a).ip == ip for a in own)
        return ip in ipaddress.ip_network(spec)


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        line = " ".join(line.split("#", 1)[0].split())
        if line:
            yield line


def _expand(line: str) -> Iterator[str]:
    """Lists in braces, multiplied out as pfctl does."""
    parts = re.split(r"\{ ([^}]*) \}", line)
    choices = [[p] if i % 2 == 0 else p.split() for i, p in enumerate(parts)]
    for combination in itertools.product(*choices):
        yield " ".join("".join(combination).split())


_RULE = re.compile(
    r"(?P<action>block|pass)(?: (?P<direction>in|out))?(?P<quick> quick)?"
    r"(?: on (?P<not_on>! )?(?P<on>\w+))?(?: (?P<family>inet6?))?(?: proto (?P<proto>\w+))?"
    r"(?P<all> all)?"
    r"(?: from (?:port (?P<sport_only>\d+)|(?P<src>(?:! )?\S+)(?: port (?P<sport>\d+))?))?"
    r"(?: to (?:port (?P<port_only>\d+)|(?P<dst>(?:! )?\S+)(?: port (?P<port>\d+))?))?"
    r"(?: icmp6?-type (?P<icmp>\w+))?"
    r"(?: tagged (?P<tagged>\w+))?(?: tag (?P<tag>\w+))?(?: rtable (?P<rtable>\d+))?"
    r"(?: keep state(?P<state> \(.*?\))?| (?P<no_state>no state))?"
    r"(?: (?P<translate>rdr-to|nat-to) (?P<target>\S+)(?: port (?P<target_port>\d+))?"
    r"(?: (?P<pool>round-robin))?)?"
)


def _rule(line: str) -> Rule:
    match = _RULE.fullmatch(line)
    if match is None:
        raise PfError(f"not a rule of the subset: {line}")
    got = {k: v or "" for k, v in match.groupdict().items()}
    options = {got["translate"]: got["target"]} if got["translate"] else {}
    for key in ("rtable", "target_port", "state", "no_state"):
        if got[key]:
            options[key] = got[key]
    return Rule(
        line,
        got["action"],
        got["direction"],
        bool(got["quick"]),
        got["on"],
        bool(got["not_on"]),
        got["family"],
        got["proto"],
        got["src"] or "any",
        got["sport"] or got["sport_only"],
        got["dst"] or "any",
        got["port"] or got["port_only"],
        got["icmp"],
        got["tag"],
        got["tagged"],
        options,
    )
