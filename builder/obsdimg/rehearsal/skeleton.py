"""What base would unpack, as far as the installer and install.site look at it.

A full base set is verified, not unpacked (openbsd.md section 3 and install.sub `finish_up` say
which files are read and changed after the sets).  Written from facts, with contents of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from obsdimg.core.archive import gzip, tar
from obsdimg.core.entry import Entry

ACCOUNTS = """\
root::0:0:daemon:0:0:Charlie &:/root:/bin/ksh
daemon:*:1:1::0:0:The devil himself:/root:/sbin/nologin
operator:*:2:5::0:0:System &:/operator:/sbin/nologin
bin:*:3:7::0:0:Binaries Commands and Source:/:/sbin/nologin
build:*:21:21:daemon:0:0:base and xenocara build:/var/empty:/bin/ksh
sshd:*:27:27::0:0:sshd privsep:/var/empty:/sbin/nologin
_unbound:*:53:53:daemon:0:0:Unbound Daemon:/var/unbound:/sbin/nologin
_sndio:*:99:99::0:0:sndio privsep:/var/empty:/sbin/nologin
_file:*:104:104::0:0:file privsep:/var/empty:/sbin/nologin
nobody:*:32767:32767::0:0:Unprivileged user:/nonexistent:/sbin/nologin
"""
GROUP = """\
wheel:*:0:root
daemon:*:1:daemon
operator:*:5:root
bin:*:7:
wsrc:*:9:
wobj:*:21:
staff:*:20:
sshd:*:27:
_unbound:*:53:
_shadow:*:65:
_sndio:*:99:
_file:*:104:
nobody:*:32767:
"""
TTYS = """\
console	"/usr/libexec/getty std.9600"	vt220	on  secure
ttyC0	"/usr/libexec/getty std.9600"	vt220	on  secure
tty00	"/usr/libexec/getty std.9600"	unknown off
tty01	"/usr/libexec/getty std.9600"	unknown off
"""
SSHD_CONFIG = """\
#Port 22
#PermitRootLogin prohibit-password
#PasswordAuthentication yes
AuthorizedKeysFile	.ssh/authorized_keys
Subsystem	sftp	/usr/libexec/sftp-server
"""


def _words(text: str) -> list[str]:
    return text.split()


DIRECTORIES = _words(
    """
    altroot bin dev etc home mnt root root/.ssh sbin tmp usr var etc/rc.d etc/signify
    etc/skel etc/skel/.ssh etc/ssh etc/mail usr/bin usr/lib usr/libdata usr/libexec
    usr/local usr/mdec usr/sbin usr/share usr/share/zoneinfo usr/share/relink usr/local/bin
    usr/local/sbin usr/X11R6 var/backups var/cron var/cron/tabs var/db var/empty var/log
    var/db/dhcpleased var/mail var/run var/spool var/sysmerge var/tmp var/unbound var/unbound/etc
    """
)

ETC: Mapping[str, tuple[int, str]] = {
    "etc/master.passwd": (0o600, ACCOUNTS),
    "etc/group": (0o644, GROUP),
    "etc/ttys": (0o644, TTYS),
    "etc/ssh/sshd_config": (0o644, SSHD_CONFIG),
    "etc/skel/.profile": (0o644, "PATH=$HOME/bin:/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin\n"),
    "etc/skel/.ssh/authorized_keys": (0o600, ""),
    "etc/rc": (0o644, "# of the installed system\n"),
    "etc/rc.conf": (0o644, "# of the installed system\n"),
    "etc/daily": (0o644, "# of the installed system\n"),
    "etc/mail/aliases": (0o644, "root: root\n"),
    "root/.ssh/authorized_keys": (0o600, ""),
    "root/.profile": (0o644, "# of the installed system\n"),
    "var/mail/root": (0o600, "From: deraadt\nTo: root\nSubject: Welcome to OpenBSD\n\nWelcome.\n"),
}
FW_UPDATE = """\
#!/bin/ksh
print "fw_update: a rehearsal fetches no firmware"
"""
CRONTAB = "0\t*\t*\t*\t*\t/usr/bin/newsyslog\n30\t1\t*\t*\t*\t/bin/sh /etc/daily\n"


def files(version: str) -> dict[str, tuple[int, bytes]]:
    """Path (relative) to mode and content.  The time zones are listed, not made: `World.zones`."""
    found = {path: (mode, content.encode()) for path, (mode, content) in ETC.items()}
    found["var/cron/tabs/root"] = (0o600, CRONTAB.encode())
    found["dev/MAKEDEV"] = (0o555, b"#!/bin/sh\n# of the installed system: nothing to make here\n")
    for name in ("boot", "biosboot", "mbr", "BOOTX64.EFI", "BOOTIA32.EFI"):
        found[f"usr/mdec/{name}"] = (0o644, f"obsdimg rehearsal: {name}\n".encode())
    digits = version.replace(".", "")
    if tuple(int(n) for n in version.split(".")) >= (7, 1):
        found["usr/sbin/fw_update"] = (0o555, FW_UPDATE.encode())
    for kind in ("base", "pkg", "fw", "syspatch"):
        found[f"etc/signify/openbsd-{digits}-{kind}.pub"] = (0o644, b"untrusted comment: none\n")
    found["usr/share/zoneinfo/UTC"] = (0o444, b"TZif2")
    found["var/sysmerge/etc.tgz"] = (
        0o444,
        _tgz({p: c for p, c in found.items() if p in ETC}, "./"),
    )
    kernel = {"GENERIC/Makefile": (0o644, b"newbsd newinstall:\n")}
    kernel["GENERIC.MP/Makefile"] = kernel["GENERIC/Makefile"]
    found["usr/share/relink/kernel.tgz"] = (0o400, _tgz(kernel))
    return found


def _tgz(members: Mapping[str, tuple[int, bytes]], prefix: str = "") -> bytes:
    entries = (Entry(f"/{path}", data, mode) for path, (mode, data) in sorted(members.items()))
    return gzip(tar(entries, prefix=prefix))
