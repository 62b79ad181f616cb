# Says in what state the server is, one section after another; changes nothing, shows no key.
# obsdimg puts in front: interface, backend (wireguard-go or wg), updates (yes or no), files (paths
# whose hashes are wanted), wireguard.sh, bootarea.sh and asking.sh.
# Runs as root under the server's own sh.

running_system
section installed
# The kernel is linked anew at every start; what it calls itself stays.
grep -ao 'OpenBSD [0-9.]*[-a-z]* ([A-Z.]*) #[0-9]*: ' /bsd | sed 1q
section load
sysctl -n vm.loadavg
section wireguard
wireguard
section pf
pfctl -s info 2>/dev/null
section limits
pfctl -s memory 2>/dev/null
section disks
df -Pkl
section failed
rcctl ls failed 2>/dev/null
section upkeep
grep -h 'obsdimg-upkeep' /var/log/daemon.0 /var/log/daemon 2>/dev/null | tail -n 3
section softraid
bioctl softraid0 2>/dev/null
section bootarea
bootarea
section files
for file in $files; do
	if [ -f "$file" ]; then
		echo "$(sha256 -q "$file") $(stat -f %Lp "$file") $file"
	else
		echo "- - $file"
	fi
done
section patches
syspatch -l 2>/dev/null
section missing
if [ "$updates" = yes ]; then
	limited syspatch -c
	case $? in
	0 | 2) echo "@ known" ;;
	esac
	section packages
	limited pkg_add -Iun
	[ $? -le 1 ] && echo "@ known"
fi
section end
