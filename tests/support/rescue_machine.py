"""A stand-in for ssh and the rescue system behind it, for tests of `obsdimg disk --write`.

The scripts that are meant for the machine run here, by sh, with the machine's /sys, /proc and
/dev in a folder and a regular file as its disk.  `flaw` names what goes wrong:
`cut:N` the connection ends after N bytes; `flip:N` the first time that byte N of the disk is
written it is another; `always:N` every time; `full:N` the disk ends there; `login` no login comes
about; `hang:of=:N` or `hang:if=:N` writing or reading MiB N never ends, once.

What ssh starts here goes on when ssh is killed, as what it starts on another machine may.  /proc
there has the processes that hang.
"""

from __future__ import annotations

import getpass
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MIB = 1 << 20

_SSH = r"""#!/bin/sh
# ssh: runs the last word here, with the machine's files in place of this host's
here={here} master=
for last; do
	case $last in
	-M) master=yes ;;
	-oControlPath=*) socket=${{last#*=}} ;;
	esac
done
echo $$ >>$here/local
if [ -n "$master" ]; then
	[ "$(cat $here/flaw)" = login ] || : >"$socket"
	read -r line
	rm "$socket"
	exit 0
fi
text=$(printf '%s\n' "$last" | sed \
    -e "s,\([^A-Za-z0-9_/]\)/\(sys\|proc\|dev\)/,\1$here/\2/,g" \
    -e "s,$here/dev/\(null\|zero\|urandom\),/dev/\1,g" \
    -e 's/\[ -b "/[ -f "/; s/id -u/echo {user}/')
PATH=$here/bin:$PATH
read -r flaw <$here/flaw
case $flaw,$last in
cut:*"while read -r what seek"*)
	head -c "${{flaw#cut:}}" | sh -c "$text"
	: >$here/flaw
	echo "Connection to machine closed by remote host." >&2
	exit 255 ;;
esac
exec sh -c "$text"
"""
_DD = r"""#!/bin/sh
# dd, with what goes wrong on the way to the disk
flaw=$(cat {here}/flaw)
at=${{flaw#*:}}
seek=0 count=0 skip=
for word; do
	case $word in
	skip=*) skip=${{word#skip=}} ;;
	seek=*) seek=${{word#seek=}} ;;
	count=*) count=${{word#count=}} ;;
	esac
done
case "$flaw $*" in
full:*of={here}/dev/*)
	[ $((seek * 1048576)) -lt "$at" ] || {{
		echo "dd: error writing: No space left on device" >&2
		exit 1
	}} ;;
esac
case "$flaw $*" in
hang:of=:$seek\ *of={here}/dev/*|hang:if=:$skip\ *if={here}/dev/*)
	: >{here}/flaw
	for pid in $$ $PPID; do
		ln -s /proc/$pid {here}/proc/$pid
		echo $pid >>{here}/hanging
	done
	mv {here}/hanging {here}/hangs
	while :; do sleep 1; done ;;
esac
{dd} "$@" || exit 1
case "$flaw $*" in
flip:*of={here}/dev/*|always:*of={here}/dev/*)
	if [ $((at / 1048576)) -ge "$seek" ] && [ $((at / 1048576)) -lt $((seek + count)) ]; then
		printf X | {dd} of={disk} bs=1 seek="$at" conv=notrunc 2>/dev/null
		case $flaw in flip:*) : >{here}/flaw ;; esac
	fi ;;
esac
"""


@dataclass
class RescueMachine:
    """A machine with one disk, `/dev/vda`, in `here`; `ssh` is a program for PATH."""

    here: Path

    @property
    def disk(self) -> Path:
        return self.here / "dev" / "vda"

    @property
    def bin(self) -> Path:
        """The folder with `ssh`, for PATH."""
        return self.here / "ours"

    def flaw(self, text: str) -> None:
        (self.here / "flaw").write_text(text)

    @property
    def sys(self) -> Path:
        """Of the disk."""
        return self.here / "sys" / "class" / "block" / "vda"

    def by_ssh(self) -> None:
        """From here on ssh is the system's own, and sshd(8) is behind it, on no port: what comes in
        is run as before.  Skips without sshd."""
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if sshd is None or shutil.which("ssh") is None:
            pytest.skip("sshd is not installed")
        folder = self.here / "real"
        folder.mkdir()
        for name in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True, timeout=60)
        inside = folder / "inside"
        stand_in = (self.bin / "ssh").read_text().replace("echo $$ >>$here/local\n", "")
        _program(
            inside, stand_in.replace("for last; do", 'for last in "$SSH_ORIGINAL_COMMAND"; do')
        )
        (folder / "config").write_text(
            f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nStrictModes no\n"
            f"UsePAM no\nPasswordAuthentication no\nForceCommand {inside}\nPidFile none\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        (self.bin / "ssh").write_text(
            f"#!/bin/sh\necho $$ >>{self.here}/local\n"
            f"exec {shutil.which('ssh')} -F none -i {folder}/user -l {getpass.getuser()}"
            f" -oStrictHostKeyChecking=accept-new -oUserKnownHostsFile={folder}/known"
            f" -oProxyCommand='{sshd} -i -f {folder}/config' \"$@\"\n"
        )

    def mounted(self, text: str) -> None:
        """Add a line to /proc/mounts."""
        with (self.here / "proc" / "mounts").open("a") as stream:
            stream.write(text + "\n")


def make_machine(
    here: Path, size: int, *, user: int = 0, driver: str = "virtio_net", old: bytes = b"\xa5"
) -> RescueMachine:
    """A machine whose disk has `size` bytes of `old` data."""
    machine = RescueMachine(here)
    for folder in ("dev", "proc/sys/vm", "proc/self", "bin", "ours", "sys/class/net/eth0/device"):
        (here / folder).mkdir(parents=True)
    for name in ("proc/mounts", "proc/swaps", "proc/self/mountinfo", "flaw"):
        (here / name).write_text("")
    (machine.sys / "holders").mkdir(parents=True)
    for name, text in (("size", str(size // 512)), ("ro", "0"), ("dev", "254:0"), ("serial", "s1")):
        (machine.sys / name).write_text(text + "\n")
    part = machine.sys / "vda1"
    (part / "holders").mkdir(parents=True)
    for name, text in (("size", "2048"), ("dev", "254:1"), ("partition", "1")):
        (part / name).write_text(text + "\n")
    driver_folder = here / "sys" / "bus" / driver
    driver_folder.mkdir(parents=True)
    (here / "sys/class/net/eth0/device/driver").symlink_to(driver_folder)
    (here / "sys/class/net/eth0/address").write_text("52:54:00:12:34:56\n")
    with machine.disk.open("wb") as stream:
        for _ in range(size // MIB):
            stream.write(old * MIB)
    text = _SSH.format(here=str(here), user=user)
    _program(machine.bin / "ssh", text)
    real = next(p for p in os.environ["PATH"].split(os.pathsep) if (Path(p) / "dd").exists())
    dd = _DD.format(here=here, disk=machine.disk, dd=Path(real) / "dd")
    _program(here / "bin" / "dd", dd)
    _program(here / "bin" / "sync", "#!/bin/sh\n")  # of the whole host would take its time
    return machine


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
