#!/bin/ksh
# A stand-in command of `obsdimg rehearse`, under the name it was called by.
#
# The plain tools are the host's own; their options are checked against the manual pages of
# OpenBSD 6.6 first.  Everything else is asked of the rehearsal outside: arguments go into a
# file, its name into a FIFO, and each reply is a piece of ksh to run here.  What a call left is
# removed with its last piece, or by the rehearsal.

R=/.rehearsal H=$R/host
n=${0##*/}

# known FLAGS TAKES ARG...: every option is one of FLAGS, or of TAKES, which take an argument.
known() {
	typeset flags=$1 takes=$2 a c

	shift 2
	while [[ $1 == -?* && $1 != -- ]]; do
		a=${1#-}
		shift
		while [[ -n $a ]]; do
			c=${a%"${a#?}"} a=${a#?}
			if [[ -n $takes && $takes == *"$c"* ]]; then
				[[ -n $a ]] || shift
				break
			fi
			[[ $flags == *"$c"* ]] || return 1
		done
	done
}

tool() {
	POSIXLY_CORRECT=1 LC_ALL=C exec $H/"$@"
}

case $n in
cat)	known benstuv '' "$@" && tool cat "$@";;
cp)	known afHiLPpRv '' "$@" && tool cp "$@";;
ln)	known fhLnPs '' "$@" && tool ln "$@";;
ls)	[[ $1 == -1dF ]] ||
		{ known 1AaCcdFfgHhikLlmnopqRrSsTtux '' "$@" && tool ls "$@"; };;
mkdir)	known p m "$@" && tool mkdir "$@";;
chmod)	known HLPRhrwxXst,=+augo '' "$@" && tool chmod "$@";;
tee)	known ai '' "$@" && tool tee "$@";;
touch)	known acm drt "$@" && tool touch "$@";;
rmdir)	known p '' "$@" && tool rmdir "$@";;
rm)	if known dfiPRrv '' "$@"; then
		set -A words
		for a; do
			[[ $a == -*P* ]] && a=${a%%P*}${a#*P}
			[[ $a == - ]] || words[${#words[*]}]=$a
		done
		tool rm "${words[@]}"
	fi;;
mv)	[[ $1 == /tmp/ai/ai.conf ]] || { known fi '' "$@" && tool mv "$@"; };;
grep|egrep|fgrep)
	if known abcEFGHhiILlnoqRsUuVvwxZ0123456789 ABCefm "$@"; then
		case $n in
		egrep)	tool grep -E "$@";;
		fgrep)	tool grep -F "$@";;
		*)	tool grep "$@";;
		esac
	fi;;
sed)	if known aEinru ef "$@"; then
		set -A words
		for a; do
			a=${a//'[[:<:]]'/'\<'}
			words[${#words[*]}]=${a//'[[:>:]]'/'\>'}
		done
		tool sed "${words[@]}"
	fi;;
gzip)	known 123456789cdfhklNnOqrtVv '' "$@" && tool gzip "$@";;
gunzip)	known cfhklNnqrtv '' "$@" && tool gzip -d "$@";;
gzcat)	tool gzip -dc "$@";;
more|less)
	tool cat;;
sleep)	# Time runs fifty times as fast.
	case $1 in
	+([0-9]))	typeset -Z3 ms=$(($1 * 20 % 1000))
			exec $H/sleep $(($1 * 20 / 1000)).$ms;;
	+([0-9]).+([0-9])|.+([0-9]))
			exec $H/sleep 0.01;;
	esac;;
doas)	while getopts u: o; do
		[[ $o == u ]] || exit 1
	done
	shift $((OPTIND - 1))
	[[ $1 == kill ]] && exit 1	# nothing else runs as that user
	exec "$@";;
esac

q=$R/q/$$.$RANDOM
for a in "$n" "$PWD" "$@"; do
	print -rn -- "$a"
	print -n '\0'
done >$q.args
[[ $n == chroot ]] && export -p >$q.env
print -r -- "${q##*/} 0" >$R/requests
exec 9<$R/reply/$(($$ % 256))	# opens when the rehearsal does; open to the end of the call
while read -r -u9 reply; do
	st=0
	. $q.do
	print -r -- "${q##*/} $st" >$R/requests
done
exit 70
