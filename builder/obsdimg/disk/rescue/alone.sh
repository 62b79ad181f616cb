# Ends what a run that was broken off still does to the disk $1: without its connection a script of
# ours goes on with what it was sent.  It holds the disk as file 9, and so does its dd.
# Prints `ended PID` for each, `busy PID` for one that is still there after a while, `end` at last.

dev=$(readlink -f -- "$1")
ours() {
	for held in /proc/[0-9]*/fd/9; do
		[ "$held" -ef "$dev" ] || continue
		process=${held%/fd/9}
		case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
		*' obsdimg '* | *' bs=1048576 '*) echo "${process##*/}" ;;
		esac
	done
}
for pid in $(ours); do
	kill -9 "$pid" 2>/dev/null && echo "ended $pid"
done
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	left=$(ours)
	[ -z "$left" ] && break
	kill -9 $left 2>/dev/null
	sleep 1
done
for pid in $left; do
	echo "busy $pid"
done
echo end
