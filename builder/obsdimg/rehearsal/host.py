"""What a rehearsal uses of this system: bubblewrap, a ksh, plain tools and their libraries.

`find_host` looks once and says what is missing: a package by its name, a setting by its name.
There is no second best: without bubblewrap nothing is run.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core import process
from obsdimg.core.bubblewrap import find_bubblewrap, forbidden_by, search_path
from obsdimg.core.errors import ObsdimgError


def _words(text: str) -> list[str]:
    return text.split()


TOOLS = _words(
    """
    cat cp ln ls mkdir chmod tee touch rmdir rm mv grep sed gzip sleep tar dd install setsid
    """
)
"""The host's tools behind the stand-ins."""

INSTALLED_TOOLS = _words(
    """
    awk basename cmp comm cut diff dirname env expr false find head id join mktemp nl od
    openssl paste printf readlink sort ssh-keygen tail test tr true tsort uniq wc xargs
    """
)
"""Tools that an installed system has and a ramdisk has not: the host's own."""

_OPENERS = {"openssl": "openssl", "ssh-keygen": "openssh-client"}
"""What install.site opens sealed secrets with, and its package."""
_KSH = ("mksh", "oksh", "loksh", "ksh")
OLDEST = (0, 8)
"""The first bubblewrap with `--size` and `--disable-userns`."""
NAMESPACES = (
    "--unshare-all",
    "--unshare-user",
    "--disable-userns",
    "--cap-drop",
    "ALL",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
)
"""Own user, mount, PID, IPC, UTS, network and cgroup namespaces; no capabilities (bwrap sets
no_new_privs always); ends with us."""
NOBODY = 65534


class SandboxError(ObsdimgError):
    """This system cannot hold a rehearsal, or not this one."""


@dataclass(frozen=True)
class RehearsalHost:
    """Programs of this system.  `uid` and `gid`: whom the sandbox belongs to outside of it, the
    user; nobody if that is root, so that a limit on processes holds and root's files are out of
    reach whatever happens."""

    bwrap: Path
    ksh: Path
    tools: Mapping[str, Path]
    libraries: tuple[Path, ...]
    uid: int
    gid: int

    @contextmanager
    def owner(self) -> Iterator[None]:
        """Make files as the sandbox's owner: the kernel lets only users that it knows make some
        there."""
        if os.geteuid() != 0:
            yield
            return
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)


def find_host() -> RehearsalHost:
    """Look at this system once.  Raises SandboxError, saying what is missing."""
    if sys.platform != "linux":
        raise SandboxError(
            "a rehearsal needs Linux: bubblewrap isolates the installer there",
            "run it on a Linux machine or in a virtual one; `obsdimg smoke` works elsewhere",
        )
    path = search_path()
    bwrap = find_bubblewrap()
    if bwrap is None:
        raise SandboxError(
            "bwrap: program not found; nothing of an ISO is run without a sandbox",
            "install the package bubblewrap",
        )
    _check_version(bwrap)
    ksh = next((found for name in _KSH if (found := shutil.which(name, path=path))), None)
    if ksh is None:
        raise SandboxError("no ksh on this system", "install the package mksh (or oksh)")
    tools = {n: f for n in (*TOOLS, *INSTALLED_TOOLS) if (f := shutil.which(n, path=path))}
    missing = [n for n in TOOLS if n not in tools]
    if missing:
        raise SandboxError(f"{missing[0]}: program not found", "install coreutils and util-linux")
    for name, package in _OPENERS.items():
        if name not in tools:
            raise SandboxError(f"{name}: program not found", f"install the package {package}")
    uid, gid = _owner()
    _check_namespaces(bwrap, uid, gid)
    real = {n: Path(f).resolve() for n, f in tools.items()}
    shell = Path(ksh).resolve()
    libraries = _libraries([shell, *real.values()])
    return RehearsalHost(Path(bwrap), shell, real, libraries, uid, gid)


def _check_version(bwrap: str) -> None:
    said = process.run([bwrap, "--version"], timeout=10, check=False).stdout.decode(
        errors="replace"
    )
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise SandboxError(
            f"{bwrap} is too old: it says {said.strip() or 'no version'!r}",
            f"install bubblewrap {wanted} or later",
        )


def _owner() -> tuple[int, int]:
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return nobody.pw_uid, nobody.pw_gid


def _check_namespaces(bwrap: str, uid: int, gid: int) -> None:
    """Try it.  Raises SandboxError that names the setting which forbids it."""
    argv = [bwrap, *NAMESPACES, "--size", "65536", "--tmpfs", "/"]
    for folder in ("/usr", "/bin", "/lib", "/lib64"):
        argv += ["--ro-bind-try", folder, folder]
    user, group, groups = as_owner(uid, gid)
    try:
        done = subprocess.run(
            [*argv, "/usr/bin/env", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            cwd="/",
            check=False,
            user=user,
            group=group,
            extra_groups=groups,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"{bwrap}: cannot be started: {error}", None) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SandboxError(
            f"bubblewrap cannot make a sandbox here: {said}",
            f"{forbidden_by()}; `obsdimg smoke` works there",
        )


def as_owner(uid: int, gid: int) -> tuple[int | None, int | None, list[int] | None]:
    """What Popen takes as `user`, `group` and `extra_groups` to start a program as the
    sandbox's owner."""
    return (uid, gid, []) if os.geteuid() == 0 else (None, None, None)


def _libraries(programs: Iterable[Path]) -> tuple[Path, ...]:
    """The shared libraries and the loader of dynamic programs, as ldd(1) lists them."""
    listed = process.run(["ldd", *programs], timeout=30, check=False).stdout.decode()
    found = re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", listed, re.MULTILINE)
    return tuple(sorted({Path(word) for word in found}))
