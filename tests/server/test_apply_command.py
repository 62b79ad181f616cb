"""`obsdimg apply` and `client --apply` against a real WireGuard and a real sshd.

pfctl, ifconfig, sha256 and the like are stand-ins (support/openbsd_programs.py); /etc and /var
of the server are folders of the test, in a mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.server.access import find_access
from obsdimg.site.clients import find_peer, plan_client, write_client
from support.ssh_world import SshWorld, ssh_world
from support.stream_server import PORT, StreamServer
from support.wg_netns import SERVER4, in_namespace

__all__ = ["ssh_world"]
pytestmark = [pytest.mark.netns]


def peers(world: SshWorld) -> dict[str, str]:
    """Allowed addresses by public key, as the real WireGuard has them."""
    lines = world.wg.daemon.wg("show", "wg0", "allowed-ips").splitlines()
    return dict(line.split("\t") for line in lines)


def public(world: SshWorld, name: str) -> str:
    from obsdimg.project.folder import Project

    return Project.open(world.config).keys().peers[name].public.text()


def key_file(world: SshWorld, root: Path) -> Path:
    name = "server.conf" if (root / "etc/wireguard/server.conf").exists() else "hostname.wg0"
    return root / ("etc/wireguard" if name == "server.conf" else "etc") / name


def snapshot(root: Path) -> dict[str, bytes]:
    """The server's files that a change may touch."""
    found = {}
    for folder in ("etc", "etc/wireguard"):
        for path in (root / folder).iterdir():
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


def project_files(world: SshWorld) -> dict[str, bytes]:
    files = [world.config, *(world.config.parent / "secrets").iterdir()]
    files += list((world.config.parent / "clients").glob("*.conf"))
    return {path.name: path.read_bytes() for path in files}


@contextlib.contextmanager
def traffic(world: SshWorld, name: str) -> Iterator[list[float]]:
    """Echoes through another peer's session the whole time; the pauses between them."""
    access = find_access(world.project, client=name)
    pauses: list[float] = []
    stop = threading.Event()
    with StreamServer(world.wg.server), in_namespace(world.wg.client):
        begun = time.monotonic()
        tunnel = access.open_tunnel(20)
        stream = tunnel.connect(SERVER4, PORT)

        def run() -> None:
            stream.settimeout(60)
            stream.sendall(b"e")
            while not stop.is_set():
                start = time.monotonic()
                stream.sendall(b"x" * 1000)
                got = 0
                while got < 1000:
                    got += len(stream.recv(1000))
                pauses.append(time.monotonic() - start)
                time.sleep(0.02)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield pauses
        finally:
            stop.set()
            thread.join(60)
            handshakes = tunnel.carrier.handshakes
            stream.close()
            tunnel.close()
    # WireGuard itself makes a new one every two minutes; a busy machine may take so long.
    usual = 1 + int((time.monotonic() - begun) / 100)
    assert handshakes <= usual, "the other peer's session was cut"


def noting_tunnel(root: Path, check: int) -> None:
    """An obsdimg-tunnel on the server that only takes notes; its `check` ends with `check`."""
    (root / "usr/local/sbin/obsdimg-tunnel").write_text(
        f'#!/bin/sh\necho "obsdimg-tunnel $*" >>{root}/journal\n[ "$1" = keep ] || exit {check}\n'
    )


def kept_before_the_change(root: Path) -> list[str]:
    """What obsdimg-tunnel was asked for: after the new files were on the disk and before pf had
    the new rules, so that at any time the file or its last good copy is whole."""
    lines = (root / "journal").read_text().splitlines()
    asked = [i for i, line in enumerate(lines) if line.startswith("obsdimg-tunnel")]
    loaded = next(i for i, line in enumerate(lines) if line.startswith("pfctl -f"))
    placed = [i for i, line in enumerate(lines[:loaded]) if line.startswith("install -F -m ")]
    assert max(placed) < min(asked) <= max(asked) < loaded
    return [lines[i].removeprefix("obsdimg-tunnel ") for i in asked]


@pytest.mark.parametrize("release", ["6.6", "7.7"])
def test_a_client_is_added_rotated_and_removed_while_another_s_stream_goes_on(
    ssh_world: SshWorld, release: str
) -> None:
    root = ssh_world.like_openbsd(release)
    noting_tunnel(root, check=0)
    with traffic(ssh_world, "phone") as pauses:
        done = ssh_world.obsdimg("client", "add", "tablet", "--apply", "--yes", timeout=180)
        assert done.returncode == 0, done.stderr + done.stdout
        interface = "tun0" if release == "6.6" else "wg0"
        asked = ["keep pf", f"check {interface}", f"keep {interface}"]
        assert kept_before_the_change(root) == asked
        assert b"+ peer tablet: 10.0.0.4/32" in done.stdout
        assert b"came back through the tunnel" in done.stdout
        assert b"this connection ends" not in done.stdout
        first = public(ssh_world, "tablet")
        assert peers(ssh_world)[first] == "10.0.0.4/32"
        assert first.encode() in key_file(ssh_world, root).read_bytes()
        assert b"# tablet" in (root / "etc/pf.conf").read_bytes()
        assert (root / "pf.loaded").read_bytes() == (root / "etc/pf.conf").read_bytes()

        second = first
        if release == "7.7":
            done = ssh_world.obsdimg("client", "rotate", "tablet", "--apply", "--yes", timeout=180)
            assert done.returncode == 0, done.stderr
            second = public(ssh_world, "tablet")
            assert second != first
            assert second in peers(ssh_world)
            assert first not in peers(ssh_world)

        done = ssh_world.obsdimg("client", "remove", "tablet", "--apply", "--yes", timeout=180)
        assert done.returncode == 0, done.stderr
        assert second not in peers(ssh_world)
        assert b"tablet" not in key_file(ssh_world, root).read_bytes()
        assert "pfctl -q -k 10.0.0.4" in (root / "journal").read_text()
        assert not (root / "var/db/obsdimg/apply/pid").exists()
    assert len(pauses) > 50
    left = [path.name for path in (root / "etc").rglob(".obsdimg*")]
    assert left == []
    log = (root / "log").read_text()
    assert log.count("-p daemon.notice applied") == (3 if release == "7.7" else 2)
    mode = key_file(ssh_world, root).stat().st_mode & 0o777
    assert mode == (0o600 if release == "6.6" else 0o640)
    journal = (root / "journal").read_text() + log
    keys = [p.read_text().strip() for p in (ssh_world.config.parent / "secrets").iterdir()]
    private = [key for key in keys if key and not (release == "7.7" and "psk" in key)]
    if release == "6.6":
        assert not any(key in journal for key in private)
    done = ssh_world.obsdimg("apply", timeout=120)
    assert (done.returncode, done.stdout) == (0, b"vpn: as in the project\n")


def test_the_client_that_applies_may_change_its_own_keys(ssh_world: SshWorld) -> None:
    root = ssh_world.like_openbsd()
    before = public(ssh_world, "operator")
    done = ssh_world.obsdimg("client", "rotate", "operator", "--apply", "--yes", timeout=180)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert said.index("this connection ends") < said.index("came back through the tunnel")
    assert "within 60 s, the server takes all back" in said
    after = public(ssh_world, "operator")
    assert after != before
    assert before not in peers(ssh_world)
    assert after.encode() in key_file(ssh_world, root).read_bytes()
    assert ssh_world.obsdimg("ssh", "echo in").stdout == b"in\n"


def test_a_new_port_is_taken_and_reached(ssh_world: SshWorld) -> None:
    ssh_world.like_openbsd()
    assert ssh_world.obsdimg("apply", "--yes").returncode == 0
    ssh_world.config.write_text(
        ssh_world.config.read_text().replace("[tunnel]", "[tunnel]\nport = 443")
    )
    done = ssh_world.obsdimg("apply", "--yes", timeout=180)
    assert done.returncode == 0, done.stderr
    assert b"~ port of WireGuard: 53 -> 443" in done.stdout
    assert b"this connection ends" in done.stdout
    assert ssh_world.wg.daemon.wg("show", "wg0", "listen-port").strip() == "443"
    assert ssh_world.obsdimg("ssh", "echo in").stdout == b"in\n"


@pytest.mark.parametrize("release", ["6.6", "7.7"])
def test_a_change_that_locks_us_out_is_taken_back(ssh_world: SshWorld, release: str) -> None:
    root = ssh_world.like_openbsd(release)
    server = ssh_world.wg.server
    nft = f"/usr/sbin/ip netns exec {server} /usr/sbin/nft"
    (root / "pf.hook").write_text(
        "/usr/sbin/nft flush ruleset\n"
        "grep -q 'block in quick on tun0 # LOCK\\|LOCK' \"$1\" && /usr/sbin/nft -f - <<END\n"
        "table inet f { chain i { type filter hook input priority 0; tcp dport 22 drop; }; }\n"
        "END\n"
    )
    assert nft
    overlay = ssh_world.config.parent / "overlay/etc"
    overlay.mkdir(parents=True)
    (overlay / "pf.conf").write_bytes((root / "etc/pf.conf").read_bytes() + b"block all # LOCK\n")
    text = ssh_world.config.read_text() + '[[tunnel.peers]]\nname = "tablet"\nipv4 = "10.0.0.4"\n'
    ssh_world.config.write_text(text)
    before, running = snapshot(root), peers(ssh_world)
    done = ssh_world.obsdimg("apply", "--yes", "--confirm-within", "10", timeout=180)
    assert done.returncode == 1
    assert b"did not come back" in done.stderr or b"taken back" in done.stderr, done.stderr
    end = time.monotonic() + 60
    while "taken back" not in (root / "log").read_text() and time.monotonic() < end:
        time.sleep(0.5)
    assert snapshot(root) == before
    assert peers(ssh_world) == running
    assert b"LOCK" not in (root / "pf.loaded").read_bytes()
    assert ssh_world.obsdimg("ssh", "echo in").stdout == b"in\n"


def test_what_pfctl_refuses_changes_nothing(ssh_world: SshWorld) -> None:
    root = ssh_world.like_openbsd()
    overlay = ssh_world.config.parent / "overlay/etc"
    overlay.mkdir(parents=True)
    (overlay / "pf.conf").write_text("# a\n\nSYNTAX\n")
    before, running = snapshot(root), peers(ssh_world)
    done = ssh_world.obsdimg("apply", "--yes", timeout=120)
    assert done.returncode == 1
    assert b"refused there, nothing has changed: pf: /etc/pf.conf:3: syntax error" in done.stderr
    assert (snapshot(root), peers(ssh_world)) == (before, running)
    assert not (root / "pf.loaded").exists()


def test_a_full_disk_changes_nothing_and_the_project_goes_back(ssh_world: SshWorld) -> None:
    root = ssh_world.like_openbsd()
    (root / "full").write_text("")
    before, project = snapshot(root), project_files(ssh_world)
    done = ssh_world.obsdimg("client", "add", "tablet", "--apply", "--yes", timeout=120)
    assert done.returncode == 1
    assert b"is its disk full?" in done.stderr
    assert b"the project is as it was before" in done.stderr
    assert snapshot(root) == before
    assert project_files(ssh_world) == project


def test_what_a_hand_changed_is_not_overwritten_without_a_word(ssh_world: SshWorld) -> None:
    root = ssh_world.like_openbsd()
    assert ssh_world.obsdimg("apply", "--yes").returncode == 0
    by_hand = (root / "etc/pf.conf").read_bytes() + b"pass in on egress proto tcp to port 8080\n"
    (root / "etc/pf.conf").write_bytes(by_hand)
    done = ssh_world.obsdimg("apply", "--yes", timeout=120)
    assert done.returncode == 1
    assert b"-pass in on egress proto tcp to port 8080" in done.stdout
    assert b"changed there, not by obsdimg: /etc/pf.conf" in done.stderr
    assert (root / "etc/pf.conf").read_bytes() == by_hand
    assert ssh_world.obsdimg("apply", "--check").returncode == 3
    done = ssh_world.obsdimg("apply", "--yes", "--overwrite", timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"8080" not in (root / "etc/pf.conf").read_bytes()


def test_without_a_terminal_and_without_yes_nothing_happens(ssh_world: SshWorld) -> None:
    root = ssh_world.like_openbsd()
    before, project = snapshot(root), project_files(ssh_world)
    done = ssh_world.obsdimg("client", "add", "tablet", "--apply", timeout=120)
    assert done.returncode == 1
    assert b"--yes" in done.stderr
    assert snapshot(root) == before
    assert project_files(ssh_world) == project


def test_two_at_once_and_a_run_that_was_cut_off(ssh_world: SshWorld) -> None:
    """The second is told; after a power failure (here SIGKILL) the next one goes through."""
    root = ssh_world.like_openbsd()
    folder = root / "var/db/obsdimg/apply"
    folder.mkdir()
    sleeper = subprocess.Popen(["sleep", "300"])
    (folder / "pid").write_text(f"{sleeper.pid}\n")
    try:
        done = ssh_world.obsdimg("client", "add", "tablet", "--apply", "--yes", timeout=120)
        assert done.returncode == 1
        assert b"somebody else's change is under way" in done.stderr
    finally:
        sleeper.send_signal(signal.SIGKILL)
        sleeper.wait()
    done = ssh_world.obsdimg("client", "add", "tablet", "--apply", "--yes", timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_run_that_is_killed_leaves_no_session(ssh_world: SshWorld) -> None:
    """kill -9 of `apply` while it talks to the server: its ssh is gone, too, nothing is changed."""
    root = ssh_world.like_openbsd()
    before = snapshot(root)
    text = ssh_world.config.read_text() + '[[tunnel.peers]]\nname = "tablet"\nipv4 = "10.0.0.4"\n'
    ssh_world.config.write_text(text)
    child = subprocess.Popen(
        ssh_world.command("apply", "--yes"), env=ssh_world.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 100
    while not sessions(ssh_world):
        assert time.monotonic() < end and child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    while found := sessions(ssh_world):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    assert snapshot(root) == before


def sessions(world: SshWorld) -> list[bytes]:
    """The command lines of this world's ssh, of whatever state."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if words.startswith(b"/usr/bin/ssh\0") and os.fsencode(world.identity) in words:
                found.append(words)
    return found


def test_a_power_failure_before_the_confirmation_leaves_the_old_files(ssh_world: SshWorld) -> None:
    root = ssh_world.like_openbsd()
    noting_tunnel(root, check=1)
    before = snapshot(root)
    text = ssh_world.config.read_text() + '[[tunnel.peers]]\nname = "tablet"\nipv4 = "10.0.0.4"\n'
    ssh_world.config.write_text(text)
    child = subprocess.Popen(
        ssh_world.command("apply", "--yes", "--confirm-within", "10"),
        env=ssh_world.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    result = root / "var/db/obsdimg/apply/result"
    end = time.monotonic() + 100
    while not (result.exists() and "activated" in result.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(int((result.parent / "pid").read_text()), signal.SIGKILL)
    # What the renames would have given a name was on the disk by then: the stand-in of install(1)
    # leaves NUL bytes without -F.
    names = ("etc/pf.conf", "etc/wireguard/server.conf", "etc/wireguard/names")
    for path in (root / name for name in names):
        fresh = path.with_name(f".obsdimg-new.{path.name}")
        assert fresh.read_bytes() == (result.parent / "new" / path.relative_to(root)).read_bytes()
        assert fresh.stat().st_mode & 0o777 == 0o600
    assert kept_before_the_change(root) == ["keep pf", "check tun0"], "what does not work is not"
    child.communicate(timeout=180)
    assert child.returncode != 0
    left = {path: data for path, data in snapshot(root).items() if ".obsdimg-new" not in path}
    assert left == before
    ssh_world.configure()
    done = ssh_world.obsdimg("apply", "--yes", timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_project_without_its_server_s_key_makes_none(ssh_world: SshWorld) -> None:
    key = ssh_world.config.parent / "secrets" / "server.key"
    key.unlink()
    done = ssh_world.obsdimg("apply", "--yes")
    assert done.returncode == 1
    assert b"server.key" in done.stderr
    assert not key.exists()


def test_lost_secrets_are_put_back_from_the_server_and_one_client(ssh_world: SshWorld) -> None:
    """docs/recovery.md, "Lost secrets", step by step."""
    root = ssh_world.like_openbsd()
    folder = ssh_world.config.parent
    write_client(
        folder / "clients",
        plan_client(
            ssh_world.project.config,
            ssh_world.project.keys(),
            find_peer(ssh_world.project.config, "operator"),
        ),
    )
    operator, phone = public(ssh_world, "operator"), public(ssh_world, "phone")
    server = re.findall(r"(?m)^PrivateKey = (.*)$", key_file(ssh_world, root).read_text())[0]
    shutil.rmtree(folder / "secrets")

    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700)
    own = (folder / "clients/operator.conf").read_text()
    for name, value in {
        "server.key": server,
        "operator.key": re.findall(r"(?m)^PrivateKey = (.*)$", own)[0],
        "operator.psk": re.findall(r"(?m)^PresharedKey = (.*)$", own)[0],
    }.items():
        (secrets / name).write_text(f"{value}\n")
        (secrets / name).chmod(0o600)
    done = ssh_world.obsdimg("client", "rotate", "phone")
    assert done.returncode == 1
    assert b"move" in done.stderr and b"clients/" in done.stderr, "what is in the way is named"
    assert len(list(secrets.iterdir())) == 3, "nothing was made"
    (folder / "clients").rename(folder / "away")
    assert ssh_world.obsdimg("client", "rotate", "phone").returncode == 0
    done = ssh_world.obsdimg("apply", "--as", "operator", "--yes", timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"~ peer phone: new keys" in done.stdout
    assert b"operator" not in done.stdout
    assert set(peers(ssh_world)) == {operator, public(ssh_world, "phone")}
    assert phone not in peers(ssh_world)
    # The operator's old file is right, and can go back.
    (folder / "away/operator.conf").rename(folder / "clients/operator.conf")
    done = ssh_world.obsdimg("apply", "--as", "operator")
    assert (done.returncode, done.stdout) == (0, b"vpn: as in the project\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("apply", "--confirm-within", "5"), "is not between 10 and 600"),
        (("client", "remove", "operator", "--apply", "--yes"), "is the one that would apply it"),
        (("client", "show", "phone", "--apply"), "--apply changes nothing here"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    ssh_world: SshWorld, words: tuple[str, ...], says: str
) -> None:
    project = project_files(ssh_world)
    done = ssh_world.obsdimg(*words)
    assert done.returncode == (1 if "remove" in words else 2)
    assert says in done.stderr.decode()
    assert project_files(ssh_world) == project
