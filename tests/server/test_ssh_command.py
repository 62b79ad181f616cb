"""`obsdimg ssh` with the system's ssh, a real sshd and a real wireguard-go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from obsdimg.project.folder import Project
from obsdimg.server.access import is_host_key_of
from obsdimg.tunnel.hub import LINGER_SECONDS
from support.ssh_world import SshWorld, ssh_world
from support.wg_netns import run

__all__ = ["ssh_world"]
pytestmark = [pytest.mark.netns]


def hubs(world: SshWorld) -> list[int]:
    """The process ids of this test's hubs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--hub" in words and str(world.config).encode() in words:
            found.append(int(entry.parent.name))
    return found


def test_a_command_runs_there_and_its_status_output_and_input_come_back(
    ssh_world: SshWorld,
) -> None:
    done = ssh_world.obsdimg("ssh", "vpn", "cat; echo err >&2; exit 7", given=b"through\n")
    assert (done.returncode, done.stdout) == (7, b"through\n"), done.stderr
    assert b"err\n" in done.stderr
    source = ssh_world.obsdimg("ssh", "echo $SSH_CONNECTION").stdout.split()
    assert (source[0], source[2:]) == (b"10.0.0.2", [b"10.0.0.1", b"22"])
    known = (ssh_world.config.parent / "known_hosts").read_text()
    host_key = (ssh_world.folder / "host_key.pub").read_text().split()[1]
    assert known.split()[:3] == ["vpn", "ssh-ed25519", host_key]
    assert len(known.splitlines()) == 1


def test_two_at_once_share_one_tunnel_which_ends_by_itself(ssh_world: SshWorld) -> None:
    """The second would otherwise take the first one's packets: WireGuard knows one address."""
    words = ssh_world.command("ssh", "for i in 1 2 3 4 5 6; do echo $i; sleep 1; done")
    environment = ssh_world.environment()
    first = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    for one in first:
        out, err = one.communicate(timeout=60)
        assert out.split() == [b"1", b"2", b"3", b"4", b"5", b"6"], err
    assert len(hubs(ssh_world)) == 1
    end = time.monotonic() + LINGER_SECONDS + 10
    while hubs(ssh_world) and time.monotonic() < end:
        time.sleep(0.2)
    assert hubs(ssh_world) == []
    left = [path.suffix for path in (ssh_world.runtime() / "obsdimg").iterdir()]
    assert left in ([], [".lock"])


def test_a_hub_that_was_killed_is_replaced(ssh_world: SshWorld) -> None:
    assert ssh_world.obsdimg("ssh", "true").returncode == 0
    (hub,) = hubs(ssh_world)
    os.kill(hub, signal.SIGKILL)
    assert ssh_world.obsdimg("ssh", "echo again").stdout == b"again\n"


def test_a_new_host_key_is_refused_until_the_old_one_is_forgotten(ssh_world: SshWorld) -> None:
    assert ssh_world.obsdimg("ssh", "true").returncode == 0
    ssh_world.start_sshd(new_key=True)
    done = ssh_world.obsdimg("ssh", "true")
    assert done.returncode == 255
    assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert b"is forgotten" in ssh_world.obsdimg("ssh", "--forget").stdout
    assert ssh_world.obsdimg("ssh", "true").returncode == 0
    ssh_world.obsdimg("ssh", "--forget")
    assert b"holds no key" in ssh_world.obsdimg("ssh", "--forget").stdout


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_name_that_ssh_has_hashed_is_known_again(tmp_path: Path) -> None:
    """Debian's ssh_config says HashKnownHosts: ssh-keygen hashes as ssh does."""
    known = tmp_path / "known_hosts"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ/y4uqPc6+x7G4bCI+QoAOiELOBERAnS3OCjU0jcQaC\n"
    known.write_text(f"vpn {key}other {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    lines = known.read_bytes().splitlines()
    assert all(line.startswith(b"|1|") for line in lines)
    assert [is_host_key_of(line, "vpn") for line in lines] == [True, False]
    for line in (b"vpn " + key.encode(), b"vpn"):
        assert is_host_key_of(line, "vpn")
    for line in (b"", b"|1|", b"|1|!|!|", b"|1|a|b|c", b"|1|AAAA ssh", b"vpn2 x", b"# vpn"):
        assert not is_host_key_of(line, "vpn")


def test_the_printed_section_serves_sftp(ssh_world: SshWorld, tmp_path: Path) -> None:
    section = ssh_world.obsdimg("ssh", "--ssh-config").stdout.decode()
    assert section.startswith("Host vpn\n\tHostName 10.0.0.1\n\tUser root\n")
    (tmp_path / "config").write_text(section + f"\tIdentityFile {ssh_world.identity}\n")
    (tmp_path / "here").write_bytes(os.urandom(3_000_000))
    batch = f"put {tmp_path}/here {tmp_path}/there\n"
    words = ["ip", "netns", "exec", ssh_world.wg.client, "sftp", "-q", "-b", "-"]
    done = subprocess.run(
        [*words, "-F", str(tmp_path / "config"), "vpn"],
        input=batch.encode(),
        capture_output=True,
        timeout=60,
        env=ssh_world.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_no_key_and_no_secret_is_on_any_command_line(ssh_world: SshWorld) -> None:
    child = subprocess.Popen(
        ssh_world.command("ssh", "sleep 3"), env=ssh_world.environment(), stderr=subprocess.PIPE
    )
    seen = b""
    while child.poll() is None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes()
                if str(ssh_world.config).encode() in words:
                    seen += words + (entry.parent / "environ").read_bytes()
            except OSError:
                continue
        time.sleep(0.2)
    child.communicate(timeout=30)
    assert b"--proxy" in seen
    for path in (ssh_world.config.parent / "secrets").iterdir():
        assert path.read_bytes().strip() not in seen


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--as", "nobody", "true"), "there is no client nobody"),
        (("--as", "phone", "--timeout", "0"), "is not between 0.1 and 600"),
        (("--proxy", "example.org", "22"), "names are not resolved in the tunnel"),
        (("--proxy", "10.0.0.1", "70000"), "port 70000 is not between"),
        (("--via", "/nowhere"), "--via goes with --proxy"),
        (("--via", "/nowhere", "--proxy", "10.0.0.1", "22"), "does not answer"),
        (("--proxy", "10.0.0.1", "23"), "10.0.0.1:23: the connection was refused"),
        (("--endpoint", "198.51.100.1", "true"), "no port in"),
        (("--endpoint", "198.51.100.1:54", "--timeout", "2", "true"), "nothing listens on this"),
    ],
)
def test_a_wrong_word_is_one_error_with_a_remedy(
    ssh_world: SshWorld, words: tuple[str, ...], says: str
) -> None:
    done = ssh_world.obsdimg("ssh", *words)
    text = done.stderr.decode()
    usage = ("is not between", "names are not resolved", "goes with --proxy")
    assert done.returncode == (2 if any(text in says for text in usage) else 1)
    assert text.startswith("error: ")
    assert says in text
    assert "hint: " in text
    assert "Traceback" not in text


def test_a_server_with_another_key_is_no_answer(ssh_world: SshWorld) -> None:
    other = ssh_world.project.keys().server
    assert other is not None
    conf = ssh_world.server_conf().replace(other.reveal(), ssh_world.wg.server_key.reveal())
    ssh_world.wg.configure(conf)
    done = ssh_world.obsdimg("ssh", "--timeout", "2", "true")
    assert done.returncode == 1
    assert b"no answer to" in done.stderr
    end = time.monotonic() + 20
    while hubs(ssh_world) and time.monotonic() < end:
        time.sleep(0.2)
    assert hubs(ssh_world) == []


def test_sshd_that_does_not_run_is_told_by_ssh_and_the_proxy(ssh_world: SshWorld) -> None:
    ssh_world.stop_sshd()
    done = ssh_world.obsdimg("ssh", "true")
    assert done.returncode == 255
    assert b"10.0.0.1:22: the connection was refused" in done.stderr
    assert "LISTEN" not in run("ip", "netns", "exec", ssh_world.wg.server, "ss", "-tlnH")


def test_one_of_several_servers_is_reached_with_its_own_keys(ssh_world: SshWorld) -> None:
    """Also by the processes that ssh and the tunnel start by themselves."""
    servers = '[servers.vpn]\n[servers.ams.tunnel]\nendpoint = "203.0.113.77"\n'
    ssh_world.config.write_text(ssh_world.config.read_text() + servers)
    ssh_world.project = Project.open(ssh_world.config, "vpn")
    ssh_world.configure()
    done = ssh_world.obsdimg("inventory", "--host", "vpn")
    assert b"no such key" in done.stderr, "ams was never built"
    for words in (("ssh", "--server", "vpn", "echo", "here"), ("inventory", "--server", "vpn")):
        done = ssh_world.obsdimg(*words)
        assert done.returncode == 0, done.stderr
        assert b"here" in done.stdout or b"--server vpn" in done.stdout
    assert (ssh_world.config.parent / "servers/vpn/known_hosts").exists()
    assert ssh_world.obsdimg("ssh", "echo", "here").returncode == 1
