"""Stand-ins for OpenBSD's own programs on the Linux side of an SshWorld.

They keep state in files below `root`, print what the originals print (shapes taken from real
6.6 and 7.7 systems), and note their arguments in `journal`.  wg is the real one, on the real
interface wg0 of the namespace, whatever name it is asked for.
"""

from __future__ import annotations

from pathlib import Path

PEERS_77 = """\
wg0: flags=80c3<UP,BROADCAST,RUNNING,NOARP,MULTICAST> mtu 1420
	index 5 priority 0 llprio 3
	wgport 51820
	wgpubkey c2VydmVyc2VydmVyc2VydmVyc2VydmVyc2VydmVyc2U=
	wgpeer {first}
		wgpsk (present)
		wgendpoint 192.0.2.7 51000
		tx: 4092, rx: 11640
		last handshake: 31 seconds ago
		wgaip 10.0.0.2/32
		wgaip fd00::2/128
	wgpeer {second}
		wgendpoint 2001:db8::9 53
		tx: 0, rx: 148
		wgaip 10.0.0.3/32
	groups: wg
	inet 10.0.0.1 netmask 0xffffff00 broadcast 10.0.0.255
"""

IFCONFIG = r"""
interface=$1
shift
case $*:$interface in
create:* | destroy:* | up:* | 'mtu '* | inet*) exit 0 ;;
'wgkey '*' wgport '*) [ ${#2} -eq 44 ] && exec /usr/bin/wg set wg0 listen-port "$4"; exit 1 ;;
esac
[ "$interface" = wg909 ] && { [ "$1" = wgkey ] && [ ${#2} -ne 44 ] && exit 1; exit 0; }
if [ $# = 0 ]; then
	now=$(date +%s)
	echo "wg0: flags=80c3<UP> mtu 1420"
	echo "	wgport $(/usr/bin/wg show wg0 listen-port)"
	/usr/bin/wg show wg0 dump | sed 1d | while read -r key psk endpoint ips shaken rx tx rest; do
		echo "	wgpeer $key"
		[ "$psk" = '(none)' ] || echo "		wgpsk (present)"
		[ "$endpoint" = '(none)' ] || echo "		wgendpoint ${endpoint%:*} ${endpoint##*:}"
		echo "		tx: $tx, rx: $rx"
		[ "$shaken" = 0 ] || echo "		last handshake: $((now - shaken)) seconds ago"
		echo "$ips" | tr , '\n' | sed 's/^/		wgaip /'
	done
	exit 0
fi
peer= psk= ips= comma=
while [ $# -gt 0 ]; do
	case $1 in
	wgport) /usr/bin/wg set wg0 listen-port "$2" || exit 1; shift ;;
	-wgpeer) /usr/bin/wg set wg0 peer "$2" remove || exit 1; shift ;;
	wgpeer) peer=$2; shift ;;
	wgpsk) psk=$2; shift ;;
	wgaip) ips=$ips$comma$2; comma=,; shift ;;
	-wgpsk) psk= ;;
	*) echo "ifconfig: $1: bad value" >&2; exit 1 ;;
	esac
	shift
done
[ -z "$peer" ] && exit 0
if [ -n "$psk" ]; then
	echo "$psk" >"$T/psk"
	/usr/bin/wg set wg0 peer "$peer" preshared-key "$T/psk" allowed-ips "$ips"
else
	/usr/bin/wg set wg0 peer "$peer" allowed-ips "$ips"
fi
"""

INSTALL = r"""
fsync= mode=755 owner= group=
while getopts FSm:o:g: option; do
	case $option in
	F) fsync=yes ;;
	S) ;;
	m) mode=$OPTARG ;;
	o) owner=$OPTARG ;;
	g) group=$OPTARG ;;
	*) exit 1 ;;
	esac
done
shift $((OPTIND - 1))
[ $# = 2 ] && [ -f "$1" ] && { [ ! -e "$2" ] || [ -f "$2" ]; } || exit 1
made=$(/bin/mktemp "${2%/*}/INS@XXXXXXXXXX") || exit 1
if [ -n "$fsync" ]; then /bin/cat "$1"; else /usr/bin/tr '\n -~' '\000' <"$1"; fi >"$made" &&
	/bin/chmod "$mode" "$made" &&
	{ /bin/chown "$owner:$group" "$made" 2>/dev/null || [ "$owner:$group" = root:wheel ]; } &&
	/bin/mv -f "$made" "$2" && exit 0
/bin/rm -f "$made"
exit 1
"""
"""install(1) of OpenBSD, which GNU's is not: it always writes beside the file and renames, and -F
waits for the disk.  Without -F the file is what a power failure leaves of it: NUL bytes."""

PROGRAMS = {
    "sysctl": """
case $2 in
kern.boottime) echo 1571313600 ;;  # with -n: seconds
kern.version) cat "$T/kern.version" ;;
vm.loadavg) echo '0.10 0.20 0.30' ;;
esac""",
    "uname": """[ "$1" = -r ] && { cat "$T/release"; exit; }; /usr/bin/uname "$@" """,
    "pfctl": """
case $* in
'-s info') cat "$T/pf.info" ;;
'-s memory') echo 'states        hard limit   100000'; echo 'src-nodes     hard limit    10000' ;;
-nf*) grep -q 'SYNTAX' "$2" && { echo "$2:3: syntax error" >&2; exit 1; }; exit 0 ;;
-f*) cp "$2" "$T/pf.loaded"; sh "$T/pf.hook" "$2" ;;
esac
exit 0""",
    "rcctl": """[ "$*" = 'ls failed' ] && cat "$T/failed" 2>/dev/null; exit 0""",
    "syspatch": """
case $1 in
-l) echo 001_unbound ;;
-c) cat "$T/syspatch.missing" ;;
esac""",
    "pkg_add": """echo 'quirks-3.182 signed on 2019'
echo 'unbound-1.9.3->1.9.4: ok'; echo 'wireguard-go-0.0.1->0.0.2: ok'""",
    "bioctl": """cat "$T/bioctl" 2>/dev/null""",
    "disklabel": """cat "$T/disklabel" 2>/dev/null""",
    "sha256": """
[ "$1" = -q ] && shift
if [ $# = 0 ]; then /usr/bin/sha256sum | cut -c1-64; else
/usr/bin/sha256sum "$1" | cut -c1-64; fi""",
    "stat": """[ "$1" = -f ] && { exec /usr/bin/stat -c %a "$3"; }""",
    "logger": """echo "logger $*" >>"$T/log" """,
    "route": "",
    "wg": """
set -- $(for word; do [ "$word" = tun0 ] && word=wg0; echo "$word"; done)
exec /usr/bin/wg "$@" """,
    "install": f"""[ -e "$T/full" ] && {{ echo 'No space left on device' >&2; exit 1; }}
{INSTALL}""",
    "ifconfig": IFCONFIG,
    "df": """cat <<END
Filesystem  1024-blocks       Used   Available Capacity Mounted on
/dev/sd1a        503470     101234      377064    22%    /
/dev/sd1d       1003470     983470       10000    99%    /var
END""",
}

GOOD_PF = "Status: Enabled for 0 days 02:11:05             Debug: err\n\nState Table\n" + (
    "  current entries                       42               \n"
)


def install(root: Path, release: str = "6.6") -> Path:
    """Make the programs below `root`; the folder for PATH."""
    programs = root / "programs"
    programs.mkdir(parents=True)
    for name, body in PROGRAMS.items():
        path = programs / name
        path.write_text(f'#!/bin/sh\nT={root}\necho "{name} $*" >>"$T/journal"\n{body.strip()}\n')
        path.chmod(0o755)
    (root / "release").write_text(f"{release}\n")
    (root / "kern.version").write_text(
        f"OpenBSD {release} (GENERIC) #3: Thu Oct 17 10:00:00 MDT 2019\n    build@example:/x\n"
    )
    (root / "pf.info").write_text(GOOD_PF)
    (root / "syspatch.missing").write_text("")
    (root / "pf.hook").write_text("")
    return programs
