# Starts the download of the next release in the background, so that it ends well whatever becomes
# of this connection.  obsdimg puts in front: dir, next, mirror (empty: the server's own), job and
# working.sh.
umask 077
applying() {
	working "${dir%/*}/apply" || return 0
	[ -z "$1" ] || rm -rf "$1"
	echo "@ refused: a change is being applied there"
	exit 0
}
no_room() {
	rm -rf "$dir"
	echo "@ refused: $1 (is the disk full?)"
	exit 0
}

applying
mkdir -p "${dir%/*}"
if ! mkdir "$dir" 2>/dev/null; then
	if working "$dir"; then
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
	mkdir "$dir" 2>/dev/null || no_room "$dir could not be made"
fi
echo $$ >"$dir/pid" || no_room "nothing can be written in $dir"
# Again: of two that begin at the same time one sees the other.
applying "$dir"
cat >"$dir/job.sh" <<END || no_room "$dir could not be written"
$job
END
nohup sh "$dir/job.sh" "$dir" "$next" "$mirror" >/dev/null 2>&1 </dev/null &
echo $! >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
echo "@ begun"
