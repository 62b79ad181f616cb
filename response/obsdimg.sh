# obsdimg.sh - encrypt the disk before the installer asks its first question.
#
# Sourced by the last line of the ramdisk's /install.md, so it runs inside install.sub every
# time that starts.  Two starts matter (openbsd(8) autoinstall, install.sub of 6.6 to 7.8):
#
#   outer  /autoinstall: stdin is the console.  Looks at the disk, refuses what is not
#          empty, asks for the passphrase.  Changes nothing.
#   inner  /install -af FILE, started by the outer one: no terminal.  Does the work, and
#          appends the answer to the root disk question to FILE.
#
# Settings come from /obsdimg.conf.  ksh of the ramdisk and the programs listed in
# distrib/amd64/ramdisk_cd/list only: no printf, awk, cut, head, wc, test.
# The passphrase lives in shell variables, and goes to bioctl on stdin; `print` is a
# built-in, so it is never an argument of a process.

obsdimg_say() {
	print -r -- "obsdimg: $1"
}

# die MESSAGE [LINE...]: say why, undo a half-made volume, end this start of install.sub.
obsdimg_die() {
	local _line

	print
	print -r -- "obsdimg: STOPPED: $1"
	shift
	for _line; do
		print -r -- "         $_line"
	done
	[[ -n $obsdimg_volume ]] && bioctl -d $obsdimg_volume >/dev/null 2>&1
	print
	exit 1
}

obsdimg_read_conf() {
	obsdimg_conf_complete=no
	[[ -f /obsdimg.conf ]] && . /obsdimg.conf
	[[ $obsdimg_conf_complete == yes ]] ||
		obsdimg_die "/obsdimg.conf is missing or incomplete." \
		    "This ISO is damaged: build it again. Nothing was changed."
}

# --- disks -----------------------------------------------------------------------------

# The names of all disks the kernel knows: sd0 sd1 ... (CDs and the ramdisk left out).
obsdimg_disks() {
	local IFS=, _name

	for _name in $(sysctl -n hw.disknames); do
		_name=${_name%%:*}
		[[ $_name == [sw]d+([0-9]) ]] && print -r -- "$_name"
	done
}

# Device nodes: /autoinstall -x removes those of every disk it has looked at.
# MAKEDEV says nothing when all is well.
obsdimg_nodes() {
	[[ -z $(cd /dev && sh MAKEDEV $1 2>&1) && -e /dev/r${1}c ]]
}

# A medium is in the drive and may be written: opening it for writing says so.
obsdimg_writable() {
	( : <>/dev/r${1}c ) 2>/dev/null
}

# Attached softraid volumes, a line each: VOLUME CHUNK.  `bioctl softraid0` prints
#   softraid0 0 Online  4293647360 sd1     CRYPTO
#           0 Online    4293647360 0:0.0   noencl <sd0a>
obsdimg_volumes() {
	local _a _b _c _d _e _rest _volume=

	bioctl softraid0 2>/dev/null | while read _a _b _c _d _e _rest; do
		[[ $_a == softraid* ]] && _volume=$_e
		_rest="$_e $_rest"
		if [[ -n $_volume && $_rest == *'<'[sw]d+([0-9])[a-zA-Z]'>'* ]]; then
			_rest=${_rest##*'<'}
			print -r -- "$_volume ${_rest%%'>'*}"
		fi
	done
}

obsdimg_is_volume() {
	obsdimg_volumes | grep -q "^$1 "
}

# The disk's size in MB, from its label (real or made up by the kernel), rounded down.
obsdimg_geometry() {
	local _label=$(disklabel $1 2>/dev/null)

	obsdimg_sectors=$(print -r -- "$_label" |
	    sed -n 's/^total sectors: \([0-9][0-9]*\).*/\1/p')
	obsdimg_secsize=$(print -r -- "$_label" |
	    sed -n 's/^bytes\/sector: \([0-9][0-9]*\).*/\1/p')
	[[ $obsdimg_sectors == +([0-9]) && $obsdimg_secsize == +([0-9]) ]] &&
	    ((obsdimg_sectors > 0 && obsdimg_secsize > 0)) || return 1
	obsdimg_per_mb=$((1048576 / obsdimg_secsize))
	obsdimg_mb=$((obsdimg_sectors / obsdimg_per_mb))
}

obsdimg_model() {
	dmesg | sed -n "/^$1 at /s/^[^<]*<\([^>]*\)>.*/\1/p" | sed -n '${s/[, ]*$//;p;}'
}

# Whether UEFI started this machine: the kernels of all releases from 6.6 on say so, the
# installer's own MDEFI does not (7.7 and 7.8 set it on BIOS machines with ACPI 5, too).
# dmesg may begin with the messages of an earlier start.
obsdimg_uefi() {
	dmesg | sed -n 'H
		/^OpenBSD [0-9]/h
		${
			x
			p
		}' | grep -q '^efi0 at bios0'
}

# Sets obsdimg_table to what the disk gets.  BIOS boot blocks are never written to a GPT disk
# with an EFI System partition, and firmware of UEFI machines starts nothing from an MBR.
# Sets obsdimg_chunk, too, the letter of the RAID partition.  A BIOS loader that shall ask on
# com0 needs a plain partition `a` in front of it.  UEFI's console goes on reading the line, and
# would take letters of the passphrase away.  No BIOS starts from sectors of 4096 bytes.
obsdimg_choose_table() {
	if [[ $obsdimg_table == auto ]]; then
		obsdimg_table=mbr
		obsdimg_uefi && obsdimg_table=gpt
	fi
	[[ $obsdimg_table == mbr && $obsdimg_secsize == 512 ]] || obsdimg_loader=
	obsdimg_chunk=a
	[[ -n $obsdimg_loader ]] && obsdimg_chunk=d
	return 0
}

# What a MB of a disk looks like: zeros, random, data.  Random bytes have 1 in 256 of each
# kind: of NULs (the shell drops them) and of newlines (grep counts lines), 4096 in a MB,
# give or take 64; nothing that means something has both.
obsdimg_looks() {
	local _mb _n _lines

	[[ $(dd if=/dev/r${1}c bs=1m skip=$2 count=1 2>/dev/null | sha256) == *30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58* ]] && {
		print zeros
		return
	}
	_mb=$(dd if=/dev/r${1}c bs=1m skip=$2 count=1 2>/dev/null)
	_n=$((1048576 - ${#_mb}))
	_lines=$(dd if=/dev/r${1}c bs=1m skip=$2 count=1 2>/dev/null | grep -a -c '')
	if ((_n > 3600 && _n < 4600 && _lines > 3600 && _lines < 4600)); then
		print random
	else
		print data
	fi
}

# LENGTH bytes at byte OFFSET of a disk; raw devices are read in whole sectors.
obsdimg_bytes() {
	dd if=/dev/r${1}c bs=64k count=2 2>/dev/null | dd bs=1 skip=$2 count=$3 2>/dev/null
}

# The used partitions of a disk's label, a line each: LETTER TYPE.
obsdimg_label() {
	disklabel $1 2>/dev/null | sed -En '/^  c: /d;/ unused /d
		s/^  ([a-zA-Z]): +[0-9]+ +[0-9]+ +([^ ]+).*$/\1 \2/p'
}

# What a disk holds, a line for each thing; nothing for a blank disk and for random data.
# Fails if the disk cannot be judged, which must never be taken for "empty".
obsdimg_contents() {
	local _disk=$1 _fdisk _line _offset _magic _what

	dd if=/dev/r${_disk}c of=/dev/null bs=64k count=1 2>/dev/null || return 1
	_fdisk=$(fdisk $_disk 2>/dev/null)
	[[ $_fdisk == *Disk:* ]] || return 1
	[[ $(disklabel $_disk 2>/dev/null) == *partitions:* ]] || return 1

	obsdimg_volumes | while read _what _line; do
		[[ $_line == ${_disk}[a-zA-Z] ]] &&
			print -r -- "softraid volume $_what, attached, on $_line"
	done
	if [[ $_fdisk == *'Usable LBA:'* ]]; then
		print -r -- "$_fdisk" |
		    sed -En 's/^[ *] *([0-9]+): (.*[^ ]) *\[.*/GPT partition \1: \2/p'
	elif [[ $_fdisk == *'Signature: 0xAA55'* ]]; then
		print -r -- "$_fdisk" |
		    sed -En '/^[ *][0-3]: 00 /d;s/^[ *]([0-3]): (..) .*\] *(.*[^ ]) *$/MBR partition \1: type \2 \3/p'
	fi
	obsdimg_label $_disk | while read _line _what; do
		[[ $_what == RAID ]] && _what="RAID (an encrypted volume, or part of one)"
		print -r -- "label $_line: $_what"
	done
	# Without a label: the trace of a softraid volume whose label is gone, the second copy of
	# a GPT, and file systems put on the whole disk.  Offset in bytes, magic, name.
	dd if=/dev/r${_disk}c bs=1m count=1 2>/dev/null | grep -q marcCRAM &&
		print "softraid metadata"
	if [[ $_fdisk != *'Usable LBA:'* ]]; then
		dd if=/dev/r${_disk}c bs=1m skip=$((obsdimg_mb - 1)) 2>/dev/null |
		    grep -q 'EFI PART' && print "the second copy of a GPT, at its end"
	fi
	while read _offset _magic _what; do
		[[ $(obsdimg_bytes $_disk $_offset ${#_magic}) == "$_magic" ]] &&
			print -r -- "$_what"
	done <<-__EOT
		0 XFSB XFS file system
		0 LUKS LUKS volume
		3 EXFAT exFAT file system
		3 NTFS NTFS file system
		3 -FVE-FS- BitLocker volume
		32 NXSB APFS container
		54 FAT FAT file system
		82 FAT32 FAT32 file system
		536 LVM2 LVM volume
		4086 SWAPSPACE2 Linux swap
		32769 CD001 ISO 9660 file system
		65600 _BHRfS_M btrfs file system
	__EOT
	# ext2, 3 and 4: 0xEF53 at byte 56 of the superblock at 1024.
	[[ $(obsdimg_bytes $_disk 1080 2) == "$(print 'S\0357')" ]] &&
		print "ext2, ext3 or ext4 file system"
	# FFS1 and FFS2: the magic at byte 1372 of the superblock at 8192 and 65536 (fs.h).
	[[ $(obsdimg_bytes $_disk 9564 3) == "$(print 'T\0031\0001')" ]] &&
		print "FFS1 file system"
	[[ $(obsdimg_bytes $_disk 66908 4) == "$(print '\0031\0001T\0031')" ]] &&
		print "FFS2 file system"
	return 0
}

# What a disk without any of these has at its start and end.  Sets obsdimg_blank to `zeros`
# or `random`; fails for data of a kind that nobody here knows.
obsdimg_judge_rest() {
	local _first=$(obsdimg_looks $1 0) _last=$(obsdimg_looks $1 $((obsdimg_mb - 1)))

	obsdimg_blank="$_first at its start, $_last at its end"
	[[ $_first != data && $_last != data ]]
}

# Which disk: the one named in the configuration, or the only one that can be written.
# Sets obsdimg_disk.  Disks that are volumes, or hold the key, are not candidates.
obsdimg_choose_disk() {
	local _all=$(obsdimg_disks) _disk _found= _n=0

	[[ -n $_all ]] || obsdimg_die "No disk was found." \
	    "Give the machine a disk (virtio, SCSI, SATA or NVMe) and start again."
	if [[ $obsdimg_disk != auto ]]; then
		for _disk in $_all; do
			[[ $_disk == $obsdimg_disk ]] && _found=$_disk
		done
		[[ -n $_found ]] ||
			obsdimg_die "There is no disk $obsdimg_disk." "Found:" $_all
		obsdimg_nodes $_found ||
			obsdimg_die "The device nodes of $_found cannot be made."
		obsdimg_is_volume $_found &&
			obsdimg_die "$_found is a softraid volume, not a disk."
		obsdimg_writable $_found ||
			obsdimg_die "$_found cannot be written." \
			    "It is write-protected, or has no medium."
		return
	fi
	for _disk in $_all; do
		[[ $_disk == "${obsdimg_keydisk%[a-zA-Z]}" ]] && continue
		obsdimg_nodes $_disk || continue
		obsdimg_is_volume $_disk && continue
		obsdimg_writable $_disk || continue
		_found="$_found${_found:+ }$_disk"
		_n=$((_n + 1))
	done
	((_n > 0)) || obsdimg_die "No disk that can be written was found." "Looked at:" $_all
	((_n == 1)) || obsdimg_die "There is more than one disk: $_found." \
	    "Name the one to use in obsdimg.toml and build the ISO again." \
	    "Nothing was changed."
	obsdimg_disk=$_found
}

# --- the dialogue (outer process) ---------------------------------------------------------

# guard NAME: ends this start unless NAME (a disk) is empty, or may be erased.
obsdimg_guard() {
	local _disk=$1 _found

	_found=$(obsdimg_contents $_disk) ||
		obsdimg_die "$_disk cannot be read, so nobody knows what it holds." \
		    "Nothing was changed."
	if [[ -z $_found ]]; then
		if obsdimg_judge_rest $_disk; then
			obsdimg_say "$_disk holds no partition, volume or file system that this medium"
			print -r -- "         knows: $obsdimg_blank."
			return
		fi
		_found="data that this medium does not know ($obsdimg_blank)"
	fi
	obsdimg_say "$_disk is NOT EMPTY. It holds:"
	print -r -- "$_found" | sed 's/^/           /'
	if [[ $obsdimg_overwrite == yes ]]; then
		obsdimg_say "It will be erased: the configuration says overwrite = true."
		return
	fi
	obsdimg_confirm_wipe $_disk
}

# Ask for `wipe NAME`, literally; anything else ends this start.
obsdimg_confirm_wipe() {
	local _reply=

	cat <<__EOT

  Was this machine installed to the end? Then detach the ISO (or put the disk
  before the CD in the boot order) and restart: it starts from its disk.
  If an installation was interrupted, its disk will not start: install anew.
  To give up everything on $1 and install anew, type:  wipe $1
  Any other answer leaves it as it is.

__EOT
	IFS= read -r _reply?"Answer: "
	[[ $_reply == "wipe $1" ]] || obsdimg_die "$1 was left as it is. Nothing was changed." \
	    "Detach the ISO and restart: only what was installed to the end starts."
}

# A key disk partition must be there, be of type RAID, and not hold another key.
obsdimg_check_keydisk() {
	local _part=$obsdimg_keydisk _disk=${obsdimg_keydisk%[a-zA-Z]} _d _found=

	for _d in $(obsdimg_disks); do
		[[ $_d == $_disk ]] && _found=$_d
	done
	[[ -n $_found ]] || obsdimg_die "The key disk $_part is missing." \
	    "Attach it and start again. Nothing was changed."
	[[ $_disk != $obsdimg_disk ]] ||
		obsdimg_die "The key disk $_part is on $_disk, the disk to be encrypted."
	obsdimg_nodes $_disk && obsdimg_writable $_disk ||
		obsdimg_die "The key disk $_part cannot be written."
	obsdimg_label $_disk | grep -q "^${_part#$_disk} RAID\$" ||
		obsdimg_die "$_part is no partition of type RAID." \
		    "Make one with disklabel (1 MB is enough). Nothing was changed."
	dd if=/dev/r$_part bs=64k count=1 2>/dev/null | grep -q marcCRAM || return
	obsdimg_say "$_part already holds a key, or part of a volume, of softraid."
	[[ $obsdimg_overwrite == yes ]] || obsdimg_confirm_wipe $_part
}

obsdimg_echo_on() {
	stty echo
	trap - INT TERM
}

# Drop what was typed before there was a question: it would become part of the answer.
# With these settings a read of the terminal ends when nothing comes for a tenth of a second.
obsdimg_drop_typed() {
	[[ -t 0 ]] || return 0
	stty -icanon min 0 time 1
	cat >/dev/null
	stty icanon
}

# Ask until two equal passphrases come that the boot loader can take too: printable ASCII
# (its keyboard is US), no blank at either end.  Sets obsdimg_pass.
obsdimg_ask_passphrase() {
	local _again _strange='*[! -~]*'

	cat <<__EOT

  The passphrase of the disk. It is asked for at every start of the machine.
  Keys are read in US layout, here and then. Nothing shows while you type.
  $obsdimg_min to $obsdimg_max characters: letters, digits, what else the US keyboard
  has, blanks inside.

__EOT
	while :; do
		trap 'stty echo; print; exit 1' INT TERM
		stty -echo
		obsdimg_drop_typed
		if ! IFS= read -r obsdimg_pass?"New passphrase: "; then
			obsdimg_echo_on
			obsdimg_die "No passphrase was given." "Nothing was changed."
		fi
		print
		if [[ -z $obsdimg_pass ]]; then
			obsdimg_say "Empty. Once more."
		elif ((${#obsdimg_pass} < obsdimg_min)); then
			obsdimg_say "Shorter than $obsdimg_min characters. Once more."
		elif ((${#obsdimg_pass} > obsdimg_max)); then
			obsdimg_say "Longer than $obsdimg_max characters. Once more."
		elif [[ $obsdimg_pass == $_strange ]]; then
			obsdimg_say "Holds a character that the boot loader cannot read. Once more."
		elif [[ $obsdimg_pass == ' '* || $obsdimg_pass == *' ' ]]; then
			obsdimg_say "Begins or ends with a blank. Once more."
		else
			IFS= read -r _again?"The same again: " || _again=
			print
			if [[ $_again == "$obsdimg_pass" ]]; then
				obsdimg_echo_on
				return
			fi
			obsdimg_say "The two differ. Once more."
		fi
		stty echo
	done
}

# The passphrase that the ISO carries (mode embedded).
obsdimg_embedded_passphrase() {
	obsdimg_pass=
	[[ -f /obsdimg.key ]] && IFS= read -r obsdimg_pass </obsdimg.key
	[[ -n $obsdimg_pass ]] || obsdimg_die "/obsdimg.key is missing or empty." \
	    "This ISO is damaged: build it again. Nothing was changed."
	cat <<__EOT

  *** The passphrase is written in this ISO. Whoever has the ISO, now or   ***
  *** later, can read this disk. Right for a laboratory, for nothing else. ***

__EOT
}

# The sets and the layout must fit: `need` is known since the ISO was built.
obsdimg_check_size() {
	local _need=$obsdimg_need

	[[ $obsdimg_need == +([0-9]) ]] || obsdimg_die "/obsdimg.conf: no size is given."
	((_need > 0)) && [[ $obsdimg_table == gpt ]] && _need=$((_need + 260))
	((obsdimg_mb >= _need)) ||
		obsdimg_die "$obsdimg_disk is too small: $obsdimg_mb MB, $_need MB are needed" \
		    "for what is to be installed. Nothing was changed." \
		    "Give the machine a larger disk, or leave out sets (sets.leave_out)."
}

# The loader numbers the volumes of all disks, sr0 sr1 ..., and boot.conf has to name ours.
obsdimg_check_loader() {
	local _disk

	[[ -n $obsdimg_loader ]] || return 0
	for _disk in $(obsdimg_disks); do
		[[ $_disk == $obsdimg_disk ]] && continue
		obsdimg_nodes $_disk && obsdimg_label $_disk | grep -q ' RAID$' || continue
		obsdimg_die "$_disk holds a RAID partition, too: which number the boot loader will give" \
		    "to the volume on $obsdimg_disk is not known. Nothing was changed." \
		    "Take $_disk out of the machine, or build the ISO with disk.loader = \"firmware\"."
	done
}

obsdimg_outer() {
	local _model _how _asks= _tty=

	print
	obsdimg_say "this medium installs $OBSD by itself."
	obsdimg_choose_disk
	obsdimg_geometry $obsdimg_disk ||
		obsdimg_die "The size of $obsdimg_disk cannot be read." "Nothing was changed."
	obsdimg_choose_table
	obsdimg_check_size
	obsdimg_check_loader
	_tty=${obsdimg_loader%% *}
	[[ -n $_tty ]] && _asks="
  loader   asks on $_tty, as a small partition in clear tells it"
	_model=$(obsdimg_model $obsdimg_disk)
	case $obsdimg_mode in
	passphrase)	_how="encrypted, with a passphrase typed here";;
	keydisk)	_how="encrypted, with the key on $obsdimg_keydisk";;
	embedded)	_how="encrypted, with the passphrase in this ISO";;
	none)		_how="NOT encrypted";;
	*)		obsdimg_die "/obsdimg.conf: unknown mode $obsdimg_mode.";;
	esac
	cat <<__EOT

  disk     $obsdimg_disk, $obsdimg_mb MB${_model:+, $_model}
  becomes  $OBSD, $_how$_asks
  before   $([[ $obsdimg_fill == yes ]] && print "filled with random data" || print "its start is overwritten")
  lost     everything that is on $obsdimg_disk now

  Nothing has been changed so far.

__EOT
	obsdimg_drop_typed
	obsdimg_guard $obsdimg_disk
	[[ $obsdimg_mode == keydisk ]] && obsdimg_check_keydisk
	case $obsdimg_mode in
	passphrase)	obsdimg_ask_passphrase;;
	embedded)	obsdimg_embedded_passphrase;;
	esac
	export OBSDIMG_DISK=$obsdimg_disk
	[[ -n $obsdimg_pass ]] && export OBSDIMG_PASSPHRASE="$obsdimg_pass"
	obsdimg_pass=
	print
}

# --- the work (inner process) ---------------------------------------------------------------

# Volumes on the disk (attached by a key disk, or by a start that failed later) hold it open.
obsdimg_detach() {
	local _disk=$1 _volume _chunk

	obsdimg_volumes | while read _volume _chunk; do
		[[ $_chunk == ${_disk}[a-zA-Z] ]] && print -r -- "$_volume"
	done >/tmp/obsdimg.volumes
	while read _volume; do
		obsdimg_say "detaching $_volume, the volume on $_disk"
		# Without a node bioctl takes the name for that of a controller.
		obsdimg_nodes $_volume && bioctl -d $_volume ||
			obsdimg_die "$_volume cannot be detached." "Restart the machine and try again."
	done </tmp/obsdimg.volumes
	rm -f /tmp/obsdimg.volumes
}

# write FROM DISK UNIT SEEK COUNT: dd, with what it said if it failed.
obsdimg_write() {
	local _said

	_said=$(dd if=$1 of=/dev/r${2}c bs=$3 seek=$4 count=$5 2>&1) ||
		obsdimg_die "Writing to $2 failed:" "$_said"
}

# Random data over the whole disk, in pieces, with a line of progress for every tenth.
obsdimg_fill_disk() {
	local _disk=$1 _at=0 _n _tenth=0 _now _rest

	obsdimg_say "writing random data to $_disk, $obsdimg_mb MB"
	while ((_at < obsdimg_mb)); do
		_n=$((obsdimg_mb - _at))
		((_n > 64)) && _n=64
		obsdimg_write /dev/urandom $_disk 1m $_at $_n
		_at=$((_at + _n))
		_now=$((_at / ((obsdimg_mb + 9) / 10)))
		if ((_now > _tenth)); then
			_tenth=$_now
			obsdimg_say "random data: $_at of $obsdimg_mb MB"
		fi
	done
	_rest=$((obsdimg_sectors - obsdimg_mb * obsdimg_per_mb))
	((_rest > 0)) && obsdimg_write /dev/urandom $_disk $obsdimg_secsize \
	    $((obsdimg_mb * obsdimg_per_mb)) $_rest
	obsdimg_say "random data: done"
}

# An old label, old softraid metadata or an old GPT would be found again by disklabel and
# bioctl.  Everything of that kind lies in the first MB.
obsdimg_wipe_start() {
	obsdimg_write /dev/zero $1 1m 0 1
}

# MBR (or GPT, on a UEFI machine) and a RAID partition, `a` or behind a plain one `d`.  With GPT
# the kernel makes up a label whose `i` is the EFI System partition (spoofgpt in
# sys/kern/subr_disk.c).
obsdimg_make_chunk() {
	local _disk=$1 _said _esp= _plain= _plain_label=

	if [[ $obsdimg_chunk != a ]]; then
		# Up to the middle of the first MB, so that all that is found again lies in it.
		# In sectors: another unit would be rounded to whole cylinders.
		_plain="a a\n\n$((obsdimg_per_mb / 2 - 64))\n4.2BSD\n"
		_plain_label="a 4.2BSD
"
	fi
	[[ $obsdimg_table == gpt ]] && _esp="i MSDOS"
	if [[ $obsdimg_table == mbr ]]; then
		_said=$(fdisk -iy $_disk 2>&1)
	else
		_said=$(fdisk $obsdimg_fdisk_gpt $_disk 2>&1)
	fi || obsdimg_die "fdisk could not write the partition table of $_disk:" "$_said"
	# fdisk made the kernel read the label again.  An old one that is still there would stay
	# in memory only, and the disk would have none after the next start.
	_said=$(obsdimg_label $_disk)
	[[ -z $_said || $_said == "$_esp" ]] || obsdimg_die "The old label of $_disk is still in use." \
	    "Restart the machine and try again."
	# `a a`: partition a, default offset, default size, type RAID; write; quit.
	# disklabel -T of 6.6 cannot make this type.
	_said=$(print "${_plain}a $obsdimg_chunk\n\n\nRAID\nw\nq\n" | disklabel -E $_disk 2>&1) ||
		obsdimg_die "disklabel failed on $_disk:" "$_said"
	[[ $(obsdimg_label $_disk) == "$_plain_label$obsdimg_chunk RAID${_esp:+
$_esp}" ]] || obsdimg_die "disklabel made no RAID partition on $_disk:" "$_said"
}

# The plain partition.  Where `a` is a file system the loader, which itself still comes from the
# RAID partition, begins there and not in the volume (devboot, stand/libsa/dev_i386.c): it reads
# this boot.conf before it asks for anything.  Loaders of 6.6 read FFS1 only.
obsdimg_make_loader() {
	local _part=${1}a _said

	_said=$(newfs -q -O 1 -b 8192 -f 1024 /dev/r$_part 2>&1) ||
		obsdimg_die "newfs failed on $_part:" "$_said"
	_said=$(mount -t ffs /dev/$_part /mnt2 2>&1) ||
		obsdimg_die "$_part cannot be mounted:" "$_said"
	mkdir /mnt2/etc && print -r -- "stty $obsdimg_loader
set tty ${obsdimg_loader%% *}
set device sr0a
boot" >/mnt2/etc/boot.conf && chmod 644 /mnt2/etc/boot.conf && umount /mnt2 ||
		obsdimg_die "boot.conf could not be written to $_part."
	obsdimg_say "$_part tells the boot loader to ask on ${obsdimg_loader%% *}"
}

# Make the CRYPTO volume.  Sets obsdimg_volume from what bioctl reports, never by guessing.
# `-C force`: without it bioctl opens an old volume instead of making a new one.
# Two lines: bioctl -s asks twice up to 7.3, once from 7.4.
obsdimg_make_volume() {
	local _disk=$1 _chunk=$1$obsdimg_chunk _said _rc

	if [[ $obsdimg_mode == keydisk ]]; then
		_said=$(bioctl -v -C force -c C -k $obsdimg_keydisk -l $_chunk softraid0 2>&1)
		_rc=$?
	else
		obsdimg_say "making the encrypted volume (KDF rounds: $obsdimg_rounds)"
		_said=$({ print -r -- "$obsdimg_pass"; print -r -- "$obsdimg_pass"; } |
		    bioctl -v -C force -c C -r $obsdimg_rounds -s -l $_chunk softraid0 2>&1)
		_rc=$?
	fi
	((_rc == 0)) || obsdimg_die "bioctl could not make the encrypted volume on $_chunk:" "$_said"
	obsdimg_volume=$(print -r -- "$_said" |
	    sed -n 's/^.*CRYPTO volume attached as \([sw]d[0-9][0-9]*\).*$/\1/p')
	[[ $obsdimg_volume == [sw]d+([0-9]) ]] || {
		obsdimg_volume=
		obsdimg_die "bioctl did not say which disk the volume became:" "$_said"
	}
	[[ $obsdimg_volume != $_disk ]] || {
		obsdimg_volume=
		obsdimg_die "bioctl named the disk itself as the volume:" "$_said"
	}
	print -r -- "$_said" | sed -n 's/^.*\(Deriving key .*\)/obsdimg: \1/p'
	obsdimg_say "$obsdimg_volume is the encrypted volume on $_chunk"
	obsdimg_nodes $obsdimg_volume ||
		obsdimg_die "The device nodes of $obsdimg_volume cannot be made."
}

# After a success the outer process runs /sbin/reboot.  The ramdisk kernel cannot power off:
# it halts and waits for a key.  Before a success `reboot` stays what it was.
obsdimg_halt_after() {
	mkdir -p /tmp/obsdimg.sbin &&
	    mv /sbin/reboot /tmp/obsdimg.sbin/reboot &&
	    print -r -- '#!/bin/ksh
[[ -f /tmp/ai/ai.done ]] || exec /tmp/obsdimg.sbin/reboot "$@"
print "obsdimg: installed. Detach the ISO, then press a key or restart the machine."
exec /sbin/halt -p' >/sbin/reboot &&
	    chmod 755 /sbin/reboot ||
		obsdimg_die "/sbin/reboot could not be replaced (after = halt)."
}

obsdimg_inner() {
	local _root=$obsdimg_disk _whole=whole

	obsdimg_nodes $obsdimg_disk ||
		obsdimg_die "The device nodes of $obsdimg_disk cannot be made."
	obsdimg_geometry $obsdimg_disk ||
		obsdimg_die "The size of $obsdimg_disk cannot be read."
	obsdimg_choose_table
	obsdimg_detach $obsdimg_disk
	[[ $obsdimg_fill == yes ]] && obsdimg_fill_disk $obsdimg_disk
	obsdimg_wipe_start $obsdimg_disk
	if [[ $obsdimg_mode != none ]]; then
		obsdimg_make_chunk $obsdimg_disk
		[[ -n $obsdimg_loader ]] && obsdimg_make_loader $obsdimg_disk
		obsdimg_make_volume $obsdimg_disk
		obsdimg_wipe_start $obsdimg_volume
		_root=$obsdimg_volume
	elif [[ $obsdimg_table == gpt ]]; then
		_whole=gpt
	fi
	# A volume gets an MBR on every machine: its loader is on the disk that it lies on.
	# The last line answers a question that comes only where the installer sees no UEFI.
	# The empty line is for a file without a newline at its end.
	print -r -- "
Which disk is the root disk = $_root
Use (W)hole disk = $_whole
An EFI/GPT disk may not boot. Proceed = yes" >>$AI_RESPFILE ||
		obsdimg_die "The answer to the root disk question could not be written."
	[[ -f /tmp/obsdimg.sbin/reboot || $obsdimg_after != halt ]] || obsdimg_halt_after
	obsdimg_say "$_root is ready; the installer takes over."
	obsdimg_volume=
}

# Only install.site gets the passphrase, not every program the installer starts.
# If a later installer calls chroot in another way nothing breaks: install.site then asks.
obsdimg_wrap_chroot() {
	chroot() {
		if [[ $2 == /install.site && -n $obsdimg_pass ]]; then
			(export OBSDIMG_PASSPHRASE="$obsdimg_pass"; command chroot "$@")
		else
			command chroot "$@"
		fi
	}
}

# --- which of the two -----------------------------------------------------------------------

obsdimg_volume=
obsdimg_pass=
if $AI && ! $UU && [[ -z $AI_RESPFILE && ( -z $MODE || $MODE == install ) ]]; then
	obsdimg_read_conf
	obsdimg_outer
elif $AI && ! $UU && [[ $MODE == install && -n $AI_RESPFILE ]]; then
	obsdimg_read_conf
	[[ -n $OBSDIMG_DISK ]] ||
		obsdimg_die "Nobody was asked." "Start the installation with (A)utoinstall."
	obsdimg_disk=$OBSDIMG_DISK
	obsdimg_pass=$OBSDIMG_PASSPHRASE
	unset OBSDIMG_PASSPHRASE
	case $obsdimg_mode in
	passphrase|embedded)
		[[ -n $obsdimg_pass ]] || obsdimg_die "The passphrase got lost." \
		    "Start the installation with (A)utoinstall."
		;;
	esac
	obsdimg_inner
	obsdimg_wrap_chroot
elif ! $AI && ! $UU && [[ $MODE == install ]]; then
	obsdimg_say "this is OpenBSD's own installer. It does not encrypt, does not ask before"
	print -r -- "         it erases, and uses nothing of obsdimg. For that: (A)utoinstall."
fi
