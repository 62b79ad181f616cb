"""ftp, signify, sha256, tar: the sets.  Signatures and hashes are really checked.

A large file of the CD travels as a token (`world.token`): sha256 then hashes the file in the
ISO, and tar takes note of it without unpacking.  Small sets, the site set among them, are
really unpacked: their members are looked at here, bounded, and the host's tar unpacks them in
the sandbox.  Sources: ftp(1), signify(1), sha256(1), tar(1) of 6.6; openbsd.md section 3.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
from dataclasses import dataclass
from typing import BinaryIO

from obsdimg.core.unpack import ArchiveError, ArchiveLimits, open_gzip, read_tar
from obsdimg.rehearsal.call import (
    BOTH,
    Call,
    Done,
    Exists,
    ReadFile,
    RefusedError,
    Shell,
    Spool,
    Steps,
    WriteFile,
    fail,
    getopt,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.world import SetState, World, token, token_path
from obsdimg.signify.errors import VerificationError, WrongKeyError
from obsdimg.signify.keys import SignifyPublicKey
from obsdimg.signify.message import verify_embedded

MAX_UNPACKED = 192 << 20
"""Bytes of an archive when unpacked."""
MAX_MEMBERS = 20_000
MAX_TOKEN = 4096
MAX_HASHED = 16 << 30
"""Bytes of large sets that are hashed, all together."""
WHOLE = 32 << 20
"""Bytes: site sets up to this size are unpacked."""
SMALL = 8 << 20
"""Bytes: other sets up to this size are unpacked."""


def unpacked(name: str, size: int) -> bool:
    """Whether a file of the CD travels whole, and a set is really unpacked."""
    return size <= (WHOLE if name.startswith("site") else SMALL)


@standin("ftp")
def ftp(call: Call, world: World) -> Steps:
    """ftp(1): `file:` URLs to stdout or a file; everything else is unreachable."""
    options, operands = getopt(call, "aVvmMD:o:w:")
    if len(operands) != 1 or "o" not in options:
        raise refuse(call)
    url = operands[0]
    if not url.startswith("file:"):
        host = url.split("://", 1)[-1].split("/")[0]
        return fail(f"ftp: {host}: no address associated with name")
    path = posixpath.normpath("/" + url.removeprefix("file:").lstrip("/"))
    found = _from_cd(world, path, options.get("D", ""))
    if isinstance(found, str) and (yield Exists(found)) is None:
        return fail(f"ftp: Can't open file {path}: No such file or directory")
    title = b""
    if "D" in options and "m" in options:
        title = text(f"{options['D']} {path.rpartition('/')[2]:<20} 100% |{'*' * 26}|")
    if options["o"] != "-":
        if isinstance(found, bytes):
            yield WriteFile(options["o"], found)
        else:
            yield Shell('$H/cat "$1" >"$2"', (found, options["o"]))
        return Done(0, b"", title)
    if isinstance(found, bytes):
        return Done(0, found, title)
    if (yield Spool(found)) is None:
        return fail(f"ftp: Can't open file {path}: Permission denied")
    return Done(0, b"", title, spool=True)


def _from_cd(world: World, path: str, title: str) -> bytes | str:
    """The token, if `path` is a large file of the mounted CD, or one of its copies that an
    installed system has; else where to read it."""
    mount = next((m for m in world.mounts.values() if "cd0" in m.device), None)
    system = world.machine.installed
    inside = ""
    if mount is not None and path.startswith(f"{mount.point}/"):
        inside = path[len(mount.point) :]
    elif system is not None and path.startswith(f"/mnt{system.place}/"):
        inside = system.sets + path[len(f"/mnt{system.place}") :]
    if inside not in set(world.cd.paths()):
        return path
    name, size = inside.rpartition("/")[2], world.cd.size(inside)
    state = world.sets.setdefault(inside, SetState(name, size))
    if title.startswith("Installing"):
        state.installed = True
        world.installing = inside
    if not unpacked(name, size) or name.startswith("bsd"):
        return token(inside)
    return path


@standin("sha256", "sha512", phases=BOTH)
def sha256(call: Call, world: World) -> Steps:
    """sha256(1): of stdin or files; `-q`, `-h FILE`, `-p`; tokens are hashed in the ISO."""
    options, operands = getopt(call, "qprh:b")
    if "b" in options or "r" in options:
        raise refuse(call)
    algorithm = call.name
    lines = []
    if not operands:
        spool = Spool()
        yield spool
        value = _hash(world, spool.stream, algorithm)
        if "h" in options:
            yield WriteFile(options["h"], text(value))
            return Done(spool="p" in options)
        return Done(0, text(value), spool="p" in options)
    for path in operands:
        spool = Spool(path)
        if (yield spool) is None:
            return fail(f"{algorithm}: {path}: No such file or directory")
        value = _hash(world, spool.stream, algorithm)
        lines.append(value if "q" in options else f"{algorithm.upper()} ({path}) = {value}")
    return Done(0, text(lines))


def _token_in(stream: BinaryIO) -> str | None:
    """The CD path that a spooled token stands for, or None; the stream stays at its start."""
    path = token_path(stream.read(MAX_TOKEN))
    stream.seek(0)
    return path


def _hash(world: World, stream: BinaryIO, algorithm: str) -> str:
    path = _token_in(stream)
    if path is None:
        value = hashlib.file_digest(stream, algorithm).hexdigest()  # type: ignore[arg-type]
        if algorithm == "sha256":
            _note_hash(world, value, stream.tell())
        return value
    state = _known_set(world, path)
    if algorithm == "sha256" and state.sha256:
        return state.sha256
    world.hashed += world.cd.size(path)
    if world.hashed > MAX_HASHED:
        raise RefusedError("the sets were hashed more often than any installer would")
    with world.cd.open(path) as source:
        value = hashlib.file_digest(source, algorithm).hexdigest()  # type: ignore[arg-type]
    if algorithm == "sha256":
        state.sha256 = value
    return value


def _note_hash(world: World, value: str, size: int) -> None:
    """Remember the hash of content that came through a pipe, without its name: it is that of the
    set which the list says has it, else of the first one of that length that has none."""
    alike = [state for state in world.sets.values() if state.size == size]
    if any(state.sha256 == value == state.listed for state in alike):
        return
    alike = [state for state in alike if not state.sha256]
    for state in sorted(alike, key=lambda state: state.listed != value)[:1]:
        state.sha256 = value


def _known_set(world: World, path: str) -> SetState:
    """The set of a token.  Anybody in the sandbox can make up a token: not every one is true."""
    if path not in world.sets:
        raise RefusedError("a token that stands for no set")
    return world.sets[path]


@standin("signify", phases=BOTH)
def signify(call: Call, world: World) -> Steps:
    """signify(1) as the ramdisk has it: `-V` only, embedded signatures (`-e`)."""
    options, operands = getopt(call, "Veqp:x:m:")
    if "V" not in options or not {"e", "p", "x", "m"} <= set(options) or operands:
        return fail("usage: signify -V [-eqz] [-p pubkey] [-t keytype] [-x sigfile] -m message")
    key = yield ReadFile(options["p"])
    if key is None:
        world.signature = f"no key {options['p']}"
        return fail(f"signify: can't open {options['p']} for reading: No such file or directory")
    signed = yield ReadFile(options["x"])
    if signed is None:
        return fail(f"signify: can't open {options['x']} for reading: No such file or directory")
    try:
        public = SignifyPublicKey.parse(key, options["p"])
        message = verify_embedded(signed, public, "SHA256.sig").data
    except WrongKeyError:
        world.signature = "signed by another key"
        return fail("signify: verification failed: checked against wrong key")
    except VerificationError as error:
        world.signature = error.message
        return fail("signify: signature verification failed")
    world.signature = "verified"
    _note_listed(world, message)
    if options["m"] == "-":
        return Done(0, message)
    yield WriteFile(options["m"], message)
    return Done(0, b"" if "q" in options else text("Signature Verified"))


def _note_listed(world: World, message: bytes) -> None:
    """Remember the hashes of the signed list, for the report."""
    listed = {}
    for line in message.decode(errors="replace").splitlines():
        name, found, value = line.removeprefix("SHA256 (").partition(") = ")
        if found:
            listed[name] = value
    for path in world.cd.paths():
        name = path.rpartition("/")[2]
        if name in listed:
            state = world.sets.setdefault(path, SetState(name, world.cd.size(path)))
            state.listed = listed[name]


@standin("tar", phases=BOTH)
def tar(call: Call, world: World) -> Steps:
    """tar(1): unpack sets and other archives, list the time zones."""
    if call.args[:2] == ("cvf", "/dev/null"):
        if call.cwd != "/mnt/usr/share/zoneinfo":
            raise refuse(call)
        return Done(0, text([zone.rstrip("/") for zone in world.zones]))
    words = list(call.args)
    if words and not words[0].startswith("-"):
        words[0] = "-" + words[0]
    spelled = Call(call.name, tuple(words), call.cwd, call.phase)
    options, operands = getopt(spelled, "xzphtvf:C:")
    folder = options.get("C", ".")
    while operands[:1] == ["-C"] and len(operands) > 1:
        folder, operands = operands[1], operands[2:]
    if "x" not in options or "f" not in options:
        raise refuse(call, "only unpacking is known")
    spool = Spool("" if options["f"] == "-" else options["f"])
    if (yield spool) is None:
        return fail(f"tar: Failed open to read on {options['f']}")
    path = _token_in(spool.stream)
    into = f"/mnt{folder}" if call.phase == "installed" else folder
    if path is not None:
        return (yield from _large_set(world, path, into))
    place = _Place(folder, into, tuple(operands), call.phase == "installed", "z" in options)
    return (yield from _unpack(world, spool.stream, place))


def _large_set(world: World, path: str, folder: str) -> Steps:
    """A set that is not unpacked: its size counts, and base brings a skeleton of a system."""
    state = _known_set(world, path)
    world.installing = ""
    with world.cd.open(path) as stream:
        if stream.read(2) != b"\x1f\x8b":
            state.error = "not a gzip file"
            return fail("tar: Failed open to read: not in gzip format")
        stream.seek(-4, io.SEEK_END)
        size = int.from_bytes(stream.read(4), "little")
    if not world.charge(_home_of(state.name, folder), size):
        state.error = "disk full"
        return _full(folder)
    if state.name.startswith("base"):
        yield Shell('$H/cp -Rlnp /.rehearsal/skeleton/. "$1"/', (folder,))
    return Done()


def _home_of(name: str, folder: str) -> str:
    """Where most of a set's bytes land."""
    place = "/usr/X11R6" if name.startswith("x") else "/usr"
    return f"{folder.rstrip('/')}{place}"


def _full(folder: str) -> Done:
    return fail(f"\n{folder}: write failed, file system is full\ntar: No space left on device")


@dataclass(frozen=True)
class _Place:
    """Where to unpack: folder as the caller names it, and as the ramdisk sees it; `packed`: the
    archive is a gzip."""

    folder: str
    absolute: str
    members: tuple[str, ...]
    inside: bool
    packed: bool


def _unpack(world: World, stream: BinaryIO, place: _Place) -> Steps:
    state = _being_installed(world)
    try:
        found = read_members(stream, packed=place.packed)
    except ArchiveError as error:
        if state:
            state.error = "not a tar archive"
        end = "\ntar: End of archive volume 1 reached" if error.message.startswith("gzip") else ""
        return fail(error.message + end)
    for member in found:
        target = f"{place.absolute.rstrip('/')}/{member.name.lstrip('./')}"
        if member.isfile() and not world.charge(target, member.size):
            if state:
                state.error = "disk full"
            return _full(place.folder)
    script = (
        f'f=$1; shift; $H/tar -x{"z" if place.packed else ""}pf $q.spool -C "$f"'
        ' --no-same-owner --keep-directory-symlink "$@"'
    )
    if (yield Shell(script, (place.folder, *place.members))) is None:
        return fail("tar: unpacking failed")
    if state:
        state.unpacked = True
        if state.name.startswith("base"):
            yield Shell('$H/cp -Rlnp /.rehearsal/skeleton/. "$1"/', (place.folder,))
        if state.name.startswith("site"):
            world.landed += found
    elif place.inside and place.folder == "/":  # elsewhere it is scratch, not what lands
        world.landed += found
    return Done()


def _being_installed(world: World) -> SetState | None:
    """The set that ftp sends just now: sets are installed one after the other."""
    path = world.installing
    world.installing = ""
    return world.sets.get(path)


def read_members(stream: BinaryIO, *, packed: bool = False) -> list[tarfile.TarInfo]:
    """The members of a tar archive.  Raises ArchiveError."""
    if packed:
        stream = open_gzip(stream, MAX_UNPACKED)
    limits = ArchiveLimits(MAX_UNPACKED, MAX_MEMBERS)
    return [member for member, _ in read_tar(stream, limits)]
