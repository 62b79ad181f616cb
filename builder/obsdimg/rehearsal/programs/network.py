"""ifconfig, route, dhclient, ping: interfaces that exist, a DHCP server that may answer, and
nobody behind it.

Sources: ifconfig(8), route(8), dhclient(8) of 6.6; install.sub for what is parsed.
"""

from __future__ import annotations

import ipaddress

from obsdimg.rehearsal.call import (
    BOTH,
    Call,
    Done,
    ReadFile,
    Stdin,
    Steps,
    WriteFile,
    fail,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.world import Nic, World

_CLONERS = "lo vlan"


@standin("ifconfig", phases=BOTH)
def ifconfig(call: Call, world: World) -> Steps:
    """ifconfig(8) as install.sub uses it."""
    args = list(call.args)
    if args == ["-C"]:
        return Done(0, text(_CLONERS))
    if len(args) == 2 and args[0] == "-M":
        found = [n.name for n in world.nics.values() if n.lladdr == args[1]]
        return Done(0, text(found)) if len(found) == 1 else Done()
    if not args or args in (["-A"], ["-a"]):
        return Done(0, _loopback() + b"".join(_shown(n) for n in world.nics.values()))
    name, args = args[0], args[1:]
    if name == "lo0":
        return Done(0, b"" if args else _loopback())
    nic = world.nics.get(name)
    if nic is None:
        members = [n for n in world.nics.values() if name in n.groups]
        if members and not args:
            return Done(0, b"".join(_shown(n) for n in members))
        return fail(f"{name}: no such interface")
    if args == ["inet", "autoconf"]:
        return (yield from _ask_dhcp(call, world, nic))
    return _configure(call, world, nic, args)


def _ask_dhcp(call: Call, world: World, nic: Nic) -> Steps:
    """`inet autoconf`: dhcpleased asks, writes its lease file, and tells resolvd, which writes
    its lines into resolv.conf (sbin/dhcpleased, sbin/resolvd of 7.7)."""
    nic.autoconf4 = nic.up = True
    lease = nic.dhcp
    if lease is None or "dhcpleased" not in world.daemons:
        return Done()
    _set_inet(nic, f"{lease.address}/{lease.netmask}")
    world.routes.setdefault("inet", (lease.router, nic.name))
    lines = ["version: 2", f"address: {lease.address}", f"netmask: {lease.netmask}"]
    lines += [f"routers: {lease.router}"]
    if lease.domain:
        lines.append(f"domain-name: {lease.domain}")
    yield WriteFile(f"/var/db/dhcpleased/{nic.name}", text(lines))
    if lease.nameservers and "resolvd" in world.daemons:
        old = ((yield ReadFile("/etc/resolv.conf")) or b"").decode(errors="replace").splitlines()
        ours = [f"nameserver {server} # resolvd: {nic.name}" for server in lease.nameservers]
        yield WriteFile("/etc/resolv.conf", text([*ours, *old]))
    return Done()


def _configure(call: Call, world: World, nic: Nic, args: list[str]) -> Done:
    match args:
        case []:
            return Done(0, _shown(nic))
        case ["inet"]:
            return Done(0, _shown(nic, inet6=False))
        case ["inet6"]:
            return Done(0, _shown(nic, inet=False))
        case ["-inet"]:
            nic.inet = None
        case ["-inet6"]:
            nic.inet6, nic.autoconf6 = [], False
        case ["up"]:
            nic.up = True
        case ["delete", "down"]:
            nic.inet, nic.up = None, False
        case ["group", group]:
            nic.groups.add(group)
        case ["-group", group]:
            if group not in nic.groups:
                return fail("ifconfig: SIOCDIFGROUP: No such file or directory")
            nic.groups.discard(group)
        case ["inet", "-autoconf", *rest] if rest in ([], ["delete", "down"]):
            nic.inet, nic.autoconf4 = None, False
        case ["inet6", "autoconf", "up"]:
            nic.autoconf6 = nic.up = True
        case ["inet6", address, "up"] if "/" in address:
            return _set_inet6(nic, address)
        case [address, "up"] if "/" in address:
            return _set_inet(nic, address)
        case [address, "netmask", mask]:
            return _set_inet(nic, f"{address}/{mask}")
        case ["-nwid", *_] | ["-wpa", *_] | ["scan"]:
            return fail(f"ifconfig: {nic.name}: Inappropriate ioctl for device")
        case _:
            raise refuse(call)
    return Done()


def _set_inet(nic: Nic, word: str) -> Done:
    try:
        at = ipaddress.IPv4Interface(word)
    except ValueError:
        return fail(f"ifconfig: {word.split('/')[0]}: bad value")
    nic.inet = (str(at.ip), f"0x{int(at.netmask):08x}", str(at.network.broadcast_address))
    nic.up = True
    return Done()


def _set_inet6(nic: Nic, word: str) -> Done:
    try:
        at = ipaddress.IPv6Interface(word)
    except ValueError:
        return fail(f"ifconfig: {word.split('/')[0]}: bad value")
    nic.inet6.append((str(at.ip), str(at.network.prefixlen)))
    nic.up = True
    return Done()


def _loopback() -> bytes:
    return text(
        [
            "lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 32768",
            "\tindex 3 priority 0 llprio 3",
            "\tgroups: lo",
            "\tinet 127.0.0.1 netmask 0xff000000",
        ]
    )


def _shown(nic: Nic, *, inet: bool = True, inet6: bool = True) -> bytes:
    flags = "BROADCAST,SIMPLEX,MULTICAST"
    if nic.up:
        flags = "UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST"
    if nic.autoconf6:
        flags += ",AUTOCONF6"
    if nic.autoconf4:
        flags += ",AUTOCONF4"
    lines = [f"{nic.name}: flags=8843<{flags}> mtu 1500", f"\tlladdr {nic.lladdr}"]
    if nic.groups:
        lines.append(f"\tgroups: {' '.join(sorted(nic.groups))}")
    lines += ["\tmedia: Ethernet autoselect", "\tstatus: active"]
    if inet and nic.inet:
        lines.append(f"\tinet {nic.inet[0]} netmask {nic.inet[1]} broadcast {nic.inet[2]}")
    if inet6:
        lines += [f"\tinet6 {address} prefixlen {length}" for address, length in nic.inet6]
    return text(lines)


@standin("dhclient")
def dhclient(call: Call, world: World) -> Steps:
    """dhclient(8): writes the lease, resolv.conf and the default route; `-c FILE` is read."""
    args = list(call.args)
    if args[:2] == ["-c", "/dev/stdin"]:
        yield Stdin()
        args = args[2:]
    if len(args) != 1 or args[0] not in world.nics:
        raise refuse(call)
    nic = world.nics[args[0]]
    lease = nic.dhcp
    nic.up = True
    if lease is None:
        return Done(0, b"", text(f"{nic.name}: no lease....... sleeping"))
    _set_inet(nic, f"{lease.address}/{lease.netmask}")
    world.routes.setdefault("inet", (lease.router, nic.name))
    options = [
        f'  interface "{nic.name}";',
        f"  fixed-address {lease.address};",
        f"  option subnet-mask {lease.netmask};",
        f"  option routers {lease.router};",
    ]
    resolv = [f"# Generated by {nic.name} dhclient"]
    if lease.domain:
        options.append(f'  option domain-name "{lease.domain}";')
        resolv.append(f"search {lease.domain}")
    if lease.nameservers:
        options.append(f"  option domain-name-servers {', '.join(lease.nameservers)};")
        resolv += [f"nameserver {server}" for server in lease.nameservers]
    lines = ["lease {", *options, "}"]
    yield WriteFile(f"/var/db/dhclient.leases.{nic.name}", text(lines))
    if len(resolv) > 1:
        yield WriteFile("/etc/resolv.conf", text([*resolv, "lookup file bind"]))
    bound = f"{nic.name}: bound to {lease.address} from {lease.router} (52:55:0a:00:02:02)"
    return Done(0, text(bound))


@standin("route", phases=BOTH)
def route(call: Call, world: World) -> Steps:
    """route(8): show, add and delete the default route."""
    words = [w for w in call.args if w not in ("-n", "-q", "-qn", "-nq")]
    family = "inet6" if "-inet6" in words else "inet"
    words = [w for w in words if w not in ("-inet", "-inet6", "-host")]
    match words:
        case ["show"]:
            lines = ["Routing tables", "", "Internet:" if family == "inet" else "Internet6:"]
            lines.append(
                "Destination        Gateway            Flags   Refs      Use   Mtu  Prio Iface"
            )
            if family in world.routes:
                gateway, name = world.routes[family]
                lines.append(
                    f"default            {gateway:<18} UGS        0        0     -     8 {name} "
                )
            return Done(0, text(lines))
        case ["delete", "default", *_] if len(words) <= 3:
            if world.routes.pop(family, None) is None:
                return fail("route: writing to routing socket: No such process")
            return Done(0, text("delete net default: gateway"))
        case ["add", "default", gateway]:
            return _add_default(world, family, gateway)
        case ["add", "-net", "127", "127.0.0.1", "-reject"]:
            return Done()
        case _:
            raise refuse(call)
    yield Stdin()


def _add_default(world: World, family: str, gateway: str) -> Done:
    try:
        address = ipaddress.ip_address(gateway.partition("%")[0])
    except ValueError:
        return fail(f"route: {gateway}: bad value")
    for nic in world.nics.values():
        if family == "inet" and nic.inet:
            net = ipaddress.IPv4Network(
                (nic.inet[0], str(ipaddress.IPv4Address(int(nic.inet[1], 16)))), strict=False
            )
            if address in net:
                world.routes["inet"] = (gateway, nic.name)
                return Done(0, text(f"add host default: gateway {gateway}"))
        if family == "inet6":
            nets = [ipaddress.IPv6Network(f"{a}/{n}", strict=False) for a, n in nic.inet6]
            if "%" in gateway or any(address in n for n in nets):
                world.routes["inet6"] = (gateway, nic.name)
                return Done(0, text(f"add host default: gateway {gateway}"))
    return fail(f"add host default: gateway {gateway}: Network is unreachable")


@standin("ping", "ping6")
def ping(call: Call, world: World) -> Steps:
    """ping(8): nobody answers."""
    return Done(1)
    yield Stdin()
