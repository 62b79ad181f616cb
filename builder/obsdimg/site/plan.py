"""Which files land on the server, and what is in them: siteXX/files.toml filled in.

Pure: settings, release, keys, packages and overlay in; files out.  What is secret is in
`sealed` and nowhere else; everything in `files` may be read by anybody who has the ISO.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Interface
from typing import Any

from obsdimg.config import Config
from obsdimg.config.types import DISABLED
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.templates import render
from obsdimg.project.folder import ProjectKeys
from obsdimg.releases.release import Release
from obsdimg.site.opensshkey import SEED_AT
from obsdimg.site.sealing import HEADER
from obsdimg.site.table import Condition, FileRow, site_table
from obsdimg.site.tunnel import SERVER_KEY_MARK, TunnelPlan, plan_tunnel

PACKAGES = "/var/obsdimg/packages"
SEALED = "/obsdimg.sealed"
RESCUE_OPEN = 60
"""Minutes for which ssh is open outside when nobody was heard in the tunnel."""
OUTSIDE6 = "<outside6>"
"""The pf table of the server's global IPv6 addresses, where they are not known beforehand."""


class SitePlanError(ObsdimgError):
    """The settings ask for a site set that cannot be made."""


@dataclass(frozen=True)
class SitePlan:
    """The files that anybody may read, those that get sealed, and the tunnel behind them."""

    files: tuple[Entry, ...]
    sealed: Mapping[str, Entry] = field(repr=False)
    tunnel: TunnelPlan = field(repr=False)


@dataclass(frozen=True)
class Materials:
    """What a site set is made of besides the settings."""

    packages: Sequence[Entry] = ()
    """Package files to carry, below PACKAGES; the origin says how each was verified."""
    blocked: Sequence[str] = field(default=(), repr=False)
    """Names that unbound does not resolve."""
    overlay: Sequence[Entry] = ()
    installurl: str = ""
    """Mirror for the installed system; empty: the installer's own choice."""


def plan_site(
    config: Config, release: Release, keys: ProjectKeys, materials: Materials
) -> SitePlan:
    """Everything of the site set but install.site, which needs the sealed bytes' hash.

    Which files, by siteXX/files.toml; then packages and overlay.  Raises SitePlanError.
    """
    tunnel = plan_tunnel(config, keys, release.wireguard.backend)
    holding = _holding(config, release, tunnel, materials)
    rows = [row for row in site_table().files if row.applies(holding)]
    values = _values(config, release, tunnel, materials)
    files: list[Entry] = []
    sealed: dict[str, Entry] = {}
    for row in rows:
        secret = row.sealed and not tunnel.first_boot_key
        entry = _entry(row, tunnel, keys, values, secret=secret)
        if secret:
            sealed[row.path] = entry
        else:
            files.append(entry)
    files += materials.packages
    return SitePlan(tuple(_merged(files, materials.overlay, sealed)), sealed=sealed, tunnel=tunnel)


def package_stems(config: Config, release: Release) -> tuple[str, ...]:
    """The packages that the server gets: what the tunnel needs, and the user's own."""
    return (*release.wireguard.packages, *config.packages.names)


def install_site(config: Config, sealed: bytes | None) -> Entry:
    """/install.site, which opens `sealed` (the bytes of /obsdimg.sealed), if there are any."""
    table, ssh, holding = site_table(), _ssh(config), _holding_access(config)
    texts = [
        render("siteXX", part.template, ssh=ssh, network=_named(config)).decode()
        for part in table.parts
        if part.applies(holding)
    ]
    about = None
    if sealed is not None:
        sha256 = hashlib.sha256(sealed).hexdigest()
        about = {"sha256": sha256, "header": HEADER, "seed_at": SEED_AT}
    data = render("siteXX", table.install_site, sealed=about, parts=texts)
    return Entry("/install.site", data, 0o700, f"siteXX/{table.install_site}")


def _named(config: Config) -> dict[str, Any]:
    """What install.site itself writes about the network."""
    host = config.host
    network = config.network
    return {
        "name": f"{host.name}.{host.domain}",
        "dns": [str(a) for a in network.dns],
        "interface": network.interface,
        "also": network.also,
    }


def _entry(
    row: FileRow,
    tunnel: TunnelPlan,
    keys: ProjectKeys,
    values: Mapping[str, Any],
    *,
    secret: bool,
) -> Entry:
    """What the row says, made of `values`; only a sealed row's template sees the private key."""
    if row.template is None:
        return Entry(row.path, mode=row.mode, kind="dir", origin="obsdimg")
    own: dict[str, Any] = {}
    if row.sealed:
        own["server_private_key"] = SERVER_KEY_MARK if keys.server is None else keys.server.reveal()
    if row.daemon is not None:
        own["daemon"] = tunnel.daemons[row.daemon]
    data = render("siteXX", row.template, **values, **own)
    return Entry(row.path, data, row.mode, f"siteXX/{row.template}", secret=secret)


def _holding(
    config: Config, release: Release, tunnel: TunnelPlan, materials: Materials
) -> frozenset[Condition]:
    """The conditions of siteXX/files.toml that hold for these settings."""
    admin = config.access.admin
    old_dhcp = release.installer.dhcp_client == "dhclient"
    conditions: dict[Condition, bool] = {
        "audit": tunnel.audit,
        "blocked-names": bool(materials.blocked),
        "dhclient": old_dhcp,
        "dhcpleased": not old_dhcp,
        "doas": admin is not None and admin.doas != "none",
        "first-boot-key": tunnel.first_boot_key,
        "multi-hop": tunnel.upstream is not None,
        "outside6": _outside6(config, tunnel),
        "own-dns": bool(config.network.dns) and config.network.ipv4 == "dhcp",
        "own-mirror": bool(materials.installurl),
        "unbound": tunnel.unbound,
        "upkeep": config.upkeep.schedule != "never",
        "wg": tunnel.backend == "wg",
        "wireguard-go": tunnel.backend == "wireguard-go",
    }
    return _holding_access(config) | {name for name, holds in conditions.items() if holds}


def _holding_access(config: Config) -> frozenset[Condition]:
    """Those that hold for the ways in, which is all that install.site depends on."""
    conditions: dict[Condition, bool] = {
        "sshd": config.access.sshd,
        "further-keys": bool(_ssh(config)["further_keys"]),
        "rescue": bool(_ssh(config)["rescue"]),
    }
    return frozenset(name for name, holds in conditions.items() if holds)


def _merged(
    files: Sequence[Entry], overlay: Sequence[Entry], sealed: Mapping[str, Entry]
) -> list[Entry]:
    """The overlay wins over our files, and never touches the sealed ones or install.site."""
    for entry in overlay:
        if entry.path in sealed or entry.path in (SEALED, "/install.site"):
            raise SitePlanError(
                f"{entry.origin}: {entry.path} is written by obsdimg",
                "remove it from the overlay; /etc/rc.local or rc.firsttime take further steps",
            )
    given = {entry.path for entry in overlay}
    return [f for f in files if f.path not in given] + list(overlay)


def _values(
    config: Config, release: Release, tunnel: TunnelPlan, materials: Materials
) -> dict[str, Any]:
    network, admin = config.network, config.access.admin
    hour, minute = config.upkeep.time.split(":")
    stems = package_stems(config, release)
    return {
        "host": config.host.name,
        "tunnel": tunnel,
        "egress": network.interface,
        # dhcpleased.conf(5) knows no MAC addresses.
        "egress_names": [network.interface, *(n for n in network.also if ":" not in n)],
        "egress_ipv6": network.ipv6 != "none",
        "egress6": _outside_address6(config),
        "outside6": _outside6(config, tunnel),
        "daemons": list(tunnel.daemons.values()),
        "key_files": list(tunnel.daemons.values()),
        "resolvd_off": bool(network.dns) and release.installer.dhcp_client == "dhcpleased",
        "private_interfaces": [i.name for i in network.interfaces],
        "private_ipv6": [_fixed(i.ipv6) for i in network.interfaces],
        "nat6": _nat6(config),
        "dns": [str(a) for a in network.dns],
        "ssh": _ssh(config),
        "admin": admin.name if admin else "",
        "doas": admin.doas if admin else "",
        "blocked": materials.blocked,
        "installurl": materials.installurl,
        "packages": {"names": list(stems), "carried": config.packages.carry and bool(stems)},
        "upkeep": {
            "schedule": config.upkeep.schedule,
            "hour": int(hour),
            "minute": int(minute),
            "reboot": config.upkeep.reboot,
            "first_boot_syspatch": config.upkeep.first_boot_syspatch,
        },
    }


def _nat6(config: Config) -> str:
    """What clients' IPv6 traffic leaves under: an address, OUTSIDE6, or nothing.

    Not `(egress:0)`: of an interface's IPv6 addresses pf takes the first, the link-local one
    (6.6, sys/net/pf_if.c, pfi_instance_add).
    """
    if config.tunnel.ipv6 is None or config.tunnel.upstream is not None:
        return ""
    return OUTSIDE6 if config.network.ipv6 == "autoconf" else _fixed(config.network.ipv6)


def _outside_address6(config: Config) -> str:
    """The server's own global IPv6 address outside, or the table that holds it; "" without."""
    ipv6 = config.network.ipv6
    return OUTSIDE6 if ipv6 == "autoconf" else _fixed(ipv6)


def _outside6(config: Config, tunnel: TunnelPlan) -> bool:
    """Whether pf.conf needs the table: for what leaves, or for a port that leads to another."""
    led = bool(tunnel.redirected_ports) and _outside_address6(config) == OUTSIDE6
    return led or _nat6(config) == OUTSIDE6


def _fixed(address: IPv6Interface | str) -> str:
    """A static address without its prefix; nothing for `autoconf` and `none`."""
    return "" if isinstance(address, str) else str(address.ip)


def _ssh(config: Config) -> dict[str, Any]:
    """Who gets in by ssh.  Without a peer the tunnel leads nobody in: then it is open to all."""
    access = config.access
    anywhere = access.ssh_from == "anywhere" or not config.tunnel.peers
    further: list[tuple[str, str, list[str]]] = []
    if len(access.root_keys) > 1:
        further.append(("root", "/root", access.root_keys[1:]))
    if access.admin and len(access.admin.keys) > 1:
        further.append((access.admin.name, f"/home/{access.admin.name}", access.admin.keys[1:]))
    return {
        "anywhere": access.sshd and anywhere,
        "window": access.ssh_window_minutes if access.sshd and not anywhere else 0,
        "rescue": access.rescue_minutes if access.sshd and not anywhere else 0,
        "rescue_open": RESCUE_OPEN,
        "inside": [
            str(a.network) for a in (config.tunnel.ipv4, config.tunnel.ipv6) if a is not None
        ],
        "passwords": access.admin is not None and access.admin.password != DISABLED,
        "further_keys": further,
    }
