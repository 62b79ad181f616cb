"""The tunnel seen from a client: WireGuard keys, handshake, sessions, and a probe.

Knows nothing of obsdimg's configuration.  The protocol is that of "WireGuard: Next
Generation Kernel Network Tunnel" (Donenfeld, NDSS 2017; wireguard.com/protocol).
"""
