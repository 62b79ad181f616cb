"""`obsdimg upgrade`, the whole way.

Once against a real WireGuard and a real sshd; what goes wrong, without a network.  sysupgrade, ftp
and the boot are stand-ins (support/upgrade_world.py) in both.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from obsdimg.project.folder import Project
from support import documents
from support.local_server import LocalServer, local_server
from support.ssh_world import SshWorld, ssh_world
from support.upgrade_world import FIRST_START, PASSPHRASE, UpgradeWorld, loader_typed

__all__ = ["local_server", "ssh_world"]


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def memory(world: SshWorld | LocalServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.config.parent / "known_server.json").read_text())
    return found


def lines_of(said: bytes) -> dict[str, list[str]]:
    """The lines of the checks by their mark."""
    found: dict[str, list[str]] = {"ok": [], "note": [], "FAILED": []}
    for line in said.decode().splitlines():
        mark, _, rest = line.partition(" ")
        if mark in found:
            found[mark].append(rest.strip())
    return found


@pytest.fixture
def machine(local_server: LocalServer) -> Iterator[UpgradeWorld]:
    made = UpgradeWorld(local_server)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.netns
def test_through_the_tunnel_and_with_a_console(ssh_world: SshWorld) -> None:
    machine = UpgradeWorld(ssh_world)
    try:
        done = ssh_world.obsdimg("upgrade", "--yes", *machine.console(), timeout=300)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        assert loader_typed(machine.root) == [PASSPHRASE, PASSPHRASE]
        assert machine.said_release() == 'version = "7.8"'
        assert b"vpn: upgraded from 7.7 to 7.8" in done.stdout
        assert PASSPHRASE.encode() not in done.stderr + done.stdout
    finally:
        machine.close()


def test_checks_then_a_wrong_passphrase_then_on_from_there(machine: UpgradeWorld) -> None:
    world = machine.world
    config, before = world.config.read_text(), machine.system()
    done = world.obsdimg("upgrade", "--check", timeout=180)
    assert done.returncode == 0, done.stderr
    said = lines_of(done.stdout)
    assert not said["FAILED"]
    assert "mirror: https://mirror.example/pub/OpenBSD has 7.8: 12 files, 600 MB" in said["ok"]
    assert any("no console is known here" in line for line in said["note"])
    assert (machine.system(), world.config.read_text()) == (before, config)
    assert not any(line.startswith(("sysupgrade", "shutdown")) for line in machine.journal())

    console = machine.console()
    wrong = machine.passphrase("wrong")
    done = world.obsdimg("upgrade", "--yes", *console, *wrong, timeout=300)
    assert done.returncode == 1
    assert b"the boot loader refused the passphrase, 2 times" in done.stderr
    assert loader_typed(machine.root) == ["wrong"] * 2
    assert world.config.read_text() == config
    assert (memory(world)["upgrading"], memory(world)["booted"]) == ("7.8", FIRST_START)
    journal = machine.journal()
    fetched = next(i for i, line in enumerate(journal) if line.startswith("sysupgrade -n"))
    assert fetched < next(i for i, line in enumerate(journal) if line.startswith("shutdown -r"))

    # It does not answer now; obsdimg knows why, and goes on with its console.
    done = world.obsdimg(
        "upgrade", "--json", "--yes", "--timeout", "3", *console[:2],
        *machine.passphrase(PASSPHRASE), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    documents.validate("upgrade", done.stdout.decode())
    result = json.loads(done.stdout)
    assert (result["result"], result["from"], result["to"]) == ("upgraded", "7.7", "7.8")
    assert {one["result"] for one in result["verified"]} == {"ok"}
    assert loader_typed(machine.root)[2:] == [PASSPHRASE, PASSPHRASE]
    assert world.config.read_text() == config.replace('version = "7.7"', 'version = "7.8"')
    assert b'release.version = "7.8" (was "7.7"' in done.stderr
    assert "upgrading" not in memory(world)
    assert not (machine.top / "bsd.upgrade").exists()
    assert not (machine.root / "var/db/obsdimg/upgrade").exists()
    after = machine.system()
    assert {p: d for p, d in after.items() if p.startswith("etc")} == {
        p: d for p, d in before.items() if p.startswith("etc")
    }
    # The passphrase is in nothing but the loader's line.
    everywhere = "\n".join([*machine.journal(), done.stderr.decode(), done.stdout.decode()])
    assert PASSPHRASE not in everywhere
    assert PASSPHRASE not in (world.config.parent / "known_server.json").read_text()


def test_everything_that_is_in_the_way_is_a_line(machine: UpgradeWorld) -> None:
    world, root = machine.world, machine.root
    machine.write("free.home", "300000")
    for path in (root / "mirror").rglob("SHA256.sig"):
        path.unlink()
    key = root / "etc/signify/openbsd-78-base.pub"
    key.write_text(key.read_text().replace("RW", "RX"))
    with (root / "etc/pf.conf").open("a") as stream:
        stream.write("pass in on egress\n")
    machine.write("kern.version", "OpenBSD 7.7-stable (GENERIC) #3: Thu Oct 17")
    (root / "var/db/obsdimg/apply").mkdir()
    (root / "var/db/obsdimg/apply/pid").write_text(f"{os.getpid()}\n")
    before = machine.system()
    done = world.obsdimg("upgrade", "--yes", "--json", timeout=180)
    assert done.returncode == 1
    documents.validate("upgrade", done.stdout.decode())
    result = json.loads(done.stdout)
    failed = {one["topic"]: one for one in result["checks"] if one["result"] == "failed"}
    assert set(failed) == {"kernel", "mirror", "key", "room", "files", "other changes"}
    assert "404 Not Found" in failed["mirror"]["text"]
    assert "--mirror URL" in failed["mirror"]["remedy"]
    assert "another key than obsdimg knows" in failed["key"]["text"]
    assert failed["room"]["text"].startswith("/home: 293 MB free, 9")
    assert failed["files"]["remedy"].startswith("obsdimg apply")
    assert "sysupgrade would take a snapshot" in failed["kernel"]["remedy"]
    assert b"not ready for 7.8; nothing was changed" in done.stderr
    assert machine.system() == before
    assert not any(line.startswith(("sysupgrade", "shutdown")) for line in machine.journal())


def test_interrupted_while_it_fetches_and_no_console(machine: UpgradeWorld) -> None:
    world, root = machine.world, machine.root
    machine.write("slow", "")
    (root / "pf.good").write_bytes((root / "etc/pf.conf").read_bytes())
    done = world.obsdimg("upgrade", "--yes", "--fetch-limit", "1")
    assert done.returncode == 1
    assert b"it goes on there; obsdimg upgrade again waits for it" in done.stderr
    done = world.obsdimg("apply", "--yes", timeout=120)
    assert done.returncode == 0, "there is nothing to change"
    with (root / "etc/pf.conf").open("a") as stream:
        stream.write("# another\n")
    done = world.obsdimg("apply", "--yes", "--overwrite")
    assert done.returncode == 1
    assert b"the next release is being fetched there" in done.stderr
    Path(root / "etc/pf.conf").write_bytes((root / "pf.good").read_bytes())

    def elsewhere() -> None:
        (root / "slow").unlink()
        for _ in ("the upgrade", "the new release"):
            until((root / "asks").exists, "the loader did not ask")
            machine.unlock()
            time.sleep(0.5)

    person = threading.Thread(target=elsewhere)
    person.start()
    done = world.obsdimg("upgrade", "--yes")
    person.join(60)
    assert done.returncode == 0, done.stderr
    assert b"obsdimg unlock URL --wait 3600 --no-probe" in done.stderr
    assert b"vpn: upgraded from 7.7 to 7.8" in done.stdout
    assert sum(line.startswith("sysupgrade") for line in machine.journal()) == 1
    assert machine.said_release() == 'version = "7.8" # as installed'


def test_what_does_not_come_about_leaves_the_project(machine: UpgradeWorld) -> None:
    """A download that fails leaves nothing that waits; an upgrade that does not take place is
    told from one that takes long."""
    world, root = machine.world, machine.root
    config = world.config.read_text()
    machine.write("broken", "")
    done = world.obsdimg("upgrade", "--yes", timeout=180)
    assert done.returncode == 1
    assert b"did not fetch 7.8, nothing has changed: (SHA256) base.tgz: FAILED" in done.stderr
    assert not (machine.top / "bsd.upgrade").exists()
    (root / "broken").unlink()
    machine.encrypted, machine.outcome = False, "stays"
    done = world.obsdimg("upgrade", "--yes", "--no-console", timeout=240)
    assert done.returncode == 1
    assert b"was restarted and still runs 7.7: the upgrade did not take place" in done.stderr
    assert world.config.read_text() == config


def test_a_server_of_another_release_and_options_that_exclude_each_other(
    machine: UpgradeWorld,
) -> None:
    machine.release("7.5", FIRST_START)
    done = machine.world.obsdimg("upgrade", "--yes")
    assert done.returncode == 1
    assert b"runs 7.5, the project says 7.7" in done.stderr
    done = machine.world.obsdimg("upgrade", "--console", "x", "--no-console")
    assert done.returncode == 2
    machine.release("7.7", FIRST_START)
    phrase = machine.passphrase(PASSPHRASE)
    done = machine.world.obsdimg("upgrade", "--yes", "--console", "exec:/none", *phrase)
    assert done.returncode == 1
    assert b"the console, where the passphrase is to be typed: " in done.stderr
    assert b"hint: --no-console" in done.stderr
    assert not any(line.startswith("sysupgrade") for line in machine.journal())


def test_wireguard_moves_into_the_kernel_with_the_same_keys(local_server: LocalServer) -> None:
    """6.7 was taken to 6.8 by hand; `upgrade` does what is left."""
    machine = UpgradeWorld(local_server, "6.7", "6.8")
    try:
        root = machine.root
        machine.release("6.8", FIRST_START)
        old = {
            path: (root / path).read_bytes()
            for path in ("etc/hostname.tun0", "etc/wireguard/server.conf")
        }
        done = local_server.obsdimg("upgrade", "--yes", timeout=300)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        assert (
            b"~ WireGuard: wireguard-go on tun0 -> wg(4) on wg0; same key, port 53" in done.stdout
        )
        key = (root / "etc/hostname.wg0").read_bytes()
        private = Project.open(local_server.config).keys().server
        assert private is not None
        assert f"wgkey {private.reveal()} wgport 53".encode() in key
        assert (root / "etc/hostname.wg0").stat().st_mode & 0o777 == 0o640
        assert b"on $tunnel" in (root / "etc/pf.conf").read_bytes()
        assert b'tunnel = "wg0"' in (root / "etc/pf.conf").read_bytes()
        for path, data in old.items():
            assert not (root / path).exists()
            kept = root / "etc/wireguard/before" / Path(path).name
            assert kept.read_bytes() == data
            assert kept.stat().st_mode & 0o777 == 0o600
        journal = machine.journal()
        order = ["rcctl -f stop obsdimg_wg", "ifconfig tun0 destroy", "ifconfig wg0 create"]
        at = [journal.index(line) for line in order]
        assert at == sorted(at)
        assert b"pkg_delete wireguard-go" in done.stdout
        assert 'version = "6.8"' in local_server.config.read_text()
        done = local_server.obsdimg("apply", timeout=120)
        assert (done.returncode, done.stdout) == (0, b"vpn: as in the project\n")
    finally:
        machine.close()
