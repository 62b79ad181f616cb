"""A project, and its server: wireguard-go and a real sshd in a network namespace.

The server's side is Linux, so that nothing that OpenBSD does is proven here; what is proven
is the way there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.core.relaunch import own_environment
from obsdimg.project.folder import Project
from obsdimg.server.kept import kept_files
from support import openbsd_programs
from support.wg_netns import CLIENT4, SERVER4, SERVER_OUTER4, WgWorld, inside, run, why_not

CONFIG = """\
[release]
version = "6.6"
[access]
root_keys = ["{key}"]
[tunnel]
ipv4 = "{server}/24"
endpoint = "{outer}"
dns = ["9.9.9.9"]
[[tunnel.peers]]
name = "operator"
ipv4 = "{client}"
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
"""

SSHD = """\
Port 22
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
Subsystem sftp internal-sftp
"""


class SshWorld:
    """The namespaces of WgWorld, with the keys of a project in `folder`, and sshd."""

    def __init__(self, wg: WgWorld, folder: Path) -> None:
        self.wg, self.folder = wg, folder
        self.identity = folder / "id"
        keygen(self.identity)
        self.config = folder / "project" / "obsdimg.toml"
        self.config.parent.mkdir()
        public = self.identity.with_suffix(".pub").read_text().strip()
        self.config.write_text(
            CONFIG.format(key=public, server=SERVER4, client=CLIENT4, outer=SERVER_OUTER4)
        )
        self.project = Project.open(self.config)
        self.configure()
        self.sshd: subprocess.Popen[bytes] | None = None
        self.programs: Path | None = None
        self.start_sshd()

    def server_conf(self) -> str:
        """What `wg setconf` gets."""
        keys = self.project.keys()
        assert keys.server is not None
        lines = [f"[Interface]\nPrivateKey = {keys.server.reveal()}\nListenPort = 53\n"]
        for peer in self.project.config.tunnel.peers:
            own = keys.peers[peer.name]
            assert own.preshared is not None
            lines.append(
                f"[Peer]\nPublicKey = {own.public}\nPresharedKey = {own.preshared.reveal()}\n"
                f"AllowedIPs = {peer.ipv4}/32\n"
            )
        return "".join(lines)

    def configure(self) -> None:
        self.wg.configure(self.server_conf())

    def start_sshd(self, new_key: bool = False) -> None:
        """Start sshd on the tunnel's address; with `new_key`, as after an installation."""
        self.stop_sshd()
        host_key = self.folder / "host_key"
        if new_key:
            host_key.unlink()
            host_key.with_suffix(".pub").unlink()
        if not host_key.exists():
            keygen(host_key)
        (self.folder / "authorized").write_bytes(self.identity.with_suffix(".pub").read_bytes())
        settings = self.folder / "sshd_config"
        text = SSHD.format(address=SERVER4, folder=self.folder)
        if self.programs is not None:
            text += f"SetEnv PATH={self.programs}:/usr/sbin:/usr/bin:/sbin:/bin\n"
        settings.write_text(text)
        Path("/run/sshd").mkdir(exist_ok=True)
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(settings)]
        if self.programs is not None:
            # A mount namespace of its own, in which / is a folder of the test: /etc, /var, /home
            # and /usr/local/sbin are the test's, everything else is the machine's own.
            root = self.programs.parent
            script = (
                f"top={root}/top && mount --make-rprivate / && for one in /*; do"
                " if [ -L $one ]; then [ -L $top$one ] || cp -P $one $top$one;"
                " elif [ -d $one ]; then mkdir -p $top$one && mount --rbind $one $top$one; fi;"
                " done"
                " && for one in etc usr/local/sbin var home; do"
                f" mount --bind {root}/$one $top/$one; done && exec chroot $top {' '.join(words)}"
            )
            words = ["unshare", "-m", "sh", "-c", script]
        self.sshd = subprocess.Popen(inside(self.wg.server, *words), stderr=subprocess.DEVNULL)
        for _ in range(100):
            if ":22" in run("ip", "netns", "exec", self.wg.server, "ss", "-tlnH"):
                return
            time.sleep(0.05)
        raise RuntimeError("sshd did not start")

    def like_openbsd(self, release: str = "6.6") -> Path:
        """From here on commands run with the stand-ins of openbsd_programs; their root."""
        root = self.folder / "openbsd"
        self.programs = openbsd_programs.install(root, release)
        settings = self.config.read_text().replace('version = "6.6"', f'version = "{release}"')
        self.config.write_text(settings)
        self.project = Project.open(self.config)
        (root / "var/db/obsdimg").mkdir(parents=True)
        for folder in ("usr/local/sbin", "home", "top"):
            (root / folder).mkdir(parents=True)
        (root / "var/run").symlink_to("/run")  # wireguard-go's sockets
        shutil.copytree(
            "/etc", root / "etc", symlinks=True, ignore=lambda *_: {"ssl", "alternatives"}
        )
        with (root / "etc/group").open("a") as stream:
            stream.write("wheel:x:9999:root\n")
        kept = kept_files(self.project, self.project.keys())
        for path, entry in kept.files.items():
            target = root / path[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(entry.data)
            target.chmod(entry.mode)
        self.start_sshd()
        return root

    def stop_sshd(self) -> None:
        if self.sshd is not None:
            self.sshd.terminate()
            self.sshd.wait(10)
            self.sshd = None

    def command(self, *words: str) -> list[str]:
        """obsdimg's command line, to be run in the client's namespace."""
        return [
            *("ip", "netns", "exec", self.wg.client),
            *(sys.executable, "-P", "-m", "obsdimg", words[0], "-c", str(self.config)),
            *words[1:],
        ]

    def runtime(self) -> Path:
        """A folder with a short name: a socket lies in it (a worker's own folder is too deep)."""
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"obsdimg-test-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def environment(self) -> dict[str, str]:
        """No ssh agent and no settings of whoever runs the tests; the project's login key."""
        home = self.folder / "home"
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        # OpenSSH reads the home folder from the password file: hence a wrapper.
        wrapper = self.folder / "bin" / "ssh"
        if not wrapper.exists():
            wrapper.parent.mkdir()
            wrapper.write_text(
                f"#!/bin/sh\nexec /usr/bin/ssh -F none -oIdentitiesOnly=yes"
                f' -i {self.identity} "$@"\n'
            )
            wrapper.chmod(0o755)
        environment = {
            **own_environment(),
            "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(self.runtime()),
        }
        environment.pop("SSH_AUTH_SOCK", None)
        return environment

    def obsdimg(
        self, *words: str, given: bytes = b"", timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run obsdimg in the client's namespace."""
        return subprocess.run(
            self.command(*words),
            input=given,
            capture_output=True,
            timeout=timeout,
            env=self.environment(),
        )


def keygen(path: Path) -> None:
    """An ed25519 key pair without a passphrase, made for one test."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test@example", "-f", str(path)]
    subprocess.run(words, check=True, timeout=20)


@pytest.fixture
def ssh_world(tmp_path: Path) -> Iterator[SshWorld]:
    """A project whose server answers, for one test."""
    reason = why_not()
    if reason is None and not Path("/usr/sbin/sshd").exists():
        reason = "sshd is missing"
    if reason is not None:
        pytest.skip(reason)
    with WgWorld() as world:
        made = SshWorld(world, tmp_path)
        try:
            yield made
        finally:
            made.stop_sshd()
