"""bioctl: softraid CRYPTO volumes.

Sources: bioctl(8); openbsd.md sections 0, 4 and 13: up to 7.3 `-s` asks twice, from 7.4 once;
creating over an old volume without `-C force` opens that volume; messages as seen on 6.6.
"""

from __future__ import annotations

from collections.abc import Generator

from obsdimg.rehearsal.call import (
    Call,
    Done,
    ReadFile,
    Stdin,
    Step,
    Steps,
    fail,
    getopt,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.disks import CRYPTO_OFFSET, SoftraidVolume, StandInDisk, digest, duid
from obsdimg.rehearsal.machine import SECTOR
from obsdimg.rehearsal.programs.disk import facts
from obsdimg.rehearsal.world import World

CONTROLLER = "softraid0"
CALIBRATED = 123
"""Rounds that `-r auto` finds; what an emulated processor reached in a second [E66]."""


@standin("bioctl")
def bioctl(call: Call, world: World) -> Steps:
    """bioctl(8): status, `-c C` (create or open), `-d` (detach)."""
    options, operands = getopt(call, "qvsdC:c:k:l:p:r:")
    if len(operands) != 1:
        raise refuse(call)
    target = operands[0]
    if "c" in options:
        return (yield from _create(call, world, options, target))
    if "d" in options:
        return _detach(world, target)
    if set(options) - {"q", "v"}:
        raise refuse(call)
    return _status(world, target, short="q" in options)


def _status(world: World, target: str, *, short: bool) -> Done:
    volumes = [d for d in world.disks.values() if d.chunk]
    if target != CONTROLLER:
        volumes = [d for d in volumes if d.name == target]
        if target not in world.disks:
            return fail(f"bioctl: Can't open {target}: No such file or directory")
        if not volumes:
            return fail(f"bioctl: Can't locate {target} device via /dev/bio")
    if short:
        return Done(0, text([f"{v.name}: <{v.model}>, serial (unknown)" for v in volumes]))
    lines = ["Volume      Status               Size Device  "] if volumes else []
    for number, volume in enumerate(volumes):
        size = volume.sectors * SECTOR
        lines.append(f"{CONTROLLER} {number} Online  {size:>17} {volume.name:<7} CRYPTO")
        lines.append(f"          0 Online  {size:>17} 0:0.0   noencl <{volume.chunk}>")
    return Done(0, text(lines))


def _detach(world: World, target: str) -> Done:
    disk = world.disks.get(target)
    if disk is None or not disk.chunk:
        return fail(f"bioctl: Can't locate {target} device via /dev/bio")
    if any(m.device.startswith((f"/dev/{target}", disk.duid)) for m in world.mounts.values()):
        return fail(f"{CONTROLLER}: volume {target} is busy")
    del world.disks[target]
    world.act("bioctl", target, "detached")
    return Done()


def _create(call: Call, world: World, options: dict[str, str], target: str) -> Steps:
    if options["c"] != "C" or target != CONTROLLER or "l" not in options or "d" in options:
        raise refuse(call, "only CRYPTO volumes on softraid0")
    if options.get("C", "force") not in ("force", "noauto"):
        raise refuse(call, f"-C {options['C']}")
    disk, letter = world.disk_of(options["l"])
    if disk is None or letter not in disk.label:
        return fail(f"bioctl: could not open {options['l']}: Device not configured")
    if disk.label[letter].fstype != "RAID":
        return fail(f"{CONTROLLER}: {disk.name}{letter} is not of type RAID: invalid metadata")
    if any(d.chunk == f"{disk.name}{letter}" for d in world.disks.values()):
        return fail(f"{CONTROLLER}: chunk {disk.name}{letter} already in use")
    rounds = options.get("r", facts(world).kdf_rounds)
    least = facts(world).kdf_least
    if rounds != "auto" and (not rounds.isdigit() or int(rounds) < least):
        return fail(f"bioctl: number of KDF rounds is too small: {rounds}")
    secret = b""
    if "k" in options:
        error = _keydisk_error(world, options["k"])
        if error:
            return fail(error)
    else:
        answer = yield from _passphrase(call, world, options)
        if isinstance(answer, Done):
            return answer
        secret = answer
        world.secrets.add(secret.decode("utf-8", "replace"))
    old = disk.volumes.get(letter)
    stdin = "" if "k" in options else "<passphrase>"
    if old is not None and options.get("C") != "force":
        return _open(world, disk, letter, old, secret, options.get("k", ""), stdin)
    return _make(world, disk, letter, secret, rounds, options, stdin)


def _keydisk_error(world: World, word: str) -> str:
    disk, letter = world.disk_of(word)
    if disk is None or letter not in disk.label or disk.label[letter].fstype != "RAID":
        return f"{CONTROLLER}: invalid key disk {word}"
    return ""


def _passphrase(
    call: Call, world: World, options: dict[str, str]
) -> Generator[Step, bytes | None, bytes | Done]:
    """The passphrase from stdin or `-p FILE`, or the failure as Done."""
    if "p" in options:
        data = yield ReadFile(options["p"])
        if data is None:
            return fail(f"bioctl: could not open passphrase file: {options['p']}")
        line, newline, _ = data.partition(b"\n")
        if not newline:
            return fail("bioctl: invalid passphrase file")
        return line
    if "s" not in options:
        raise refuse(call, "a passphrase without -s or -p comes from the terminal")
    lines = ((yield Stdin()) or b"").split(b"\n")
    if facts(world).passphrase_twice and (len(lines) < 3 or lines[0] != lines[1]):
        return fail("Passphrases did not match")
    if not lines[0]:
        return fail("bioctl: invalid passphrase length")
    return lines[0]


def _open(
    world: World,
    disk: StandInDisk,
    letter: str,
    old: SoftraidVolume,
    secret: bytes,
    keydisk: str,
    stdin: str,
) -> Done:
    if (old.keydisk or keydisk) and old.keydisk != keydisk:
        return fail(f"{CONTROLLER}: incorrect key or passphrase")
    if not keydisk and digest(secret) != old.digest:
        world.act("bioctl", f"{disk.name}{letter}", "old volume, wrong passphrase", stdin, 1)
        return fail(f"{CONTROLLER}: incorrect key or passphrase")
    return _attach(world, disk, letter, old, "OLD volume opened, its data kept", stdin)


def _make(
    world: World,
    disk: StandInDisk,
    letter: str,
    secret: bytes,
    rounds: str,
    options: dict[str, str],
    stdin: str,
) -> Done:
    chunk = f"{disk.name}{letter}"
    inner = StandInDisk(
        "",
        disk.label[letter].size - CRYPTO_OFFSET,
        "OPENBSD, SR CRYPTO, 006",
        duid(f"volume on {chunk} {world.machine.clock}"),
    )
    volume = SoftraidVolume(digest(secret), rounds, inner, options.get("k", ""))
    disk.volumes[letter] = volume
    how = f"key disk {volume.keydisk}" if volume.keydisk else f"{rounds} KDF rounds"
    done = _attach(world, disk, letter, volume, f"new CRYPTO volume, {how}", stdin)
    if "v" in options and not volume.keydisk:
        number = CALIBRATED if rounds == "auto" else rounds
        note = text(f"Deriving key using bcrypt PBKDF with {number} rounds...")
        return Done(0, note + done.out)
    return done


def _attach(
    world: World, disk: StandInDisk, letter: str, volume: SoftraidVolume, what: str, stdin: str
) -> Done:
    unit = world.next_unit()
    volume.inner.name = unit
    volume.inner.chunk = f"{disk.name}{letter}"
    world.disks[unit] = volume.inner
    world.act("bioctl", f"{disk.name}{letter}", f"{what}, attached as {unit}", stdin)
    return Done(0, text(f"{CONTROLLER}: CRYPTO volume attached as {unit}"))
