# $1: a folder, $2: the next release, $3: its mirror.  sysupgrade(8) fetches the sets and verifies
# them with OpenBSD's own key; the upgrade then waits for the next start.  Where that did not come to
# its end, nothing waits.
dir=$1 next=$2 mirror=$3
digits=${next%.*}${next#*.}

result() {
	echo "$*" >"$dir/result.new"
	mv "$dir/result.new" "$dir/result"
	logger -t obsdimg-upgrade -p daemon.notice "$next: $*"
	rm -f "$dir/pid"
	exit 0
}

set -- -n
[ -n "$mirror" ] && set -- -n "$mirror"
# sysupgrade makes files that its unprivileged user reads.
umask 022
sysupgrade "$@" >"$dir/log" 2>&1 </dev/null
code=$?
if [ $code -eq 0 ] && [ -x /bsd.upgrade ] && [ -f /auto_upgrade.conf ] &&
	grep -q "(base$digits\.tgz)" /home/_sysupgrade/SHA256; then
	sync
	result "fetched $next"
fi
rm -f /bsd.upgrade /auto_upgrade.conf
grep -q _sysupgrade /etc/rc.firsttime 2>/dev/null && rm -f /etc/rc.firsttime
result "failed $code"
