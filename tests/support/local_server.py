"""A server without a network: its scripts run here at once, under the stand-ins of OpenBSD.

What obsdimg gives to ssh runs in a mount namespace in which / is a folder of the test.  The way
there (tunnel, hub, ssh) is what tests with SshWorld are about.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from obsdimg.cli import main as cli
from obsdimg.project.folder import Project
from obsdimg.server import applying, asking, upgrading
from obsdimg.server.kept import kept_files
from obsdimg.tunnel.stream import TunnelDownError
from support import openbsd_programs

CONFIG = """\
[release]
version = "{release}" # as installed
[access]
root_keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[tunnel]
endpoint = "198.51.100.1"
dns = ["9.9.9.9"]
[[tunnel.peers]]
name = "operator"
ipv4 = "10.0.0.2"
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
"""


class _Hub:
    path = Path("/nowhere")

    def renew(self, seconds: float) -> None:
        return None


class LocalServer:
    """The same interface as SshWorld, as far as UpgradeWorld needs it.

    `config`: the project's; `up`: whether it answers.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.config = folder / "project" / "obsdimg.toml"
        self.config.parent.mkdir(parents=True)
        self.up = True
        self.root = folder / "openbsd"
        patch.setattr(asking, "ssh_command", self._command)
        from obsdimg.cli import changing, upgrade_run

        for module in (applying, changing, upgrade_run, upgrading):
            patch.setattr(module, "join_hub", self._hub)
        patch.setattr(upgrading, "LOOK_SECONDS", 0.1)
        patch.setattr(applying, "ACTIVATION_SECONDS", 2.1)

    def like_openbsd(self, release: str) -> Path:
        """Make the server's folder; it is returned."""
        self.config.write_text(CONFIG.format(release=release))
        programs = openbsd_programs.install(self.root, release)
        # There is no WireGuard either: it has whatever its file says.
        for name, text in (("wg", WG), ("ifconfig", IFCONFIG)):
            (programs / name).write_text(text.replace("ROOT", str(self.root)))
        for one in ("usr/local/sbin", "home", "top", "var/db/obsdimg", "var/run"):
            (self.root / one).mkdir(parents=True)
        shutil.copytree(
            "/etc", self.root / "etc", symlinks=True, ignore=lambda *_: {"ssl", "alternatives"}
        )
        with (self.root / "etc/group").open("a") as stream:
            stream.write("wheel:x:9999:root\n")
        project = Project.open(self.config)
        for path, entry in kept_files(project, project.keys()).files.items():
            target = self.root / path[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(entry.data)
            target.chmod(entry.mode)
        return self.root

    def start_sshd(self) -> None:
        self.up = True

    def stop_sshd(self) -> None:
        self.up = False

    @contextlib.contextmanager
    def _hub(self, *_: object) -> Iterator[_Hub]:
        if not self.up:
            raise TunnelDownError("198.51.100.1:53: no answer", "does it run?")
        yield _Hub()

    def _command(self, access: object, words: Sequence[str], *extra: str) -> list[str]:
        script = (
            f"top={self.root}/top && mount --make-rprivate / && for one in /*; do"
            " if [ -L $one ]; then [ -L $top$one ] || cp -P $one $top$one;"
            " elif [ -d $one ]; then mkdir -p $top$one && mount --rbind $one $top$one; fi; done;"
            " for one in etc usr/local/sbin var home; do"
            f" mount --bind {self.root}/$one $top/$one; done;"
            f" export PATH={self.root}/programs:/usr/sbin:/usr/bin:/sbin:/bin;"
            f" exec chroot $top {' '.join(words)}"
        )
        return ["unshare", "-m", "sh", "-c", script]

    def obsdimg(self, *words: str, **_: Any) -> Said:
        """Run the command here, without a terminal."""
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        command = [words[0], "-c", str(self.config), *words[1:]]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(command)
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Said(code, out.buffer.getvalue(), err.buffer.getvalue())  # type: ignore[attr-defined]


class Said:
    """What a command said, as subprocess.CompletedProcess has it."""

    def __init__(self, returncode: int, stdout: bytes, stderr: bytes) -> None:
        self.returncode, self.stdout, self.stderr = returncode, stdout, stderr


WG = r"""#!/bin/sh
echo "wg $*" >>ROOT/journal
file=/etc/hostname.wg0
[ -e "$file" ] || file=/etc/wireguard/server.conf
keys=$(sed -n -e 's/^wgpeer \([^ ]*\) .*/\1/p' -e 's/^PublicKey = //p' "$file")
case "$1 $3" in
'show listen-port') echo 53 ;;
'show latest-handshakes') for key in $keys; do echo "$key	0"; done ;;
'setconf '*) echo "Unable to access interface" >&2; exit 1 ;;
*) exit 0 ;;
esac
"""

IFCONFIG = r"""#!/bin/sh
echo "ifconfig $*" >>ROOT/journal
[ $# = 1 ] || exit 0
[ -e "/etc/hostname.$1" ] || exit 1
echo "$1: flags=80c3<UP> mtu 1420"
echo "	wgport 53"
sed -n 's/^wgpeer \([^ ]*\) .*/	wgpeer \1/p' "/etc/hostname.$1"
"""


@pytest.fixture
def local_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A server that is asked without a network."""
    if os.geteuid() != 0:
        pytest.skip("mount namespaces need root")
    yield LocalServer(tmp_path, monkeypatch)
