# For scripts that report, one section after another.  obsdimg puts in front: seconds (how long one
# question to the network may take).
section() {
	echo "@@$1"
}

# The sections with which a report begins.
running_system() {
	section time
	date +%s
	section boot
	sysctl -n kern.boottime
	section release
	uname -r
	section running
	sysctl -n kern.version
}

# At most so many seconds for a program that asks the network; timeout(1) is not in 6.6.  The guard is
# a program of its own and waits in the background: a subshell of OpenBSD's ksh keeps the pipe to whom
# this writes, and takes a signal only when its sleep(1) is over (7.7: every question took the limit).
limited() {
	"$@" 2>/dev/null </dev/null &
	asked=$!
	sh -c 'trap "kill \$!; exit" TERM; sleep "$1" & wait; kill "$2"' guard "$seconds" "$asked" \
		>/dev/null 2>&1 </dev/null &
	guard=$!
	wait "$asked"
	result=$?
	kill "$guard" 2>/dev/null
	return $result
}
