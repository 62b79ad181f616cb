# Writes to the disk $1 what standard input says, a line for each piece of COUNT MiB at SEEK MiB:
#   data SEEK COUNT      the bytes follow the line
#   zero SEEK COUNT      zeros
#   random SEEK COUNT    random data, made here
#   end                  everything is to be on the disk now
# Answers `ok SEEK COUNT` to each, `ok end`, or `error SEEK TEXT` and stops.
# File 9: by it a later run finds this one, should its connection be lost (alone.sh).

exec 9<"$1" || exit 1
while read -r what seek count; do
	from=
	case $what in
	data) ;;
	zero) from=if=/dev/zero ;;
	random) from=if=/dev/urandom ;;
	end)
		sync
		echo "ok end"
		exit 0
		;;
	*)
		echo "error ${seek:-0} not understood: $what"
		exit 1
		;;
	esac
	if said=$(dd $from of="$1" bs=1048576 seek="$seek" count="$count" iflag=fullblock conv=notrunc 2>&1); then
		echo "ok $seek $count"
	else
		echo "error $seek" $said
		exit 1
	fi
done
# No `end`: the connection was cut.
exit 1
