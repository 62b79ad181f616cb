"""obsdimg-audit, run for real: what it writes to the log when peers come, move and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.tunnel.keys import WgPrivateKey
from support.server_bench import AWKS, SHELLS, ServerBench
from support.site_fixtures import secret

LAPTOP, PHONE, STRANGER = (
    WgPrivateKey(secret(name)).public().text() for name in ("laptop", "phone", "stranger")
)
HOME, CAFE, SIX = ("192.0.2.7", 51820), ("198.51.100.9", 4711), ("2001:db8::9", 51820)
NOW = 1_600_000_000

Seen = tuple[str, int, tuple[str, int] | None]
"""A peer's key, its last handshake (seconds since 1970, 0: never), and its endpoint."""


class Audit:
    """One server, seen once a minute."""

    def __init__(self, root: Path, version: str, shell: str, awk: str) -> None:
        self.bench = ServerBench(root, shell, awk)
        self.backend = "wg" if version != "6.6" else "wireguard-go"
        self.bench.stand_in("date", "cat $T/now")
        self.bench.stand_in("logger", 'echo "$5" >>$T/log')
        self.bench.stand_in("wg", 'cat "$T/$3"')
        self.bench.stand_in("ifconfig", 'cat "$T/ifconfig"')
        self.script = self.bench.install("/usr/local/sbin/obsdimg-audit", version=version)
        self.bench.install("/etc/wireguard/names", version=version)

    def minute(self, peers: list[Seen], now: int = NOW) -> list[str]:
        """Run it with these peers; the new lines of the log, sorted."""
        root = self.bench.root
        (root / "now").write_text(f"{now}\n")
        (root / "latest-handshakes").write_text("".join(f"{k}\t{t}\n" for k, t, _ in peers))
        (root / "endpoints").write_text("".join(f"{k}\t{_wg(e)}\n" for k, _, e in peers))
        (root / "ifconfig").write_text(_ifconfig(peers, now))
        return self.again()

    def again(self) -> list[str]:
        (self.bench.root / "log").unlink(missing_ok=True)
        assert self.bench.run(self.script) == ""
        left = [p.name for p in (self.bench.root / "var/db/obsdimg").iterdir()]
        assert left == ["audit"]
        return sorted(self.bench.read("log").splitlines())


def _wg(endpoint: tuple[str, int] | None) -> str:
    if endpoint is None:
        return "(none)"
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ifconfig(peers: list[Seen], now: int) -> str:
    """As wg_status() of ifconfig.c (openbsd/src) prints it."""
    text = "wg0: flags=80c3<UP,BROADCAST,RUNNING,NOARP,MULTICAST> mtu 1420\n\twgport 51820\n"
    text += f"\twgpubkey {STRANGER}\n"
    for key, time, endpoint in peers:
        text += f"\twgpeer {key}\n\t\twgpsk (present)\n"
        if endpoint:
            text += f"\t\twgendpoint {endpoint[0]} {endpoint[1]}\n"
        text += "\t\ttx: 12, rx: 34\n"
        if time:
            text += f"\t\tlast handshake: {now - time} seconds ago\n"
        text += "\t\twgaip 10.0.0.2/32\n"
    return text + "\tgroups: wg\n\tinet 10.0.0.1 netmask 0xffffff00 broadcast 10.0.0.255\n"


@pytest.fixture(params=[(v, s, a) for v in ("6.6", "7.5") for s in SHELLS for a in AWKS], ids=str)
def audit(tmp_path: Path, request: pytest.FixtureRequest) -> Audit:
    return Audit(tmp_path, *request.param)


def test_the_first_handshake_of_a_peer_is_logged_once_and_by_name(audit: Audit) -> None:
    peers: list[Seen] = [(LAPTOP, NOW - 5, HOME), (PHONE, 0, None)]
    assert audit.minute(peers) == ["peer laptop: first handshake, from 192.0.2.7:51820"]
    assert audit.minute(peers, NOW + 60) == []


def test_a_move_to_another_address_is_logged(audit: Audit) -> None:
    audit.minute([(PHONE, NOW - 5, HOME)])
    lines = audit.minute([(PHONE, NOW + 50, CAFE)], NOW + 60)
    assert lines == ["peer phone: now at 198.51.100.9:4711, before at 192.0.2.7:51820"]
    lines = audit.minute([(PHONE, NOW + 110, SIX)], NOW + 120)
    assert lines == ["peer phone: now at [2001:db8::9]:51820, before at 198.51.100.9:4711"]


def test_silence_is_logged_once_and_so_is_the_return(audit: Audit) -> None:
    audit.minute([(PHONE, NOW, HOME)], NOW + 1)
    assert audit.minute([(PHONE, NOW, HOME)], NOW + 300) == []
    lines = audit.minute([(PHONE, NOW, HOME)], NOW + 301)
    assert lines == ["peer phone: silent, last handshake 301 s ago, from 192.0.2.7:51820"]
    assert audit.minute([(PHONE, NOW, HOME)], NOW + 900) == []
    lines = audit.minute([(PHONE, NOW + 950, CAFE)], NOW + 960)
    assert lines == [
        "peer phone: back, from 198.51.100.9:4711",
        "peer phone: now at 198.51.100.9:4711, before at 192.0.2.7:51820",
    ]
    assert audit.minute([(PHONE, NOW + 950, CAFE)], NOW + 961) == []


def test_after_a_restart_of_the_daemon_silence_is_still_noticed(audit: Audit) -> None:
    audit.minute([(PHONE, NOW, HOME)], NOW + 1)
    assert audit.minute([(PHONE, 0, None)], NOW + 60) == []
    lines = audit.minute([(PHONE, 0, None)], NOW + 400)
    assert lines == ["peer phone: silent, last handshake 400 s ago, from 192.0.2.7:51820"]
    assert audit.minute([(PHONE, NOW + 410, HOME)], NOW + 420) == [
        "peer phone: back, from 192.0.2.7:51820"
    ]


def test_keys_without_a_name_are_told_apart_and_never_shown_whole(audit: Audit) -> None:
    lines = audit.minute([(STRANGER, NOW - 1, CAFE), (LAPTOP, NOW - 1, HOME)])
    assert lines == [
        "peer laptop: first handshake, from 192.0.2.7:51820",
        f"peer unknown-{STRANGER[:8]}: first handshake, from 198.51.100.9:4711",
    ]
    everything = audit.bench.read("log") + audit.bench.read("var/db/obsdimg/audit")
    assert not any(key in everything for key in (LAPTOP, PHONE, STRANGER))


def test_a_peer_that_was_removed_is_forgotten(audit: Audit) -> None:
    audit.minute([(LAPTOP, NOW, HOME), (PHONE, NOW, CAFE)], NOW + 1)
    (audit.bench.root / "etc/wireguard/names").write_text(f"{LAPTOP} laptop\n")
    assert audit.minute([(LAPTOP, NOW, HOME)], NOW + 100) == []
    assert "phone" not in audit.bench.read("var/db/obsdimg/audit")
    assert audit.minute([(LAPTOP, NOW, HOME)], NOW + 400) == [
        "peer laptop: silent, last handshake 400 s ago, from 192.0.2.7:51820"
    ]


def test_without_peers_or_without_an_interface_it_says_nothing(audit: Audit) -> None:
    assert audit.minute([]) == []
    for name in ("latest-handshakes", "endpoints", "ifconfig"):
        (audit.bench.root / name).unlink()
    assert audit.again() == []


@pytest.mark.parametrize(
    "junk",
    [
        "Unable to access interface: No such device\n",
        "\n\n\t\n",
        f"{PHONE}\n",
        f"{PHONE}\tyesterday\n",
        f"{PHONE}\t-1\n",
        "\x1b[31m%s%n `id` $(id)\n",
        "wgpeer\n\twgendpoint unable to print\n\tlast handshake: soon\n",
    ],
)
def test_malformed_output_neither_fails_nor_loses_what_was_known(audit: Audit, junk: str) -> None:
    audit.minute([(LAPTOP, NOW, HOME)], NOW + 1)
    before = audit.bench.read("var/db/obsdimg/audit")
    for name in ("latest-handshakes", "endpoints", "ifconfig"):
        (audit.bench.root / name).write_text(junk)
    assert [line for line in audit.again() if "phone" not in line] == []
    assert audit.bench.read("var/db/obsdimg/audit").startswith(before)


def test_a_damaged_state_file_is_replaced(audit: Audit) -> None:
    (audit.bench.root / "var/db/obsdimg/audit").write_text("half a li\nlaptop\n\x00\n")
    assert audit.minute([(LAPTOP, NOW - 1, HOME)]) == [
        "peer laptop: first handshake, from 192.0.2.7:51820"
    ]
    assert audit.bench.read("var/db/obsdimg/audit") == f"laptop {NOW - 1} 192.0.2.7:51820 heard\n"


def test_the_state_is_private(audit: Audit) -> None:
    audit.minute([(LAPTOP, NOW - 1, HOME)])
    assert (audit.bench.root / "var/db/obsdimg/audit").stat().st_mode & 0o777 == 0o600
