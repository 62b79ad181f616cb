"""sysctl, dmesg, stty, hostname, date, encrypt, pwd_mkdb, chroot, reboot and their kind.

Sources: the manual pages of 6.6; install.sub and .profile for what is read from dmesg; kernel
messages as QEMU's and Vultr's machines give them.
"""

from __future__ import annotations

import time

from obsdimg.rehearsal.call import (
    BOTH,
    Call,
    Done,
    Installed,
    ReadFile,
    Stdin,
    Steps,
    WriteFile,
    fail,
    getopt,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.world import World

REBOOTED = b"syncing disks... done"
"""The last words of reboot(8)."""


@standin("sysctl", phases=BOTH)
def sysctl(call: Call, world: World) -> Steps:
    """sysctl(8): the names that the installer and the hook read."""
    options, operands = getopt(call, "an")
    machine = world.machine
    values = {
        "kern.osrelease": machine.version,
        "kern.ostype": "OpenBSD",
        "kern.version": f"OpenBSD {machine.version} (RAMDISK_CD) #0: obsdimg rehearsal",
        "hw.machine": machine.arch,
        "hw.ncpufound": str(machine.cpus),
        "hw.ncpu": str(machine.cpus),
        "hw.disknames": disknames(world),
        "hw.physmem": str(machine.memory << 20),
        "hw.diskcount": str(len(world.disks) + 2),
    }
    if not operands:
        return Done(0, text([f"{k}={v}" for k, v in values.items()]))
    lines = []
    for name in operands:
        if name not in values:
            raise refuse(call, name)
        lines.append(values[name] if "n" in options else f"{name}={values[name]}")
    return Done(0, text(lines))
    yield Stdin()


def disknames(world: World) -> str:
    """`hw.disknames`: each disk with its UID, if its label has one."""
    names = [f"{d.name}:{d.duid if d.labelled else ''}" for d in world.disks.values()]
    return ",".join([*names, "cd0:", "rd0:0123456789abcdef"])


@standin("dmesg", phases=BOTH)
def dmesg(call: Call, world: World) -> Steps:
    """dmesg(8)."""
    if call.args:
        raise refuse(call)
    return Done(0, text(messages(world)))
    yield Stdin()


def messages(world: World) -> list[str]:
    """The kernel's messages since its start."""
    m = world.machine
    lines = [
        f"OpenBSD {m.version} (RAMDISK_CD) #0: obsdimg rehearsal",
        f"    root@obsdimg:/usr/src/sys/arch/{m.arch}/compile/RAMDISK_CD",
        f"real mem = {m.memory << 20} ({m.memory}MB)",
        "mainbus0 at root",
        "bios0 at mainbus0",
        *(["efi0 at bios0: UEFI 2.7", "efi0: EDK II rev 0x10000"] if m.efi else []),
        f"acpi0 at bios0: ACPI {m.acpi}",
        "pci0 at mainbus0 bus 0",
    ]
    if m.vga:
        screen = "efifb0" if m.efi else "vga1"
        if m.efi:
            lines += ["efifb0 at mainbus0: 1024x768, 32bpp"]
        else:
            lines += ['vga1 at pci0 dev 2 function 0 "Bochs VGA" rev 0x02']
            lines += ["vga1: aperture needed"] if m.aperture else []
        console = "" if m.serial else "console "
        lines += [f"wsdisplay0 at {screen} mux 1: {console}(80x25, vt100 emulation)"]
    for n in m.nics:
        lines += [f"{n.name} at virtio0: address {n.lladdr}"]
    if m.com:
        lines += ["com0 at isa0 port 0x3f8/8 irq 4: ns16550a, 16 byte fifo"]
        if m.serial:
            lines += ["com0: console"]
    for number, disk in enumerate(world.disks.values()):
        bus = "scsibus2" if disk.chunk else "scsibus0"
        size = f"{disk.sectors // 2048}MB, 512 bytes/sector, {disk.sectors} sectors"
        lines += [
            f"{disk.name} at {bus} targ {number} lun 0: <{disk.model}>",
            f"{disk.name}: {size}",
        ]
    lines += [
        "cd0 at scsibus1 targ 0 lun 0: <QEMU, QEMU DVD-ROM, 2.5+> removable",
        "softraid0 at root",
        "root on rd0a swap on rd0b dump on rd0b",
    ]
    return lines


_MODES = ("echo", "-echo", "raw", "-raw", "newcrt", "sane")


@standin("stty", phases=BOTH)
def stty(call: Call, world: World) -> Steps:
    """stty(1): echo on the console, its speed and size."""
    words = list(call.args)
    if words == ["speed"]:
        return Done(0, text(str(world.machine.speed)))
    if words == ["-a"]:
        return Done(0, text(f"speed {world.machine.speed} baud; 24 rows; 80 columns;"))
    while words:
        word = words.pop(0)
        if word in ("echo", "-echo"):
            world.echo = word == "echo"
        elif word in ("icanon", "-icanon"):
            world.lines = word == "icanon"
        elif word in ("werase", "intr", "kill", "erase", "status", "min", "time") and words:
            words.pop(0)
        elif word not in _MODES:
            raise refuse(call, word)
    return Done()
    yield Stdin()


@standin("hostname", phases=BOTH)
def hostname(call: Call, world: World) -> Steps:
    """hostname(1)."""
    options, operands = getopt(call, "s")
    if operands:
        world.hostname = operands[0]
        return Done()
    name = world.hostname.partition(".")[0] if "s" in options else world.hostname
    return Done(0, text(name))
    yield Stdin()


@standin("date", phases=BOTH)
def date(call: Call, world: World) -> Steps:
    """date(1): now (the machine's clock stands still), `-r SECONDS`, `+FORMAT`; UTC."""
    options, operands = getopt(call, "ur:j")
    seconds = world.machine.clock
    if "r" in options:
        if not options["r"].isdigit():
            raise refuse(call)
        seconds = int(options["r"])
    form = "%a %b %e %H:%M:%S UTC %Y"
    for word in operands:
        if word.startswith("+"):
            form = word[1:]
        elif not word.replace(".", "").isdigit():
            raise refuse(call)
        else:
            return Done()
    form = form.replace("%s", str(seconds))
    return Done(0, text(time.strftime(form, time.gmtime(seconds))))
    yield Stdin()


@standin("arch", "uname", phases=BOTH)
def uname(call: Call, world: World) -> Steps:
    """arch(1), uname(1)."""
    m = world.machine
    if call.name == "arch":
        return Done(0, text(m.arch if "-s" in call.args else f"OpenBSD.{m.arch}"))
    options, operands = getopt(call, "amnprsv")
    if operands:
        raise refuse(call)
    values = {"s": "OpenBSD", "n": world.hostname, "r": m.version, "v": "RAMDISK_CD#0"}
    values |= {"m": m.arch}
    if "p" in options:
        return Done(0, text(m.arch))
    wanted = "snrvm" if "a" in options else "".join(k for k in values if k in options) or "s"
    return Done(0, text(" ".join(values[k] for k in wanted)))
    yield Stdin()


ROUNDS = tuple(str(n) for n in range(4, 12))
"""Logarithms of bcrypt's rounds that are computed here; each one more takes twice as long."""


@standin("encrypt", phases=BOTH)
def encrypt(call: Call, world: World) -> Steps:
    """encrypt(1) `-b ROUNDS [--] PASSWORD`: a real bcrypt hash.  The password is an argument
    there too; it is kept out of everything that is reported."""
    import bcrypt

    args = [a for a in call.args if a != "--"]
    if args[:1] != ["-b"] or len(args) not in (2, 3):
        raise refuse(call)
    password = args[2].encode() if len(args) == 3 else ((yield Stdin()) or b"").rstrip(b"\n")
    world.secrets.add(password.decode("utf-8", "replace"))
    rounds = 5 if args[1] == "a" else int(args[1]) if args[1] in ROUNDS else 0
    if not rounds:
        raise refuse(call, f"rounds 4 to {ROUNDS[-1]}, or a")
    hashed = bcrypt.hashpw(password[:72], bcrypt.gensalt(rounds)).decode()
    return Done(0, text(hashed))


@standin("pwd_mkdb", phases=BOTH)
def pwd_mkdb(call: Call, world: World) -> Steps:
    """pwd_mkdb(8): checks master.passwd (ten fields, names, numbers), writes passwd."""
    options, operands = getopt(call, "cpsd:u:")
    if len(operands) != 1:
        raise refuse(call)
    folder = options.get("d", "/etc")
    found = yield ReadFile(f"{folder}/master.passwd")
    if found is None:
        return fail(f"pwd_mkdb: {folder}/master.passwd: No such file or directory")
    public = []
    for number, line in enumerate(found.decode(errors="replace").splitlines(), start=1):
        fields = line.split(":")
        if len(fields) != 10 or not fields[0] or not (fields[2] + fields[3]).isdigit():
            return fail(f"pwd_mkdb: corrupted entry\npwd_mkdb: at line #{number}")
        public.append(":".join((fields[0], "*", *fields[2:4], *fields[7:])))
    if "p" in options:
        yield WriteFile(f"{folder}/passwd", text(public), mode="644")
    yield WriteFile(f"{folder}/spwd.db", b"", mode="640")
    yield WriteFile(f"{folder}/pwd.db", b"", mode="644")
    return Done()


@standin("kbd")
def kbd(call: Call, world: World) -> Steps:
    """kbd(8): `-l` lists, `-q NAME` sets."""
    known = ["us", "uk", "de", "fr", "es", "sv", "ru", "jp", "nl", "it", "pt", "br", "pl", "tr"]
    known += ["be", "cf", "dk", "ee", "hu", "is", "la", "lt", "lv", "no", "sf", "sg", "si", "ua"]
    if call.args == ("-l",):
        return Done(0, text(["tables available for pckbd encoding:", "encoding", *known]))
    if len(call.args) == 2 and call.args[0] == "-q":
        name = call.args[1].partition(".")[0]
        if name in known:
            return Done()
        return fail(f"kbd: unknown encoding {call.args[1]}")
    raise refuse(call)
    yield Stdin()


@standin("chroot")
def chroot(call: Call, world: World) -> Steps:
    """chroot(8) into the new system: install.site, and the kernel relink."""
    if len(call.args) < 2 or call.args[0].rstrip("/") != "/mnt":
        raise refuse(call, "only /mnt")
    return Installed(call.args[1:])
    yield Stdin()


@standin("reboot", "halt")
def reboot(call: Call, world: World) -> Steps:
    """reboot(8), halt(8): the end of the rehearsal."""
    getopt(call, "dlnpq")
    world.ended = call.name
    return Done(0, text(REBOOTED.decode()))
    yield Stdin()


@standin("dhcpleased", "resolvd", "slaacd")
def daemon(call: Call, world: World) -> Steps:
    """dhcpleased(8), resolvd(8), slaacd(8): from 7.0 on the ramdisk starts them; what they do is
    done when an interface is told `inet autoconf`."""
    if call.args:
        raise refuse(call)
    world.daemons.add(call.name)
    return Done()
    yield Stdin()


@standin("sync", "init", phases=BOTH)
def nothing(call: Call, world: World) -> Steps:
    """sync(8): nothing to do."""
    return Done()
    yield Stdin()
