# Says what an upgrade depends on and how far one has come; changes nothing, shows no key.
# obsdimg puts in front: dir, next (the release after this one), mirror (empty: the server's own),
# ask (yes: also the mirror), asking.sh and working.sh.  Runs as root under the server's own sh.
digits=${next%.*}${next#*.}

running_system
section machine
uname -m
section room
for folder in / /home /tmp /usr /usr/X11R6 /usr/local /var; do
	[ -d "$folder" ] && echo "$folder $(df -Pk "$folder" | sed -n '$p')"
done
section downloaded
du -sk /home/_sysupgrade 2>/dev/null
section sets
# By what each set brings: sysupgrade installs all of them, those that are not here, too.
[ -e /usr/bin/cc ] && echo comp
[ -d /usr/games ] && [ -n "$(ls /usr/games)" ] && echo game
[ -e /usr/share/man/man1/ls.1 ] && echo man
[ -e /usr/X11R6/bin/xauth ] && echo xbase
[ -d /usr/X11R6/lib/X11/fonts ] && echo xfont
[ -e /usr/X11R6/bin/X ] && echo xserv
[ -d /usr/X11R6/share ] && echo xshare
section softraid
bioctl softraid0 2>/dev/null
section key
sed -n 2p "/etc/signify/openbsd-$digits-base.pub" 2>/dev/null
section packages
ls /var/db/pkg 2>/dev/null
section work
# What is under way: a change, the download, the upgrade at the next start, the first start after it.
working "${dir%/*}/apply" && echo applying
working "$dir" && echo fetching
[ -x /bsd.upgrade ] && [ -f /auto_upgrade.conf ] && echo "pending"
for file in /etc/rc.sysmerge /etc/rc.sysmerge.run /etc/rc.firsttime /etc/rc.firsttime.run; do
	[ -e "$file" ] && echo "first-start $file"
done
section result
cat "$dir/result" 2>/dev/null
section log
# ftp(1) draws no meter without a terminal; what is no text is left out.
[ -f "$dir/log" ] && tr -cd '\011\012\040-\176' <"$dir/log" | grep -v '^@@' | tail -n 12
section leftovers
# sysmerge(8) leaves what it could not merge in its folder until the next start.
for folder in /tmp/sysmerge.*; do
	[ -d "$folder" ] && (cd "$folder" && find . -type f | sed 's/^\.//')
done
section mirror
[ -n "$mirror" ] || mirror=$(sed 's/#.*//;/^[[:space:]]*$/d' /etc/installurl 2>/dev/null | sed 1q)
[ -n "$mirror" ] || mirror=https://cdn.openbsd.org/pub/OpenBSD
mirror=${mirror%/}
echo "$mirror"
# What a mirror says is foreign: text, so many lines, and none that looks like ours.
told() {
	tr -cd '\011\012\040-\176' | grep -v '^@@' | sed 2000q
}
if [ "$ask" = yes ]; then
	place=$mirror/$next/$(uname -m)
	said=$(mktemp /tmp/obsdimg.XXXXXXXXXX) || exit 1
	section list
	limited sh -c 'exec ftp -MV -w 30 -o - "$1" 2>"$2"' ftp "$place/SHA256.sig" "$said" | told
	section list-said
	told <"$said" | tail -n 2
	section index
	limited sh -c 'exec ftp -MV -w 30 -o - "$1" 2>"$2"' ftp "$place/index.txt" "$said" | told
	rm -f "$said"
fi
section end
