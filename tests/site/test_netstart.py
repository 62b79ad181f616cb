"""What the genuine netstart of 6.6 makes of our hostname.if(5) files: the commands it would run.

Only where OBSDIMG_SRC66 names a source tree of 6.6; `netstart -n` prints instead of running.
6.6 has no wg(4): its files are shown to 6.6's netstart all the same, since what parses them
(parse_hn_line) is in later releases much the same.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from support.server_bench import SHELLS, program
from support.site_fixtures import RECIPE, content, planned
from support.source_tree import source_file

SIX = RECIPE.replace("[tunnel]\n", '[tunnel]\nipv6 = "fd00:66::1/64"\n')
SIX = SIX.replace('"10.0.0.2"', '"10.0.0.2"\nipv6 = "fd00:66::2"')
SIX = SIX.replace('"10.0.0.3"', '"10.0.0.3"\nipv6 = "fd00:66::3"')
UPSTREAM = (
    '[tunnel.upstream]\nendpoint = "hop.example.net"\n'
    'public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="\nipv4 = "10.9.0.2/24"\n'
)
CHOOSE = "/usr/local/sbin/obsdimg-tunnel choose pf"
"""A pf.conf that a power cut left unfinished gives way to its last good copy."""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return program(request.param)


def commands(root: Path, shell: str, name: str, text: str) -> list[str]:
    """What netstart would run for the file `text` of interface `name`, without quotes."""
    (root / "etc/rc.d").mkdir(parents=True)
    for path in ("etc/netstart", "etc/rc.d/rc.subr"):
        script = source_file("66", path).decode()
        for place in ("/etc/hostname.", "/etc/rc.d/", "/etc/rc.conf", "/etc/my"):
            script = script.replace(place, f"{root}{place}")
        (root / path).write_text(script.replace("set +o sh", ":"))
    path = root / f"etc/hostname.{name}"
    path.write_text(text)
    path.chmod(0o640)
    done = subprocess.run(
        [shell, str(root / "etc/netstart"), "-n", name],
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )
    assert "insecure" not in done.stderr, "mode 0640 root:wheel is what netstart wants"
    return [" ".join(shlex.split(line)) for line in done.stdout.splitlines()]


def test_tun0_gets_its_address_and_the_route_to_the_clients(tmp_path: Path, shell: str) -> None:
    text = content(planned(), "/etc/hostname.tun0")
    assert commands(tmp_path, shell, "tun0", text) == [
        "ifconfig tun0 inet 10.0.0.1 netmask 255.255.255.0 broadcast 10.0.0.255"
        " description WireGuard",
        "/sbin/route -qn add -inet 10.0.0.0/24 10.0.0.1",
        CHOOSE,
    ]


def test_tun0_with_ipv6_and_a_next_server(tmp_path: Path, shell: str) -> None:
    text = content(planned(SIX + UPSTREAM), "/etc/hostname.tun0")
    assert commands(tmp_path, shell, "tun0", text)[1:] == [
        "/sbin/route -qn add -inet 10.0.0.0/24 10.0.0.1",
        "/sbin/route -qn -T 1 add -inet 10.0.0.0/24 10.0.0.1",
        "ifconfig tun0 inet6 fd00:66::1 prefixlen 64",
        "/sbin/route -qn add -inet6 fd00:66::/64 fd00:66::1",
        CHOOSE,
    ]


def test_tun1_has_the_default_route_of_table_1(tmp_path: Path, shell: str) -> None:
    text = content(planned(RECIPE + UPSTREAM), "/etc/hostname.tun1")
    assert commands(tmp_path, shell, "tun1", text)[1:] == [
        "/sbin/route -qn add -inet 10.9.0.0/24 10.9.0.2",
        "/sbin/route -qn -T 1 add -inet default 10.9.0.2",
    ]


def test_wg0_has_one_ifconfig_a_line_with_the_key_before_the_peers(
    tmp_path: Path, shell: str
) -> None:
    text = content(planned(SIX, "7.5"), "/etc/hostname.wg0")
    got = commands(tmp_path, shell, "wg0", text)
    head, *peers = (line.split() for line in got[:3])
    assert head[2::2] == ["wgkey", "wgport"]
    for peer, address in zip(
        peers, ("10.0.0.2/32 fd00:66::2/128", "10.0.0.3/32 fd00:66::3/128"), strict=True
    ):
        assert peer[2::2] == ["wgpeer", "wgpsk", "wgaip", "wgaip"]
        assert peer[7::2] == address.split()
    assert got[3:] == [
        "ifconfig wg0 inet 10.0.0.1/24",
        "ifconfig wg0 inet6 fd00:66::1/64",
        "ifconfig wg0 mtu 1420",
        "ifconfig wg0 up",
        CHOOSE,
    ]


def test_wg1_asks_for_the_next_server_and_keeps_the_link_alive(tmp_path: Path, shell: str) -> None:
    text = content(planned(RECIPE + UPSTREAM, "7.5"), "/etc/hostname.wg1")
    got = commands(tmp_path, shell, "wg1", text)
    assert got[1].split(None, 4)[4] == "wgendpoint hop.example.net 51820 wgaip 0.0.0.0/0 wgpka 25"
    assert got[2:] == [
        "ifconfig wg1 inet 10.9.0.2/24",
        "/sbin/route -qn -T 1 add -inet default 10.9.0.2",
        "ifconfig wg1 up",
    ]
