# Starts the download of the next release in the background, so that it ends well whatever becomes
# of this connection.  obsdimg puts in front: dir, next, mirror (empty: the server's own) and job.
umask 077
pid=$(cat "${dir%/*}/apply/pid" 2>/dev/null)
if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
	echo "@ refused: a change is being applied there"
	exit 0
fi
mkdir -p "${dir%/*}"
if ! mkdir "$dir" 2>/dev/null; then
	pid=$(cat "$dir/pid" 2>/dev/null)
	if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
		echo "@ busy"
		exit 0
	fi
	# It has ended since it was asked for.
	if [ "$(cat "$dir/result" 2>/dev/null)" = "fetched $next" ] && [ -x /bsd.upgrade ] &&
		[ -f /auto_upgrade.conf ]; then
		echo "@ busy"
		exit 0
	fi
	rm -rf "$dir"
	mkdir "$dir" || exit 1
fi
echo $$ >"$dir/pid"
cat >"$dir/job.sh" <<END || {
$job
END
	rm -rf "$dir"
	echo "@ refused: $dir could not be written (is the disk full?)"
	exit 0
}
nohup sh "$dir/job.sh" "$dir" "$next" "$mirror" >/dev/null 2>&1 </dev/null &
echo $! >"$dir/pid"
echo "@ begun"
