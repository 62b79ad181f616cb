"""fdisk, disklabel, newfs, dd, installboot, fsck: what the installer does to disks.

Sources: fdisk(8), disklabel(8), newfs(8), dd(1), installboot(8) of 6.6; openbsd.md sections 4
and 13 for the messages; install.sub for what is parsed from them.
"""

from __future__ import annotations

import re

from obsdimg.rehearsal import label
from obsdimg.rehearsal.call import (
    BOTH,
    Call,
    Done,
    Exec,
    Exists,
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
from obsdimg.rehearsal.disks import (
    CYLINDER,
    MbrEntry,
    Partition,
    StandInDisk,
    efi_system_partition,
    made_up,
    write_openbsd_gpt,
    write_openbsd_mbr,
)
from obsdimg.rehearsal.machine import SECTOR
from obsdimg.rehearsal.world import World
from obsdimg.releases.release import Installer, known_releases, load_release

_TYPES = {0x00: "unused", 0x83: "Linux files*", 0xA6: "OpenBSD", 0xEE: "EFI GPT", 0xEF: "EFI Sys"}


def facts(world: World) -> Installer:
    """What images/ says of the release that is installed; of the newest for an unknown one."""
    version = world.machine.version
    known = known_releases()
    return load_release(version if version in known else known[-1]).installer


@standin("fdisk")
def fdisk(call: Call, world: World) -> Steps:
    """fdisk(8): print a table, `-iy` (MBR), `-iy -g -b N` and `-gy -b N` (GPT)."""
    options, operands = getopt(call, "iygvb:")
    if len(operands) != 1:
        raise refuse(call)
    disk, letter = world.disk_of(operands[0])
    if disk is None or letter:
        return fail(f"fdisk: {operands[0]}: No such file or directory")
    if not set(options) - {"v"}:
        return Done(0, table(disk).encode())
    if not disk.writable:
        return fail(f"fdisk: /dev/r{disk.name}c: Read-only file system")
    if "y" not in options or not {"i", "g"} & set(options):
        raise refuse(call, "only -iy and -gy are known, and printing")
    if "g" in options:
        if "i" not in options and "i" in facts(world).fdisk_gpt:
            raise refuse(call, "-gy is newer than this release")
        if "b" not in options:
            raise refuse(call, "-g without -b")
        write_openbsd_gpt(disk, int(options["b"].split("@")[0]))
        world.act("fdisk", disk.name, f"GPT, EFI System partition of {options['b']} sectors")
        return Done(0, text("Writing GPT."))
    write_openbsd_mbr(disk)
    world.act("fdisk", disk.name, "MBR, one OpenBSD partition")
    return Done(0, text("Writing MBR at offset 0."))
    yield Stdin()


def table(disk: StandInDisk) -> str:
    """What `fdisk DISK` prints."""
    head = (
        f"Disk: {disk.name}\tgeometry: {disk.sectors // CYLINDER}/255/63 [{disk.sectors} Sectors]"
    )
    if disk.gpt is not None:
        lines = [
            f"Disk: {disk.name}       Usable LBA: 64 to {disk.sectors - 64}"
            f" [{disk.sectors} Sectors]",
            "   #: type                                 [       start:         size ]",
            "-" * 72,
        ]
        for number, entry in enumerate(disk.gpt):
            lines.append(
                f"   {number}: {_TYPES[entry.id]:<36} [{entry.start:>12}: {entry.size:>12} ]"
            )
        return "\n".join(lines) + "\n"
    signature = "0xAA55" if disk.mbr is not None else "0x0"
    lines = [
        head,
        f"Offset: 0\tSignature: {signature}",
        "            Starting         Ending         LBA Info:",
        " #: id      C   H   S -      C   H   S [       start:        size ]",
        "-" * 79,
    ]
    entries = list(disk.mbr or [])
    while len(entries) < 4:
        entries.insert(0, MbrEntry(0, 0, 0))
    for number, entry in enumerate(entries):
        lines.append(
            f"{'*' if entry.active else ' '}{number}: {entry.id:02X} {_chs(entry.start)} -"
            f" {_chs(max(entry.start + entry.size - 1, 0))}"
            f" [{entry.start:>12}:{entry.size:>12} ] {_TYPES.get(entry.id, 'Unknown ID')}"
        )
    return "\n".join(lines) + "\n"


def _chs(sector: int) -> str:
    if not sector:
        return "     0   0   0"
    return f"{sector // CYLINDER:>6} {sector // 63 % 255:>3} {sector % 63 + 1:>3}"


@standin("disklabel")
def disklabel(call: Call, world: World) -> Steps:
    """disklabel(8): print, `-A` (automatic), `-T` (template), `-E` (editor on stdin), `-F`."""
    options, operands = getopt(call, "AEwdhvp:T:F:f:")
    if len(operands) != 1:
        raise refuse(call)
    if operands[0].removeprefix("/dev/").rstrip("ac").startswith("cd"):
        return _cd_label(call, world, operands[0])
    disk, _ = world.disk_of(operands[0])
    if disk is None:
        return fail(f"disklabel: {operands[0]}: No such file or directory")
    changing = {"A", "E", "w"} & set(options)
    if not changing:
        shown = label.render(disk, human="h" in options, gigabytes=options.get("p") == "g")
        return Done(0, shown.encode())
    if "f" in options:
        raise refuse(call, "-f; the installer uses -F")
    if not disk.writable:
        return fail(f"disklabel: /dev/r{disk.name}c: Read-only file system")
    if "E" in options and "A" not in options:
        script = (yield Stdin()) or b""
        try:
            disk.label, said, written = label.edit(
                disk, script.decode(errors="replace"), named="F" in options
            )
            disk.labelled = disk.labelled or written
        except label.LabelError as error:
            world.act("disklabel", disk.name, str(error), script.decode(errors="replace"), 1)
            return fail(str(error))
        parts = ", ".join(f"{k} {v.fstype}" for k, v in sorted(disk.label.items()))
        what = f"label written: {parts or 'empty'}" if written else "label not written"
        world.act("disklabel", disk.name, what, script.decode(errors="replace"))
        if "F" in options:
            yield WriteFile(options["F"], label.fstab(disk).encode())
        return Done(0, said.encode())
    if "A" not in options or "E" in options:
        raise refuse(call, "an interactive layout")
    layouts = label.default_layouts()
    source = "automatic layout"
    if "T" in options:
        found = (yield Stdin()) if options["T"] == "-" else (yield ReadFile(options["T"]))
        if found is None:
            return fail(f"disklabel: Cannot open {options['T']}")
        source = f"layout from template {options['T']}"
        try:
            raid = facts(world).template_raid
            layouts = (label.parse_template(found.decode(errors="replace"), raid=raid),)
        except label.LabelError as error:
            world.act("disklabel", disk.name, str(error), status=1)
            return fail(str(error))
    try:
        new = label.allocate(_unlabelled(disk), layouts)
    except label.LabelError as error:
        world.act("disklabel", disk.name, str(error), status=1)
        return fail(str(error))
    if "w" not in options:
        return Done(0, label.render(_with(disk, new), human="h" in options).encode())
    disk.label, disk.labelled = new | made_up(disk), True
    parts = ", ".join(
        f"{k} {v.mounted or v.fstype} {v.size * SECTOR // label.MIB}M"
        for k, v in sorted(new.items())
    )
    world.act("disklabel", disk.name, f"{source}: {parts}")
    if "F" in options:
        yield WriteFile(options["F"], label.fstab(disk).encode())
    return Done()


def _unlabelled(disk: StandInDisk) -> StandInDisk:
    return _with(disk, made_up(disk))


def _with(disk: StandInDisk, new: dict[str, Partition]) -> StandInDisk:
    return StandInDisk(
        disk.name, disk.sectors, disk.model, disk.duid, mbr=disk.mbr, gpt=disk.gpt, label=new
    )


def _cd_label(call: Call, world: World, word: str) -> Done:
    """The label that the kernel makes up for a CD: the whole disc as `a` and `c`."""
    size = sum(world.cd.size(path) for path in world.cd.paths()) // 2048 + 200
    lines = [
        f"# /dev/r{word}c:",
        "type: ATAPI",
        f"total sectors: {size}",
        "16 partitions:",
        "#                size           offset  fstype [fsize bsize   cpg]",
        f"  a: {size:>16} {0:>16} ISO9660        ",
        f"  c: {size:>16} {0:>16} ISO9660        ",
    ]
    return Done(0, text(lines))


@standin("newfs")
def newfs(call: Call, world: World) -> Steps:
    """newfs(8): `-q`, `-O 1|2`, `-b` and `-f`, on a partition of the label."""
    options, operands = getopt(call, "qO:b:f:")
    if len(operands) != 1:
        raise refuse(call)
    disk, letter = world.disk_of(operands[0])
    if disk is None or letter not in disk.label:
        return fail(f"newfs: {operands[0]}: No such file or directory")
    if disk.label[letter].fstype != "4.2BSD":
        return fail(f"newfs: {operands[0]}: {disk.label[letter].fstype} partition")
    disk.filesystems[letter] = "ffs"
    kind = f"FFS{options['O']}" if "O" in options else facts(world).newfs
    mounted = disk.label[letter].mounted
    world.act("newfs", f"{disk.name}{letter}", f"{kind} for {mounted}" if mounted else kind)
    return Done()
    yield Stdin()


@standin("fsck", "fsck_ffs")
def fsck(call: Call, world: World) -> Steps:
    """fsck(8): a file system that was made here is clean."""
    _, operands = getopt(call, "fpyn")
    for word in operands:
        disk, letter = world.disk_of(word)
        if disk is None or letter not in disk.filesystems:
            return fail(f"fsck: {word}: No such file or directory", 8)
    return Done()
    yield Stdin()


MOST_READ = 2 << 20
"""Bytes that one dd reads from a stand-in disk."""
_DD = ("if", "of", "bs", "ibs", "obs", "count", "seek", "skip", "status", "conv")


@standin("dd", phases=BOTH)
def dd(call: Call, world: World) -> Steps:
    """dd(1): on disks it is pretended and recorded, elsewhere the host's dd does it."""
    words: dict[str, str] = {}
    for arg in call.args:
        key, _, value = arg.partition("=")
        if key not in _DD or not value:
            raise refuse(call, arg)
        words[key] = value
    target, source = words.get("of", ""), words.get("if", "")
    out_disk, out_letter = world.disk_of(target) if target.startswith("/dev/") else (None, "")
    in_disk, in_letter = world.disk_of(source) if source.startswith("/dev/") else (None, "")
    size = _number(words.get("bs", "512"))
    if size is None:
        raise refuse(call, f"bs={words['bs']}")
    if out_disk is not None:
        return _write_disk(call, world, out_disk, out_letter, words, size)
    if in_disk is not None:
        return _read_disk(in_disk, in_letter, words, size)
    args = [f"bs={size}", *(f"{k}={v}" for k, v in words.items() if k != "bs")]
    if source.endswith("random"):
        args.append("iflag=fullblock")
    return Exec("dd", tuple(args))
    yield Stdin()


def _number(word: str) -> int | None:
    """A number of dd(1), with b, k, m or g behind it."""
    found = re.fullmatch(r"(\d+)([bkmgBKMG]?)", word)
    if not found:
        return None
    unit = {"": 1, "b": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[found[2].lower()]
    return int(found[1]) * unit


def _records(number: int, size: int) -> str:
    return (
        f"{number}+0 records in\n{number}+0 records out\n"
        f"{number * size} bytes transferred in 0.010 secs ({number * size * 100} bytes/sec)"
    )


def _write_disk(
    call: Call, world: World, disk: StandInDisk, letter: str, words: dict[str, str], size: int
) -> Done:
    source = words.get("if", "")
    kinds = {"/dev/zero": "zeros", "/dev/urandom": "random", "/dev/random": "random"}
    if source not in kinds or letter not in ("", "c"):
        raise refuse(call, "only zeros and random data, on a whole disk")
    if not disk.writable:
        return fail(f"dd: {words['of']}: Read-only file system")
    start = int(words.get("seek", "0")) * size
    wanted = int(words["count"]) * size if "count" in words else disk.sectors * SECTOR
    room = max(disk.sectors * SECTOR - start, 0)
    written = min(wanted, room)
    if start == 0 and written:
        disk.wipe_start()
    if kinds[source] == "random":
        disk.random_sectors += written // SECTOR
    _merge_write(world, disk, kinds[source], start, written)
    status = 1 if "count" not in words or wanted > room else 0
    message = _records(written // size, size)
    if status:
        message = f"dd: {words['of']}: end of device\n{message}"
    return Done(status, b"", b"" if words.get("status") == "none" else text(message))


def _merge_write(world: World, disk: StandInDisk, kind: str, start: int, written: int) -> None:
    """Pieces that follow each other are one line of the journal."""
    last = world.actions[-1] if world.actions else None
    begin = start
    if last and last.program == "dd" and last.target == disk.name:
        found = re.fullmatch(rf"{kind} from byte (\d+) to (\d+)", last.detail)
        if found and int(found[2]) == start:
            world.actions.pop()
            begin = int(found[1])
    world.act("dd", disk.name, f"{kind} from byte {begin} to {start + written}")


def _read_disk(disk: StandInDisk, letter: str, words: dict[str, str], size: int) -> Done:
    end = disk.sectors * SECTOR
    skip = int(words.get("skip", "0")) * size
    left = max(0, end - skip)
    count = min(int(words.get("count", left // size + 1)), MOST_READ // size + 1)
    # Beyond its first MB a stand-in disk is blank.
    data = disk.first_bytes(1 << 20)
    if skip >= 1 << 20:
        data, skip = bytes(min(left, count * size)), 0
    if letter not in ("", "c"):
        if letter not in disk.label:
            return fail(f"dd: {words['if']}: Device not configured")
        offset = disk.label[letter].offset * SECTOR
        data = data[offset:].ljust(1 << 16, b"\x00")
    data = data[skip : skip + count * size]
    err = b"" if words.get("status") == "none" else text(_records(count, size))
    return Done(0, b"" if words.get("of") == "/dev/null" else data, err)


@standin("installboot")
def installboot(call: Call, world: World) -> Steps:
    """installboot(8): `-r ROOT DISK`, `-c` (7.x; also copies to an EFI System partition); for a
    softraid volume the chunk's disk gets the blocks.

    On a disk with an EFI System partition only the EFI loaders are written, and /dev/efi is
    opened: a machine started by its BIOS has none.
    """
    options, operands = getopt(call, "cvr:")
    root = options.get("r", "")
    if len(operands) != 1:
        raise refuse(call)
    disk, _ = world.disk_of(operands[0])
    if disk is None:
        return fail(f"installboot: open: {operands[0]}: No such file or directory")
    physical = world.disk_of(disk.chunk)[0] if disk.chunk else disk
    if physical is None or (physical.mbr is None and physical.gpt is None):
        return fail("installboot: no OpenBSD partition")
    efi = efi_system_partition(physical)
    names: tuple[str, ...] = ("boot", "biosboot")
    if efi:
        names = facts(world).efi_loaders
    for name in names:
        if (yield Exists(f"{root}/usr/mdec/{name}")) is None:
            return fail(f"installboot: {root}/usr/mdec/{name}: No such file or directory")
    if efi and not world.machine.efi and facts(world).dhcp_client == "dhcpleased":
        world.act("installboot", disk.name, "no /dev/efi: the BIOS started this", status=1)
        return fail("installboot: open: Device not configured")
    physical.bootable = efi == world.machine.efi
    world.unbootable = "" if physical.bootable else _unbootable(world, physical)
    what = "EFI loaders" if efi else "boot blocks"
    where = f"{disk.name}, {what} on {physical.name}" if disk.chunk else f"{disk.name}, {what}"
    world.act("installboot", disk.name, f"boot loader for {where}")
    return Done()


def _unbootable(world: World, disk: StandInDisk) -> str:
    if world.machine.efi:
        return f"it starts by UEFI, and {disk.name} has no EFI System partition (an MBR)"
    return f"its BIOS starts from an MBR, and {disk.name} has a GPT"
