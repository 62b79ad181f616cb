"""From a project, or single files, to what the smoke test needs to know (SmokePlan).

What the ISO itself says (release, encryption, guard) is read from the ISO; the clients and
what ssh should do come from the project, or from options where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.secret import Secret
from obsdimg.image.inspection import Inspection
from obsdimg.project.folder import MissingKeyError, Project
from obsdimg.site.clients import plan_clients, read_client
from obsdimg.site.ways import ssh_outside
from obsdimg.smoke.plan import EmulatedNetwork, Login, SmokePlan
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.ip import Address


class SmokePlanError(ObsdimgError):
    """It is not clear what is to be tested, or how."""


@dataclass(frozen=True)
class SmokeOptions:
    """What the command line says about the machine.  Sizes in bytes, memory in MiB."""

    disk_size: int
    memory_mib: int
    uefi: bool = False
    online: bool = False
    offline: bool = False
    idle_seconds: float = 0.0
    board: str = "q35"
    login: Login | None = None


def release_of(found: Inspection) -> str:
    """The release of an ISO that obsdimg made, e.g. `6.6`.  Raises SmokePlanError."""
    if not found.boot_entries:
        raise SmokePlanError(f"{found.path}: cannot be booted: it has no boot entry")
    if not found.hook:
        raise SmokePlanError(
            f"{found.path}: was not made by obsdimg: its boot kernel has no encryption step",
            "give the ISO that `obsdimg build` wrote",
        )
    return found.directory.strip("/").split("/")[0] or "unknown"


def encryption_of(found: Inspection) -> str:
    """How the ISO encrypts: passphrase, embedded, none.  Raises SmokePlanError for keydisk."""
    how = found.hook.get("mode", "passphrase")
    if how == "keydisk":
        raise SmokePlanError(
            f"{found.path}: encrypts with a key disk, which the smoke test has none of",
            "test a build with encryption = passphrase; the key disk by hand",
        )
    return how


def loader_on_com0(found: Inspection, *, uefi: bool) -> bool:
    """Whether the loader of the installed disk asks on com0 (response/obsdimg.sh)."""
    return bool(found.hook.get("loader")) and not uefi


def of_the_screen(found: Inspection, *, screen: bool) -> list[str]:
    """What the run does not show of an ISO whose console is com0: its screen is switched off, and
    a loader with a screen asks there (boot(8); E77)."""
    moved = re.search(r"^set tty com0$", found.boot_conf, re.MULTILINE)
    if screen or moved is None or encryption_of(found) == "none":
        return []
    return [
        "the boot loader asked for the passphrase on the serial line because this machine has no"
        " screen; where there is one it asks there, and the serial line stays silent until then"
    ]


def project_clients(project: Project) -> tuple[list[TunnelClient], list[str]]:
    """The clients of a project that can call, and why others cannot."""
    try:
        keys = project.keys(make=False)
    except MissingKeyError as error:
        return [], [f"no client can be tried: {error.message}"]
    found, notes = [], []
    for client in plan_clients(project.config, keys):
        if client.private is None:
            notes.append(f"client {client.name}: made its own key, so it cannot be tried here")
        else:
            found.append(client)
    return found, notes


def client_from_file(
    path: Path, servers: Sequence[Address], project: Project | None
) -> TunnelClient:
    """The client in a wg-quick file; `servers` are the server's addresses in the tunnel.  What a
    file does not tell (these, the port, what it may reach) comes from the project, if any.

    Raises SmokePlanError, ClientError, FileError, ConfError.
    """
    tunnel = project.config.tunnel if project else None
    if tunnel and not servers:
        servers = [own.ip for own in (tunnel.ipv4, tunnel.ipv6) if own]
    client = read_client(path, servers, tunnel.port if tunnel else None)
    if not client.inside:
        raise SmokePlanError(
            f"{path}: does not tell the server's address in the tunnel", "give --server-address"
        )
    reach = {p.name: tuple(p.reach) for p in tunnel.peers} if tunnel else {}
    return replace(client, reach=reach.get(client.name, ()))


def network_of(project: Project | None) -> EmulatedNetwork:
    """The emulated network: the fixed address and gateway of the configuration, if any."""
    if project is None:
        return EmulatedNetwork()
    own = project.config.network
    if isinstance(own.ipv4, str) or own.gateway4 is None:
        return EmulatedNetwork()
    return EmulatedNetwork(str(own.ipv4.ip), own.ipv4.network.prefixlen, str(own.gateway4))


def private_networks(project: Project | None) -> tuple[EmulatedNetwork, ...]:
    """A network for each further card of the configuration, with a host that answers pings."""
    found = []
    for number, card in enumerate(project.config.network.interfaces if project else (), 1):
        own = card.ipv4
        if isinstance(own, str):
            found.append(EmulatedNetwork(f"10.66.{number}.15", 24, f"10.66.{number}.2"))
            continue
        host = next(a for a in own.network.hosts() if a != own.ip)
        found.append(EmulatedNetwork(str(own.ip), own.network.prefixlen, str(host)))
    return tuple(found)


CARDS = {"vio": "virtio-net-pci", "em": "e1000", "vmx": "vmxnet3", "re": "rtl8139"}
"""OpenBSD's drivers and a card of QEMU that each of them takes."""


def network_card(project: Project | None) -> str:
    """The card that has the name of the configuration, by QEMU's name.  Raises SmokePlanError."""
    if project is None:
        return CARDS["vio"]
    network = project.config.network
    names = [network.interface, *(card.name for card in network.interfaces)]
    kinds = sorted({name.rstrip("0123456789") for name in names})
    if len(kinds) == 1 and kinds[0] in CARDS:
        return CARDS[kinds[0]]
    raise SmokePlanError(
        f"network: QEMU has no machine with the cards {', '.join(names)}"
        if len(kinds) == 1
        else f"network: the cards {', '.join(names)} are of different kinds, which no machine of"
        " the smoke test has",
        f"name them {' or '.join(f'{kind}0' for kind in CARDS)} here, and what the real machine"
        " has in network.also",
    )


def make_plan(
    found: Inspection,
    passphrase: Secret,
    sealing: Secret | None,
    peers: Sequence[TunnelClient],
    project: Project | None,
    wishes: SmokeOptions,
    *,
    ssh_open: bool | None = None,
) -> SmokePlan:
    """The plan for the ISO that `found` describes.  Raises SmokePlanError."""
    how = encryption_of(found)
    if ssh_open is None and project is not None:
        outside = ssh_outside(project.config)
        ssh_open = outside.always or outside.window > 0
    return SmokePlan(
        iso=found.path.resolve(),
        release=release_of(found),
        passphrase=passphrase,
        sealing_passphrase=sealing,
        peers=tuple(peers),
        encrypted=how != "none",
        unattended=how in ("embedded", "none"),
        disk_size=wishes.disk_size,
        memory_mib=wishes.memory_mib,
        uefi=wishes.uefi,
        ssh_open=bool(ssh_open),
        login=wishes.login,
        network=network_of(project),
        private_networks=private_networks(project),
        board=wishes.board,
        network_card=network_card(project),
        kdf_rounds=int(rounds) if (rounds := found.hook.get("rounds", "auto")).isdigit() else None,
        guarded=found.hook.get("overwrite") != "yes",
        loader_on_com0=loader_on_com0(found, uefi=wishes.uefi),
        halts=found.hook.get("after") == "halt",
        online=wishes.online,
        offline=wishes.offline,
        idle_seconds=wishes.idle_seconds,
    )
