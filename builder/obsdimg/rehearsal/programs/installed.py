"""Commands of the installed system that install.site may call, in `chroot /mnt`.

awk, cut, openssl and their kind are the host's own there.  What is OpenBSD's own is pretended
and recorded.  Sources: rcctl(8), install(1), make(1) as the kernel relink calls it.
"""

from __future__ import annotations

from obsdimg.rehearsal.call import (
    Call,
    Done,
    ReadFile,
    Shell,
    Steps,
    WriteFile,
    fail,
    getopt,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.world import World


def _words(text: str) -> list[str]:
    return text.split()


_BASE_SERVICES = _words(
    """
    amd apmd bgpd cron dhcpd dhcpleased ftpd hotplugd httpd iked inetd ldapd lockd lpd
    mountd nfsd npppd nsd ntpd ospfd pf pflogd portmap rad relayd resolvd ripd slaacd smtpd
    sndiod snmpd spamd sshd statd switchd syslogd tftpd unbound unwind vmd watchdogd
    wsmoused xenodm ypbind
    """
)


@standin("rcctl", phases=("installed",))
def rcctl(call: Call, world: World) -> Steps:
    """rcctl(8): `enable`, `disable` and `set NAME flags|user|status`, in rc.conf.local."""
    args = list(call.args)
    if args[:1] == ["set"] and len(args) >= 3 and args[2] == "status":
        args = ["enable" if args[3:] == ["on"] else "disable", args[1]]
    if not args or args[0] not in ("enable", "disable", "set"):
        raise refuse(call)
    current = ((yield ReadFile("/etc/rc.conf.local")) or b"").decode(errors="replace").splitlines()
    for name in args[1:2] if args[0] == "set" else args[1:]:
        if name not in _BASE_SERVICES and (yield ReadFile(f"/etc/rc.d/{name}")) is None:
            return fail(f"rcctl: service {name} does not exist", 2)
        current = _changed(current, args[0], name, args[3:])
        world.services.append(
            f"{args[0]} {name}{' ' + ' '.join(args[2:]) if args[0] == 'set' else ''}"
        )
    yield WriteFile("/etc/rc.conf.local", text(current), mode="644")
    return Done()


def _changed(lines: list[str], verb: str, name: str, words: list[str]) -> list[str]:
    rest = [line for line in lines if not line.startswith(f"{name}_flags=")]
    if verb == "set":
        return [*rest, f"{name}_flags={' '.join(words)}"]
    if name in _BASE_SERVICES:
        return [*rest, f"{name}_flags={'' if verb == 'enable' else 'NO'}"]
    scripts = next((x.partition("=")[2].split() for x in lines if x.startswith("pkg_scripts=")), [])
    scripts = [s for s in scripts if s != name] + ([name] if verb == "enable" else [])
    kept = [line for line in lines if not line.startswith("pkg_scripts=")]
    return [*kept, f"pkg_scripts={' '.join(scripts)}"]


@standin("make", phases=("installed",))
def make(call: Call, world: World) -> Steps:
    """make(1), as finish_up calls it to relink the kernel."""
    if call.args not in (("newbsd",), ("newinstall",)):
        raise refuse(call)
    return Done()
    yield ReadFile("")


@standin("install", phases=("installed",))
def install(call: Call, world: World) -> Steps:
    """install(1): `-d`, `-m`, `-o`, `-g`, `-c`, `-p`; owners are remembered, not set."""
    options, operands = getopt(call, "bCcDdFpSsg:m:o:")
    if not operands:
        raise refuse(call)
    target = operands[-1]
    flags = [f"-{letter}" for letter in "Dp" if letter in options]
    flags += ["-m", options.get("m", "755")]
    if "d" in options:
        flags.append("-d")
    if (yield Shell('$H/install "$@"', (*flags, *operands))) is None:
        return fail(f"install: {target}: cannot be made")
    owner = f"{options.get('o', 'root')}:{options.get('g', 'wheel')}"
    for path in operands if "d" in options else [target]:
        world.owners[f"/mnt{path}"] = owner
    return Done()


@standin("newaliases", "cap_mkdb", "ldconfig", "makewhatis", phases=("installed",))
def database(call: Call, world: World) -> Steps:
    """Databases that nobody looks at here."""
    return Done()
    yield ReadFile("")


@standin("ntpctl", "pfctl", "syspatch", "fw_update", "pkg_add", "pkg_info", "sysmerge",
         "useradd", "usermod", "userdel", "groupadd", "passwd", "chpass", "crontab", "mail",
         "wg", "unbound-checkconf", "sshd", phases=("installed",))  # fmt: skip
def unknown(call: Call, world: World) -> Steps:
    """Exist in the installed system, and the rehearsal cannot say what they would do."""
    raise refuse(call)
    yield ReadFile("")
