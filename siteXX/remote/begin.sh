# Takes in a change and starts it in the background, so that it ends well whatever becomes of
# this connection.  obsdimg puts in front: dir, and archive (base64, a tar).
umask 077
mkdir -p "${dir%/*}"
pid=$(cat "${dir%/*}/upgrade/pid" 2>/dev/null)
if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
	echo "@ upgrading"
	exit 0
fi
if ! mkdir "$dir" 2>/dev/null; then
	pid=$(cat "$dir/pid" 2>/dev/null)
	fresh=$(find "$dir" -prune -mmin -2 2>/dev/null)
	[ -n "$pid" ] || [ -e "$dir/result" ] || [ -z "$fresh" ] || pid=$$
	if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
		echo "@ busy"
		exit 0
	fi
	# It was cut off, by a power failure say; nothing of it had been written for good.
	rm -rf "$dir"
	mkdir "$dir" || exit 1
fi
echo $$ >"$dir/pid"
if ! openssl base64 -d <<END | tar -xpf - -C "$dir"
$archive
END
then
	rm -rf "$dir"
	echo "@ refused room: the change could not be unpacked in $dir"
	exit 0
fi
nohup sh "$dir/apply.sh" "$dir" >/dev/null 2>&1 </dev/null &
echo $! >"$dir/pid"
waited=0
while [ ! -s "$dir/result" ] && [ $waited -lt 30 ]; do
	sleep 1
	waited=$((waited + 1))
done
echo "@ $(cat "$dir/result" 2>/dev/null)"
