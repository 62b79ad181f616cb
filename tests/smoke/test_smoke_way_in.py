"""`smoke --login` where ssh is open from the tunnel only: through a real wireguard-go to sshd."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.core.secret import Secret
from obsdimg.site.clients import find_peer, plan_client
from obsdimg.smoke.inside import check_inside
from obsdimg.smoke.plan import Login, SmokePlan
from obsdimg.smoke.qemu import Forward
from obsdimg.smoke.result import SmokeVerdict
from obsdimg.smoke.way_in import NoWayInError, ssh_port
from support.ssh_world import SshWorld, ssh_world
from support.stream_server import Relay, Spoil
from support.wg_netns import in_namespace

__all__ = ["ssh_world"]
pytestmark = [pytest.mark.netns]


def plan(world: SshWorld, name: str = "operator", *, server_key: bool = True) -> SmokePlan:
    keys = world.project.keys()
    config = world.project.config
    planned = plan_client(config, keys, find_peer(config, name))
    client = replace(planned, port=53, server=keys.server_public if server_key else None)
    return SmokePlan(Path("x.iso"), "6.6", Secret("pass"), peers=(client,))


def test_the_looks_from_inside_come_through_the_tunnel(ssh_world: SshWorld) -> None:
    """The guest here is Linux: it logs in, and fails every look at OpenBSD."""
    with in_namespace(ssh_world.wg.client):
        relay = Relay(ssh_world.wg.endpoint, Spoil())
        with relay:
            ports = {Forward("udp", 53): relay.endpoint.port}
            login = Login("root", ssh_world.identity)
            with ssh_port(plan(ssh_world), ports, None, 20) as port:
                checks = check_inside(login, port, True, 30)
    assert checks[0].name == "login over ssh"
    assert checks[0].verdict is SmokeVerdict.PASSED
    assert len(checks) > 5
    assert checks[1].verdict is SmokeVerdict.FAILED


def test_the_key_from_the_console_will_do(ssh_world: SshWorld) -> None:
    key = ssh_world.project.keys().server_public
    assert key is not None
    with in_namespace(ssh_world.wg.client):
        relay = Relay(ssh_world.wg.endpoint, Spoil())
        with relay:
            ports = {Forward("udp", 53): relay.endpoint.port}
            given = plan(ssh_world, server_key=False)
            with ssh_port(given, ports, key.text(), 20) as port:
                assert port > 0
            with pytest.raises(NoWayInError, match="is not known"), ssh_port(given, ports, None, 5):
                pass


def test_a_client_that_may_not_is_told(ssh_world: SshWorld) -> None:
    ssh_world.wg.nft(
        "table inet f { chain i { type filter hook input priority 0;"
        " ip saddr 10.0.0.3 tcp dport 22 reject with tcp reset; }; }"
    )
    with in_namespace(ssh_world.wg.client):
        relay = Relay(ssh_world.wg.endpoint, Spoil())
        with relay:
            ports = {Forward("udp", 53): relay.endpoint.port}
            with (
                pytest.raises(NoWayInError, match=r"phone: .*the connection was refused"),
                ssh_port(plan(ssh_world, "phone"), ports, None, 20),
            ):
                pass


def test_where_ssh_is_open_to_all_the_forwarded_port_is_taken() -> None:
    open_plan = SmokePlan(Path("x.iso"), "6.6", Secret("pass"), ssh_open=True)
    with ssh_port(open_plan, {Forward("tcp", 22): 2222}, None, 1) as port:
        assert port == 2222
