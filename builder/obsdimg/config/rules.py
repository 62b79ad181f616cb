"""Rules that take more than one setting: addresses that fit, names that differ, ways in.

Each rule yields what is wrong with which key; nothing here raises or prints.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from obsdimg.config.conflict import Conflict
from obsdimg.config.families import families
from obsdimg.config.hops import is_hop
from obsdimg.config.model import Config
from obsdimg.config.sites import behind_peers, common_networks
from obsdimg.config.types import DISABLED

_TAKEN_LOGINS = re.compile(
    # Answers with a meaning, and users that the installer refuses (install.sub 6.6, user_setup);
    # groups of the base system (etc/group), of which it would add a second one.
    "n|no|y|yes|done|root|daemon|operator|bin|build|sshd|www|nobody|ftp|wheel|kmem|sys|tty|wsrc"
    "|users|auth|games|staff|wobj|guest|utmp|crontab|network|authpf|dialer|nogroup"
)
_PRIVATE: tuple[Any, ...] = tuple(
    ipaddress.ip_network(n)
    for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""What a tunnel may use: RFC 1918, 6598 and 4193."""
_NO_CARDS = ("tun", "wg", "lo", "pf", "enc")
_BY_MAC = (7, 3)
"""From this release on netstart(8) reads hostname.MAC (etc/netstart 1.234, December 2022)."""
_TAKEN_PEERS = frozenset({"server", "seal", "image"})
"""Names of the project's own files in secrets/."""


def first_conflict(config: Config) -> Conflict | None:
    """The first broken rule, or None."""
    return next((c for rule in _RULES for c in rule(config)), None)


def asks_on_com0(config: Config) -> bool:
    """Whether the boot loader of a BIOS machine is to ask for the passphrase on com0."""
    return (
        config.host.console == "com0"
        and config.disk.encryption in _TYPED
        and config.disk.loader == "console"
    )


def warnings(config: Config) -> list[str]:
    """What works but deserves a second thought, one line each; shown by `check` and `build`.

    Those of the disk come from hook.warnings.
    """
    found: list[str] = []
    if config.access.admin is None and not config.access.root_keys:
        found.append("access.admin is not set: nobody can log in to the server")
    typed = config.disk.encryption in _TYPED
    if config.upkeep.reboot and typed:
        found.append("upkeep.reboot = true: after a reboot the disk waits for its passphrase")
    if config.access.ssh_from == "anywhere":
        found.append("access.ssh_from = anywhere: ssh is open to the internet")
    if config.host.console == "com0" and typed:
        found.append(_LOADER_ON[config.disk.loader])
    if config.tunnel.peers and config.tunnel.endpoint is None:
        found.append(
            "tunnel.endpoint is not set: the clients' files will not say where the server is"
        )
    return [*found, *common_networks(config)]


_TYPED = ("passphrase", "embedded")
"""disk.encryption with which somebody types the passphrase at every start."""
_LOADER_ON = {
    "console": "host.console = com0: a BIOS machine's boot loader asks for the disk's passphrase"
    " there, too, told so by a small partition in clear; with UEFI it asks where the firmware has"
    " its console, which may be a screen (disk.loader)",
    "firmware": "disk.loader = firmware: if the machine has a screen, the boot loader asks for the"
    " disk's passphrase there, and the serial line stays silent until somebody types it",
}


def _egress(c: Config) -> Iterator[Conflict]:
    n = c.network
    for address, gateway, key in (
        (n.ipv4, n.gateway4, "gateway4"),
        (n.ipv6, n.gateway6, "gateway6"),
    ):
        static = not isinstance(address, str)
        if static and gateway is None:
            yield Conflict(f"network.{key}", "is missing: a static address needs a default route")
        if not static and gateway is not None:
            yield Conflict(f"network.{key}", "only goes with a static address")
        if not isinstance(address, str) and gateway is not None:
            outside = gateway not in address.network
            if outside and not gateway.is_link_local:
                yield Conflict(f"network.{key}", f"{gateway} is not in {address.network}")
            if gateway == address.ip:
                yield Conflict(f"network.{key}", f"{gateway} is the server's own address")
    scope = n.gateway6.scope_id if n.gateway6 is not None else None
    if scope is not None and scope != n.interface:
        yield Conflict(
            "network.gateway6",
            f"{n.gateway6} is behind another interface than network.interface, {n.interface}",
            f"leave %{scope} out: it is added",
        )
    if n.ipv4 == "none" and n.ipv6 == "none":
        yield Conflict("network.ipv4", "and network.ipv6 are both none: there is no way out")
    if n.ipv4 != "dhcp" and n.ipv6 != "autoconf" and not n.dns:
        yield Conflict("network.dns", "is empty: without DHCP the server needs resolvers")
    names = [n.interface, *(i.name for i in n.interfaces)]
    for index, other in enumerate(n.also):
        if other in names or other in n.also[:index]:
            yield Conflict(f"network.also[{index}]", f"{other} is named twice")
        if other.startswith(_NO_CARDS) and ":" not in other:
            yield Conflict(f"network.also[{index}]", f"{other} is not a network card")
        if ":" in other and tuple(map(int, c.release.version.split("."))) < _BY_MAC:
            yield Conflict(
                f"network.also[{index}]",
                f"OpenBSD {c.release.version} does not find a card by its MAC address",
                "name the interface, like em0; from 7.3 on it can be the address",
            )
    for index, name in enumerate(names[1:]):
        if name in names[: index + 1]:
            yield Conflict(f"network.interfaces[{index}].name", f"{name} is named twice")
        if name.startswith(_NO_CARDS):
            yield Conflict(f"network.interfaces[{index}].name", f"{name} is not a network card")


@cache
def _zones() -> frozenset[str]:
    """Every zone this machine knows, read once: that opens some 600 files."""
    return frozenset(zoneinfo.available_timezones())


def _timezone(c: Config) -> Iterator[Conflict]:
    known = _zones()
    if known and c.host.timezone not in known:
        near = get_close_matches(c.host.timezone, known, n=1)
        yield Conflict(
            "host.timezone",
            f"{c.host.timezone} is not a known zone",
            f"did you mean {near[0]}?" if near else "like Europe/Paris or UTC",
        )


def _access(c: Config) -> Iterator[Conflict]:
    admin = c.access.admin
    if admin and _TAKEN_LOGINS.fullmatch(admin.name):
        yield Conflict("access.admin.name", f"{admin.name} is not possible as a login name")
    if admin and not admin.keys and admin.password == DISABLED:
        yield Conflict(
            "access.admin.keys",
            "is empty and the password disabled: this user could never log in",
            "add the line of your id_ed25519.pub",
        )
    if admin and admin.doas == "persist" and admin.password == DISABLED:
        yield Conflict(
            "access.admin.doas",
            "persist asks for a password, and the password is disabled",
            "use nopass, or set a password hash",
        )
    if not c.access.sshd and c.access.ssh_window_minutes:
        yield Conflict("access.ssh_window_minutes", "needs access.sshd = true")
    if c.access.rescue_minutes:
        if not c.access.sshd:
            yield Conflict("access.rescue_minutes", "needs access.sshd = true")
        elif not (admin and admin.keys) and not c.access.root_keys:
            yield Conflict(
                "access.rescue_minutes",
                "opens ssh to keys only, and nobody has one",
                "add the line of your id_ed25519.pub to access.admin.keys",
            )


def _disk(c: Config) -> Iterator[Conflict]:
    disk = c.disk
    if disk.encryption == "keydisk" and disk.key_disk is None:
        yield Conflict("disk.key_disk", "is missing: encryption = keydisk needs it, like sd1a")
    if disk.encryption != "keydisk" and disk.key_disk is not None:
        yield Conflict("disk.key_disk", "only goes with encryption = keydisk")
    if disk.key_disk and disk.key_disk[:-1] == disk.device:
        yield Conflict("disk.key_disk", f"{disk.key_disk} is on the disk that is erased")


def _tunnel(c: Config) -> Iterator[Conflict]:
    t = c.tunnel
    if t.ipv4 is None and t.ipv6 is None:
        yield Conflict("tunnel.ipv4", "and tunnel.ipv6 are both missing: the tunnel needs one")
    for key, own in (("ipv4", t.ipv4), ("ipv6", t.ipv6)):
        if own is None:
            continue
        if own.network.num_addresses < 4:
            yield Conflict(f"tunnel.{key}", f"{own} leaves no room for peers", "use a /24 or so")
        elif own.is_loopback or own.is_multicast or own.is_unspecified or own.network.prefixlen < 8:
            yield Conflict(f"tunnel.{key}", f"{own} is no private network", "like 10.0.0.1/24")
        elif not any(own.version == n.version and own.network.subnet_of(n) for n in _PRIVATE):
            yield Conflict(
                f"tunnel.{key}",
                f"{own.network} is public: what is there could not be reached from the tunnel",
                "take a network of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fc00::/7",
            )
        elif own.ip in (own.network.network_address, own.network.broadcast_address):
            yield Conflict(f"tunnel.{key}", f"{own.ip} is the network's own address")
        for index, outer in enumerate((c.network, *c.network.interfaces)):
            there = getattr(outer, key)
            name = "network" if index == 0 else f"network.interfaces[{index - 1}]"
            if not isinstance(there, str) and there.network.overlaps(own.network):
                yield Conflict(f"tunnel.{key}", f"{own.network} overlaps {name}.{key} {there}")
    if len(set(t.also_ports)) != len(t.also_ports) or t.port in t.also_ports:
        yield Conflict("tunnel.also_ports", "names a port twice")
    if t.block_lists and t.dns != "unbound":
        yield Conflict("tunnel.block_lists", 'only works with tunnel.dns = "unbound"')
    if t.upstream and t.ipv4 is not None and t.upstream.ipv4.network.overlaps(t.ipv4.network):
        yield Conflict("tunnel.upstream.ipv4", f"{t.upstream.ipv4} overlaps tunnel.ipv4 {t.ipv4}")


def _peers(c: Config) -> Iterator[Conflict]:
    t = c.tunnel
    seen: dict[Any, str] = {}
    for own in (t.ipv4, t.ipv6):
        if own is not None:
            seen[own.ip] = "the server"
    for index, peer in enumerate(t.peers):
        at = f"tunnel.peers[{index}]"
        for key, own, address in (("ipv4", t.ipv4, peer.ipv4), ("ipv6", t.ipv6, peer.ipv6)):
            if address is None:
                if own is not None and not is_hop(peer):
                    hint = "the next free one: see `obsdimg client add`"
                    yield Conflict(f"{at}.{key}", f"is missing: the tunnel has {own.network}", hint)
                continue
            if own is None:
                yield Conflict(f"{at}.{key}", f"the tunnel has no {key} address")
            elif address not in own.network:
                yield Conflict(f"{at}.{key}", f"{address} is not in {own.network}")
            elif address in (own.network.network_address, own.network.broadcast_address):
                yield Conflict(f"{at}.{key}", f"{address} is the network's own address")
            elif address in seen:
                yield Conflict(f"{at}.{key}", f"{address} belongs to {seen[address]}")
            seen[address] = peer.name
        if peer.name in _TAKEN_PEERS:
            yield Conflict(
                f"{at}.name", f"{peer.name} is the name of another key", "choose another name"
            )
        for kind, value in (("name", peer.name), ("public_key", peer.public_key)):
            if value is not None and (kind, value) in seen:
                yield Conflict(f"{at}.{kind}", f"is the same as that of peer {seen[kind, value]}")
            seen[kind, value] = peer.name
        for net in peer.reach:
            for own in (t.ipv4, t.ipv6):
                if own is not None and net.version == own.version and net.overlaps(own.network):
                    yield Conflict(
                        f"{at}.reach", f"{net} overlaps the tunnel", "see tunnel.clients_meet"
                    )
            if net.prefixlen == 0:
                yield Conflict(f"{at}.reach", f"{net} is everything", "use internet = true")
        if peer.mtu is not None and peer.mtu > t.mtu:
            yield Conflict(
                f"{at}.mtu", f"{peer.mtu} is more than tunnel.mtu {t.mtu}", "leave it out"
            )


_RULES: tuple[Callable[[Config], Iterator[Conflict]], ...] = (
    _egress,
    _timezone,
    _access,
    _disk,
    _tunnel,
    _peers,
    behind_peers,
    families,
)
