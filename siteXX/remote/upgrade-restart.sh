# Restarts into the upgrade, if it is there and is that of the release wanted.  obsdimg puts in front:
# dir, next and working.sh.
if working "${dir%/*}/apply"; then
	echo "@ applying"
	exit 0
fi
if [ "$(cat "$dir/result" 2>/dev/null)" != "fetched $next" ] || [ ! -x /bsd.upgrade ] ||
	[ ! -f /auto_upgrade.conf ]; then
	echo "@ nothing waits"
	exit 0
fi
# Where the boot loader begins in a plain partition, it has to be told there; rc.shutdown does it, too.
if [ -x /usr/local/sbin/obsdimg-loader ] && ! /usr/local/sbin/obsdimg-loader; then
	echo "@ loader"
	exit 0
fi
sync
nohup sh -c 'sleep 2; exec shutdown -r now "upgrade to the next release (obsdimg)"' >/dev/null 2>&1 </dev/null &
echo "@ restarts"
