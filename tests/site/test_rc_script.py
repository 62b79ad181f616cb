"""/etc/rc.d/obsdimg_wg with a real wireguard-go, in a network namespace (root).

It is run under the genuine rc.subr of 6.6 where OBSDIMG_SRC66 names a source tree of 6.6, and
always under a small one of ours that knows the same calls.  pgrep and pkill, su, getcap and
id are stand-ins with OpenBSD's options; Linux has no routing tables by that name.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.tunnel.keys import WgPrivateKey
from support.openbsd_programs import INSTALL
from support.server_bench import SHELLS, program
from support.site_fixtures import RECIPE, content, planned, secret
from support.source_tree import source_file
from support.wg_netns import inside, make_namespace, run, why_not

pytestmark = [pytest.mark.netns]

OURS = """
_name=${0##*/}
pexp="$daemon $daemon_flags"
rcexec="su -l -c daemon -s /bin/sh root -c"
rc_start() { ${rcexec} "$daemon $daemon_flags"; }
rc_check() { pgrep -T 0 -q -xf "$pexp"; }
rc_stop() { pkill -T 0 -xf "$pexp"; }
rc_wait_end() { i=0; while rc_check && ((i++ < 30)); do sleep 0.1; done; ! rc_check; }
rc_end() { [[ $1 == 0 ]] && print "$_name(ok)" || print "$_name(failed)"; exit $1; }
rc_cmd() {
	case $1 in
	check) rc_check; rc_end $?;;
	start) rc_check && exit 0; rc_start >/dev/null 2>&1; rc_end $?;;
	stop) rc_check || exit 0; rc_stop; rc_wait_end; rc_end $?;;
	reload) rc_check && rc_reload >/dev/null 2>&1; rc_end $?;;
	restart) $0 stop && $0 start;;
	esac
}
"""

# -T takes a routing table, -q is quiet; procps means other things by them.
_P = 'while getopts "T:qxf" o; do :; done; shift $((OPTIND - 1)); exec @p@ -xf "$1" >/dev/null'
STAND_INS = {
    "pgrep": _P.replace("@p@", "/usr/bin/pgrep"),
    "pkill": '[ "$1" = -ALRM ] && exec /usr/bin/pkill "$@"\n' + _P.replace("@p@", "/usr/bin/pkill"),
    "su": 'for last; do :; done; exec sh -c "$last"',
    "getcap": "exit 1",
    "id": "echo 0",
    "logger": 'echo "$*" >>${0%/*}/journal',
    "install": INSTALL,
}


class Server:
    """One namespace with the script, its configuration, and what it controls."""

    def __init__(self, root: Path, subr: str, shell: str) -> None:
        self.root, self.shell = root, shell
        self.namespace = f"obsdrc{os.getpid() % 100000}x{os.urandom(2).hex()}"
        for folder in ("bin", "etc/rc.d", "etc/wireguard/good", "var/run/rc.d", "usr/local/sbin"):
            (root / folder).mkdir(parents=True)
        for name, body in STAND_INS.items():
            path = root / "bin" / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        for name in ("wireguard-go", "wg"):
            (root / "bin" / name).symlink_to(program(name))
        self.put("/etc/rc.d/rc.subr", subr)
        self.script = self.put("/etc/rc.d/obsdimg_wg", content(planned(), "/etc/rc.d/obsdimg_wg"))
        self.put(
            "/usr/local/sbin/obsdimg-tunnel", content(planned(), "/usr/local/sbin/obsdimg-tunnel")
        )
        self.conf = self.put(
            "/etc/wireguard/server.conf", content(planned(), "/etc/wireguard/server.conf")
        )

    def put(self, path: str, text: str) -> Path:
        for name in (
            "/etc/rc.d/",
            "/etc/rc.conf",
            "/var/run/rc.d",
            "/etc/wireguard",
            "/usr/local/sbin/",
        ):
            text = text.replace(name, f"{self.root}{name}")
        text = text.replace("/usr/local/bin/", f"{self.root}/bin/")
        text = text.replace("PATH=/bin:", f"PATH={self.root}/bin:/usr/bin:/bin:", 1)
        for shell in ("#!/bin/ksh", "#!/bin/sh"):
            text = text.replace(shell, f"#!{program(self.shell)}", 1)
        target = self.root / path[1:]
        target.write_text(text)
        target.chmod(0o755 if text.startswith("#!") else 0o600)
        return target

    def call(self, action: str) -> tuple[int, str]:
        """Run the script as rcctl does; its exit code and all that it printed."""
        done = subprocess.run(
            inside(self.namespace, str(self.script), action),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env={"PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return done.returncode, done.stdout

    def pids(self) -> list[int]:
        pattern = f"{self.root}/bin/wireguard-go tun0"
        found = subprocess.run(["/usr/bin/pgrep", "-xf", pattern], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def peers(self) -> list[str]:
        out = run(*inside(self.namespace, "wg", "show", "tun0", "peers"), check=False)
        return out.split()


def _subr(kind: str) -> str:
    if kind == "ours":
        return OURS
    return source_file("66", "etc/rc.d/rc.subr").decode()


@pytest.fixture(params=[(k, s) for k in ("ours", "genuine") for s in SHELLS], ids=str)
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    kind, shell = request.param
    if reason := why_not():
        pytest.skip(reason)
    if not Path("/usr/bin/pgrep").exists():
        pytest.skip("/usr/bin/pgrep (procps) is missing")
    made = Server(tmp_path, _subr(kind), shell)
    with contextlib.ExitStack() as undo:
        make_namespace(undo, made.namespace)
        try:
            yield made
        finally:
            for pid in made.pids():
                os.kill(pid, 9)


NAMES = {WgPrivateKey(secret(n)).public().text() for n in ("laptop", "phone")}


def test_it_starts_with_its_peers_and_stops(server: Server) -> None:
    assert server.call("start") == (0, "obsdimg_wg(ok)\n")
    assert set(server.peers()) == NAMES
    assert server.call("check") == (0, "obsdimg_wg(ok)\n")
    assert server.call("start") == (0, ""), "a second start does nothing"
    assert len(server.pids()) == 1
    assert server.call("stop") == (0, "obsdimg_wg(ok)\n")
    assert server.pids() == []
    assert server.call("check")[0] == 1
    assert server.call("stop")[0] == 0


def test_a_restart_has_its_peers_again(server: Server) -> None:
    server.call("start")
    (before,) = server.pids()
    assert server.call("restart")[0] == 0
    (after,) = server.pids()
    assert after != before
    assert set(server.peers()) == NAMES


def test_a_daemon_that_was_killed_is_noticed_and_comes_back(server: Server) -> None:
    server.call("start")
    os.kill(server.pids()[0], 9)
    limit = time.monotonic() + 5
    while server.pids() and time.monotonic() < limit:
        time.sleep(0.05)
    assert server.call("check") == (1, "obsdimg_wg(failed)\n")
    assert server.call("restart")[0] == 0
    assert set(server.peers()) == NAMES


@pytest.mark.parametrize("spoil", ["Peer", "PublicKey", "ListenPort"])
def test_a_configuration_that_wg_refuses_leaves_no_daemon_and_shows_no_key(
    server: Server, spoil: str
) -> None:
    text = server.conf.read_text()
    server.conf.write_text(text.replace(spoil, "Gibberish", 1))
    assert server.call("start") == (1, "obsdimg_wg(failed)\n")
    limit = time.monotonic() + 5
    while server.pids() and time.monotonic() < limit:
        time.sleep(0.05)
    assert server.pids() == []
    server.conf.write_text(text)
    assert server.call("start")[0] == 0, "and the next start works"


@pytest.mark.parametrize(
    "spoilt", ["", "[Interface]\n", "\0" * 400, None], ids=["empty", "cut", "zeros", "refused"]
)
def test_an_empty_cut_or_refused_configuration_gives_way_to_the_last_good_one(
    server: Server, spoilt: str | None
) -> None:
    text = server.conf.read_text()
    good = server.root / "etc/wireguard/good/server.conf"
    good.write_text(text)
    server.call("start")
    bad = text.replace("[Peer]", "[Gibberish]") if spoilt is None else spoilt
    server.conf.write_text(bad)
    if spoilt is not None:
        assert server.call("check") == (1, "obsdimg_wg(failed)\n")
    assert server.call("restart")[0] == 0
    assert set(server.peers()) == NAMES
    assert server.call("check") == (0, "obsdimg_wg(ok)\n")
    assert server.conf.read_text() == text
    assert (server.root / "etc/wireguard/server.conf.refused").read_text() == bad
    assert "the last good one holds again" in (server.root / "bin/journal").read_text()


def test_a_daemon_without_its_peers_is_not_healthy_and_start_mends_it(server: Server) -> None:
    server.call("start")
    for key in NAMES:
        run(*inside(server.namespace, "wg", "set", "tun0", "peer", key, "remove"))
    assert server.call("check") == (1, "obsdimg_wg(failed)\n")
    assert server.call("start")[0] == 0
    assert set(server.peers()) == NAMES
    assert len(server.pids()) == 1


def test_a_missing_configuration_leaves_no_daemon(server: Server) -> None:
    server.conf.unlink()
    assert server.call("start") == (1, "obsdimg_wg(failed)\n")


def test_a_reload_takes_peers_in_and_out_and_keeps_the_daemon(server: Server) -> None:
    server.call("start")
    before = server.pids()
    text = server.conf.read_text()
    head, laptop, phone, _ = text.split("\n# ")
    new = WgPrivateKey(secret("tablet")).public().text()
    server.conf.write_text(
        f"{head}\n# {laptop}\n# end\n[Peer]\nPublicKey = {new}\nAllowedIPs = 10.0.0.4/32\n"
    )
    assert server.call("reload") == (0, "obsdimg_wg(ok)\n")
    assert server.pids() == before
    laptop_key = WgPrivateKey(secret("laptop")).public().text()
    assert set(server.peers()) == {laptop_key, new}
    assert phone.startswith("phone")


def test_a_reload_without_a_daemon_fails(server: Server) -> None:
    assert server.call("reload")[0] == 1


def test_both_links_of_a_multi_hop_have_scripts_of_their_own_name_and_device() -> None:
    text = RECIPE + (
        '[tunnel.upstream]\nendpoint = "hop.example.net"\n'
        'public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="\nipv4 = "10.9.0.2/24"\n'
    )
    plan = planned(text)
    first = content(plan, "/etc/rc.d/obsdimg_wg")
    second = content(plan, "/etc/rc.d/obsdimg_wg_up")
    assert 'daemon_flags="tun0"' in first
    assert 'daemon_flags="tun1"' in second
    assert "/etc/wireguard/upstream.conf" in second
    assert "/etc/wireguard/upstream.conf" not in first
