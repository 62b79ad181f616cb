"""A libvirtd of its own: in a network and a mount namespace, so that nothing of this host's
libvirt, networks or files is touched, and nothing outside reaches it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

URI = "qemu:///system"

_START = """
set -e
d=$1
mkdir -p $d/etc $d/lib/images $d/cache $d/run $d/log
cp -rn /etc/libvirt/. $d/etc/
cat >$d/etc/qemu.conf <<X
security_driver = "none"
user = "root"
group = "root"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
X
printf 'auth_unix_rw = "none"\\nauth_unix_ro = "none"\\nunix_sock_group = "root"\\n' \\
    >$d/etc/libvirtd.conf
mkdir -p /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /run/libvirt
mount --bind $d/etc /etc/libvirt
mount --bind $d/lib /var/lib/libvirt
mount --bind $d/cache /var/cache/libvirt
mount --bind $d/log /var/log/libvirt
mount --bind $d/run /run/libvirt
ip link set lo up
exec libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirt/libvirtd.pid
"""


class World:
    """A running libvirtd with the network `default` and the storage pool `default`."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid = folder, pid

    def inside(self, *words: str | Path) -> list[str]:
        """`words` as a command line that runs where libvirtd is, in the current folder."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-n", "--"]
        shell = ["sh", "-c", 'cd "$0" && exec "$@"', str(Path.cwd())]
        return [*enter, *shell, *map(str, words)]

    def virsh(self, *words: str) -> str:
        done = subprocess.run(
            self.inside("virsh", "-q", "-c", URI, *words),
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def program(self, folder: Path) -> Path:
        """A `virsh` to put in front of PATH: it runs inside."""
        path = folder / "virsh"
        enter = f"exec nsenter -t {self.pid} -m -n --"
        path.write_text(f'#!/bin/sh\n{enter} {shutil.which("virsh")} "$@"\n')
        path.chmod(0o755)
        return path

    @contextlib.contextmanager
    def by_ssh(self, folder: Path) -> Iterator[str]:
        """An sshd on that host; gives the address for virsh.

        `virsh` and `ssh` in `folder` run on its network, but see nothing of its files: not the
        socket of its libvirtd.
        """
        for name in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True)
        (folder / "sshd_config").write_text(
            f"Port 2222\nListenAddress 127.0.0.1\nHostKey {folder}/host\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nPermitRootLogin yes\nStrictModes no\n"
            "PasswordAuthentication no\nPidFile none\n"
        )
        public = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:2222 {public}")
        options = f"-F none -i {folder}/user -o UserKnownHostsFile={folder}/known"
        for name, more in (("virsh", ""), ("ssh", options)):
            program = folder / name
            enter = f"exec nsenter -t {self.pid} -n --"
            program.write_text(f'#!/bin/sh\n{enter} {shutil.which(name)} {more} "$@"\n')
            program.chmod(0o755)
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        enter = ["nsenter", "-t", str(self.pid), "-m", "-n", "--"]
        with (folder / "sshd.log").open("wb") as log:
            child = subprocess.Popen(
                [*enter, sshd, "-D", "-e", "-f", str(folder / "sshd_config")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            end = time.monotonic() + 60
            while "listening" not in (said := (folder / "sshd.log").read_text().lower()):
                assert child.poll() is None, said
                assert time.monotonic() < end, said
                time.sleep(0.1)
            yield "qemu+ssh://root@127.0.0.1:2222/system"
        finally:
            child.terminate()
            child.wait()


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Skips where it cannot be made."""
    for program in ("libvirtd", "virsh", "dnsmasq", "nsenter", "unshare", "qemu-system-x86_64"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    folder.mkdir(exist_ok=True)
    with (folder / "libvirtd.log").open("wb") as log:
        child = subprocess.Popen(
            ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", _START, "sh", folder],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    made = World(folder, child.pid)
    try:
        _await(made, child)
        made.virsh("net-start", "default")
        made.virsh("pool-define-as", "default", "dir", "--target", "/var/lib/libvirt/images")
        made.virsh("pool-start", "default")
        yield made
    finally:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            for name in made.virsh("list", "--name").split():
                made.virsh("destroy", name)
            made.virsh("net-destroy", "default")
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        child.kill()
        child.wait()


def _await(made: World, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            made.virsh("version")
            return
        except (AssertionError, subprocess.TimeoutExpired):
            log = (made.folder / "libvirtd.log").read_text(errors="replace")
            assert child.poll() is None, log
            assert time.monotonic() < end, log
            time.sleep(0.3)
