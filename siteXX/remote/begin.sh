# Takes in a change and starts it in the background, so that it ends well whatever becomes of
# this connection.  obsdimg puts in front: dir, archive (base64, a tar) and working.sh.
umask 077
upgrading() {
	working "${dir%/*}/upgrade" || return 0
	[ -z "$1" ] || rm -rf "$1"
	echo "@ upgrading"
	exit 0
}
no_room() {
	rm -rf "$dir"
	echo "@ refused room: $1"
	exit 0
}

upgrading
mkdir -p "${dir%/*}"
if ! mkdir "$dir" 2>/dev/null; then
	if working "$dir"; then
		echo "@ busy"
		exit 0
	fi
	# It was cut off, by a power failure say; nothing of it had been written for good.
	rm -rf "$dir"
	mkdir "$dir" 2>/dev/null || no_room "$dir could not be made"
fi
echo $$ >"$dir/pid" || no_room "nothing can be written in $dir"
# Again: of two that begin at the same time one sees the other.
upgrading "$dir"
if ! openssl base64 -d <<END | tar -xpf - -C "$dir"
$archive
END
then
	no_room "the change could not be unpacked in $dir"
fi
nohup sh "$dir/apply.sh" "$dir" >/dev/null 2>&1 </dev/null &
echo $! >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
waited=0
while [ ! -s "$dir/result" ] && [ $waited -lt 30 ]; do
	sleep 1
	waited=$((waited + 1))
done
echo "@ $(cat "$dir/result" 2>/dev/null)"
