# Sourced by ./obsdimg and ./test: makes .venv from uv.lock, once, and again when that changes.

# setup_venv TOP run|dev: what the tool needs, or what its tests need as well.
setup_venv() {
	stamp="$1/.venv/.made-for-$2"
	[ -e "$stamp" ] && [ ! "$1/uv.lock" -nt "$stamp" ] && return 0
	echo "obsdimg: setting up .venv (once)" >&2
	find_python
	if [ ! -x "$1/.venv/bin/python" ]; then
		"$python" -m venv "$1/.venv" || {
			[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
				install_packages python3-venv && rm -rf "$1/.venv" &&
				"$python" -m venv "$1/.venv"
		} || fail "python cannot make a virtual environment: install python3-venv"
	fi
	uv=$(command -v uv || echo "$1/.venv/bin/uv")
	# One version, with the hash of each of its files; a wheel only, since a source would be built.
	[ -x "$uv" ] || "$1/.venv/bin/python" -m pip install -q --no-deps --only-binary :all: \
		--require-hashes -r "$1/.ci/uv.txt" ||
		fail "uv is missing and cannot be installed: see https://docs.astral.sh/uv"
	groups=--no-dev
	[ "$2" = dev ] && groups=
	# --inexact leaves uv itself, where it lives in .venv.
	(cd "$1" && UV_PROJECT_ENVIRONMENT=.venv "$uv" sync -q --frozen --inexact $groups) ||
		fail "the packages in uv.lock could not be installed"
	touch "$stamp"
	[ "$2" = dev ] && touch "$1/.venv/.made-for-run"
	return 0
}

find_python() {
	for python in python3.13 python3.12 python3.11 python3; do
		"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
	done
	fail "Python 3.11 or later is needed"
}

install_packages() {
	apt-get update -q >/dev/null 2>&1
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

fail() {
	echo "error: $1" >&2
	exit 1
}
