# After an upgrade: the packages of the new release, and its loader for UEFI; what the upgrade needed
# is removed.  obsdimg puts in front: dir, asking.sh, bootarea.sh and efi-loader.sh.
rm -f /bsd.upgrade /auto_upgrade.conf
rm -rf "$dir"
section packages
if [ -n "$(ls /var/db/pkg 2>/dev/null)" ]; then
	said=$(mktemp /tmp/obsdimg.XXXXXXXXXX) || exit 1
	limited sh -c 'exec pkg_add -Iu 2>&1' >"$said"
	code=$?
	tr -cd '\011\012\040-\176' <"$said" | tail -n 20
	rm -f "$said"
	[ $code -eq 0 ] && echo "@ known"
else
	echo "@ known"
fi
sync
section efi
efi_loaders
section bootarea
bootarea
section end
