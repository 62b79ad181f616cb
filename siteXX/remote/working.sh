# Whether somebody works in the folder $1: the process that it names runs, or it was made a moment ago
# and names none yet.  What is in it is looked at first: its pid is written before anything else.
working() {
	young=
	case $(ls -A "$1" 2>/dev/null) in
	'' | pid) young=$(find "$1" -prune -mmin -2 2>/dev/null) ;;
	esac
	pid=$(cat "$1/pid" 2>/dev/null)
	if [ -n "$pid" ]; then
		kill -0 "$pid" 2>/dev/null
	else
		[ -n "$young" ]
	fi
}

