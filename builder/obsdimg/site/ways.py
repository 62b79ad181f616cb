"""The ways into the finished server: who may use ssh from outside, and all of them in words."""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.config import Config

RESCUE_OPEN = 60
"""Minutes for which ssh is open outside when nobody was heard in the tunnel."""
INTRUDER_MINUTES = 30
"""Minutes for which ssh does not answer an address that connected to it too often: it may be the
administrator's own, or his neighbour's behind the same NAT."""


@dataclass(frozen=True)
class SshOutside:
    """When ssh answers somebody outside of the tunnel: pf.conf, the page, `smoke` and `deploy`
    know it from here.

    `window`: minutes after the first boot; `rescue`: minutes without a client after any boot, until
    it answers for RESCUE_OPEN; both are 0 where it does not, or always does.
    """

    always: bool
    window: int
    rescue: int


def ssh_outside(config: Config) -> SshOutside:
    """Without a peer the tunnel leads nobody in: then ssh is open to all."""
    access = config.access
    if not access.sshd:
        return SshOutside(False, 0, 0)
    if access.ssh_from == "anywhere" or not config.tunnel.peers:
        return SshOutside(True, 0, 0)
    return SshOutside(False, access.ssh_window_minutes, access.rescue_minutes)


def seen_outside(config: Config) -> str:
    """What somebody finds who looks at the server from outside."""
    ports = ", ".join(map(str, (config.tunnel.port, *config.tunnel.also_ports)))
    ssh = ssh_outside(config)
    found = [f"UDP {ports}, which answers nobody but the clients"]
    if ssh.always:
        found.append("ssh (TCP 22)")
    if ssh.window:
        found.append(f"ssh for {ssh.window} minutes after the first boot")
    if ssh.rescue:
        found.append(
            f"ssh, to keys only, where no client was heard for {ssh.rescue} minutes after a start"
        )
    return "; ".join(found if len(found) > 1 else [*found, "nothing else"])


def ways_in(config: Config) -> tuple[str, ...]:
    """One sentence a way; the last one says what a dead tunnel means."""
    ssh = ssh_outside(config)
    console = "the console (docs/recovery.md)"
    if not config.access.sshd:
        return (f"no sshd: only by {console}",)
    if not config.tunnel.peers:
        return ("ssh from anywhere, since there is no client that could come through the tunnel",)
    if ssh.always:
        return ("ssh from anywhere",)
    names = ", ".join(peer.name for peer in config.tunnel.peers if peer.ssh)
    found = [f"ssh through the tunnel: {names}" if names else "ssh through the tunnel: nobody"]
    if ssh.window:
        found.append(f"ssh from anywhere for {ssh.window} min after the first boot")
    if ssh.rescue:
        found.append(
            f"ssh from anywhere, keys only, for {RESCUE_OPEN} min once a boot, if no client was"
            f" heard for {ssh.rescue} min after it (access.rescue_minutes)"
        )
    else:
        found.append(
            f"if the tunnel is dead: only {console}; access.rescue_minutes = 30 would open ssh then"
        )
    return tuple(found)
