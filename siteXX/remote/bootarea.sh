# The partition under the encrypted volume: `sd0a`.
chunk() {
	bioctl softraid0 2>/dev/null | sed -n 's/.*<\([a-z]*[0-9]*[a-p]\)>.*/\1/p' | sed 1q
}

# What a stranger with the disk could change: everything in clear before the encrypted data, but
# for softraid's own notes (softraidvar.h: 64 sectors behind the 16th), and the EFI partition.
bootarea() {
	on=$(chunk)
	if [ -n "$on" ]; then
		disk=${on%?}
		part=${on#"$disk"}
		table=$(disklabel "$disk" 2>/dev/null)
		offset=$(echo "$table" | sed -n "s/^ *$part: *[0-9]* *\([0-9]*\) .*/\1/p")
		if [ -n "$offset" ]; then
			before=$offset
			[ "$before" -gt 2048 ] && before=2048
			{
				dd if="/dev/r${disk}c" bs=512 count="$before"
				dd if="/dev/r${disk}c" bs=512 skip="$offset" count=16
				dd if="/dev/r${disk}c" bs=512 skip="$((offset + 80))" count=448
				echo "$table" | sed -n 's/^ *[a-p]: *\([0-9]*\) *\([0-9]*\)  *MSDOS.*/\1 \2/p' |
				while read -r size start; do
					dd if="/dev/r${disk}c" bs=512 skip="$start" count="$size"
				done
			} 2>/dev/null | sha256 -q
		fi
	fi
}
