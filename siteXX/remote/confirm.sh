# Says that the change works, over a connection that was made after it.  obsdimg puts dir in front.
[ -d "$dir" ] || { echo "@ gone"; exit 0; }
case $(cat "$dir/result" 2>/dev/null) in
checked)
	echo "@ not yet"
	exit 0
	;;
activated) : >"$dir/confirmed" ;;
esac
waited=0
while [ "$(cat "$dir/result" 2>/dev/null)" = activated ] && [ $waited -lt 20 ]; do
	sleep 1
	waited=$((waited + 1))
done
echo "@ $(cat "$dir/result" 2>/dev/null)"
