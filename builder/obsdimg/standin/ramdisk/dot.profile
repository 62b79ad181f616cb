# The .profile of obsdimg's stand-in medium.  Ours, not OpenBSD's: it starts an unattended
# installation when /auto_install.conf exists, as the genuine one does.

export VNAME=$(sysctl -n kern.osrelease)
export VERSION=${VNAME%.*}${VNAME#*.}
export ARCH=$(sysctl -n hw.machine)
export OBSD="OpenBSD/$ARCH $VNAME"
export PATH=/sbin:/bin:/usr/bin:/usr/sbin:/

print -r -- "This is obsdimg's stand-in medium. It is not OpenBSD and installs nothing."
[[ -d /.rehearsal ]] || exit 1

umask 022
mkdir -p /tmp/ai /tmp/i

if [[ -f /auto_install.conf ]]; then
	print "Starting non-interactive mode."
	/autoinstall && exit
fi
while :; do
	read REPLY?'(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? ' || break
	case $REPLY in
	[aA]*)	/autoinstall && exit;;
	[sS]*)	break;;
	*)	print "Only (A)utoinstall is here.";;
	esac
done
