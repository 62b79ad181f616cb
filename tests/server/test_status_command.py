"""`obsdimg status` through a real tunnel and a real sshd; the server's programs are stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.ssh_world import SshWorld, ssh_world

__all__ = ["ssh_world"]
pytestmark = [pytest.mark.netns]


def test_the_whole_state_comes_through_the_tunnel(ssh_world: SshWorld, tmp_path: Path) -> None:
    root = ssh_world.like_openbsd()
    (root / "etc/pf.conf").write_text("pass\n")
    done = ssh_world.obsdimg("status", "--json", timeout=120)
    assert done.returncode == 4, done.stderr
    state = json.loads(done.stdout)
    names = {peer["name"]: peer for peer in state["peers"]}
    assert set(names) == {"operator", "phone"}
    assert names["operator"]["handshake_seconds_ago"] < 120
    assert names["operator"]["endpoint"].startswith("198.51.100.2:")
    assert names["operator"]["received_bytes"] > 1000
    assert names["phone"]["handshake_seconds_ago"] is None
    topics = {(f["level"], f["topic"]) for f in state["findings"]}
    assert ("bad", "support") in topics
    assert ("bad", "disk") in topics
    (differs,) = [f["text"] for f in state["findings"] if f["topic"] == "project"]
    assert differs == "not as in the project: /etc/pf.conf"
    assert ("warn", "packages") in topics
    assert state["patches"] == {"installed": ["001_unbound"], "missing": []}
    for secret in (ssh_world.config.parent / "secrets").iterdir():
        assert secret.read_bytes().strip() not in done.stdout + done.stderr
    assert "syspatch -c" in (root / "journal").read_text()

    shown = ssh_world.obsdimg("status", "--no-updates", "--prometheus", str(tmp_path / "m.prom"))
    assert b"operator" in shown.stdout
    assert b"BAD: " in shown.stdout
    assert len(shown.stdout.splitlines()) < 40
    assert 'obsdimg_pf_states{server="vpn"} 42' in (tmp_path / "m.prom").read_text()
    assert (root / "journal").read_text().count("syspatch -c") == 1


def test_the_boot_area_seen_first_is_remembered_and_a_change_is_bad(ssh_world: SshWorld) -> None:
    memory = ssh_world.config.parent / "known_server.json"
    memory.write_text(json.dumps({"boot_area": "0" * 64}))
    root = ssh_world.like_openbsd()
    disk = Path("/dev/rsd0c")
    assert not disk.exists()
    # dd finds no disk: the hash of nothing is another one than that of zeros.
    (root / "bioctl").write_text(
        "softraid0 0 Online 1 sd1 CRYPTO\n 0 Online 1 0:0.0 noencl <sd0a>\n"
    )
    (root / "disklabel").write_text("  a:  1000  64  RAID\n")
    done = ssh_world.obsdimg("status", "--json", "--no-updates")
    topics = {f["topic"] for f in json.loads(done.stdout)["findings"] if f["level"] == "bad"}
    assert "boot area" in topics
    done = ssh_world.obsdimg("status", "--json", "--no-updates", "--accept-boot-area")
    topics = {f["topic"] for f in json.loads(done.stdout)["findings"] if f["level"] == "bad"}
    assert "boot area" not in topics
    assert json.loads(memory.read_text())["boot_area"] != "0" * 64


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--watch", "0"), "is not between 1 and 86400"),
        (("--watch", "5", "--json"), "do not go together"),
    ],
)
def test_wrong_words_are_refused(ssh_world: SshWorld, words: tuple[str, ...], says: str) -> None:
    done = ssh_world.obsdimg("status", *words)
    assert done.returncode == 2
    assert says in done.stderr.decode()


def test_a_login_that_is_refused_says_so(ssh_world: SshWorld) -> None:
    (ssh_world.folder / "authorized").write_text("")
    done = ssh_world.obsdimg("status", "--no-updates")
    assert done.returncode == 1
    assert b"error: root@vpn: ssh: " in done.stderr
    assert b"Permission denied" in done.stderr
    assert b"hint: " in done.stderr


def test_a_server_without_sshd_is_named_as_the_tunnel_saw_it(ssh_world: SshWorld) -> None:
    """ssh itself says no more than `Connection closed by UNKNOWN port 65535`."""
    ssh_world.stop_sshd()
    done = ssh_world.obsdimg("status", "--no-updates")
    assert done.returncode == 1
    assert b"root@vpn: 10.0.0.1:22: the connection was refused" in done.stderr
    assert b"hint: nothing listens there" in done.stderr
    assert b"UNKNOWN" not in done.stderr


def test_a_damaged_memory_is_named(ssh_world: SshWorld) -> None:
    (ssh_world.config.parent / "known_server.json").write_text("[]")
    done = ssh_world.obsdimg("status", "--no-updates")
    assert done.returncode == 1
    assert b"known_server.json: is damaged" in done.stderr
