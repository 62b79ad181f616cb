"""Which files land on the server, and what is in them: siteXX/files.toml filled in.

Pure: settings, release, keys, packages and overlay in; files out.  Everything but the packages is
in `sealed`, and what is in `files` may be read by anybody who has the ISO.  Only a server that
makes its own key at the first boot can do without sealing: then everything is in `files`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Interface
from typing import Any

from obsdimg.config import Config
from obsdimg.config.rules import asks_on_com0
from obsdimg.config.types import DISABLED, LOGIN_DISABLED
from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.templates import render
from obsdimg.project.folder import ProjectKeys
from obsdimg.releases.release import Release
from obsdimg.site.files import with_directories
from obsdimg.site.opensshkey import SEED_AT
from obsdimg.site.sealing import LARGEST
from obsdimg.site.table import Condition, FileRow, site_table
from obsdimg.site.tunnel import SERVER_KEY_MARK, TunnelPlan, plan_tunnel
from obsdimg.site.ways import INTRUDER_MINUTES, RESCUE_OPEN, ssh_outside

PACKAGES = "/var/obsdimg/packages"
SEALED = "/obsdimg.sealed"
STEPS = "/obsdimg.steps"
"""What install.site does for this server; it is sourced and removed."""
FIRST = "/obsdimg.firsttime"
"""Where the overlay's rc.firsttime lands, for install.site to put it into the installer's."""
OUTSIDE6 = "<outside6>"
"""The pf table of the server's global IPv6 addresses, where they are not known beforehand."""


class SitePlanError(ObsdimgError):
    """The settings ask for a site set that cannot be made."""


@dataclass(frozen=True)
class SitePlan:
    """The files that anybody may read, those that get sealed (by path, in the order in which they
    are unpacked), and the tunnel behind them."""

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
    config: Config,
    release: Release,
    keys: ProjectKeys,
    materials: Materials,
    *,
    with_passphrase: bool = True,
) -> SitePlan:
    """Everything of the site set but install.site, which needs the sealed bytes' hash.

    Which files, by siteXX/files.toml; then packages and overlay.  `with_passphrase`: there is one
    to seal with; a server's key is sealed in any case.  Raises SitePlanError, SiteSetError.
    """
    tunnel = plan_tunnel(config, keys, release.wireguard.backend)
    holding = _holding(config, release, tunnel, materials)
    rows = [row for row in site_table().files if row.applies(holding)]
    values = _values(config, release, tunnel, materials)
    files: list[Entry] = []
    for row in rows:
        secret = row.secret and not tunnel.first_boot_key
        if row.each == "interface":
            for interface in config.network.interfaces:
                own = {**values, "interface": interface}
                entry = _entry(row, tunnel, keys, own, secret=secret)
                files.append(replace(entry, path=row.path + interface.name))
        else:
            files.append(_entry(row, tunnel, keys, values, secret=secret))
    # Last, so that whatever is unpacked is complete if they are there.
    landing = [*with_directories(_merged(files, materials.overlay)), _steps(config)]
    carried = tuple(materials.packages)
    if tunnel.first_boot_key and not with_passphrase:
        return SitePlan((*carried, *landing), sealed={}, tunnel=tunnel)
    size = sum(len(entry.data) for entry in landing)
    if size > LARGEST:
        raise SitePlanError(
            f"overlay and block lists: {size >> 20} MB are to be sealed, {LARGEST >> 20} MB is the"
            " most, since the root file system must hold it twice",
            "fetch large files at the first boot instead (/etc/rc.firsttime)",
        )
    return SitePlan(carried, sealed={entry.path: entry for entry in landing}, tunnel=tunnel)


def package_stems(config: Config, release: Release) -> tuple[str, ...]:
    """The packages that the server gets: what the tunnel needs, and the user's own."""
    return (*release.wireguard.packages, *config.packages.names)


def install_site(sealed: bytes | None) -> Entry:
    """/install.site, which opens `sealed` (the bytes of /obsdimg.sealed), if there are any."""
    about = None
    if sealed is not None:
        about = {"sha256": hashlib.sha256(sealed).hexdigest(), "seed_at": SEED_AT}
    template = site_table().install_site
    return Entry(
        "/install.site", render("siteXX", template, sealed=about), 0o700, f"siteXX/{template}"
    )


def _steps(config: Config) -> Entry:
    """/obsdimg.steps, which /install.site runs when the files are in place."""
    table, holding = site_table(), _holding_steps(config)
    values = {"ssh": _ssh(config), "accounts": _accounts(config), "network": _named(config)}
    texts = [
        render("siteXX", part.template, **values).decode()
        for part in table.parts
        if part.applies(holding)
    ]
    data = render("siteXX", table.steps, parts=texts)
    # It may hold password hashes.
    return Entry(STEPS, data, 0o600, f"siteXX/{table.steps}", secret=True)


def _accounts(config: Config) -> dict[str, Any]:
    """root and the administrator, as install.site writes them (passwd(5), 6.6's install.sub)."""
    access = config.access
    admin = None
    if access.admin is not None:
        name, full = access.admin.name, access.admin.full_name
        hashed = access.admin.password
        hashed = LOGIN_DISABLED if hashed == DISABLED else hashed
        admin = {
            "name": name,
            "passwd": f"{name}:{hashed}:1000:1000:staff:0:0:{full}:/home/{name}:/bin/ksh",
            "mail": f"To: {full} <{name}>",
            "ssh_keys": access.admin.keys,
        }
    root = "" if access.root_password == DISABLED else access.root_password
    return {"root_password": root, "root_keys": access.root_keys, "admin": admin}


def _named(config: Config) -> dict[str, Any]:
    """What install.site itself writes about the network."""
    host = config.host
    network = config.network
    gateway6 = network.gateway6
    local = gateway6 is not None and gateway6.is_link_local
    return {
        "name": f"{host.name}.{host.domain}",
        "dns": [str(a) for a in network.dns],
        "interface": network.interface,
        "also": network.also,
        # Without its scope: which card it is behind is known where the server starts.
        "local_gateway6": str(gateway6).partition("%")[0] if local else "",
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
    if row.secret:
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
    return _holding_steps(config) | {name for name, holds in conditions.items() if holds}


def _holding_steps(config: Config) -> frozenset[Condition]:
    """Those that hold for the ways in and the boot loader, which is all that the steps of
    install.site depend on."""
    access = config.access
    conditions: dict[Condition, bool] = {
        "sshd": access.sshd,
        "no-sshd": not access.sshd,
        "accounts": access.admin is not None
        or bool(access.root_keys)
        or access.root_password != DISABLED,
        "rescue": bool(_ssh(config)["rescue"]),
        "serial-loader": asks_on_com0(config),
    }
    return frozenset(name for name, holds in conditions.items() if holds)


def _merged(files: Sequence[Entry], overlay: Sequence[Entry]) -> list[Entry]:
    """The overlay wins over our files, and never touches those with keys or install.site.

    It lands after everything the installer wrote.  So its rc.firsttime is put in front of the
    installer's (install.site.d/30-firsttime), and its fstab would be that of another disk.
    """
    landing: list[Entry] = []
    own = {SEALED, STEPS, FIRST, "/install.site", *(f.path for f in files if f.secret)}
    for entry in overlay:
        if entry.path in own or entry.path.startswith(f"{PACKAGES}/"):
            raise SitePlanError(
                f"{entry.origin}: {entry.path} is written by obsdimg",
                "remove it from the overlay; /etc/rc.local or rc.firsttime take further steps",
            )
        if entry.path == "/etc/fstab":
            raise SitePlanError(
                f"{entry.origin}: the installer writes {entry.path}: it knows the disk",
                "add lines to it in /etc/rc.firsttime",
            )
        if entry.path == "/etc/rc.firsttime" and entry.kind != "file":
            raise SitePlanError(
                f"{entry.origin}: {entry.path} is a {entry.kind}",
                "put the file itself into the overlay",
            )
        landing.append(replace(entry, path=FIRST) if entry.path == "/etc/rc.firsttime" else entry)
    given = {entry.path for entry in landing}
    return [f for f in files if f.path not in given] + landing


def _values(
    config: Config, release: Release, tunnel: TunnelPlan, materials: Materials
) -> dict[str, Any]:
    network, admin = config.network, config.access.admin
    hour, minute = config.upkeep.time.split(":")
    stems = package_stems(config, release)
    return {
        "host": config.host.name,
        "console_speed": config.host.console_speed,
        "serial_loader": asks_on_com0(config),
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
        "old_dhcp": release.installer.dhcp_client == "dhclient",
        "private_interfaces": [i.name for i in network.interfaces],
        "private_ipv6": [_fixed(i.ipv6) for i in network.interfaces],
        "nat6": _nat6(config),
        "dns": [str(a) for a in network.dns],
        "ssh": _ssh(config),
        "sshd": config.access.sshd,
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
    """Who gets in by ssh."""
    access, outside = config.access, ssh_outside(config)
    return {
        "anywhere": outside.always,
        "window": outside.window,
        "rescue": outside.rescue,
        "rescue_open": RESCUE_OPEN,
        "tables": ["window"] * bool(outside.window) + ["rescue"] * bool(outside.rescue),
        "intruder_minutes": INTRUDER_MINUTES,
        "inside": [
            str(a.network) for a in (config.tunnel.ipv4, config.tunnel.ipv6) if a is not None
        ],
        "passwords": access.admin is not None and access.admin.password != DISABLED,
    }
