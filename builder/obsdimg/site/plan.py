"""Which files land on the server: the one list of the site set's contents.

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
from obsdimg.site.sealing import ITERATIONS
from obsdimg.site.tunnel import SERVER_KEY_MARK, TunnelPlan, plan_tunnel

PACKAGES = "/var/obsdimg/packages"
SEALED = "/obsdimg.sealed"
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
    block_list: bytes = field(default=b"", repr=False)
    overlay: Sequence[Entry] = ()
    installurl: str = ""
    """Mirror for the installed system; empty: the installer's own choice."""


def plan_site(
    config: Config, release: Release, keys: ProjectKeys, materials: Materials
) -> SitePlan:
    """Everything of the site set but install.site, which needs the sealed bytes' hash."""
    tunnel = plan_tunnel(config, keys, release.wireguard.backend)
    values = _values(config, release, tunnel, materials)
    files = [_rendered(*entry, values) for entry in _public_templates(config, release, tunnel)]
    files += _tunnel_files(tunnel, materials)
    if materials.installurl:
        files.append(
            Entry("/etc/installurl", f"{materials.installurl}\n".encode(), 0o644, "release file")
        )
    key_files = _key_files(tunnel, keys, values)
    sealed: dict[str, Entry] = {}
    if tunnel.first_boot_key:
        files += key_files.values()
    else:
        sealed = key_files
    return SitePlan(tuple(_merged(files, materials.overlay, sealed)), sealed=sealed, tunnel=tunnel)


def package_stems(config: Config, release: Release) -> tuple[str, ...]:
    """The packages that the server gets: what the tunnel needs, and the user's own."""
    return (*release.wireguard.packages, *config.packages.names)


def install_site(config: Config, sealed: bytes | None) -> Entry:
    """/install.site, which opens `sealed` (the bytes of /obsdimg.sealed), if there are any."""
    ssh = _ssh(config)
    parts = ["30-firsttime"]
    if any(ssh["further_keys"]):
        parts.insert(0, "20-keys")
    if config.access.sshd:
        parts.insert(0, "10-sshd")
    texts = [
        render("siteXX", f"common/install.site.d/{part}.j2", ssh=ssh).decode() for part in parts
    ]
    about = None
    if sealed is not None:
        about = {"sha256": hashlib.sha256(sealed).hexdigest(), "iterations": ITERATIONS}
    data = render("siteXX", "common/install.site.j2", sealed=about, parts=texts)
    return Entry("/install.site", data, 0o700, "siteXX/common/install.site.j2")


def _public_templates(
    config: Config, release: Release, tunnel: TunnelPlan
) -> list[tuple[str, str, int]]:
    """(template, path on the server, mode) of what these settings need."""
    static_dns = bool(config.network.dns) and config.network.ipv4 == "dhcp"
    admin = config.access.admin
    chosen = [
        (True, "common/etc/pf.conf", 0o600),
        (True, "common/etc/sysctl.conf", 0o644),
        (True, "common/etc/rc.conf.local", 0o644),
        (admin is not None and admin.doas != "none", "common/etc/doas.conf", 0o600),
        (True, "common/etc/crontab", 0o600),
        (static_dns and release.number < (7, 0), "common/etc/dhclient.conf", 0o644),
        (static_dns and release.number >= (7, 0), "common/etc/dhcpleased.conf", 0o644),
        (static_dns and release.number >= (7, 0), "common/etc/resolv.conf", 0o644),
        (tunnel.unbound, "common/var/unbound/etc/unbound.conf", 0o644),
        (tunnel.watched, "common/usr/local/sbin/obsdimg-watch", 0o555),
        (tunnel.audit, "common/usr/local/sbin/obsdimg-audit", 0o555),
        (config.upkeep.schedule != "never", "common/usr/local/sbin/obsdimg-upkeep", 0o555),
        (_nat6(config) == OUTSIDE6, "common/usr/local/sbin/obsdimg-outside6", 0o555),
        (True, "common/usr/local/sbin/obsdimg-firsttime", 0o555),
        (tunnel.first_boot_key, "common/usr/local/sbin/obsdimg-qr", 0o555),
        (tunnel.backend == "wireguard-go", "wireguard-go/etc/hostname.tun0", 0o640),
    ]
    if tunnel.backend == "wireguard-go" and tunnel.upstream:
        chosen.append((True, "wireguard-go/etc/hostname.tun1", 0o640))
    return [
        (f"{template}.j2", "/" + template.split("/", 1)[1], mode)
        for wanted, template, mode in chosen
        if wanted
    ]


def _rendered(template: str, path: str, mode: int, values: Mapping[str, Any]) -> Entry:
    return Entry(path, render("siteXX", template, **values), mode, f"siteXX/{template}")


def _tunnel_files(tunnel: TunnelPlan, materials: Materials) -> list[Entry]:
    names = "".join(f"{p.public_key} {p.name}\n" for p in tunnel.peers)
    files = [Entry("/etc/wireguard", mode=0o700, kind="dir", origin="obsdimg")]
    if tunnel.audit:
        files.append(Entry("/var/db/obsdimg", mode=0o700, kind="dir", origin="obsdimg"))
        files.append(Entry("/etc/wireguard/names", names.encode(), 0o600, "tunnel.peers"))
    if materials.block_list:
        files.append(
            Entry("/var/unbound/etc/block.conf", materials.block_list, 0o644, "tunnel.block_lists")
        )
    if tunnel.backend == "wireguard-go":
        services = [("obsdimg_wg", tunnel.interface, "server.conf", "the tunnel")]
        if tunnel.upstream:
            upstream = tunnel.upstream.interface
            services.append(("obsdimg_wg_up", upstream, "upstream.conf", "the next server"))
        template = "wireguard-go/etc/rc.d/obsdimg_wg.j2"
        for service, interface, conf, what in services:
            link = {"interface": interface, "config": f"/etc/wireguard/{conf}", "what": what}
            data = render("siteXX", template, tunnel=tunnel, link=link)
            files.append(Entry(f"/etc/rc.d/{service}", data, 0o555, f"siteXX/{template}"))
    return [*files, *materials.packages]


def _key_files(
    tunnel: TunnelPlan, keys: ProjectKeys, values: Mapping[str, Any]
) -> dict[str, Entry]:
    """The files with private or pre-shared keys in them."""
    private = SERVER_KEY_MARK if keys.server is None else keys.server.reveal()
    templates = {
        "/etc/wireguard/server.conf": "wireguard-go/etc/wireguard/server.conf.j2",
        "/etc/wireguard/upstream.conf": "wireguard-go/etc/wireguard/upstream.conf.j2",
        "/etc/hostname.wg0": "wg/etc/hostname.wg0.j2",
        "/etc/hostname.wg1": "wg/etc/hostname.wg1.j2",
    }
    mode = 0o600 if tunnel.backend == "wireguard-go" else 0o640
    return {
        path: Entry(
            path,
            render("siteXX", templates[path], server_private_key=private, **values),
            mode,
            f"siteXX/{templates[path]}",
            secret=not tunnel.first_boot_key,
        )
        for path in tunnel.key_files
    }


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
        "release": release.number,
        "tunnel": tunnel,
        "egress": network.interface,
        "egress_ipv6": network.ipv6 != "none",
        "private_interfaces": [i.name for i in network.interfaces],
        "private_ipv6": [_fixed(i.ipv6) for i in network.interfaces],
        "nat6": _nat6(config),
        "dns": [str(a) for a in network.dns],
        "ssh": _ssh(config),
        "admin": admin.name if admin else "",
        "doas": admin.doas if admin else "",
        "block_list": bool(materials.block_list),
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
        "passwords": access.admin is not None and access.admin.password != DISABLED,
        "further_keys": further,
    }
