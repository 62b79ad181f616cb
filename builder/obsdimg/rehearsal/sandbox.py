"""One bubblewrap: a tmpfs as its root, a terminal of its own, limits, and an end.

It starts stopped: `path` leads into its still empty root, so that the files which it needs can
be put there, and `release` lets it run.  The tmpfs exists in the sandbox's own mount namespace
only: it goes with the last process, whatever ends that, and never was on a disk.  `folder` is a
descriptor of the root that outlives the processes.
"""

from __future__ import annotations

import json
import os
import pty
import resource
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from obsdimg.core import process
from obsdimg.rehearsal.host import NAMESPACES, RehearsalHost, SandboxError, as_owner
from obsdimg.rehearsal.limits import RehearsalLimits
from obsdimg.rehearsal.seccomp import seccomp_filter

DEVICES = ("null", "zero", "random", "urandom", "tty")
"""The host's devices in the sandbox's /dev."""
OURS = ".rehearsal"
"""The folder of the sandbox that holds the machinery."""
START_SECONDS = 20.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses: processes, bytes of their own memory, ticks of processor time that
    those living have used, files on its tmpfs."""

    processes: int
    memory: int
    ticks: int
    inodes: int


class Sandbox:
    """A sandbox for `command`, with `binds` (path inside: file of the host), read-only.

    `output` None: standard output is the terminal; else a pipe, to be read at `output_fd`.
    Raises SandboxError.  `stop` ends it, `close` forgets it.
    """

    def __init__(
        self,
        host: RehearsalHost,
        limits: RehearsalLimits,
        command: Sequence[str],
        binds: Mapping[str, Path],
        *,
        piped: bool = False,
    ) -> None:
        self.host, self.limits = host, limits
        self.master, self.slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.output_fd = -1
        self.folder = -1
        self._go = -1
        try:
            self.child, self.pid = self._start(command, binds, piped)
        except BaseException:
            self.close()
            raise
        try:
            self.path = self._find_root()
            self._limit()
        except BaseException:
            self.stop()
            self.close()
            raise

    def _start(
        self, command: Sequence[str], binds: Mapping[str, Path], piped: bool
    ) -> tuple[subprocess.Popen[bytes], int]:
        self._token = secrets.token_hex(16)
        blocked, self._go = os.pipe()
        told, tell = os.pipe()
        kept = [blocked, tell]
        argv = [str(self.host.bwrap), *NAMESPACES, "--uid", "0", "--gid", "0"]
        argv += ["--hostname", "rehearsal", "--size", str(self.limits.disk), "--tmpfs", "/"]
        for name in DEVICES:
            argv += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        for inside, source in binds.items():
            argv += ["--ro-bind", str(source), inside]
        code = seccomp_filter()
        if code is not None:
            kept.append(_memory_file(code))
            argv += ["--seccomp", str(kept[-1])]
        argv += ["--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "HOME", "/"]
        argv += ["--dir", f"/{self._token}", "--chdir", "/"]
        argv += ["--block-fd", str(blocked), "--info-fd", str(tell), "--", *command]
        user, group, groups = as_owner(self.host.uid, self.host.gid)
        try:
            child = subprocess.Popen(
                argv,
                stdin=self.slave,
                stdout=subprocess.PIPE if piped else self.slave,
                stderr=subprocess.STDOUT,
                pass_fds=kept,
                cwd="/",
                env={},
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=groups,
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(told)
            raise SandboxError(f"bubblewrap cannot be started: {error}") from error
        finally:
            for fd in kept:
                os.close(fd)
        if child.stdout is not None:
            self.output_fd = _own_copy(child.stdout)
        try:
            return child, _child_pid(told)
        except SandboxError:
            process.kill_group(child)
            raise
        finally:
            os.close(told)

    def _find_root(self) -> Path:
        """Wait until bwrap has moved to its new root, and open that."""
        path = Path(f"/proc/{self.pid}/root")
        until = time.monotonic() + START_SECONDS
        while not (path / self._token).exists():
            if self.child.poll() is not None:
                raise SandboxError(
                    f"bubblewrap ended at its start: exit {self.child.returncode}",
                    "run `bwrap --unshare-all --ro-bind / / true` to see why",
                )
            if time.monotonic() > until:
                raise SandboxError(
                    "bubblewrap's sandbox cannot be looked into", "is /proc mounted and readable?"
                )
            time.sleep(0.001)
        self.folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with self.host.owner():
            (path / self._token).rmdir()
        return path

    def _limit(self) -> None:
        """Limits on its first process, which all others inherit; nothing in there can raise
        them again."""
        limits = self.limits
        wanted = {
            resource.RLIMIT_AS: limits.process_memory,
            resource.RLIMIT_CPU: limits.processor,
            resource.RLIMIT_NPROC: limits.processes + _processes_of(self.host.uid),
            resource.RLIMIT_NOFILE: limits.files,
            resource.RLIMIT_FSIZE: limits.disk,
            resource.RLIMIT_CORE: 0,
        }
        with self.host.owner():
            for kind, value in wanted.items():
                _, hard = resource.prlimit(self.pid, kind)
                value = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.prlimit(self.pid, kind, (value, value))

    def release(self) -> None:
        """Let the command run."""
        with suppress(OSError):  # it may be gone already
            os.write(self._go, b"\n")
        os.close(self._go)
        self._go = -1

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.child.poll() is None

    def usage(self) -> Usage:
        """What it uses now."""
        # The kernel's count of files on a tmpfs holds even for those without a name.
        found = os.fstatvfs(self.folder)
        processes = memory = ticks = 0
        for pid in self._pids():
            with suppress(OSError, ValueError, IndexError):
                words = Path(f"/proc/{pid}/statm").read_text().split()
                processes += 1
                memory += (int(words[1]) - int(words[2])) * PAGE
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return Usage(processes, memory, ticks, found.f_files - found.f_ffree)

    def _pids(self) -> list[int]:
        try:
            wanted = os.readlink(f"/proc/{self.pid}/ns/pid")  # noqa: PTH115
        except OSError:
            return []
        found = []
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit():
                with suppress(OSError):
                    if os.readlink(f"/proc/{name}/ns/pid") == wanted:  # noqa: PTH115
                        found.append(int(name))
        return found

    def exceeded(self, used: Usage) -> str:
        """The limit that it is over, in words, or nothing."""
        if used.memory > self.limits.memory:
            return f"its processes use more than {self.limits.memory >> 20} MB of memory"
        if used.inodes > self.limits.inodes:
            return f"it made more than {self.limits.inodes} files"
        return ""

    def stop(self) -> None:
        """End everything in it, at once."""
        if self.child.poll() is None:
            # The first process of its PID namespace: the kernel ends all others with it, and
            # bwrap when it has seen that.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(5)
        process.kill_group(self.child)

    def close(self) -> None:
        """Close the descriptors; the files are gone then."""
        for fd in (self.master, self.slave, self.output_fd, self.folder, self._go):
            if fd >= 0:
                os.close(fd)
        self.master = self.slave = self.output_fd = self.folder = self._go = -1


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("obsdimg-seccomp")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _own_copy(stream: IO[bytes]) -> int:
    fd = os.dup(stream.fileno())
    stream.close()
    os.set_blocking(fd, False)
    return fd


def _child_pid(told: int) -> int:
    """The first process of the sandbox, which bwrap tells as JSON."""
    said = b""
    until = time.monotonic() + START_SECONDS
    while b"}" not in said:
        ready, _, _ = select.select([told], [], [], max(until - time.monotonic(), 0))
        data = os.read(told, 4096) if ready else b""
        if not data:
            raise SandboxError(
                "bubblewrap made no sandbox", "run `bwrap --unshare-all --ro-bind / / true`"
            )
        said += data
    return int(json.loads(said)["child-pid"])


def _processes_of(uid: int) -> int:
    """Threads that `uid` has now: kernels before 5.14 count them all for the limit, later ones
    those of the sandbox only."""
    if tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2] if n) >= (5, 14):
        return 0
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                if entry.stat().st_uid == uid:
                    found += len(list((entry / "task").iterdir()))
    return found
