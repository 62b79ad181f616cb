# Whether somebody works in the folder $1: the process that it names runs, or it was made a moment ago
# and names none yet.
working() {
	pid=$(cat "$1/pid" 2>/dev/null)
	if [ -n "$pid" ]; then
		kill -0 "$pid" 2>/dev/null
		return
	fi
	[ -d "$1" ] || return 1
	case $(ls -A "$1") in
	'' | pid) [ -n "$(find "$1" -prune -mmin -2 2>/dev/null)" ] ;;
	*) return 1 ;;
	esac
}

