"""A server that can be upgraded: stand-ins for ftp(1), sysupgrade(8), shutdown(8) and the loader.

The stand-in of sysupgrade leaves what the genuine one leaves (sysupgrade.sh of 6.6 and 7.7:
/home/_sysupgrade/SHA256, /auto_upgrade.conf, /etc/rc.firsttime, /bsd.upgrade with mode 700).  What
the ramdisk and the boot do is played by a thread here, from the call of shutdown(8) on:
each of the two starts waits for its passphrase, where the disk is encrypted.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from support.local_server import LocalServer
from support.ssh_world import SshWorld

SETS = ("base", "comp", "man", "game", "xbase", "xshare", "xfont", "xserv")
PASSPHRASE = "opens it"
FIRST_START = 1_760_000_000

PROGRAMS = {
    "sysctl": """
case $2 in
kern.boottime) cat "$T/boottime" ;;
kern.version) cat "$T/kern.version" ;;
vm.loadavg) echo '0.10 0.20 0.30' ;;
net.inet.ip.forwarding) echo 1 ;;
esac""",
    "uname": """
case $1 in -r) cat "$T/release" ;; -m) echo amd64 ;; *) exec /usr/bin/uname "$@" ;; esac""",
    "df": """
[ "$*" = -Pkl ] && { echo "/dev/sd1a 9000000 900000 8100000 10% /"; exit; }
echo "Filesystem  1024-blocks Used Available Capacity Mounted on"
case $2 in
/home) echo "/dev/sd1k 9000000 900000 $(cat "$T/free.home") 10% /home" ;;
*) echo "/dev/sd1a 9000000 900000 8100000 10% /" ;;
esac""",
    # The real one would look through the machine that runs the tests.
    "find": """case $* in *'*.conf'*) exit 0 ;; esac; exec /usr/bin/find "$@" """,
    "ftp": """
for place; do :; done
case $place in
*/SHA256.sig) cat "$T/mirror/${place#*://*/}" 2>/dev/null ||
	{ echo "ftp: Error retrieving ${place}: 404 Not Found" >&2; exit 1; } ;;
*/index.txt) cat "$T/mirror/${place#*://*/}" 2>/dev/null || exit 1 ;;
*) exit 1 ;;
esac""",
    "sysupgrade": """
[ "$1" = -n ] || exit 64
echo "Fetching from ${2:-$(cat /etc/installurl)}"
mkdir -p /home/_sysupgrade
while [ -e "$T/slow" ]; do sleep 0.1; done
if [ -e "$T/broken" ]; then echo "(SHA256) base.tgz: FAILED"; exit 1; fi
digits=$(tr -d . <"$T/next")
for set in base comp; do echo "SHA256 ($set$digits.tgz) = 00"; done >/home/_sysupgrade/SHA256
printf 'Location of sets = disk\\n' >/auto_upgrade.conf
echo 'rm -f /home/_sysupgrade/{SHA256}' >/etc/rc.firsttime
echo ramdisk >/bsd.upgrade && chmod 700 /bsd.upgrade
echo 'Will upgrade on next reboot'""",
    "shutdown": """: >"$T/restarts" """,
    "pkg_add": """
[ -e "$T/no-packages" ] && exit 1
[ "$1" = -Iu ] && echo 'quirks-7.1->7.2: ok'
exit 0""",
    "pfctl": """
case $* in
'-s info') cat "$T/pf.info" ;;
'-s memory') echo 'states        hard limit   100000' ;;
-sr) echo 'block drop all'; echo 'pass out on egress inet all nat-to (egress:0)' ;;
-f*) cp "$2" "$T/pf.loaded" ;;
esac
exit 0""",
}

LOADER = """\
import sys, time
from pathlib import Path

top, right = Path(sys.argv[1]), sys.argv[2]

def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()

while True:
    if not (top / "asks").exists():
        time.sleep(0.05)
        continue
    say("\\r\\n>> OpenBSD/amd64 BOOT 3.67\\r\\nPassphrase: ")
    while True:
        line = ""
        while (key := sys.stdin.read(1)) not in ("\\r", "\\n"):
            if not key:
                raise SystemExit
            line += key
        with (top / "typed").open("a") as stream:
            stream.write(line + "\\n")
        if line == right:
            break
        say("\\r\\nincorrect passphrase\\r\\nPassphrase: ")
    (top / "asks").unlink()
    say("\\r\\nbooting sr0a:/bsd: 4096\\r\\nentry point at 0x1000\\r\\n")
"""
"""The boot loader on a serial line: asks whenever the machine stands there."""


class UpgradeWorld:
    """`world` with a server at `old` that can go to `new`."""

    def __init__(self, world: SshWorld | LocalServer, old: str = "7.7", new: str = "7.8") -> None:
        self.world, self.old, self.new = world, old, new
        self.root = world.like_openbsd(old)
        self.top = self.root / "top"
        self.encrypted = True
        self.outcome = "upgraded"
        """What the restart leads to: `upgraded`, or `stays` at the old release."""
        for name, body in PROGRAMS.items():
            path = self.root / "programs" / name
            path.write_text(
                f'#!/bin/sh\nT={self.root}\necho "{name} $*" >>"$T/journal"\n{body.strip()}\n'
            )
            path.chmod(0o755)
        self.release(old, FIRST_START)
        self.write("next", new)
        self.write("free.home", "8000000")
        self.write("bioctl", "softraid0 0 Online 10 sd1 CRYPTO\n 0 Online 10 0:0.0 noencl <none>\n")
        (self.root / "etc/installurl").write_text("https://mirror.example/pub/OpenBSD\n")
        (self.root / "etc/signify").mkdir()
        from obsdimg.releases.release import load_release

        key = load_release(new).keys.base.text
        (self.root / f"etc/signify/openbsd-{new.replace('.', '')}-base.pub").write_text(key)
        self.mirror()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._play, daemon=True)
        self.thread.start()

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text + "\n")

    def mirror(self) -> None:
        """The mirror has the next release."""
        folder = self.root / "mirror/pub/OpenBSD" / self.new / "amd64"
        folder.mkdir(parents=True)
        digits = self.new.replace(".", "")
        names = [f"{one}{digits}.tgz" for one in SETS]
        names += ["bsd", "bsd.mp", "bsd.rd", "INSTALL.amd64", "BUILDINFO"]
        listed = "".join(f"SHA256 ({name}) = {'0' * 64}\n" for name in names)
        (folder / "SHA256.sig").write_text(f"untrusted comment: x\nRWQ=\n{listed}")
        index = "".join(
            f"-rw-r--r--  1 1001  0  52428800 Oct 12 15:32:22 2025 {name}\n" for name in names
        )
        (folder / "index.txt").write_text(index)

    def release(self, version: str, booted: int) -> None:
        """What runs."""
        self.write("release", version)
        self.write("boottime", str(booted))
        name = f"OpenBSD {version} (GENERIC) #3: "
        self.write("kern.version", f"{name}Thu Oct 17 10:00:00 MDT 2019")
        self.top.mkdir(exist_ok=True)
        (self.top / "bsd").write_text(name)

    def _play(self) -> None:
        """From the restart on: the loader asks, the upgrade runs, the loader asks, it is up."""
        while not self.ended.is_set():
            if not (self.root / "restarts").exists():
                time.sleep(0.05)
                continue
            (self.root / "restarts").unlink()
            self.world.stop_sshd()
            self._loader_asks()
            time.sleep(2)  # the upgrade: the screen must not show the next prompt at once
            self._loader_asks()
            if self.ended.is_set():
                return
            if self.outcome == "upgraded":
                self.release(self.new, FIRST_START + 100_000)
            else:
                self.release(self.old, FIRST_START + 100_000)
            (self.top / "bsd.upgrade").chmod(0o600)
            (self.root / "etc/rc.firsttime").unlink(missing_ok=True)
            self.world.start_sshd()

    def _loader_asks(self) -> None:
        if self.encrypted:
            asks = self.root / "asks"
            asks.touch()
            while asks.exists() and not self.ended.is_set():
                time.sleep(0.05)

    def unlock(self) -> None:
        """Somebody else types the passphrase at the console, once."""
        (self.root / "asks").unlink()

    def console(self) -> tuple[str, ...]:
        """Options that let obsdimg type."""
        script = self.root / "loader.py"
        script.write_text(LOADER)
        words = f"exec:{sys.executable} {script} {self.root} '{PASSPHRASE}'"
        return ("--console", words, *self.passphrase(PASSPHRASE))

    def passphrase(self, text: str) -> tuple[str, ...]:
        path = self.world.folder / "passphrase"
        path.write_text(text + "\n")
        path.chmod(0o600)
        return ("--passphrase-file", str(path))

    def journal(self) -> list[str]:
        path = self.root / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        self.ended.set()
        self.thread.join(20)

    def said_release(self) -> str:
        lines = self.world.config.read_text().splitlines()
        return next(line for line in lines if line.startswith("version"))

    def system(self) -> dict[str, bytes]:
        """What an upgrade leaves: files in / and /etc, but for what comes and goes."""
        found: dict[str, bytes] = {}
        for folder in (self.top, self.root / "etc", self.root / "etc/wireguard"):
            for path in folder.iterdir():
                if path.is_file() and not path.is_symlink():
                    found[str(path.relative_to(self.root))] = path.read_bytes()
        return found


def loader_typed(root: Path) -> list[str]:
    """What was typed at the loader."""
    path = root / "typed"
    return path.read_text().splitlines() if path.exists() else []
