# What this machine is, and what its disk $1 is and who uses it: a line `name=value` each.
# Runs by sh on any Linux with /proc and /sys; changes nothing.

dev=$(readlink -f -- "$1")
echo "user=$(id -u)"
echo "device=$dev"
[ -b "$dev" ] && echo "block=yes"
node=$(echo "${dev#/dev/}" | tr / '!')
sys=/sys/class/block/$node
[ -d "$sys" ] && echo "known=yes"
[ -e "$sys/partition" ] && echo "partition=yes"
echo "sectors=$(cat "$sys/size" 2>/dev/null)"
echo "readonly=$(cat "$sys/ro" 2>/dev/null)"
for name in vendor model serial; do
	echo "$name=$(cat "$sys/device/$name" "$sys/$name" 2>/dev/null)"
done
for part in "$sys" "$sys"/*; do
	[ "$part" = "$sys" ] || [ -e "$part/partition" ] || continue
	name=${part##*/}
	file=/dev/$(echo "$name" | tr '!' /)
	[ "$part" = "$sys" ] || echo "part=$name $(cat "$part/size")"
	number=$(cat "$part/dev" 2>/dev/null)
	for holder in "$part/holders"/*; do
		[ -e "$holder" ] && echo "used=$file by ${holder##*/}"
	done
	while read -r id parent where root point rest; do
		[ -n "$number" ] && [ "$where" = "$number" ] && echo "used=$file mounted on $point"
	done </proc/self/mountinfo
	while read -r what point rest; do
		[ "$what" = "$file" ] && echo "used=$file mounted on $point"
	done </proc/mounts
	while read -r what rest; do
		[ "$what" = "$file" ] && echo "used=$file for swap"
	done </proc/swaps
done
for tool in dd sha256sum sync; do
	command -v $tool >/dev/null 2>&1 || echo "missing=$tool"
done
[ "$(echo abc | dd bs=4 count=1 iflag=fullblock conv=notrunc 2>/dev/null)" = abc ] ||
	echo "missing=a dd with iflag=fullblock"
[ -d /sys/firmware/efi ] && echo "firmware=uefi"
for card in /sys/class/net/*; do
	driver=$(readlink -f "$card/device/driver" 2>/dev/null)
	[ -n "$driver" ] && echo "card=${card##*/} ${driver##*/} $(cat "$card/address")"
done
echo "end=yes"
