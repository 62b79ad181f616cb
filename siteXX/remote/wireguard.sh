# What WireGuard says of its port and its peers, without a key of its own.  obsdimg puts in front:
# interface, and backend (wireguard-go or wg).
wireguard() {
	if [ "$backend" = wireguard-go ]; then
		WG_COLOR_MODE=never
		export WG_COLOR_MODE
		for what in listen-port latest-handshakes endpoints transfer allowed-ips; do
			echo "= $what"
			wg show "$interface" $what 2>/dev/null
		done
	else
		ifconfig "$interface" 2>/dev/null
	fi
}
