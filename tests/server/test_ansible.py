"""examples/ansible with a real ansible-core, a real sshd and a real WireGuard.

The server is Linux with stand-ins for OpenBSD's programs: the way there is proven, and that the
role's shell does what it says and nothing the second time; not what OpenBSD does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.ssh_world import SshWorld, ssh_world

__all__ = ["ssh_world"]
pytestmark = [pytest.mark.netns]

EXAMPLE = Path(__file__).parents[2] / "examples/ansible"
PROGRAMS = {
    "uname": "echo OpenBSD 7.7",
    "pkg_info": '[ -e "$STATE/${3%-\\*}" ]',
    "pkg_add": '[ "$2" != nosuch ] && touch "$STATE/$2"',
    "syspatch": 'case $1 in -c) [ -e "$STATE/patched" ] || echo 001_x ;;'
    ' *) touch "$STATE/patched" ;; esac',
}
PLAY = """\
- hosts: obsdimg
  gather_facts: false
  roles:
    - role: obsdimg
      obsdimg_packages: [{package}]
      obsdimg_patches: true
      obsdimg_files:
        - path: /etc/motd
          content: "it's {{{{ inventory_hostname }}}}: $HOME \\\\ `x`\\n"
          mode: "0640"
"""


ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


@pytest.fixture
def world(ssh_world: SshWorld) -> SshWorld:
    """A server that looks like 7.7, and the example in a folder of its own."""
    state = ssh_world.folder / "state"
    state.mkdir()
    ssh_world.like_openbsd("7.7")
    assert ssh_world.programs is not None
    for name, script in PROGRAMS.items():
        program = ssh_world.programs / name
        program.write_text(f"#!/bin/sh\nSTATE={state}\n{script}\n")
        program.chmod(0o755)
    copy = ssh_world.folder / "ansible"
    shutil.copytree(EXAMPLE, copy)
    inventory = copy / "servers.obsdimg.yml"
    command = f"{sys.executable} -P -m obsdimg"
    text = inventory.read_text().replace("command: obsdimg", f"command: {command}")
    inventory.write_text(text.replace("project: obsdimg.toml", f"project: {ssh_world.config}"))
    return ssh_world


def play(world: SshWorld, package: str = "tcpdump-mini") -> subprocess.CompletedProcess[str]:
    folder = world.folder / "ansible"
    (folder / "play.yml").write_text(PLAY.format(package=package))
    words = ["ip", "netns", "exec", world.wg.client, str(ANSIBLE), "play.yml"]
    environment = {
        **world.environment(),
        "HOME": str(world.folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(world.runtime()),
    }
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_play_changes_what_differs_and_nothing_the_second_time(world: SshWorld) -> None:
    first = play(world)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "vpn" in first.stdout and "changed=3" in first.stdout, first.stdout
    assert "a new kernel runs after a restart" in first.stdout
    root = world.folder / "openbsd"
    motd = root / "etc/motd"
    assert motd.read_text() == "it's vpn: $HOME \\ `x`\n"
    assert motd.stat().st_mode & 0o777 == 0o640
    made = {path.name for path in (world.folder / "state").iterdir()}
    assert made == {"patched", "tcpdump-mini"}
    second = play(world)
    assert second.returncode == 0, second.stdout
    assert "changed=0" in second.stdout, second.stdout
    known = (world.config.parent / "known_hosts").read_text()
    assert known.startswith("vpn "), "the key is the project's affair, not the user's"
    motd.chmod(0o666)
    mended = play(world)
    assert "changed=1" in mended.stdout, "content alone is not the file"
    assert motd.stat().st_mode & 0o777 == 0o640
    third = play(world, "nosuch")
    assert third.returncode != 0
    assert "failed=1" in third.stdout


def test_another_system_at_that_address_is_not_touched(world: SshWorld) -> None:
    assert world.programs is not None
    (world.programs / "uname").write_text("#!/bin/sh\necho OpenBSD 7.6\n")
    done = play(world)
    assert done.returncode != 0
    assert "OpenBSD 7.6" in done.stdout
    assert not list((world.folder / "state").iterdir())


def test_the_inventory_says_how_the_server_is_reached(world: SshWorld) -> None:
    done = world.obsdimg("inventory")
    said = json.loads(done.stdout)
    assert said["obsdimg"]["hosts"] == ["vpn"]
    variables = said["_meta"]["hostvars"]["vpn"]
    assert variables["ansible_user"] == "root"
    assert variables["obsdimg_as_root"] == ""
    assert "HostName=10.0.0.1" in variables["ansible_ssh_common_args"]
    alone = json.loads(world.obsdimg("inventory", "--host", "vpn").stdout)
    assert alone == variables
    assert json.loads(world.obsdimg("inventory", "--host", "else").stdout) == {}
    secrets = [p.read_text().strip() for p in (world.config.parent / "secrets").iterdir()]
    assert not any(one in done.stdout.decode() for one in secrets)
