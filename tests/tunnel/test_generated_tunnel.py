"""The generated server.conf and clients' files work with the real wg, wg-quick and wireguard-go."""

from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.core.files import write_file
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.site.clients import client_conf, plan_client
from obsdimg.site.plan import Materials, plan_site
from support.wg_netns import (
    OUTSIDE4,
    OUTSIDE6,
    SERVER4,
    SERVER6,
    SERVER_OUTER4,
    WgWorld,
    WireguardGo,
    in_namespace,
    kernel_ping,
    run,
    wg_world,
)

__all__ = ["wg_world"]
pytestmark = [pytest.mark.netns]

PROJECT = f"""\
[release]
version = "6.6"
[access.admin]
name = "admin"
keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[tunnel]
ipv4 = "{SERVER4}/24"
ipv6 = "{SERVER6}/64"
endpoint = "{SERVER_OUTER4}"
dns = ["9.9.9.9"]
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
ipv6 = "fd00:53::2"
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
ipv6 = "fd00:53::3"
"""


@pytest.fixture
def project(tmp_path: Path, wg_world: WgWorld) -> Project:
    """A project with its clients' files, whose server.conf the real server has taken."""
    (tmp_path / "obsdimg.toml").write_text(PROJECT)
    made = Project.open(tmp_path / "obsdimg.toml")
    keys = made.keys()
    plan = plan_site(made.config, load_release("6.6"), keys, Materials())
    wg_world.configure(plan.sealed["/etc/wireguard/server.conf"].data.decode())
    made.clients.mkdir(mode=0o700)
    for peer in made.config.tunnel.peers:
        conf = client_conf(plan_client(made.config, keys, peer))
        write_file(made.clients / f"{peer.name}.conf", conf)
    return made


def test_obsdimg_probe_works_with_every_generated_client(
    project: Project, wg_world: WgWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("laptop", "phone"):
        words = ["probe", name, "-c", str(project.config_path), "--count", "2"]
        words += ["--outside", str(OUTSIDE4), "--outside", str(OUTSIDE6)]
        with in_namespace(wg_world.client):
            assert main(words) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.count("2 of 2 answered") == 4


@pytest.mark.parametrize("name", ["laptop", "phone"])
def test_the_real_client_takes_the_generated_file_and_the_tunnel_carries_packets(
    project: Project, wg_world: WgWorld, name: str
) -> None:
    stripped = run("wg-quick", "strip", str(project.clients / f"{name}.conf"))
    peer = next(peer for peer in project.config.tunnel.peers if peer.name == name)
    with WireguardGo(wg_world.client, "wg9") as client:
        client.wg("setconf", "wg9", "/dev/stdin", given=stripped)
        wg_world.ip(wg_world.client, "address", "add", f"{peer.ipv4}/24", "dev", "wg9")
        wg_world.ip(wg_world.client, "link", "set", "wg9", "up")
        with in_namespace(wg_world.client):
            assert kernel_ping(str(SERVER4), 56)
