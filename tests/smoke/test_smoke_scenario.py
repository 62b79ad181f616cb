"""The scenario against the scripted guest: the good way, and everything that can go wrong."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.core.progress import Progress
from obsdimg.smoke import expectations as says
from obsdimg.smoke import loader, scenario
from obsdimg.smoke.machine import AcceleratorError
from obsdimg.smoke.outside import check_tunnel, name_is_known
from obsdimg.smoke.plan import EmulatedNetwork, Secret, SmokePlan
from obsdimg.smoke.play import RunOptions
from obsdimg.smoke.qemu import Accelerator, find_qemu
from obsdimg.smoke.result import SmokeResult, SmokeVerdict
from obsdimg.smoke.scenario import boot_checks, idle_trouble, no_internet, run_smoke
from obsdimg.tunnel.client import HandshakeLog
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey
from obsdimg.tunnel.report import ProbeResult, ProbeVerdict, Role, TargetReport
from support import scripted_guest

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None, reason="qemu-img is not installed"
)

STAGES = [
    "start", "cd", "dialogue", "install", "start", "unlock", "first-boot", "tunnel", "ports",
    "inside", "power-off", "disk", "guard", "unlock-again", "again", "tunnel-again",
]  # fmt: skip


def _program(folder: Path, branch: str) -> str:
    """A program that looks like QEMU and runs the scripted guest."""
    path = folder / "qemu"
    imports = os.pathsep.join(sys.path)
    words = f'"{sys.executable}" "{scripted_guest.__file__}" {branch}'
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{imports}" exec {words} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _peer() -> TunnelClient:
    return TunnelClient(
        name="phone",
        private=WgPrivateKey.generate(),
        server=WgPrivateKey.generate().public(),
        preshared=PresharedKey.generate(),
        addresses=(ipaddress.ip_interface("10.0.0.3/32"),),
        inside=(ipaddress.ip_address("10.0.0.1"),),
        allowed=(ipaddress.ip_network("0.0.0.0/0"),),
        host=None,
        port=53,
    )


def _plan(folder: Path) -> SmokePlan:
    iso = folder / "x.iso"
    iso.write_bytes(bytes(65536))
    return SmokePlan(
        iso=iso,
        release="6.6",
        passphrase=Secret(scripted_guest.PASSPHRASE),
        peers=(_peer(),),
        disk_size=16 * 1024 * 1024,
        tcp_ports=(25, 80),
    )


ENDPOINT = Endpoint.parse("127.0.0.1:1")


def _works(peer: TunnelClient, port: int, outside: Sequence[str], timeout: float) -> ProbeResult:
    target = TargetReport(ipaddress.ip_address("10.0.0.1"), Role.SERVER, 3, (1.0, 1.0, 1.0))
    endpoint = Endpoint.parse(f"127.0.0.1:{port}")
    return ProbeResult(ProbeVerdict.WORKS, endpoint, HandshakeLog(), (target,))


def _play(
    folder: Path, branch: str, plan: SmokePlan | None = None, **options: object
) -> SmokeResult:
    folder.chmod(0o700)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    chosen = RunOptions(
        folder=work, qemu=find_qemu(_program(folder, branch)), prober=_works, slowness=0.1
    )
    chosen = replace(chosen, **options)  # type: ignore[arg-type]
    result = SmokeResult("x.iso", "6.6")
    return run_smoke(plan or _plan(folder), chosen, Progress(), result)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits that are minutes, for guests that hang."""
    monkeypatch.setattr(says, "BOOTED", replace(says.BOOTED, limit=20))
    steps = tuple(replace(mark, limit=30) for mark in says.INSTALL_STEPS)
    monkeypatch.setattr(says, "INSTALL_STEPS", steps)
    monkeypatch.setattr(says, "HALTED", replace(says.HALTED, limit=20))
    monkeypatch.setattr(scenario, "REBOOT_SECONDS", 20)
    monkeypatch.setattr(loader, "CAREFUL", 0.01)


def _text(result: SmokeResult) -> str:
    return "\n".join(line.text for line in result.transcript)


@pytest.mark.parametrize("mirror", [True, False], ids=["serial mirror", "keyboard and screen"])
def test_a_good_iso_passes_every_stage(tmp_path: Path, mirror: bool) -> None:
    result = _play(tmp_path, "good", serial_mirror=mirror)
    assert [s.name for s in result.stages] == STAGES, result.sentence
    bad = [c for s in result.stages for c in s.checks if c.verdict is SmokeVerdict.FAILED]
    assert not bad and result.verdict is SmokeVerdict.PASSED, result.sentence
    assert _unguarded(result) == []
    assert all(s.screenshots for s in result.stages if s.name not in ("start", "inside"))
    assert scripted_guest.PASSPHRASE not in _text(result)
    assert "typed: ***" in _text(result) or not mirror


@pytest.mark.parametrize(("branch", "good"), [("asks-on-com0", True), ("good", False)])
def test_a_loader_that_shall_ask_on_the_serial_line_must_do_so_beside_a_screen(
    tmp_path: Path, branch: str, good: bool
) -> None:
    plan = replace(_plan(tmp_path), loader_on_com0=True)
    result = _play(tmp_path, branch, plan, serial_mirror=False)
    asked = [c for s in result.stages for c in s.checks if "asks on the serial line" in c.name]
    assert [c.verdict for c in asked] == [SmokeVerdict.PASSED if good else SmokeVerdict.FAILED] * (
        2 if good else len(asked)
    ), result.sentence
    assert asked and (result.verdict is SmokeVerdict.PASSED) is good, result.sentence


BROKEN = [
    # branch, stage that must fail, what the error must say, the check that is not reached
    ("no-boot", "cd", "No bootable device", "boot loader of the ISO"),
    ("mute", "cd", "waited .* the guest printed nothing", "boot loader of the ISO"),
    ("loader-error", "cd", "No such file or directory", "automatic installation starts"),
    ("no-autoinstall", "cd", "the guest said: .I.nstall", "automatic installation starts"),
    ("no-hook", "dialogue", "without the encryption step", ""),
    ("no-disk", "dialogue", "STOPPED: No disk was found", ""),
    ("fresh-not-empty", "dialogue", "not empty", ""),
    ("takes-anything", "dialogue", "refusal of two different", "two different passphrases are"),
    ("hangs", "install", "waited", ""),
    ("dies", "install", "QEMU ended with exit code 3", ""),
    ("disk-full", "install", "this host's disk is full", ""),
    ("sealed-other", "install", "does not open the sealed secrets", ""),
    ("refuses-all", "unlock", "incorrect passphrase", "the passphrase unlocks"),
    ("unlocks-with-anything", "unlock", "refusal of a wrong", "a wrong passphrase is refused"),
    ("boot-hangs", "first-boot", "last lines of the boot", "the system is up"),
]
CHECKED = [
    # branch, stage whose check fails although the play goes on, the check
    ("no-volume", "install", "an encrypted volume was made"),
    ("unsigned", "install", "signature was verified"),
    ("no-reboot", "install", "reboots by itself"),
    ("echoes", "dialogue", "the passphrase is not shown"),
    ("daemon-failed", "first-boot", "every daemon started"),
    ("no-packages", "first-boot", "every step of the first boot worked"),
    ("daemon-failed-again", "again", "every daemon started"),
    ("cut-off-again", "again", "scripts complain of nothing"),
    ("plain-root", "unlock", "root file system"),
    ("ssh-open", "ports", "ssh from outside is closed"),
    ("smtp-open", "ports", "no other TCP port is open"),
    ("no-loader-text", "disk", "the boot loader is readable, as it must be"),
    ("no-metadata", "disk", "softraid metadata is readable, as it must be"),
    ("plain-text", "disk", "password file"),
    ("secret-on-disk", "disk", "the disk's passphrase is not on the disk"),
    ("not-encrypted", "disk", "looks random"),
    ("gpt-plain", "disk", "looks random"),
    ("no-guard", "guard", "notices the installed system"),
    ("guard-erases", "guard", "notices the installed system"),
    ("guard-takes-yes", "guard", "`yes` is not enough"),
    ("guard-writes", "guard", "nothing was written"),
]
ELSEWHERE = [
    # the check, the test below (or in another file) whose guest fails it
    ("starts the machine: QEMU runs", "test_smoke_machine"),
    ("starts the machine: the guest reaches neither", "test_smoke_isolation"),
    ("asks nothing, as configured", "asks_although"),
    ("it halts, as configured", "does_not_halt"),
    ("root file system", "unencrypted-wrong-root"),
    ("nothing failed meanwhile", "idle"),
    ("tunnel of phone: handshake", "dead_tunnel"),
    ("phone does not reach", "private_network"),
    ("ssh from outside is open", "closed_ssh"),
    ("power button", "button_without_effect"),
    ("not on the disk in clear", "test_smoke_disk"),
    ("not readable", "test_smoke_disk"),
]


def _unguarded(result: SmokeResult) -> list[str]:
    """The checks of a result for which no guest is known that fails them."""
    known = [row[3] for row in BROKEN if row[3]] + [row[2] for row in CHECKED]
    known += [row[0] for row in ELSEWHERE]
    played = [(s, c) for s in result.stages for c in s.checks]
    names = [f"{s.title}: {c.name}" for s, c in played if c.verdict is not SmokeVerdict.SKIPPED]
    return [name for name in names if not any(words in name for words in known)]


def test_the_documentation_names_the_guest_of_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs/proof/smoke.md").read_text()
    branches = [row[0] for row in (*BROKEN, *CHECKED)]
    assert [name for name in branches if f"`{name}`" not in page] == []
    assert len(scripted_guest.INSTALL_TROUBLE) == 19
    assert [name for name in scripted_guest.BOOT_TROUBLE if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("branch", "stage", "words", "check"), BROKEN, ids=[row[0] for row in BROKEN]
)
def test_what_goes_wrong_ends_the_play_and_is_named(
    tmp_path: Path, branch: str, stage: str, words: str, check: str
) -> None:
    result = _play(tmp_path, branch)
    assert not check or check not in str([s.checks for s in result.stages])
    failed = result.failed
    assert failed is not None and result.verdict is SmokeVerdict.FAILED
    assert failed.name == stage, result.sentence
    assert re.search(words, failed.error), failed.error
    assert result.stages[-1] is failed
    if branch not in ("mute",):
        assert failed.evidence


@pytest.mark.parametrize("branch", scripted_guest.INSTALL_TROUBLE)
def test_every_failure_text_of_the_installer_is_recognised(tmp_path: Path, branch: str) -> None:
    result = _play(tmp_path, branch)
    failed = result.failed
    assert failed is not None and failed.name == "install"
    wanted = scripted_guest.INSTALL_TROUBLE[branch].strip()
    assert wanted in failed.error, failed.error
    assert failed.screenshots and "failed" in failed.screenshots[-1].title
    assert any(wanted in line for line in failed.evidence)


@pytest.mark.parametrize("branch", scripted_guest.BOOT_TROUBLE)
def test_every_failure_text_of_the_boot_is_recognised(tmp_path: Path, branch: str) -> None:
    result = _play(tmp_path, branch)
    assert result.failed is not None and result.failed.name == "first-boot"
    assert scripted_guest.BOOT_TROUBLE[branch].strip() in result.failed.error


@pytest.mark.parametrize(("branch", "stage", "check"), CHECKED, ids=[c[0] for c in CHECKED])
def test_what_must_not_be_is_a_failed_check(
    tmp_path: Path, branch: str, stage: str, check: str
) -> None:
    result = _play(tmp_path, branch)
    failed = result.failed
    assert failed is not None and failed.name == stage, result.sentence
    bad = [c.name for c in failed.checks if c.verdict is SmokeVerdict.FAILED]
    assert len(bad) == 1 and check in bad[0], failed.checks
    assert check in result.sentence


@pytest.mark.parametrize("branch", ["refuses-all", "unlocks-with-anything"])
def test_a_loader_that_is_only_seen_on_the_screen_is_judged_the_same(
    tmp_path: Path, branch: str
) -> None:
    """Its screen keeps the refusal of the wrong passphrase, which was typed on purpose."""
    result = _play(tmp_path, branch, serial_mirror=False)
    assert result.failed and result.failed.name == "unlock", result.sentence
    words = {"refuses-all": "incorrect passphrase", "unlocks-with-anything": "refusal of a wrong"}
    assert words[branch] in result.failed.error


FIRST_BOOT = ["running rc.firsttime", "obsdimg: installing patches"]
ENDED = "obsdimg: the steps of the first boot have ended"
DAEMONS = "starting package daemons: obsdimg_wg."


@pytest.mark.parametrize(
    ("lines", "first", "bad"),
    [
        ([*FIRST_BOOT, ENDED, DAEMONS], True, None),
        ([DAEMONS], False, None),
        ([DAEMONS], True, "their last line did not come"),
        (FIRST_BOOT, True, "their last line did not come"),
        *(
            ([*FIRST_BOOT, text, ENDED], True, text)
            for text in scripted_guest.FIRST_TIME_TROUBLE.values()
        ),
        ([ENDED, "starting package daemons: a b(absent) obsdimg_wg(failed)."], True,
         "b(absent), obsdimg_wg(failed)"),
        (["obsdimg-tunnel: /etc/pf.conf was refused: the last good one holds again (see x)"],
         False, "holds again"),
    ],
)  # fmt: skip
def test_a_boot_is_judged_by_what_it_says(lines: list[str], first: bool, bad: str | None) -> None:
    failed = [c for c in boot_checks(lines, first=first) if c.verdict is SmokeVerdict.FAILED]
    assert [bad in c.detail for c in failed] == ([] if bad is None else [True]), failed


def test_without_a_network_patches_are_not_tried_and_everything_else_is_judged() -> None:
    patches = scripted_guest.FIRST_TIME_TROUBLE["no-patches"]
    kinds = {c.name: c.verdict for c in boot_checks([patches, ENDED], no_internet="x")}
    assert kinds["patches at the first boot"] is SmokeVerdict.SKIPPED
    assert kinds["every step of the first boot worked"] is SmokeVerdict.PASSED
    kinds = {c.name: c.verdict for c in boot_checks([patches], no_internet="x")}
    assert kinds["every step of the first boot worked"] is SmokeVerdict.FAILED


NO_NAME = {
    "6.6": "ftp: ftp.eu.openbsd.org: no address associated with name",
    "7.7": "syspatch: cdn.openbsd.org: no address associated with name",
}
"""What syspatch(8) says where no name is found, seen on a real 6.6 and 7.7."""


@pytest.mark.parametrize("release", NO_NAME)
def test_a_mirror_that_this_machine_does_not_find_either_is_no_fault_of_the_iso(
    release: str,
) -> None:
    patches = scripted_guest.FIRST_TIME_TROUBLE["no-patches"]
    lines = [*FIRST_BOOT, NO_NAME[release], patches, ENDED]
    asked: list[str] = []

    def known(name: str, answer: bool = False) -> bool:
        asked.append(name)
        return answer

    why = no_internet(lines, cut_off=False, known=known)
    assert asked == [NO_NAME[release].split(": ")[1]] and asked[0] in why
    verdicts = {c.name: c.verdict for c in boot_checks(lines, no_internet=why)}
    assert verdicts["patches at the first boot"] is SmokeVerdict.SKIPPED
    assert verdicts["every step of the first boot worked"] is SmokeVerdict.PASSED
    # The other way round: this machine finds it, or the guest complains of something else.
    assert not no_internet(lines, cut_off=False, known=lambda name: True)
    assert not no_internet([*FIRST_BOOT, patches, ENDED], cut_off=False, known=known)
    assert not no_internet([NO_NAME[release], ENDED], cut_off=False, known=known)
    assert len(asked) == 1


def test_a_name_is_known_where_this_machine_finds_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_up(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if name != "mirror.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert name_is_known("mirror.example")
    assert not name_is_known("no-mirror.example")


@pytest.mark.parametrize("text", scripted_guest.IDLE_TROUBLE.values())
def test_trouble_of_an_idle_server_is_known_by_its_line(text: str) -> None:
    assert idle_trouble(["Sun Nov 22 10:00:00 UTC 2026", text, "more"]) == text
    assert idle_trouble(["syncing disks... done"]) == ""


@pytest.mark.parametrize("branch", ["good", "panics-later"])
def test_what_happens_while_the_server_is_idle_is_seen(tmp_path: Path, branch: str) -> None:
    result = _play(tmp_path, branch, replace(_plan(tmp_path), idle_seconds=1.5))
    (idle,) = (s for s in result.stages if s.name == "idle")
    (check,) = idle.checks
    assert (check.verdict is SmokeVerdict.PASSED) == (branch == "good"), check
    if branch == "good":
        assert result.verdict is SmokeVerdict.PASSED and _unguarded(result) == []
    else:
        assert check.detail == scripted_guest.IDLE_TROUBLE[branch]


@pytest.mark.parametrize("branch", ["unencrypted", "unencrypted-wrong-root"])
def test_a_plain_installation_has_its_own_root(tmp_path: Path, branch: str) -> None:
    result = _play(tmp_path, branch, replace(_plan(tmp_path), encrypted=False))
    assert _unguarded(result) == []
    if branch == "unencrypted":
        assert result.verdict is SmokeVerdict.PASSED, result.sentence
    else:
        assert result.failed and result.failed.name == "unlock"


def test_an_iso_that_asks_although_it_should_not_is_noticed_at_once(tmp_path: Path) -> None:
    result = _play(tmp_path, "good", replace(_plan(tmp_path), unattended=True))
    assert result.failed and result.failed.name == "dialogue"
    assert "waits for an answer that nobody gives" in result.failed.error


def test_a_halt_is_no_reason_to_check_less(tmp_path: Path) -> None:
    result = _play(tmp_path, "halts-unsigned", replace(_plan(tmp_path), halts=True))
    (install,) = (s for s in result.stages if s.name == "install")
    verdicts = {c.name: c.verdict for c in install.checks}
    assert verdicts.pop("the sets' signature was verified") is SmokeVerdict.FAILED
    assert len(verdicts) == 2 and set(verdicts.values()) == {SmokeVerdict.PASSED}
    assert _unguarded(result) == []


def test_a_guest_that_does_not_halt_fails_where_it_should(tmp_path: Path) -> None:
    result = _play(tmp_path, "no-reboot", replace(_plan(tmp_path), halts=True))
    assert result.failed and "the halt after the installation" in result.failed.error


def test_an_efi_system_partition_may_be_read_and_nothing_else(tmp_path: Path) -> None:
    """The guest that fails it is gpt-plain."""
    result = _play(tmp_path, "gpt")
    assert result.verdict is SmokeVerdict.PASSED, result.sentence


def test_an_open_port_without_a_greeting_is_no_ssh(tmp_path: Path) -> None:
    result = _play(tmp_path, "ssh-mute", replace(_plan(tmp_path), ssh_open=True))
    assert result.failed and result.failed.name == "ports"


def test_ports_that_were_not_really_called_are_not_called_closed(tmp_path: Path) -> None:
    result = _play(tmp_path, "blind-cable")
    (ports,) = (s for s in result.stages if s.name == "ports")
    assert [c.verdict for c in ports.checks] == [SmokeVerdict.FAILED] * 2
    assert "not tried" in ports.checks[0].detail


PRIVATE = EmulatedNetwork("172.16.1.2", 24, "172.16.1.9")


@pytest.mark.parametrize(
    ("may", "server", "host", "good"),
    [
        (True, 3, 3, True),
        (True, 3, 0, False),  # it may, and does not reach it
        (False, 3, 0, True),
        (False, 3, 1, False),  # it may not, and gets an answer
        (False, 0, 0, False),  # a tunnel that carries nothing proves nothing
    ],
)
def test_the_private_network_is_reached_by_those_who_may_and_by_nobody_else(
    may: bool, server: int, host: int, good: bool
) -> None:
    reach = (ipaddress.ip_network("172.16.1.0/24"),) if may else ()
    client = replace(_peer(), reach=reach)

    def answers(
        peer: TunnelClient, port: int, outside: Sequence[str], timeout: float
    ) -> ProbeResult:
        asked = PRIVATE.gateway in outside
        told = [
            TargetReport(ipaddress.ip_address("10.0.0.1"), Role.SERVER, 3, (1.0,) * server),
            TargetReport(ipaddress.ip_address(PRIVATE.gateway), Role.OUTSIDE, 3, (1.0,) * host),
        ]
        # The first call, without the private host, works always.
        works = not asked or (server and host)
        verdict = ProbeVerdict.WORKS if works else ProbeVerdict.NO_FORWARDING
        return ProbeResult(verdict, ENDPOINT, HandshakeLog(), tuple(told[: 1 + asked]))

    checks = check_tunnel([client], {53: 1}, EmulatedNetwork(), (PRIVATE,), answers, 1.0)
    assert all(c.verdict is SmokeVerdict.PASSED for c in checks) == good, checks


def test_a_button_without_effect_fails_the_stage(tmp_path: Path) -> None:
    result = _play(tmp_path, "no-button", slowness=0.02)
    failed = {s.name for s in result.stages if s.verdict is SmokeVerdict.FAILED}
    assert "power-off" in failed


def test_the_sealing_passphrase_is_given_when_asked_for(tmp_path: Path) -> None:
    plan = replace(_plan(tmp_path), sealing_passphrase=Secret(scripted_guest.SEALING))
    result = _play(tmp_path, "sealed-other", plan)
    assert result.verdict is SmokeVerdict.PASSED, result.sentence
    assert scripted_guest.SEALING not in _text(result)


def test_a_wrong_sealing_passphrase_ends_the_installation(tmp_path: Path) -> None:
    plan = replace(_plan(tmp_path), sealing_passphrase=Secret("not it"))
    result = _play(tmp_path, "sealed-wrong", plan)
    assert result.failed and "does not open the sealed secrets" in result.failed.error


def test_an_open_ssh_passes_where_it_is_configured(tmp_path: Path) -> None:
    result = _play(tmp_path, "good-ssh", replace(_plan(tmp_path), ssh_open=True))
    assert result.verdict is SmokeVerdict.PASSED, result.sentence
    (ports,) = (s for s in result.stages if s.name == "ports")
    assert any("OpenSSH" in c.detail for c in ports.checks)


def test_a_closed_ssh_fails_where_it_should_be_open(tmp_path: Path) -> None:
    result = _play(tmp_path, "good", replace(_plan(tmp_path), ssh_open=True))
    assert result.failed and result.failed.name == "ports"


def test_an_iso_with_its_passphrase_inside_is_asked_nothing(tmp_path: Path) -> None:
    result = _play(tmp_path, "unattended", replace(_plan(tmp_path), unattended=True))
    (dialogue,) = (s for s in result.stages if s.name == "dialogue")
    assert dialogue.verdict is SmokeVerdict.PASSED, result.sentence


def test_a_dead_tunnel_is_a_failed_check_with_the_probes_words(tmp_path: Path) -> None:
    def silent(
        peer: TunnelClient, port: int, outside: Sequence[str], timeout: float
    ) -> ProbeResult:
        return ProbeResult(ProbeVerdict.NO_ANSWER, Endpoint.parse("127.0.0.1:1"), HandshakeLog())

    result = _play(tmp_path, "good", prober=silent)
    assert result.failed and result.failed.name == "tunnel"
    assert result.failed.checks[0].detail
    assert result.stages[-1].name == "tunnel-again"


def test_an_accelerator_that_gives_up_is_told_apart_from_the_guest(tmp_path: Path) -> None:
    with pytest.raises(AcceleratorError, match="internal error"):
        _play(tmp_path, "kvm-internal-error", accelerator=Accelerator.KVM)


def test_an_accelerator_that_does_not_reach_the_loader_is_suspected(tmp_path: Path) -> None:
    with pytest.raises(AcceleratorError, match="boot loader"):
        _play(tmp_path, "no-boot", accelerator=Accelerator.KVM)


def test_an_installed_disk_is_used_and_never_written_to(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()

    def keep(disk: Path) -> Path:
        return disk.rename(cache / "installed.qcow2")

    first = _play(tmp_path, "good", finished_install=keep)
    assert first.verdict is SmokeVerdict.PASSED, first.sentence
    before = (cache / "installed.qcow2").read_bytes()
    (tmp_path / "work" / "disk.qcow2").unlink()
    second = _play(tmp_path, "good", installed=cache / "installed.qcow2")
    assert [s.name for s in second.stages] == STAGES[4:]
    assert second.verdict is SmokeVerdict.PASSED, second.sentence
    assert (cache / "installed.qcow2").read_bytes() == before
