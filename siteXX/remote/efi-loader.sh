# Renews the loader that UEFI starts from an EFI System partition beside the encrypted volume, from
# /usr/mdec.  installboot(8) does so only with a GPT; nobody else does on a disk for BIOS and UEFI
# (obsdimg disk --firmware both).  obsdimg puts in front: bootarea.sh.
# Prints `@ same NAME`, `@ renewed NAME` or `@ failed REASON` for each loader.
#
# A power failure in between leaves the old loader or the new one: the new one is written under
# another name, is read back from the disk, and takes the name then.  One that comes just while
# it takes the name (msdosfs(5) writes the directory twice for that) may leave none; BIOS starts the
# disk all the same, and the next call mends it.

efi_loaders() {
	on=$(chunk)
	[ -n "$on" ] || return
	disk=${on%?}
	part=$(disklabel "$disk" 2>/dev/null | sed -n 's/^ *\([a-p]\): .* MSDOS.*/\1/p' | sed 1q)
	[ -n "$part" ] || return
	if mount | grep -q "^/dev/$disk$part "; then
		echo "@ failed /dev/$disk$part is mounted"
		return
	fi
	at=$(mktemp -d /tmp/obsdimg.XXXXXXXXXX) || return
	# What an earlier call may have left half written.
	fsck_msdos -y "/dev/r$disk$part" >/dev/null 2>&1
	for name in BOOTX64 BOOTIA32; do
		from=/usr/mdec/$name.EFI to=$at/efi/boot/$name.EFI new=$at/efi/boot/$name.NEW
		[ -f "$from" ] || continue
		on_efi efi_write && on_efi efi_rename && on_efi efi_look
	done
	rmdir "$at"
}

# Calls $1 with the partition mounted; what it has written is on the disk afterwards.
on_efi() {
	if ! mount -t msdos "/dev/$disk$part" "$at" 2>/dev/null; then
		echo "@ failed /dev/$disk$part cannot be mounted"
		return 1
	fi
	"$1"
	result=$?
	sync
	umount "$at" 2>/dev/null && return $result
	echo "@ failed /dev/$disk$part cannot be unmounted"
	return 1
}

efi_write() {
	[ -f "$to" ] || [ -f "$new" ] || return
	if cmp -s "$from" "$to"; then
		[ ! -f "$new" ] || rm -f "$new"
		echo "@ same $name.EFI"
		return 1
	fi
	cmp -s "$from" "$new" && return
	rm -f "$new"
	cp "$from" "$new" 2>/dev/null && return
	rm -f "$new"
	echo "@ failed there is no room for a second $name.EFI"
	return 1
}

efi_rename() {
	cmp -s "$from" "$new" && mv -f "$new" "$to" && return
	rm -f "$new"
	echo "@ failed $name.EFI is not on the disk as it was written"
	return 1
}

efi_look() {
	if cmp -s "$from" "$to"; then
		echo "@ renewed $name.EFI"
	else
		echo "@ failed $name.EFI is not on the disk as it was written"
	fi
}
