"""The ways into the finished server, in words, and what is left when the tunnel is dead."""

from __future__ import annotations

from obsdimg.config import Config
from obsdimg.site.plan import RESCUE_OPEN


def ways_in(config: Config) -> tuple[str, ...]:
    """One sentence a way; the last one says what a dead tunnel means."""
    access = config.access
    console = "the console (docs/recovery.md)"
    if not access.sshd:
        return (f"no sshd: only by {console}",)
    if not config.tunnel.peers:
        return ("ssh from anywhere, since there is no client that could come through the tunnel",)
    if access.ssh_from == "anywhere":
        return ("ssh from anywhere",)
    names = ", ".join(peer.name for peer in config.tunnel.peers if peer.ssh)
    found = [f"ssh through the tunnel: {names}" if names else "ssh through the tunnel: nobody"]
    if access.ssh_window_minutes:
        found.append(f"ssh from anywhere for {access.ssh_window_minutes} min after the first boot")
    if access.rescue_minutes:
        found.append(
            f"ssh from anywhere, keys only, for {RESCUE_OPEN} min once a boot, if no client was"
            f" heard for {access.rescue_minutes} min after it (access.rescue_minutes)"
        )
    else:
        found.append(
            f"if the tunnel is dead: only {console}; access.rescue_minutes = 30 would open ssh then"
        )
    return tuple(found)
