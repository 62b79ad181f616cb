"""What an upgrade depends on, read and judged; what a new release wants; the console on the way."""

from __future__ import annotations

import contextlib
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from obsdimg.cli import upgrade_run
from obsdimg.cli.upgrade_console import MOST_UNLOCKS, ConsoleWatch
from obsdimg.cli.upgrade_run import UpgradeRun
from obsdimg.console import unlock as unlock_module
from obsdimg.console.errors import ConnectError
from obsdimg.console.screen import Kind
from obsdimg.core.progress import Progress
from obsdimg.core.secret import Secret
from obsdimg.project.folder import Project
from obsdimg.releases.release import load_release
from obsdimg.server import upgrading
from obsdimg.server.access import ServerAccess
from obsdimg.server.asking import remote_script
from obsdimg.server.change import ChangeError
from obsdimg.server.kept import kept_files
from obsdimg.server.next_release import (
    NextReleaseError,
    is_version,
    next_release,
    next_version,
    previous_version,
    release_files,
    with_release,
)
from obsdimg.server.release_change import interface_commands, plan_release_change
from obsdimg.server.state import StateError
from obsdimg.server.upgrade_checks import (
    MIB,
    UNKNOWN_SETS,
    CheckMark,
    UpgradeCheck,
    _key,
    _mirror,
    _room,
    needed_room,
    topics,
)
from obsdimg.server.upgrade_report import UpgradeReport, parse_upgrade
from obsdimg.server.upgrading import UpgradeError, await_fetch
from support.scripted_console import PROMPT, Scene, ScriptedConsole, screen
from support.server_bench import ServerBench

TOP = Path(__file__).parents[2]
NAMES = ("base78.tgz", "comp78.tgz", "xbase78.tgz", "bsd", "bsd.mp", "bsd.rd", "INSTALL.amd64")
REPORT = """\
@@time
1760000000
@@boot
1759990000
@@release
7.7
@@running
OpenBSD 7.7 (GENERIC) #3: Thu Oct 17 10:00:00 MDT 2019
@@machine
amd64
@@room
/ /dev/sd1a 1000000 300000 600000 33% /
/home /dev/sd1k 1000000 300000 600000 33% /home
/usr /dev/sd1d 1000000 1200000 -200000 120% /usr
/tmp /dev/sd1a 1000000 300000 600000 33% /
/var /dev/sd1a 1000000 300000 600000 33% /
@@downloaded
2048 /home/_sysupgrade
@@sets
comp
@@softraid
softraid0 0 Online 10 sd1 CRYPTO
@@key
RWkey
@@packages
quirks-7.1
@@work
fetching
pending
first-start /etc/rc.firsttime.run
@@result
fetched 7.8
@@log
one
two
@@leftovers
/etc/ssh/sshd_config
@@mirror
https://mirror.example/pub/OpenBSD
@@list
untrusted comment: verify with openbsd-78-base.pub
RWQ=
LIST
@@list-said
@@index
INDEX
@@end
"""


def report(**changes: object) -> UpgradeReport:
    listed = "\n".join(f"SHA256 ({name}) = 00" for name in (*NAMES, "BUILDINFO", "cd78.iso"))
    index = "\n".join(
        f"-rw-r--r--  1 1001  0  {10 * MIB} Oct 12 15:32:22 2025 {name}"
        for name in (*NAMES, "cd78.iso")
    )
    text = REPORT.replace("LIST\n", listed + "\n").replace("INDEX\n", index + "\n")
    return replace(parse_upgrade(text.encode()), **changes)  # type: ignore[arg-type]


def test_the_report_is_read() -> None:
    said = report()
    assert (said.release, said.booted, said.machine) == ("7.7", 1759990000, "amd64")
    assert said.encrypted and said.fetching and said.pending and said.first_start
    assert not said.applying
    assert said.mirror.files == NAMES, "what sysupgrade fetches, and no more"
    assert set(said.mirror.sizes) == set(NAMES)
    assert said.leftovers == ("/etc/ssh/sshd_config",)
    assert not said.fetched("7.8"), "not while it is fetching"
    assert replace(said, fetching=False).fetched("7.8")
    assert not replace(said, fetching=False).fetched("7.9")
    assert not replace(said, fetching=False, pending=False).fetched("7.8")
    assert said.room["/usr"].free == 0
    for broken in (b"", b"sh: syntax error", b"@@time\n1\n"):
        with pytest.raises(StateError):
            parse_upgrade(broken)


def test_room_is_counted_by_file_system() -> None:
    said = report()
    need = needed_room(said)
    sets = len(NAMES) * 10 * MIB
    assert need["/home"] == sets - 2048 * 1024 + 16 * MIB, "what is there already counts"
    assert need["/usr/X11R6"] == int(3.5 * 10 * MIB), "a set that was not installed comes whole"
    assert need["/usr"] == 64 * MIB + 2 * int(0.35 * 10 * MIB)
    lines = {line.text.partition(":")[0]: line for line in _room(said)}
    assert set(lines) == {"/", "/home", "/usr"}, "the X sets lie in /usr here"
    assert lines["/usr"].mark is CheckMark.FAILED
    assert lines["/"].mark is CheckMark.OK
    blind = replace(said, mirror=replace(said.mirror, sizes={}))
    assert needed_room(blind)["/home"] > UNKNOWN_SETS - 2048 * 1024
    assert _room(replace(said, room={}))[0].mark is CheckMark.FAILED


def test_mirror_and_key_are_those_of_the_next_release() -> None:
    target = load_release("7.8")
    said = report()
    assert _mirror(said.mirror, target).mark is CheckMark.OK
    other = _mirror(replace(said.mirror, files=("base77.tgz", "bsd.rd"), said="404"), target)
    assert other.mark is CheckMark.FAILED
    assert "(404)" in other.text
    assert "https://" in other.remedy
    assert _key(target.keys.base.key, target).mark is CheckMark.OK
    assert "is not there" in _key(None, target).text
    assert "do not upgrade" in _key("RWkey", target).remedy


def test_releases_follow_each_other_as_sysupgrade_counts() -> None:
    assert [next_version(v) for v in ("6.6", "6.9", "7.7", "9.9")] == ["6.7", "7.0", "7.8", "10.0"]
    assert previous_version("7.0") == "6.9"
    assert is_version("7.7") and not is_version("7.7-beta") and not is_version("")
    assert next_release("7.7").version == "7.8"
    with pytest.raises(NextReleaseError) as caught:
        next_release("7.9")  # 8.0 is announced only
    assert "release learn --iso install80.iso" in (caught.value.hint or "")


CONFIG = """\
[release]
version = "6.6"
[access]
root_keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[network]
dns = ["192.0.2.53"]
[[network.interfaces]]
name = "vio1"
ipv4 = "dhcp"
[tunnel]
endpoint = "vpn.example.net"
dns = "unbound"
[[tunnel.peers]]
name = "operator"
ipv4 = "10.0.0.2"
networks = ["192.168.7.0/24"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    path = tmp_path / "obsdimg.toml"
    path.write_text(CONFIG)
    made = Project.open(path)
    made.keys()
    return made


def test_between_most_releases_nothing_differs(project: Project) -> None:
    keys = project.keys()
    for old in ("6.6", "6.8", "7.0", "7.7", "7.8"):
        assert release_files(project, keys, old, next_version(old)).same, old
    assert not release_files(project, keys, "6.7", "6.8").same
    assert not release_files(project, keys, "6.9", "7.0").same


def actual_of(project: Project, version: str) -> dict[str, bytes]:
    keys = project.keys()
    files = release_files(project, keys, version, next_version(version))
    kept = kept_files(with_release(project, version), keys)
    there = {path: entry.data for path, entry in kept.files.items()}
    return {**there, **{path: entry.data for path, entry in files.old.items()}}


def names(project: Project) -> dict[str, str]:
    return {own.public.text(): name for name, own in project.keys().peers.items()}


def test_7_0_has_another_dhcp_client(project: Project) -> None:
    keys = project.keys()
    files = release_files(project, keys, "6.9", "7.0")
    actual = actual_of(project, "6.9")
    assert {"/etc/dhclient.conf", "/etc/rc.conf.local", "/etc/hostname.vio1"} <= set(actual)
    kept, edited = files.untouched(actual)
    assert edited == ()
    change = plan_release_change(kept, actual, names(project), {}, ())
    assert change.gone == ("/etc/dhclient.conf",)
    wanted = {"/etc/dhcpleased.conf", "/etc/rc.conf.local", "/etc/hostname.vio1"}
    assert set(change.files) == {*wanted, "/etc/resolv.conf"}
    assert change.files["/etc/resolv.conf"].data == b"nameserver 192.0.2.53\nlookup file bind\n"
    assert any("rcctl stop resolvd" in line for line in change.forward)

    # A second run, after one that brought all of it: nobody edited anything.
    brought = {**actual, **{path: entry.data for path, entry in files.after.files.items()}}
    assert files.untouched(brought)[1] == ()

    # What rcctl(8) or somebody has edited stays.
    actual["/etc/rc.conf.local"] += b"httpd_flags=\n"
    kept, edited = files.untouched(actual)
    assert edited == ("/etc/rc.conf.local",)
    assert (
        "/etc/rc.conf.local" not in plan_release_change(kept, actual, names(project), {}, ()).files
    )


def test_6_8_moves_the_tunnel_and_can_go_back(project: Project) -> None:
    keys = project.keys()
    files = release_files(project, keys, "6.7", "6.8")
    actual = actual_of(project, "6.7")
    change = plan_release_change(files, actual, names(project), {}, ())
    assert change.by_hand == ()
    assert change.gone == ("/etc/hostname.tun0", "/etc/wireguard/server.conf")
    assert change.was == "tun0"
    words = files.in_words()
    assert "new /etc/hostname.wg0; gone /etc/hostname.tun0, /etc/wireguard/server.conf" in words
    assert words.startswith("changed /etc/pf.conf, /etc/rc.d/obsdimg_wg")
    forward = "\n".join(change.forward)
    assert forward.index("rcctl -f stop obsdimg_wg") < forward.index("ifconfig wg0 create")
    assert "ifconfig wg0 inet 10.0.0.1/24" in change.forward
    assert "/sbin/route -qn add -inet 192.168.7.0/24 10.0.0.1" in change.forward
    assert change.forward.index("ifconfig wg0 up") < change.forward.index(
        'pfctl -f "${0%/*}/new/etc/pf.conf"'
    ), "antispoof is made of the addresses that are there"
    assert "obsdimg-tunnel" not in forward, "it looks at files that are not there yet"
    assert change.back[0].startswith("{ ifconfig wg0 destroy")
    assert "rcctl start obsdimg_wg" in change.back
    assert keys.server is not None
    assert keys.server.reveal() not in "\n".join(change.lines)

    by_hand = {**actual, "/etc/pf.conf": b"pass\n"}
    assert plan_release_change(files, by_hand, names(project), {}, ()).by_hand == ("/etc/pf.conf",)
    moved = actual["/etc/wireguard/server.conf"].replace(b"ListenPort = 5", b"ListenPort = 6")
    with pytest.raises(ChangeError, match="key or port"):
        plan_release_change(
            files, {**actual, "/etc/wireguard/server.conf": moved}, names(project), {}, ()
        )

    # Interrupted after it: there is nothing left to do.
    done = {path: entry.data for path, entry in files.after.files.items()}
    assert plan_release_change(files, done, names(project), {}, ()).empty


def test_a_hostname_if_file_becomes_commands() -> None:
    text = "# wg\nwgkey K wgport 53\nwgpeer P wgaip 10.0.0.2/32\n\ninet 10.0.0.1/24\nup\n"
    text += "!/sbin/route -qn add -inet 10.1.0.0/16 10.0.0.1\n!/usr/local/sbin/obsdimg-tunnel x\n"
    assert interface_commands("wg0", text) == [
        "ifconfig wg0 wgkey K wgport 53",
        "ifconfig wg0 wgpeer P wgaip 10.0.0.2/32",
        "ifconfig wg0 inet 10.0.0.1/24",
        "ifconfig wg0 up",
        "/sbin/route -qn add -inet 10.1.0.0/16 10.0.0.1",
    ]


# ---- the console


def watch(console: ScriptedConsole) -> ConsoleWatch:
    return ConsoleWatch(lambda: console, "vpn", Secret("right"), 5, lambda text: None)


def test_the_passphrase_is_typed_at_every_start() -> None:
    def answer(line: str) -> list[Scene]:
        return ["booting sr0a:/bsd: 1"] if line == "right" else [PROMPT]

    console = ScriptedConsole("OpenBSD 7.7 (GENERIC) #1", PROMPT, answer=answer)
    look = watch(console)
    while look.unlocked == 0:
        look(1)
    look(0.1)
    assert console.typed == "right\r"
    console.scenes = ["Installing base78.tgz 50%", PROMPT]
    while look.unlocked == 1:
        look(1)
    assert console.typed == "right\rright\r"
    look.close()


def test_a_wrong_passphrase_and_a_boot_that_fails_are_errors() -> None:
    refused = "\nincorrect passphrase\nPassphrase: "
    screens = [PROMPT + refused, PROMPT + refused + refused]
    console = ScriptedConsole(PROMPT, answer=lambda line: [screens.pop(0)])
    with pytest.raises(UpgradeError, match="refused the passphrase"):
        watch(console)(5)
    look = watch(ScriptedConsole("panic: no init"))
    with pytest.raises(UpgradeError, match="has crashed"):
        for _ in range(MOST_UNLOCKS):
            look(0.01)


# ---- the job on the server


@pytest.mark.parametrize(
    ("sysupgrade", "result", "pending"),
    [
        ("ok", "fetched 7.8", True),
        ("old", "failed 0", False),
        ("fails", "failed 1", False),
        ("nothing", "failed 0", False),
    ],
)
def test_only_what_was_verified_waits_for_the_next_start(
    tmp_path: Path, sysupgrade: str, result: str, pending: bool
) -> None:
    """`old`: the mirror has no next release and sysupgrade took the same one anew (7.6 on)."""
    bench = ServerBench(tmp_path / "root")
    root = bench.root
    (root / "home/_sysupgrade").mkdir(parents=True)
    digits = "77" if sysupgrade == "old" else "78"
    make = (
        f"echo 'SHA256 (base{digits}.tgz) = 0' >$T/home/_sysupgrade/SHA256; : >$T/bsd.upgrade;"
        " chmod 700 $T/bsd.upgrade; : >$T/auto_upgrade.conf; echo 'rm -f"
        " /home/_sysupgrade/{SHA256}' >$T/etc/rc.firsttime"
    )
    # A failure may leave half of it.
    bodies = {"ok": make, "old": make, "fails": f"{make}; exit 1", "nothing": ":"}
    bench.stand_in("sysupgrade", bodies[sysupgrade])
    bench.stand_in("logger")
    bench.stand_in("sync")
    text = (TOP / "siteXX/remote/upgrade-job.sh").read_text()
    for path in ("/bsd.upgrade", "/auto_upgrade.conf", "/home/_sysupgrade", "/etc/rc.firsttime"):
        text = text.replace(path, f"{root}{path}")
    script = root / "job.sh"
    script.write_text(text)
    folder = root / "var/db/obsdimg/upgrade"
    folder.mkdir()
    (folder / "pid").write_text("1\n")
    done = subprocess.run(
        [str(root / "bin/sh"), str(script), str(folder), "7.8", "https://m.example"],
        env={"PATH": f"{root}/bin:/usr/bin:/bin"},
        timeout=20,
    )
    assert done.returncode == 0
    assert (folder / "result").read_text() == f"{result}\n"
    assert not (folder / "pid").exists()
    assert (root / "bsd.upgrade").exists() is pending
    assert (root / "auto_upgrade.conf").exists() is pending
    assert (root / "etc/rc.firsttime").exists() is pending
    assert "sysupgrade -n https://m.example" in bench.journal()


@pytest.mark.parametrize(
    ("pending", "result", "words", "hint"),
    [
        (True, None, "an upgrade waits there: the next start is it", "obsdimg upgrade again"),
        (True, "failed 1", "an upgrade waits there: the next start is it", "obsdimg upgrade again"),
        (False, None, "was cut off, nothing waits there", "begins anew"),
        (False, "failed 1", "did not fetch 7.8, nothing has changed: two", "--mirror URL"),
    ],
)
def test_a_download_that_came_to_no_good_end_is_said_as_it_is(
    monkeypatch: pytest.MonkeyPatch, pending: bool, result: str | None, words: str, hint: str
) -> None:
    """The job may die between sysupgrade and its result: `nothing has changed` would be a lie."""
    said = report(fetching=False, pending=pending, result=result)
    monkeypatch.setattr(upgrading, "_maybe", lambda *_: said)
    access = cast(ServerAccess, SimpleNamespace(name="vpn"))
    with pytest.raises(UpgradeError) as caught:
        await_fetch(access, "7.8", 5, Progress())
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")
    assert ("nothing has changed" in caught.value.message) is (not pending and result is not None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [("applying", "a change is being applied"), ("nothing waits", "does not wait there any more"),
     ("loader", "the boot loader could not be told of the upgrade: it was not restarted")],
)  # fmt: skip
def test_a_server_that_does_not_restart_says_why(
    monkeypatch: pytest.MonkeyPatch, answer: str, said: str
) -> None:
    monkeypatch.setattr(upgrading, "run_script", lambda *_: f"@ {answer}\n".encode())
    with pytest.raises(UpgradeError, match=said):
        upgrading.restart(cast(Any, SimpleNamespace(name="vpn")), "7.8")
    monkeypatch.setattr(upgrading, "run_script", lambda *_: b"@ restarts\n")
    upgrading.restart(cast(Any, SimpleNamespace(name="vpn")), "7.8")


@pytest.mark.parametrize(
    ("code", "answer"), [(0, "@ restarts"), (1, "@ loader"), (None, "@ restarts")]
)
def test_the_loader_in_a_plain_partition_is_told_before_the_restart(
    tmp_path: Path, code: int | None, answer: str
) -> None:
    """code: what obsdimg-loader ends with; None: the server has none."""
    bench = ServerBench(tmp_path)
    bench.stand_in("shutdown")
    if code is not None:
        bench.stand_in("obsdimg-loader", f"exit {code}")
    (tmp_path / "up").mkdir()
    (tmp_path / "up/result").write_text("fetched 7.8\n")
    for name in ("bsd.upgrade", "auto_upgrade.conf"):
        (tmp_path / name).touch(0o700)
    script = remote_script("working.sh", "upgrade-restart.sh", dir=str(tmp_path / "up"), next="7.8")
    for path in ("/bsd.upgrade", "/auto_upgrade.conf", "/usr/local/sbin/"):
        script = script.replace(f" {path}", f" {tmp_path}{path}")
    script = script.replace("sleep 2; exec shutdown", f"exec {tmp_path}/bin/shutdown")
    (tmp_path / "script").write_text(f"PATH={tmp_path}/bin:/usr/bin:/bin\n{script}")
    assert bench.run(tmp_path / "script").splitlines() == [answer]
    told = [line for line in bench.journal() if line.startswith("obsdimg-loader")]
    assert len(told) == (code is not None)


def test_each_topic_is_named_once() -> None:
    bad = [
        UpgradeCheck(topic, CheckMark.FAILED, "not so", "")
        for topic in ("inside", "inside", "clock")
    ]
    assert topics(bad) == "inside, clock"


@pytest.mark.parametrize("fails", [None, "console", "restart"])
def test_the_console_is_joined_before_the_restart_is_ordered(
    monkeypatch: pytest.MonkeyPatch, fails: str | None
) -> None:
    """The machine may stand at the prompt before ssh has ended, and a serial line says it once."""
    done: list[str] = []
    console = ScriptedConsole(PROMPT)

    def connect() -> ScriptedConsole:
        if fails == "console":
            raise ConnectError("serial+unix:///x: no console there: no such file")
        done.append("console")
        return console

    def order(*_: object) -> None:
        done.append("restart")
        if fails == "restart":
            raise UpgradeError("it does not wait there any more")

    run = object.__new__(UpgradeRun)
    run.access = cast(Any, SimpleNamespace(name="vpn"))
    run.options = cast(Any, SimpleNamespace(timeout=1))
    run.target = "7.8"
    hub = contextlib.nullcontext(SimpleNamespace(path=None))
    monkeypatch.setattr(upgrade_run, "join_hub", lambda *_: hub)
    monkeypatch.setattr(upgrade_run, "replace", lambda access, **_: access)
    monkeypatch.setattr(upgrade_run, "restart", order)
    monkeypatch.setattr(run, "_remember_restart", lambda target, _: done.append(f"noted {target}"))
    monkeypatch.setattr(run, "_come_back", lambda *_: done.append("back"))
    look = ConsoleWatch(connect, "vpn", Secret("right"), 5, lambda text: None)
    report_ = cast(Any, SimpleNamespace(booted=1, encrypted=True))
    if fails is None:
        run._restart(report_, look)
        assert done == ["console", "noted 7.8", "restart", "back"]
        return
    with pytest.raises(UpgradeError) as caught:
        run._restart(report_, look)
    assert console.closed is (fails == "restart")
    if fails == "console":
        assert done == []
        assert "not restarted, and the upgrade waits there" in caught.value.message
    else:
        assert done == ["console", "noted 7.8", "restart", "noted None"]


def test_a_console_that_is_joined_late_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The silence counts over the short looks."""
    monkeypatch.setattr(unlock_module, "WAKE_AFTER", 0.3)
    monkeypatch.setattr(unlock_module, "LOOK", 0.01)
    monkeypatch.setattr(unlock_module, "SETTLE", 0.0)
    refused = "\nincorrect passphrase\nPassphrase: "
    opened = refused + "\nboot> \nbooting sr0a:/bsd: 1"
    console = ScriptedConsole(
        screen("", Kind.BLANK),
        answer=lambda line: [opened] if line == "right" else [refused],
    )
    look = ConsoleWatch(lambda: console, "vpn", Secret("right"), 5, lambda text: None, wake=True)
    end = time.monotonic() + 60
    while not look.unlocked:
        assert time.monotonic() < end
        look(0.05)
    assert console.typed == "x\rright\r"
