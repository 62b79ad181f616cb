"""What lies in the sandbox: ramdisk, stand-ins, a few of the host's tools, nothing else.

The installer's sandbox holds the ramdisk and the CD.  For each `chroot /mnt` there is another
one, with the new system's files (which travel there and back as an archive) and the tools that
an installed system has.  Tools and libraries are the host's files, bound read-only.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from obsdimg.core.errors import printable
from obsdimg.rehearsal import skeleton
from obsdimg.rehearsal.call import REGISTRY
from obsdimg.rehearsal.host import INSTALLED_TOOLS, TOOLS, RehearsalHost, SandboxError
from obsdimg.rehearsal.limits import RehearsalLimits
from obsdimg.rehearsal.programs.sets import unpacked
from obsdimg.rehearsal.ramdisk import RamdiskNode
from obsdimg.rehearsal.sandbox import DEVICES, OURS, Sandbox
from obsdimg.rehearsal.world import Cd

REPLY_SLOTS = 256
"""FIFOs for replies; a call uses the one of its process id modulo this.  Few calls live at the
same time, and process ids come in sequence, so that no two share one."""

_LOCAL = """
    cat cp ln ls mkdir chmod tee touch rmdir rm mv grep egrep fgrep sed gzip gunzip gzcat
    more less sleep doas
"""
LOCAL = _LOCAL.split()
"""Commands that the client runs by itself."""
_INSTALLED_STANDINS = set(LOCAL) - {"more", "less"}
_HOST = f"/{OURS}/host"
_CLIENT = Path(__file__).with_name("client.ksh").read_bytes()
"""Read before anything is done as the sandbox's owner, who may not be able to."""


def _ksh(script: str) -> list[str]:
    return [f"{_HOST}/setsid", "--ctty", "--wait", f"/{OURS}/ksh", "-c", script]


def _binds(host: RehearsalHost) -> dict[str, Path]:
    found = {f"{_HOST}/{name}": host.tools[name] for name in TOOLS}
    return found | {str(library): library for library in host.libraries}


def ramdisk_sandbox(
    host: RehearsalHost,
    limits: RehearsalLimits,
    tree: Mapping[str, RamdiskNode],
    programs: Iterable[str],
    cd: Cd,
    version: str,
) -> Sandbox:
    """The sandbox of the installer, stopped at its start.  Raises SandboxError."""
    sandbox = Sandbox(host, limits, _ksh(". /.profile"), _binds(host))
    with _filling(sandbox) as root:
        _unpack(root, tree)
        _machinery(root, host)
        for path in programs:
            _link_program(root, path)
        _devices(root, tree)
        _copy_cd(root, cd, limits)
        _skeleton(root, skeleton.files(version))
    return sandbox


def installed_sandbox(
    host: RehearsalHost, limits: RehearsalLimits, archive: int, environment: bytes, words: list[str]
) -> Sandbox:
    """The sandbox of the new system, stopped at its start; it will run `words` there.

    `archive`: a descriptor of what lies in /mnt, a tar archive; `environment`: ksh that sets
    the caller's exported variables.  At the end `/.rehearsal/out` is the new archive.
    """
    binds = _binds(host)
    for name in INSTALLED_TOOLS:
        if name in host.tools:
            binds[f"/usr/bin/{name}"] = host.tools[name]
    command = _ksh(f". /{OURS}/start")
    sandbox = Sandbox(host, limits, [*command, "start", *words], binds, piped=True)
    with _filling(sandbox) as root:
        _machinery(root, host)
        ours = ["/bin/ksh", "/bin/sh"]
        known = {name for name, phase in REGISTRY if phase == "installed"}
        ours += [f"/usr/bin/{name}" for name in sorted(known | _INSTALLED_STANDINS)]
        for path in ours:
            _link_program(root, path)
        for name in ("console", "stderr"):
            (root / "dev" / name).symlink_to("tty")
        with (root / OURS / "in").open("xb") as stream:
            copy_descriptor(archive, stream.fileno(), limits.disk)
        (root / OURS / "env").write_bytes(environment)
        (root / OURS / "start").write_text(_START.replace("@ours@", " ".join(ours)))
        (root / OURS / "ours").write_text("".join(f".{path}\n" for path in binds))
    return sandbox


_START = f"""\
H=/{OURS}/host
$H/tar -xpf /{OURS}/in -C / --no-same-owner --keep-directory-symlink || exit 71
$H/rm -f /{OURS}/in
( . /{OURS}/env; cd /; "$@" ) </dev/null
st=$?
for p in @ours@; do
	[[ $p -ef /{OURS}/client || $p -ef /{OURS}/ksh ]] && print -r -- ".$p"
done >>/{OURS}/ours
$H/tar -cf /{OURS}/out --one-file-system -X /{OURS}/ours --exclude=./{OURS} '--exclude=./dev/?*' \\
	-C / . 2>/dev/null
exit $st
"""
PACK = "$H/tar -cf $q.in --one-file-system '--exclude=./dev/?*' -C /mnt . 2>/dev/null"
"""In the installer's sandbox: what lies in /mnt."""
UNPACK = (
    'for p in /mnt/* /mnt/.[!.]*; do [[ $p == /mnt/dev ]] || $H/rm -rf -- "$p"; done;'
    " $H/tar -xpf $q.data -C /mnt --no-same-owner --keep-directory-symlink"
)
"""And there again: what came back."""


@contextmanager
def _filling(sandbox: Sandbox) -> Iterator[Path]:
    """The sandbox's root, to be filled; what goes wrong ends it with one line."""
    try:
        with sandbox.host.owner():
            yield sandbox.path
    except OSError as error:
        sandbox.stop()
        sandbox.close()
        where = str(error.filename or "").removeprefix(str(sandbox.path))
        raise SandboxError(
            f"the rehearsal cannot be laid out: {printable(where)}: {error.strerror}",
            "the ramdisk or the CD holds more than a rehearsal takes: see docs/rehearsal.md",
        ) from error
    except BaseException:
        sandbox.stop()
        sandbox.close()
        raise


def _machinery(root: Path, host: RehearsalHost) -> None:
    ours = root / OURS
    (ours / "q").mkdir(parents=True)
    os.mkfifo(ours / "requests", 0o600)
    (ours / "reply").mkdir()
    for slot in range(REPLY_SLOTS):
        os.mkfifo(ours / "reply" / str(slot), 0o600)
    _copy(host.ksh, ours / "ksh")
    (ours / "client").write_bytes(_CLIENT)
    (ours / "client").chmod(0o755)


def _link_program(root: Path, path: str) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shell = target.name in ("ksh", "sh")
    os.link(root / OURS / ("ksh" if shell else "client"), target)


def _devices(root: Path, tree: Mapping[str, RamdiskNode]) -> None:
    for name in ("console", "stderr"):
        (root / "dev" / name).unlink(missing_ok=True)
        (root / "dev" / name).symlink_to("tty")
    if "/dev/MAKEDEV" not in tree:
        (root / "dev/MAKEDEV").write_text(_MAKEDEV)


def _copy_cd(root: Path, cd: Cd, limits: RehearsalLimits) -> None:
    """Small files whole; large ones as holes of the right size, for `ls`."""
    top = root / OURS / "cd"
    top.mkdir()
    room = limits.disk // 2
    for path in cd.paths():
        target = top / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        size = cd.size(path)
        with target.open("xb") as stream:
            if not unpacked(target.name, size):
                stream.truncate(size)
            else:
                room -= size
                if room < 0:
                    raise SandboxError(
                        f"the CD's small files are more than {limits.disk // 2 >> 20} MB",
                        "a rehearsal takes no more: see docs/rehearsal.md",
                    )
                with cd.open(path) as source:
                    shutil.copyfileobj(source, stream)
        target.chmod(cd.mode(path) | 0o200)


def _skeleton(root: Path, files: Mapping[str, tuple[int, bytes]]) -> None:
    top = root / OURS / "skeleton"
    for name in skeleton.DIRECTORIES:
        (top / name).mkdir(parents=True, exist_ok=True)
    for path, (mode, content) in files.items():
        target = top / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755)


def copy_descriptor(source: int, target: int, limit: int) -> None:
    """At most `limit` bytes from the start of one open file to another."""
    offset = 0
    while offset < limit:
        sent = os.sendfile(target, source, offset, min(limit - offset, 1 << 20))
        if not sent:
            return
        offset += sent


_UNUSED_NODE = re.compile(r"/dev/r?(wd|fd|sd[3-9])\d*[a-p]?$")
"""Nodes of disks that no stand-in machine has; MAKEDEV can still make them."""


def _unpack(root: Path, tree: Mapping[str, RamdiskNode]) -> None:
    """Write the ramdisk's files; no path has links on its way, since they come parents first."""
    ours = (f"/{OURS}", *(f"/dev/{name}" for name in DEVICES))
    for path, node in sorted(tree.items()):
        if _UNUSED_NODE.match(path) or path in ours:
            continue
        target = root / path.lstrip("/")
        if ".." in target.parts or path.startswith(f"/{OURS}/"):
            raise SandboxError(f"the ramdisk holds a strange name: {printable(path)}")
        if any(parent.is_symlink() for parent in target.parents if parent != root):
            raise SandboxError(f"the ramdisk holds {printable(path)} below a symbolic link")
        target.parent.mkdir(parents=True, exist_ok=True)
        if node.kind == "dir":
            target.mkdir(exist_ok=True)
            target.chmod(node.mode | 0o700)
        elif node.kind == "link":
            target.symlink_to(node.data.decode(errors="surrogateescape"))
        else:
            target.write_bytes(node.data)
            target.chmod(node.mode | 0o600)


_MAKEDEV = """#!/bin/sh
# obsdimg: nodes of disks, for a ramdisk without a MAKEDEV.
for i in "$@"; do
	case $i in
	[swc]d+([0-9]))
		for p in a b c d e f g h i j k l m n o p; do
			>$i$p
			>r$i$p
		done
		;;
	*)	echo "$i: unknown device"
		;;
	esac
done
"""
