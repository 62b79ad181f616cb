# Reads the disk $1 back: for each line `SEEK COUNT` of standard input, in MiB, `SEEK SHA256`.
# What the kernel remembers of the disk is forgotten first, so that the disk itself is read.
# File 9: as in write.sh.

exec 9<"$1" || exit 1
sync
{ echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null
while read -r seek count; do
	sum=$(dd if="$1" bs=1048576 skip="$seek" count="$count" 2>/dev/null | sha256sum)
	echo "$seek ${sum%% *}"
done
