"""obsdimg-tunnel: which file holds after a power failure, and what a healthy tunnel is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.server_bench import SHELLS, ServerBench, program
from support.site_fixtures import RECIPE, UPSTREAM

WG_GO, WG = "6.6", "7.5"
NAMES = {
    WG_GO: ("tun0", "etc/wireguard/server.conf"),
    WG: ("wg0", "etc/hostname.wg0"),
}
SCRIPT = "/usr/local/sbin/obsdimg-tunnel"


class Tunnel:
    """A server in a folder whose interface has what `runs` says."""

    def __init__(self, root: Path, shell: str, version: str) -> None:
        self.bench = ServerBench(root, shell)
        self.version = version
        self.name, self.path = NAMES[version]
        self.script = self.bench.install(SCRIPT, RECIPE + UPSTREAM, version)
        self.file = self.bench.install(f"/{self.path}", RECIPE, version)
        self.pf = self.bench.install("/etc/pf.conf", RECIPE, version)
        self.text = self.file.read_text()
        self.good = root / "etc/wireguard/good"
        self.good.mkdir()
        for name in ("logger", "rcctl"):
            self.bench.stand_in(name)
        self.bench.stand_in("pfctl", "! grep -q BAD $T/etc/pf.conf")
        self.bench.stand_in(
            "wg", "case $3 in listen-port) cat $T/port;; peers) cat $T/peers;; esac"
        )
        self.bench.stand_in(
            "ifconfig",
            'case "$*" in wg?) cat $T/up 2>/dev/null; sed "s/^/\twgport /" $T/port;'
            ' sed "s/^/\twgpeer /" $T/peers;; esac',
        )
        self.runs()

    def runs(self, port: str = "51820", peers: list[str] | None = None) -> None:
        """What the interface has: by default what the file says."""
        root = self.bench.root
        words = self.text.replace("=\n", "=\n").split()
        marks = ("PublicKey", "wgpeer")
        found = [
            words[i + (2 if w == "PublicKey" else 1)] for i, w in enumerate(words) if w in marks
        ]
        assert len(found) == 2
        (root / "port").write_text(f"{port}\n")
        (root / "peers").write_text("".join(f"{key}\n" for key in found if peers is None))
        if peers:
            (root / "peers").write_text("".join(f"{key}\n" for key in peers))
        (root / "up").write_text(f"{self.name}: flags=80c3<UP,RUNNING> mtu 1420\n")
        self.peers = found

    def call(self, action: str, thing: str | None = None) -> int:
        done = subprocess.run(
            [program(self.bench.shell), str(self.script), action, thing or self.name],
            capture_output=True,
            timeout=20,
            env={"PATH": "/nowhere"},
        )
        self.output = (done.stdout + done.stderr).decode()
        return done.returncode


@pytest.fixture(params=[(s, v) for s in SHELLS for v in NAMES], ids=str)
def tunnel(tmp_path: Path, request: pytest.FixtureRequest) -> Tunnel:
    return Tunnel(tmp_path, *request.param)


def test_what_has_its_port_and_its_peers_is_healthy(tunnel: Tunnel) -> None:
    assert tunnel.call("check") == 0
    tunnel.runs(peers=[*tunnel.peers, "another-one="])
    assert tunnel.call("check") == 0, "a peer that was added by hand does no harm"


def test_another_port_or_a_missing_peer_is_not(tunnel: Tunnel) -> None:
    tunnel.runs(port="40123")
    assert tunnel.call("check") == 1
    tunnel.runs(peers=tunnel.peers[:1])
    assert tunnel.call("check") == 1


@pytest.mark.parametrize("left", [0, 10, 0.5, 0.99])
def test_an_empty_or_cut_file_is_not_healthy_though_what_runs_may_fit(
    tunnel: Tunnel, left: float
) -> None:
    tunnel.file.write_text(tunnel.text[: int(left * len(tunnel.text)) if left < 1 else int(left)])
    (tunnel.bench.root / "peers").write_text("")
    assert tunnel.call("check") == 1


def test_a_server_without_its_key_yet_says_so(tunnel: Tunnel) -> None:
    tunnel.file.write_text(tunnel.text + "# @SERVER-KEY@\n")
    assert tunnel.call("check") == 3
    assert tunnel.call("keep") == 1


def test_a_peer_added_behind_the_mark_by_hand_is_fine(tunnel: Tunnel) -> None:
    tunnel.file.write_text(tunnel.text + "# my own\n")
    assert tunnel.call("choose") == 0
    assert tunnel.file.read_text() == tunnel.text + "# my own\n"


@pytest.mark.parametrize("spoilt", ["", "PrivateKey = x\n", "# nothing\n"])
def test_a_cut_file_gives_way_to_the_last_good_one_and_that_is_logged(
    tunnel: Tunnel, spoilt: str
) -> None:
    assert tunnel.call("keep") == 0
    tunnel.file.write_text(spoilt)
    assert tunnel.call("choose") == 2
    assert tunnel.file.read_text() == tunnel.text
    refused = tunnel.bench.root / f"etc/wireguard/{tunnel.file.name}.refused"
    assert refused.read_text() == spoilt
    (line,) = [one for one in tunnel.bench.journal() if one.startswith("logger")]
    assert "was cut off or empty: the last good one holds again" in line
    assert not list(tunnel.file.parent.glob(".obsdimg.*"))


def test_a_missing_file_is_put_back(tunnel: Tunnel) -> None:
    tunnel.call("keep")
    tunnel.file.unlink()
    assert tunnel.call("choose") == 2
    assert tunnel.file.read_text() == tunnel.text


def test_without_a_good_copy_nothing_is_touched(tunnel: Tunnel) -> None:
    tunnel.file.write_text("")
    assert tunnel.call("choose") == 1
    assert tunnel.file.read_text() == ""
    (tunnel.good / tunnel.file.name).write_text("cut")
    assert tunnel.call("choose") == 1


def test_a_refused_file_gives_way_once_and_the_good_one_never_to_itself(tunnel: Tunnel) -> None:
    tunnel.call("keep")
    tunnel.file.write_text(tunnel.text.replace("# phone", "# Gibberish"))
    assert tunnel.call("fallback") == 2
    assert tunnel.file.read_text() == tunnel.text
    assert tunnel.call("fallback") == 1


@pytest.mark.parametrize("thing", [None, "pf"])
def test_a_copy_is_on_the_disk_before_it_has_its_name(tunnel: Tunnel, thing: str | None) -> None:
    file = tunnel.pf if thing else tunnel.file
    whole = file.read_text()
    assert tunnel.call("keep", thing) == 0
    file.write_text("")
    file.chmod(0o666)
    assert tunnel.call("choose", thing) == 2
    mode = 0o640 if file.name.startswith("hostname") else 0o600
    for made, its in ((file, mode), (tunnel.good / file.name, 0o600)):
        assert made.read_text() == whole
        assert made.stat().st_mode & 0o777 == its
    root, good = tunnel.bench.root, tunnel.good / file.name
    waits = "install -F -m 600 -o root -g wheel"
    assert [line for line in tunnel.bench.journal() if line.startswith("install")] == [
        f"{waits} {file} {good}",
        f"{waits} {file} {root}/etc/wireguard/{file.name}.refused",
        f"install -F -m {mode:o} -o root -g wheel {good} {file}",
    ]


@pytest.mark.parametrize("thing", [None, "pf"])
@pytest.mark.parametrize(
    "lost", ["all", "the first block", "the last bytes", "one byte", "the end"]
)
def test_nul_bytes_of_the_right_length_give_way_to_the_last_good_one(
    tunnel: Tunnel, lost: str, thing: str | None
) -> None:
    """What a power failure left on a real 6.6: the file's name and length, and zeros inside."""
    file = tunnel.pf if thing else tunnel.file
    text = file.read_bytes()
    assert tunnel.call("keep", thing) == 0
    holes = {
        "all": bytes(len(text)),
        # `# end` alone would call these whole.
        "the first block": bytes(100) + text[100:],
        "one byte": text.replace(b" ", b"\0", 1),
        "the last bytes": text[:-30] + bytes(30),
        "the end": text[: text.index(b"# end")],
    }
    file.write_bytes(holes[lost])
    assert tunnel.call("keep", thing) == 1, "nor is it kept as good"
    if thing is None:
        assert tunnel.call("check") == 1
    assert tunnel.call("choose", thing) == 2
    assert file.read_bytes() == text
    refused = tunnel.bench.root / f"etc/wireguard/{file.name}.refused"
    assert refused.read_bytes() == holes[lost]
    assert [line for line in tunnel.bench.journal() if "last good one holds again" in line]


def test_a_good_copy_of_nul_bytes_is_never_taken_and_is_made_anew(tunnel: Tunnel) -> None:
    good = tunnel.good / tunnel.file.name
    good.write_bytes(bytes(len(tunnel.text)))
    assert tunnel.call("choose") == 0, "the file itself is whole"
    assert tunnel.call("keep") == 0
    assert good.read_text() == tunnel.text
    good.write_bytes(bytes(len(tunnel.text)))
    tunnel.file.write_bytes(bytes(len(tunnel.text)))
    assert tunnel.call("choose") == 1
    assert tunnel.file.read_bytes() == bytes(len(tunnel.text)), "neither is any better"


@pytest.mark.parametrize("thing", [None, "pf"])
def test_what_worked_before_a_mistake_by_hand_is_kept_beside_it(
    tunnel: Tunnel, thing: str | None
) -> None:
    file = tunnel.pf if thing else tunnel.file
    text = file.read_text()
    before = tunnel.good / f"{file.name}.before"
    assert tunnel.call("keep", thing) == 0
    assert not before.exists(), "nothing was before the first"
    file.write_text(text + "# a mistake\n")
    for _ in range(3):
        assert tunnel.call("keep", thing) == 0
        assert (tunnel.good / file.name).read_text() == text + "# a mistake\n"
        assert before.read_text() == text, "the next minute does not push it out"
        assert before.stat().st_mode & 0o007 == 0
    (tunnel.good / file.name).write_text("")
    assert tunnel.call("keep", thing) == 0
    assert before.read_text() == text, "what was cut off is not kept"


def test_a_copy_that_fails_leaves_the_old_one(tunnel: Tunnel) -> None:
    tunnel.call("keep")
    tunnel.bench.stand_in("install", "exit 1")
    tunnel.file.write_text(tunnel.text + "# new\n")
    assert tunnel.call("keep") == 1
    assert (tunnel.good / tunnel.file.name).read_text() == tunnel.text
    assert [p.name for p in tunnel.good.iterdir()] == [tunnel.file.name]


def test_a_pf_conf_that_was_put_back_is_loaded_at_once(tunnel: Tunnel) -> None:
    """rc(8) has loaded the empty one by then, if hostname.wg0 was empty as well: all passed."""
    assert tunnel.call("keep", "pf") == 0
    tunnel.pf.write_text("")
    before = len(tunnel.bench.journal())
    assert tunnel.call("choose", "pf") == 2
    assert f"pfctl -f {tunnel.pf}" in tunnel.bench.journal()[before:]
    before = len(tunnel.bench.journal())
    assert tunnel.call("choose", "pf") == 0
    assert tunnel.bench.journal()[before:] == [], "what is whole is left alone"


def test_an_empty_pf_conf_gives_way_and_one_that_pf_refuses_is_not_kept(tunnel: Tunnel) -> None:
    rules = tunnel.pf.read_text()
    assert tunnel.call("keep", "pf") == 0
    tunnel.pf.write_text(rules + "BAD\n")
    assert tunnel.call("keep", "pf") == 1
    tunnel.pf.write_text("")
    assert tunnel.call("choose", "pf") == 2
    assert tunnel.pf.read_text() == rules


def test_no_key_is_printed_by_any_action(tunnel: Tunnel) -> None:
    words = tunnel.text.split()
    private = words[words.index("PrivateKey") + 2 if tunnel.version == WG_GO else 1]
    for action in ("check", "choose", "keep", "fallback"):
        tunnel.call(action)
        assert private not in tunnel.output
    assert not any(private in line for line in tunnel.bench.journal())


PROGRAMS = {"sshd": ("etc/ssh/sshd_config", "0644"), "doas": ("etc/doas.conf", "0600")}


@pytest.mark.parametrize("thing", PROGRAMS)
def test_what_sshd_or_doas_does_not_take_gives_way_too(tunnel: Tunnel, thing: str) -> None:
    """A slip there, and nobody gets in after the next boot, or becomes root at once."""
    root, (name, mode) = tunnel.bench.root, PROGRAMS[thing]
    file = root / name
    file.parent.mkdir(exist_ok=True)
    (root / "usr/sbin").mkdir(parents=True)
    tunnel.bench.stand_in("doas", '[ "$1" = -C ] && ! grep -q BAD "$2"')
    sshd = root / "usr/sbin/sshd"
    sshd.write_text('#!/bin/sh\n[ "$1 $2" = "-t -f" ] && ! grep -q BAD "$3"\n')
    sshd.chmod(0o755)
    file.write_text("one\n")
    assert tunnel.call("keep", thing) == 0
    file.write_text("two\n")
    assert tunnel.call("choose", thing) == 0, "without a mark at its end"
    assert tunnel.call("keep", thing) == 0
    for spoilt in ("BAD\n", "", "tw\0\0"):
        file.write_text(spoilt)
        assert tunnel.call("keep", thing) == 1
        assert tunnel.call("choose", thing) == 2
        assert file.read_text() == "two\n"
        assert f"{file.stat().st_mode & 0o7777:04o}" == mode
        assert (root / f"etc/wireguard/{file.name}.refused").read_text() == spoilt
    file.write_text("three\n")
    assert tunnel.call("fallback", thing) == 2, "taken by -t, and sshd does not start with it"
    assert file.read_text() == "two\n"
    assert (tunnel.good / f"{file.name}.before").read_text() == "one\n"
    # smoke and upgrade look for files there that others may read (smoke/inside.py).
    kept = [path for path in (root / "etc/wireguard").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in kept if file.name in path.name} == {0o600}
