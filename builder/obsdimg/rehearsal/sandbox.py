"""The root that the installer runs in: ramdisk, stand-ins, a few of the host's tools, nothing else.

Linux: user, mount, PID, network, UTS and IPC namespaces by unshare(1), no privileges needed;
where those are forbidden, as root, a plain chroot.  Everything is copied in, nothing of the
host is mounted but /dev/null, zero, random, urandom and tty.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core import process
from obsdimg.core.errors import ObsdimgError
from obsdimg.rehearsal import skeleton
from obsdimg.rehearsal.call import REGISTRY
from obsdimg.rehearsal.programs.sets import unpacked
from obsdimg.rehearsal.ramdisk import RamdiskNode
from obsdimg.rehearsal.world import Cd

OURS = ".rehearsal"
"""The folder of the sandbox that holds the machinery."""


def _words(text: str) -> list[str]:
    return text.split()


REPLY_SLOTS = 256
"""FIFOs for replies; a call uses the one of its process id modulo this.  Few calls live at the
same time, and process ids come in sequence, so that no two share one."""

LOCAL = _words(
    """
    cat cp ln ls mkdir chmod tee touch rmdir rm mv grep egrep fgrep sed gzip gunzip gzcat
    more less sleep doas
    """
)
"""Commands that the client runs by itself."""

TOOLS = _words(
    """
    cat cp ln ls mkdir chmod tee touch rmdir rm mv grep sed gzip sleep tar dd chroot
    install
    """
)
"""The host's tools behind the stand-ins."""

INSTALLED_TOOLS = _words(
    """
    awk basename cmp comm cut diff dirname env expr false find head id join mktemp nl od
    openssl paste printf readlink sort tail test tr true tsort uniq wc xargs
    """
)
"""Tools that an installed system has and a ramdisk has not: the host's own."""

_INSTALLED_STANDINS = _words(
    """
    cat cp ln ls mkdir chmod tee touch rmdir rm mv grep egrep fgrep sed gzip gunzip gzcat
    sleep doas
    """
)

_KSH = ("mksh", "oksh", "loksh", "ksh")
_DEVICES = ("null", "zero", "random", "urandom", "tty")
_UNSHARE = _words(
    """
    --user --map-root-user --mount --pid --net --uts --ipc --fork --kill-child
    """
)
_START = ". /.profile"
_SETUP = f"""
set -e
cd "$1"
for d in {" ".join(_DEVICES)}; do
	mount --bind /dev/$d dev/$d
	mount --bind /dev/$d mnt/dev/$d
done
setsid --ctty --wait chroot . /bin/ksh -c '{_START}'
"""


class SandboxError(ObsdimgError):
    """This system cannot hold a rehearsal."""


@dataclass(frozen=True)
class Host:
    """What the rehearsal uses of this system: a ksh, tools by name, libraries to copy."""

    ksh: Path
    tools: Mapping[str, Path]
    libraries: tuple[Path, ...]
    namespaces: bool


def find_host() -> Host:
    """Look at this system once.  Raises SandboxError, saying what is missing."""
    if sys.platform != "linux":
        raise SandboxError(
            "a rehearsal needs Linux: it isolates the installer with namespaces",
            "run it on a Linux machine or in a container; `obsdimg smoke` works elsewhere",
        )
    ksh = next((found for name in _KSH if (found := shutil.which(name))), None)
    if ksh is None:
        raise SandboxError("no ksh on this system", "install the package mksh (or oksh)")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
    tools = {n: f for n in (*TOOLS, *INSTALLED_TOOLS) if (f := shutil.which(n, path=path))}
    missing = [n for n in (*TOOLS, "setsid") if not shutil.which(n, path=path)]
    if missing:
        raise SandboxError(f"{missing[0]}: program not found", "install coreutils and util-linux")
    namespaces = _namespaces_work()
    if not namespaces and os.geteuid() != 0:
        raise SandboxError(
            "this system lets an ordinary user make no namespaces",
            "allow them (sysctl kernel.unprivileged_userns_clone=1), or run as root",
        )
    real = {n: Path(f).resolve() for n, f in tools.items()}
    shell = Path(ksh).resolve()
    return Host(shell, real, _libraries([shell, *real.values()]), namespaces)


def _namespaces_work() -> bool:
    if not shutil.which("unshare"):
        return False
    probe = ["unshare", *_UNSHARE, "true"]
    return process.run(probe, timeout=10, check=False).returncode == 0


def _libraries(programs: Iterable[Path]) -> tuple[Path, ...]:
    """The shared libraries and the loader of dynamic programs, as ldd(1) lists them."""
    listed = process.run(["ldd", *programs], timeout=30, check=False).stdout.decode()
    found = re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", listed, re.MULTILINE)
    return tuple(sorted({Path(word) for word in found}))


class Root:
    """The folder that becomes `/`; made in `folder`, which is private and ours to remove."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.path = folder / "root"
        self.host = host
        self.path.mkdir(mode=0o755)

    def build(
        self, tree: Mapping[str, RamdiskNode], programs: Iterable[str], cd: Cd, version: str
    ) -> None:
        """Everything the installer will find."""
        _unpack(self.path, tree)
        self._machinery()
        self._programs(programs)
        self._devices(tree)
        self._cd(cd)
        self._skeleton(skeleton.files(version))

    def _machinery(self) -> None:
        first = self.path / OURS
        for base in (self.path, self.path / "mnt"):
            ours = base / OURS
            (ours / "q").mkdir(parents=True, exist_ok=True)
            os.mkfifo(ours / "requests", 0o600)
            (ours / "reply").mkdir()
            for slot in range(REPLY_SLOTS):
                os.mkfifo(ours / "reply" / str(slot), 0o600)
            (ours / "host").mkdir()
            for name in TOOLS:
                target = ours / "host" / name
                if base == self.path:
                    _copy(self.host.tools[name], target)
                else:
                    os.link(first / "host" / name, target)
            for library in self.host.libraries:
                target = base / str(library).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if base == self.path:
                    _copy(library, target)
                else:
                    os.link(self.path / str(library).lstrip("/"), target)
        _copy(self.host.ksh, first / "ksh")
        client = Path(__file__).with_name("client.ksh").read_bytes()
        (first / "client").write_bytes(client)
        (first / "client").chmod(0o755)

    def _programs(self, programs: Iterable[str]) -> None:
        for path in programs:
            target = self.path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shell = target.name in ("ksh", "sh")
            os.link(self.path / OURS / ("ksh" if shell else "client"), target)

    def _devices(self, tree: Mapping[str, RamdiskNode]) -> None:
        # The new system's too: install.site may ask on /dev/tty.
        for dev in (self.path / "mnt/dev", self.path / "dev"):
            dev.mkdir(parents=True, exist_ok=True)
            for name in _DEVICES:
                (dev / name).unlink(missing_ok=True)
                if self.host.namespaces:
                    (dev / name).touch()
                else:
                    number = Path(f"/dev/{name}").stat().st_rdev
                    os.mknod(dev / name, stat.S_IFCHR | 0o666, number)
        for name in ("console", "stderr"):
            (dev / name).unlink(missing_ok=True)
            (dev / name).symlink_to("tty")
        if "/dev/MAKEDEV" not in tree:
            (dev / "MAKEDEV").write_text(_MAKEDEV)

    def _cd(self, cd: Cd) -> None:
        """Small files whole; large ones as holes of the right size, for `ls`."""
        top = self.path / OURS / "cd"
        top.mkdir()
        for path in cd.paths():
            target = top / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            size = cd.size(path)
            with target.open("xb") as stream:
                if unpacked(target.name, size):
                    with cd.open(path) as source:
                        shutil.copyfileobj(source, stream)
                else:
                    stream.truncate(size)
            target.chmod(cd.mode(path) | 0o200)

    def _skeleton(self, files: Mapping[str, tuple[int, bytes]]) -> None:
        top = self.path / OURS / "skeleton"
        for name in skeleton.DIRECTORIES:
            (top / name).mkdir(parents=True, exist_ok=True)
        for path, (mode, content) in files.items():
            target = top / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(mode)
        for name in ("ksh", "sh"):
            os.link(self.path / OURS / "ksh", top / "bin" / name)
        for name in INSTALLED_TOOLS:
            if name in self.host.tools:
                _copy(self.host.tools[name], top / "usr/bin" / name)
        known = [n for n, phase in REGISTRY if phase == "installed"]
        for name in {*known, *_INSTALLED_STANDINS}:
            os.link(self.path / OURS / "client", top / "usr/bin" / name)

    def start(self) -> tuple[subprocess.Popen[bytes], int, int]:
        """Start the root shell on a new pseudo terminal: (process, master, slave).

        Raises SandboxError.
        """
        master, slave = pty.openpty()
        if self.host.namespaces:
            argv = ["unshare", *_UNSHARE, "/bin/sh", "-c", _SETUP, "sh", str(self.path)]
        else:
            argv = [
                "setsid",
                "--ctty",
                "--wait",
                "chroot",
                str(self.path),
                "/bin/ksh",
                "-c",
                _START,
            ]
        try:
            child = subprocess.Popen(
                argv,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=self.path,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"},
                start_new_session=True,
            )
        except OSError as error:
            os.close(master)
            os.close(slave)
            raise SandboxError(f"the rehearsal cannot be started: {error.strerror}") from error
        return child, master, slave

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """End everything that still runs in the sandbox."""
        if not self.host.namespaces:
            _kill_chrooted(self.path)
        process.kill_group(child)


def _kill_chrooted(root: Path) -> None:
    """Without a PID namespace: kill every process whose root is the sandbox."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "root").readlink() == root:
                    os.kill(int(entry.name), 9)
            except OSError:
                continue


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


_UNUSED_NODE = re.compile(r"/dev/r?(wd|fd|sd[3-9])\d*[a-p]?$")
"""Nodes of disks that no stand-in machine has; MAKEDEV can still make them."""


def _unpack(root: Path, tree: Mapping[str, RamdiskNode]) -> None:
    """Write the ramdisk's files; no path has links on its way, since they come parents first."""
    for path, node in sorted(tree.items()):
        if _UNUSED_NODE.match(path):
            continue
        target = root / path.lstrip("/")
        if ".." in target.parts:
            raise SandboxError(f"the ramdisk holds a strange name: {path}")
        if any(parent.is_symlink() for parent in target.parents if parent != root):
            raise SandboxError(f"the ramdisk holds {path} below a symbolic link")
        target.parent.mkdir(parents=True, exist_ok=True)
        if node.kind == "dir":
            target.mkdir(exist_ok=True)
            target.chmod(node.mode | 0o700)
        elif node.kind == "link":
            target.symlink_to(node.data.decode())
        else:
            target.write_bytes(node.data)
            target.chmod(node.mode | 0o600)


def remove_tree(folder: Path) -> None:
    """Remove the sandbox, folders without permissions included."""

    def unlock(function: object, path: str, error: object) -> None:
        Path(path).parent.chmod(0o700)
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).chmod(0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)

    shutil.rmtree(folder, onerror=unlock)


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
