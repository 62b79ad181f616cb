"""A server's report as values, what follows from it, and how it is shown."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.releases.support import Support
from obsdimg.server.asking import remote_script
from obsdimg.server.findings import ExpectedServer, Level, judge
from obsdimg.server.screen import as_dict, prometheus, screen, worst
from obsdimg.server.state import FileState, PeerState, ServerState, StateError, parse_state
from support.openbsd_programs import PEERS_77, install

FIRST, SECOND = "A" * 43 + "=", "B" * 43 + "="
NOW = 1_571_400_000.0

SUPPORTED = Support("7.7", False, None, "the release of 7.9")
GOOD = ServerState(
    clock=int(NOW),
    booted=int(NOW) - 3 * 86400,
    release="7.7",
    running="OpenBSD 7.7 (GENERIC) #3: Thu Oct 17 2019",
    installed="OpenBSD 7.7 (GENERIC) #3:",
    port=53,
    peers=(PeerState(FIRST, "192.0.2.7:51000", 31, 11640, 4092), PeerState(SECOND)),
    pf_enabled=True,
    pf_states=42,
    pf_limit=100_000,
    encrypted=True,
    volume="Online",
    boot_area="a" * 64,
    files={"/etc/pf.conf": FileState("1" * 64, "600")},
    missing=(),
    packages=(),
)
EXPECTED = ExpectedServer(
    release="7.7",
    support=SUPPORTED,
    port=53,
    peers={FIRST: "laptop", SECOND: "phone"},
    files={"/etc/pf.conf": "1" * 64},
    applied={},
    boot_area="a" * 64,
    encrypted=True,
)


def test_a_server_as_it_should_be_has_no_findings() -> None:
    assert judge(GOOD, EXPECTED, NOW, NOW) == []
    text = screen("vpn", GOOD, EXPECTED, [])
    assert "ok: nothing to do" in text
    assert re.search(r"laptop +31 s ago \* +192\.0\.2\.7:51000 +11\.6 kB +4\.1 kB", text)
    assert re.search(r"phone +never +- +0 B +0 B", text)


@pytest.mark.parametrize(
    ("change", "level", "topic", "says"),
    [
        ({"missing": ("002_bpf", "003_ntpd")}, Level.WARN, "patches", "2 missing: 002_bpf"),
        ({"missing": None}, Level.NOTE, "patches", "not known"),
        ({"packages": ("a-1->2",)}, Level.WARN, "packages", "1 to update"),
        ({"installed": "OpenBSD 7.7 (GENERIC) #4:"}, Level.WARN, "kernel", "#4"),
        ({"release": "7.6"}, Level.WARN, "release", "runs 7.6, the project says 7.7"),
        ({"peers": (GOOD.peers or ())[:1]}, Level.WARN, "peers", "not on the server: phone"),
        (
            {"peers": (*(GOOD.peers or ()), PeerState("C" * 43 + "="))},
            Level.BAD,
            "peers",
            "not of this project: CCCCCCCC",
        ),
        ({"peers": None}, Level.BAD, "tunnel", "tells nothing"),
        ({"port": 31337}, Level.BAD, "tunnel", "on port 31337"),
        ({"pf_enabled": False}, Level.BAD, "pf", "is off"),
        ({"pf_enabled": None}, Level.BAD, "pf", "tells nothing"),
        ({"pf_states": 90_000}, Level.WARN, "pf", "90000 of 100000"),
        ({"encrypted": False, "volume": None}, Level.BAD, "encryption", "no encrypted volume"),
        ({"volume": "Degraded"}, Level.BAD, "encryption", "Degraded"),
        ({"boot_area": "b" * 64}, Level.BAD, "boot area", "has changed"),
        (
            {"files": {"/etc/pf.conf": FileState("2" * 64, "600")}},
            Level.WARN,
            "project",
            "/etc/pf.conf",
        ),
        ({"files": {"/etc/pf.conf": FileState(None, None)}}, Level.WARN, "project", "pf.conf"),
        ({"clock": int(NOW) + 300}, Level.WARN, "clock", "0:05:00 apart"),
        ({"clock": int(NOW) - 3 * 365 * 86400}, Level.BAD, "clock", "1095 days"),
        ({"failed": ("unbound",)}, Level.BAD, "services", "unbound"),
    ],
)
def test_everything_wrong_is_said_with_its_level(
    change: dict[str, object], level: Level, topic: str, says: str
) -> None:
    findings = judge(replace(GOOD, **change), EXPECTED, NOW, NOW)
    (found,) = [one for one in findings if one.level > Level.FINE]
    assert (found.level, found.topic) == (level, topic)
    assert says in found.text


def test_what_a_hand_changed_is_told_from_what_the_project_changed() -> None:
    state = replace(GOOD, files={"/etc/pf.conf": FileState("2" * 64, "600")})
    ours = judge(state, replace(EXPECTED, applied={"/etc/pf.conf": "2" * 64}), NOW, NOW)
    assert [one.topic for one in ours] == ["project"]
    theirs = judge(state, replace(EXPECTED, applied={"/etc/pf.conf": "3" * 64}), NOW, NOW)
    assert [one.topic for one in theirs] == ["changed there"]


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert judge(GOOD, EXPECTED, NOW - 5, NOW + 170) == []
    assert judge(GOOD, EXPECTED, NOW + 100, NOW + 170)[0].topic == "clock"


def test_a_release_without_support_is_bad() -> None:
    ended = Support("7.7", False, datetime.date(2026, 5, 1), "the release of 7.9")
    (found,) = judge(GOOD, replace(EXPECTED, support=ended), NOW, NOW)
    assert found.level is Level.BAD
    assert "2026-05-01" in found.text


def test_the_worst_stands_first() -> None:
    state = replace(GOOD, missing=("1",), pf_enabled=False)
    levels = [one.level for one in judge(state, EXPECTED, NOW, NOW)]
    assert levels == [Level.BAD, Level.WARN]
    assert worst(judge(state, EXPECTED, NOW, NOW)) is Level.BAD


def test_ifconfig_of_7_7_is_read() -> None:
    report = "@@time\n1571400000\n@@wireguard\n" + PEERS_77.format(first=FIRST, second=SECOND)
    state = parse_state((report + "@@end\n").encode())
    assert state.port == 51820
    assert state.peers == (
        PeerState(FIRST, "192.0.2.7:51000", 31, 11640, 4092, ("10.0.0.2/32", "fd00::2/128")),
        PeerState(SECOND, "[2001:db8::9]:53", None, 148, 0, ("10.0.0.3/32",)),
    )


@pytest.mark.parametrize("report", [b"", b"\xff\xfe", b"@@time\n1\n", b"doas: Operation denied\n"])
def test_what_is_no_report_is_refused(report: bytes) -> None:
    with pytest.raises(StateError, match="cut off or not one"):
        parse_state(report)


@given(st.lists(st.text(alphabet="abc@=0 19>-\t\n/", max_size=40), max_size=30))
def test_any_section_may_hold_anything(lines: list[str]) -> None:
    names = ["boot", "wireguard", "pf", "disks", "files", "missing", "packages", "softraid"]
    text = "@@time\n5\n"
    for number, line in enumerate(lines):
        text += f"@@{names[number % len(names)]}\n{line}\n"
    state = parse_state((text + "@@end\n").encode())
    screen("vpn", state, EXPECTED, judge(state, EXPECTED, NOW, NOW))


def test_what_a_server_says_cannot_move_the_cursor() -> None:
    report = b"@@time\n5\n@@release\n\x1b[2J7.7\n@@failed\na\x1b]0;x\x07b\n@@end\n"
    state = parse_state(report)
    text = screen("vpn", state, EXPECTED, judge(state, EXPECTED, NOW, NOW))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_text_format_of_prometheus_is_well_formed() -> None:
    state = replace(GOOD, peers=(PeerState('x"\\' + "A" * 40, "1.2.3.4:5", 7, 1, 2),))
    text = prometheus('v"pn', state, EXPECTED, judge(state, EXPECTED, NOW, NOW))
    assert text.endswith("\n")
    families = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.add(line.split()[2])
            assert line.split()[3] in ("gauge", "counter")
        elif not line.startswith("#"):
            good = re.fullmatch(
                r'(\w+)\{(\w+="(?:[^"\\\n]|\\["\\n])*",?)+\} -?[0-9.]+(?:e[+-]?\d+)?', line
            )
            assert good, line
            assert good[1] in families
    assert (
        'obsdimg_peer_handshake_age_seconds{server="v\\"pn",peer="unknown-x\\"\\\\AAAAA"} 7' in text
    )


def test_json_holds_what_the_screen_holds() -> None:
    findings = judge(replace(GOOD, pf_enabled=False), EXPECTED, NOW, NOW)
    value = json.loads(json.dumps(as_dict("vpn", GOOD, EXPECTED, findings), default=str))
    assert value["level"] == "bad"
    assert value["peers"][0]["handshake_seconds_ago"] == 31
    assert value["up_seconds"] == 3 * 86400


@pytest.mark.parametrize("shell", ["mksh", "lksh"])
def test_the_script_runs_under_a_ksh_and_reports_the_boot_area(tmp_path: Path, shell: str) -> None:
    """A disk in a file: what is in clear is hashed, softraid's own notes are not."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is missing")
    programs = install(tmp_path)
    disk = tmp_path / "rsd0c"
    (tmp_path / "bioctl").write_text(
        "Volume      Status               Size Device  \n"
        "softraid0 0 Online         8587160064 sd1     CRYPTO \n"
        "          0 Online         8587160064 0:0.0   noencl <sd0a>\n"
    )
    (tmp_path / "disklabel").write_text(
        "# /dev/rsd0c:\ntype: SCSI\n"
        "#                size           offset  fstype [fsize bsize   cpg]\n"
        "  a:         16771797               64    RAID                    \n"
        "  c:         16777216                0  unused                    \n"
        "  i:              960               800  MSDOS                    \n"
    )
    script = remote_script("asking.sh", "wireguard.sh", "bootarea.sh", "status.sh").replace(
        "/dev/r${disk}c", str(disk)
    )
    assert str(disk) in script
    script = f"interface=tun0 backend=wireguard-go updates=yes seconds=5 files='{disk}'\n{script}"

    def area(change: int | None = None) -> str | None:
        image = bytearray(bytes(range(256)) * 8192)
        if change is not None:
            image[change * 512] ^= 1
        disk.write_bytes(image)
        done = subprocess.run(
            [shell, "-s"],
            input=script.encode(),
            capture_output=True,
            timeout=60,
            env={"PATH": f"{programs}:/usr/bin:/bin", "T": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        state = parse_state(done.stdout)
        assert state.volume == "Online"
        assert state.booted == 1571313600
        assert state.missing == ()
        assert state.packages == ("unbound-1.9.3->1.9.4", "wireguard-go-0.0.1->0.0.2")
        assert state.patches == ("001_unbound",)
        assert state.disks[1].mounted == "/var"
        assert state.files[str(disk)].mode == "644"
        return state.boot_area

    first = area()
    assert first is not None
    assert len(first) == 64
    for sector in (0, 64, 79, 144, 591, 1759):
        assert area(sector) != first, sector
    for sector in (80, 143, 592):
        assert area(sector) == first, sector


@pytest.mark.parametrize("shell", ["mksh", "lksh"])
def test_a_mirror_that_does_not_answer_holds_nothing_up(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is missing")
    programs = install(tmp_path)
    (programs / "syspatch").write_text("#!/bin/sh\n[ $1 = -c ] && exec sleep 30\n")
    (programs / "pkg_add").write_text("#!/bin/sh\nexit 2\n")
    script = remote_script("asking.sh", "wireguard.sh", "bootarea.sh", "status.sh")
    script = f"interface=tun0 backend=wg updates=yes seconds=1 files=\n{script}"
    done = subprocess.run(
        [shell, "-s"],
        input=script.encode(),
        capture_output=True,
        timeout=20,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )
    state = parse_state(done.stdout)
    assert state.missing is None
    assert state.packages is None


@pytest.mark.parametrize("shell", ["mksh", "lksh"])
def test_a_mirror_that_answers_is_not_waited_for_any_longer(shell: str) -> None:
    """In a pipe and in a substitution, as the scripts ask; once each took the whole limit."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is missing")
    text = remote_script("asking.sh", seconds="120")
    asked = (
        'limited echo one | cat; x=$(limited echo two); echo "$x"; limited sh -c "exit 3"; echo $?'
    )
    done = subprocess.run(
        [shell, "-s"], input=f"{text}\n{asked}\n", capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["one", "two", "3"]
