# For scripts that report, one section after another.  obsdimg puts in front: seconds (how long one
# question to the network may take).
section() {
	echo "@@$1"
}

# At most so many seconds for a program that asks the network; timeout(1) is not in 6.6.
limited() {
	"$@" 2>/dev/null </dev/null &
	asked=$!
	(
		sleep "$seconds"
		kill "$asked"
	) >/dev/null 2>&1 </dev/null &
	guard=$!
	wait "$asked"
	result=$?
	kill "$guard" 2>/dev/null
	return $result
}
