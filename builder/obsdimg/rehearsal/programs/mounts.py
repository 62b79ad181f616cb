"""mount, umount, df: a table of mounts over plain folders.

Sources: mount(8), umount(8), df(1) of 6.6; install.sub `mount_fs`, `mount_mnt2`, `is_rootdisk`.
"""

from __future__ import annotations

from obsdimg.rehearsal.call import (
    BOTH,
    Call,
    Done,
    Shell,
    Steps,
    WriteFile,
    fail,
    getopt,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.machine import InstalledSystem
from obsdimg.rehearsal.world import Mount, World

_OLD_SYSTEM = ["bin", "dev", "etc", "home", "mnt", "root", "sbin", "tmp", "usr", "var"]


@standin("mount", "mount_ffs", "mount_cd9660")
def mount(call: Call, world: World) -> Steps:
    """mount(8): ffs partitions that newfs made (or an installed system has), and the CD."""
    options, operands = getopt(call, "uvrft:o:")
    if not operands and not options:
        return Done(0, text([_shown(m) for m in world.mounts.values()]))
    if "u" in options:
        return Done()
    if len(operands) != 2:
        raise refuse(call)
    device, point = operands
    if device.removeprefix("/dev/").startswith("cd0"):
        if not list(world.cd.paths()):
            return fail(f"mount_cd9660: {device} on {point}: Device not configured")
        script = '$H/cp -RlpP /.rehearsal/cd/. "$1"'
        if (yield Shell(script, (point,))) is None:
            return fail(f"mount_cd9660: {point}: No such file or directory")
        world.mounts[point] = Mount(device, point, "read-only, local", 0)
        return Done()
    disk, letter = world.disk_of(device)
    if disk is None or letter not in disk.filesystems:
        return fail(f"mount_ffs: {device} on {point}: Invalid argument")
    if (yield Shell("[[ -d $1 ]]", (point,))) is None:
        return fail(f"mount_ffs: {device} on {point}: No such file or directory")
    readonly = "r" in options or "ro" in options.get("o", "").split(",")
    if disk.label[letter].mounted == "/" and (readonly or world.machine.installed is not None):
        yield Shell('cd "$1" && shift && $H/mkdir -p "$@"', (point, *_OLD_SYSTEM))
        if world.machine.installed is not None:
            yield from _installed(world.machine.installed, point)
    words = "read-only, local" if readonly else "asynchronous, local"
    mounted = Mount(device, point, words, world.partition_bytes(disk, letter))
    world.mounts[point] = mounted
    if not readonly:
        world.act("mount", f"{disk.name}{letter}", point)
    return Done(0, text(_shown(mounted)) if "v" in options else b"")


def _installed(system: InstalledSystem, point: str) -> Steps:
    """The files of an installed system appear."""
    for path, data in system.files.items():
        mode = "700" if path == "/bsd.upgrade" else "644"
        yield WriteFile(f"{point}{path}", data, mode=mode)
    script = '$H/mkdir -p "$2" && $H/cp -RlpP "/.rehearsal/cd$1/." "$2" &&'
    script += ' $H/rm -f "$2/SHA256.sig" "$2"/site*.tgz "$2/bsd.auto"'
    yield Shell(script, (system.sets, f"{point}{system.place}"))
    return Done()


def _shown(mount: Mount) -> str:
    kind = "cd9660" if "cd0" in mount.device else "ffs"
    return f"{mount.device} on {mount.point} type {kind} (rw, {mount.options})"


@standin("umount")
def umount(call: Call, world: World) -> Steps:
    """umount(8)."""
    options, operands = getopt(call, "afv")
    if "a" in options:
        operands = [p for p in world.mounts if p != "/"]
    for point in operands:
        mounted = world.mounts.pop(point, None)
        if mounted is None:
            return fail(f"umount: {point}: not currently mounted")
        if mounted.device.removeprefix("/dev/").startswith("cd0"):
            yield Shell('$H/rm -rf -- "$1"/* "$1"/.[!.]*', (point,))
        elif mounted.options.startswith("read-only"):
            if world.machine.installed is not None:
                yield Shell('$H/rm -rf -- "$1"/* "$1"/.[!.]*', (point,))
                continue
            script = 'cd "$1" && shift && $H/rmdir "$@" 2>/dev/null; :'
            yield Shell(script, (point, *_OLD_SYSTEM))
        elif point == "/mnt2":
            # What was written below /mnt is the new system, which is looked at later.
            yield Shell('$H/rm -rf -- "$1"/* "$1"/.[!.]*', (point,))
    return Done()


@standin("df", phases=BOTH)
def df(call: Call, world: World) -> Steps:
    """df(1): `-k`, `-h`, with or without a path."""
    options, operands = getopt(call, "khnP")
    mounts = list(world.mounts.values())
    if operands:
        mounts = []
        for path in operands:
            found = world.mount_of(f"/mnt{path}" if call.phase == "installed" else path)
            if found is None:
                found = Mount("/dev/rd0a", "/", "local", 3_700_000, 3_400_000)
            mounts.append(found)
    unit = 1024 if "k" in options or "h" in options else 512
    lines = [f"Filesystem  {unit}-blocks      Used     Avail Capacity  Mounted on"]
    for m in mounts:
        avail = max(m.size - m.used, 0)
        full = m.used * 100 // m.size if m.size else 100
        lines.append(
            f"{m.device:<11} {m.size // unit:>10} {m.used // unit:>9} {avail // unit:>9}"
            f" {full:>4}%    {m.point}"
        )
    return Done(0, text(lines))
    yield Shell("")
