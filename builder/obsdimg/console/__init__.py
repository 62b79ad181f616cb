"""Screens and keys of a machine far away: VNC, VNC over WebSocket, serial lines.

`address` says where, `connect` opens, `remote` gives one `RemoteConsole` for all kinds: a `Screen`
of text, and keys.  `states` knows what OpenBSD shows, `unlock` types the passphrase.
"""
