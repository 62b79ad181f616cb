# Whether somebody works in the folder $1: the process that it names runs, or it was made a moment ago
# and names none yet.  What is in it is looked at first, since its pid is written before anything else;
# and who began may have ended between the look and the question, after naming who goes on.
working() {
	young=
	case $(ls -A "$1" 2>/dev/null) in
	'' | pid) young=$(find "$1" -prune -mmin -2 2>/dev/null) ;;
	esac
	for look in 1 2 3; do
		pid=$(cat "$1/pid" 2>/dev/null)
		[ -n "$pid" ] || break
		kill -0 "$pid" 2>/dev/null && return 0
		[ "$(cat "$1/pid" 2>/dev/null)" != "$pid" ] || return 1
	done
	[ -n "$young" ]
}

