"""The genuine 6.6 installer, rehearsed; then broken on purpose, each break with its verdict."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from obsdimg.rehearsal import (
    Dhcp,
    MachineDisk,
    MachineNic,
    Operator,
    RehearsalLimits,
    RehearsalVerdict,
    Reply,
)
from obsdimg.response.check import simulate
from obsdimg.response.matching import read_lines
from obsdimg.response.questions import Circumstances, Interface, expand, load
from support.rehearsal_stage import RESPONSE, Stage, make_stage, tgz

pytestmark = pytest.mark.media


@pytest.fixture
def stage() -> Stage:
    return make_stage()


def test_it_installs_and_the_questions_are_those_of_the_table(stage: Stage) -> None:
    result = stage.run()
    assert result.verdict is RehearsalVerdict.INSTALLED, result.transcript
    scenario = Circumstances(hostname="gw", user="admin", dhcp_nameservers=True)
    predicted = simulate(read_lines(RESPONSE.encode()), expand(load("66"), scenario))
    asked = [(q.text, q.answer, q.line) for q in result.questions]
    assert asked == [
        (a.question.text, a.shown, a.line.number if a.line else None) for a in predicted.answers
    ]
    assert result.unused == ()


def test_every_set_is_verified_and_nothing_is_waived(stage: Stage) -> None:
    result = stage.run()
    assert result.signature == "verified"
    installed = {s.name: s for s in result.sets if s.installed}
    assert set(installed) == {"bsd", "bsd.rd", "base66.tgz", "site66.tgz"}
    assert all(s.sha256 == s.listed for s in installed.values())
    assert "without verification" not in result.transcript


def test_disk_actions_come_in_order(stage: Stage) -> None:
    result = stage.run()
    programs = list(dict.fromkeys(a.program for a in result.actions))
    assert programs == ["fdisk", "disklabel", "newfs", "mount", "installboot"]


def test_files_of_the_site_set_are_shown_as_they_land(stage: Stage) -> None:
    site = {
        "install.site": (0o755, b"#!/bin/ksh\nchmod 640 /etc/a; chown root:_unbound /etc/a\n"),
        "etc/a": (0o600, b"a"),
        "etc/b": (0o4755, b"bb"),
    }
    stage.sets["site66.tgz"] = tgz(site)
    landed = {f.path: (f.mode, f.owner, f.size, f.gone) for f in stage.run().files}
    assert landed["/etc/a"] == (0o640, "root:_unbound", 1, False)
    assert landed["/etc/b"] == (0o4755, "0:0", 2, False)
    assert landed["/install.site"][3] is False


def test_install_site_runs_in_the_new_system(stage: Stage) -> None:
    result = stage.run()
    assert result.site_output.splitlines() == [
        "site: gw.example.com on OpenBSD",
        "site: awk is here",
    ]
    assert [f.path for f in result.files if f.gone] == ["/install.site"]


def test_a_serial_console_asks_for_the_terminal_and_offers_com0(stage: Stage) -> None:
    stage.machine = replace(stage.machine, serial=True, speed=115200)
    result = stage.run()
    asked = {q.text: q.answer for q in result.questions}
    assert asked["Terminal type?"] == "vt220"
    assert asked["Change the default console to com0?"] == "yes"
    assert asked["Which speed should com0 use?"] == "115200"
    assert result.passed


def test_two_interfaces_and_static_addresses_ask_what_the_table_says(stage: Stage) -> None:
    stage.machine = replace(
        stage.machine, nics=(MachineNic("vio0", dhcp=None), MachineNic("vio1", dhcp=None))
    )
    text = RESPONSE.replace(
        "IPv4 address for vio0 = dhcp\nIPv6 address for vio0 = none\n",
        "IPv4 address for vio0 = 192.0.2.2/24\nIPv6 address for vio0 = 2001:db8::2/64\n"
        "Which network interface do you wish to configure = vio1\n"
        "IPv4 address for vio1 = 172.16.1.3\nNetmask for vio1 = 255.255.255.0\n"
        "Default IPv4 route = 192.0.2.1\nIPv6 default router = 2001:db8::1\n",
    )
    stage.answer(text)
    result = stage.run()
    scenario = Circumstances(
        hostname="gw",
        user="admin",
        machine_interfaces=("vio0", "vio1"),
        interfaces=(
            Interface("vio0", "static", "static"),
            Interface("vio1", "static", "none", v4_prefix=False),
        ),
    )
    predicted = simulate(read_lines(text.encode()), expand(load("66"), scenario))
    assert result.passed, result.transcript
    assert [(q.text, q.answer) for q in result.questions] == [
        (a.question.text, a.shown) for a in predicted.answers
    ]


def test_a_dhcp_server_that_names_the_domain_saves_two_questions(stage: Stage) -> None:
    stage.machine = replace(
        stage.machine, nics=(MachineNic("vio0", dhcp=Dhcp(domain="example.net")),)
    )
    stage.answer(RESPONSE.replace("DNS domain name = example.com\n", ""))
    result = stage.run()
    assert "Using DNS domainname example.net" in result.transcript
    assert not [q for q in result.questions if q.text.startswith("DNS ")]
    assert result.passed


def broken_missing(stage: Stage) -> None:
    stage.answer(RESPONSE.replace("System hostname = gw\n", ""))


def broken_misspelt(stage: Stage) -> None:
    stage.answer(RESPONSE.replace("System hostname", "System hostnam"))


def broken_misspelt_with_a_default(stage: Stage) -> None:
    stage.answer(RESPONSE + "Start sshd(8) by defalt = no\n")


def broken_newline(stage: Stage) -> None:
    stage.answer(RESPONSE.rstrip("\n"))


def broken_answer(stage: Stage) -> None:
    stage.answer(RESPONSE + "Start sshd(8) by default = perhaps\n")


def broken_flipped_byte(stage: Stage) -> None:
    stage.damaged = "base66.tgz"


def broken_flipped_byte_in_the_site_set(stage: Stage) -> None:
    stage.damaged = "site66.tgz"


def broken_signature(stage: Stage) -> None:
    other = stage.key.generate().public().text
    stage.put("/etc/signify/openbsd-66-base.pub", other)


def broken_unsigned(stage: Stage) -> None:
    stage.signed = False


def broken_no_site_set(stage: Stage) -> None:
    del stage.sets["site66.tgz"]


def broken_site_set_not_selected(stage: Stage) -> None:
    stage.answer(RESPONSE.replace(" +site*", ""))


def broken_full_disk(stage: Stage) -> None:
    stage.sets["site66.tgz"] = tgz({"home/big": (0o644, bytes(30 << 20))})
    stage.machine = replace(stage.machine, disks=(MachineDisk(24 << 20),))


def broken_unknown_question(stage: Stage) -> None:
    stage.edit("/install.sub", "\tuser_setup\n", '\task "Do you like cheese?" yes\n\tuser_setup\n')


def broken_hook(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "[[ $MODE == install ]] && exit 1")


def broken_endless_loop(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "[[ $MODE == install ]] && while :; do :; done")


def broken_endless_output(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "while :; do print -r -- $PATH$PATH$PATH; done")


def broken_install_site(stage: Stage) -> None:
    stage.sets["site66.tgz"] = tgz({"install.site": (0o755, b"#!/bin/ksh\nexit 3\n")})


def broken_waiting(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "$AI && read x?'Colour of the sky? '")


def broken_program_missing_in_the_ramdisk(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "ls / | awk '{ print }'")


def broken_refused(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "fdisk -u sd0")


def broken_refused_option(stage: Stage) -> None:
    stage.edit("/install.md", "MDXAPERTURE=2", "ls --color=never /")


def broken_no_response_file(stage: Stage) -> None:
    del stage.tree["/auto_install.conf"]


def broken_no_disk(stage: Stage) -> None:
    stage.answer(RESPONSE + "Which disk is the root disk = sd7\n")


def broken_template(stage: Stage) -> None:
    stage.answer(RESPONSE + "URL to autopartitioning template = file:///none\n")


def broken_directory(stage: Stage) -> None:
    stage.answer(RESPONSE + "Pathname to the sets = 6.7/amd64\n")


BROKEN = [
    (broken_missing, RehearsalVerdict.NO_ANSWER, "system hostname"),
    (broken_misspelt, RehearsalVerdict.NO_ANSWER, "system hostname"),
    (broken_misspelt_with_a_default, RehearsalVerdict.UNUSED_LINE, "line 16"),
    (broken_newline, RehearsalVerdict.UNTERMINATED_LINE, "newline"),
    (broken_answer, RehearsalVerdict.BAD_ANSWER, "perhaps"),
    (broken_flipped_byte, RehearsalVerdict.BAD_CHECKSUM, "base66.tgz"),
    (broken_flipped_byte_in_the_site_set, RehearsalVerdict.BAD_CHECKSUM, "site66.tgz"),
    (broken_signature, RehearsalVerdict.BAD_SIGNATURE, "signed by another key"),
    (broken_unsigned, RehearsalVerdict.BAD_SIGNATURE, "does not contain SHA256.sig"),
    (broken_no_site_set, RehearsalVerdict.NO_SITE_SET, "site set"),
    (broken_site_set_not_selected, RehearsalVerdict.NO_SITE_SET, "site set"),
    (broken_full_disk, RehearsalVerdict.DISK_FULL, "site66.tgz"),
    (broken_unknown_question, RehearsalVerdict.UNKNOWN_QUESTION, "Do you like cheese?"),
    (broken_hook, RehearsalVerdict.HOOK_FAILED, "before the first question"),
    (broken_endless_loop, RehearsalVerdict.TIME_LIMIT, ""),
    (broken_endless_output, RehearsalVerdict.TIME_LIMIT, "endless output"),
    (broken_install_site, RehearsalVerdict.SITE_SCRIPT_FAILED, "install.site"),
    (broken_waiting, RehearsalVerdict.WAITING, "Colour of the sky?"),
    (broken_program_missing_in_the_ramdisk, RehearsalVerdict.MISSING_PROGRAM, "awk"),
    (broken_refused, RehearsalVerdict.REFUSED, "fdisk -u sd0"),
    (broken_refused_option, RehearsalVerdict.REFUSED, "--color"),
    (broken_no_response_file, RehearsalVerdict.NO_AUTOINSTALL, "menu"),
    (broken_no_disk, RehearsalVerdict.BAD_ANSWER, "no such disk"),
    (broken_template, RehearsalVerdict.DISK_LAYOUT, "template"),
    (broken_directory, RehearsalVerdict.BAD_ANSWER, "6.7/amd64"),
]


@pytest.mark.parametrize(
    ("fault", "verdict", "message"), BROKEN, ids=[case[0].__name__ for case in BROKEN]
)
def test_each_fault_has_its_own_verdict(
    stage: Stage, fault: Callable[[Stage], None], verdict: RehearsalVerdict, message: str
) -> None:
    fault(stage)
    result = stage.run(limits=RehearsalLimits(20.0, 2.0))
    assert result.verdict is verdict, f"{result.verdict}: {result.message}\n{result.transcript}"
    assert message in result.message


def test_the_operator_is_asked_in_the_outer_process_and_the_answer_is_masked(stage: Stage) -> None:
    stage.put(
        "/hook.sh",
        """
if $AI && [[ -z $AI_RESPFILE && $PROGNAME == autoinstall && $UU == false ]]; then
	stty -echo
	IFS= read -r secret?"Secret word: "
	stty echo
	print
	export SECRET=$secret
elif [[ $MODE == install ]]; then
	print -r -- "inner: $SECRET"
	print "Start sshd(8) by default = no" >>$AI_RESPFILE
fi
""",
    )
    stage.edit("/install.md", "MDXAPERTURE=2", "MDXAPERTURE=2\n. /hook.sh")
    stage.operator = Operator((Reply("Secret word: ", "open sesame", secret=True, times=1),))
    result = stage.run()
    assert result.passed, result.transcript
    assert "inner: ********" in result.transcript
    assert "open sesame" not in str(result)
    added = [q for q in result.questions if q.line == 0]
    assert [q.answer for q in added] == ["no"]


def test_nothing_is_left_behind_and_nothing_gets_out(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    marker = tmp_path.parent / "escaped"
    script = f"""#!/bin/ksh
[[ -e {marker.parent} ]] && print "the host is visible"
{{ print x >{marker}; }} 2>/dev/null && print "written"
{{ print x >/../../../../../../..{marker}; }} 2>/dev/null && print "written upwards"
(sleep 1000 </dev/null >/dev/null 2>&1 &)
[[ -d /proc/1 ]] && print "host processes"
rm -f /install.site
"""
    stage.sets["site66.tgz"] = tgz({"install.site": (0o755, script.encode())})
    result = stage.run()
    assert result.passed, result.transcript
    assert result.site_output == ""
    assert list(tmp_path.iterdir()) == []
    assert not marker.exists()
    assert not _processes_mentioning(str(tmp_path))


def _processes_mentioning(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if word in line and "pytest" not in line:
                found.append(line)
    return found


def test_links_in_a_site_set_cannot_lead_the_rehearsal_out(stage: Stage, tmp_path: Path) -> None:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        link = tarfile.TarInfo("etc/out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        inside = tarfile.TarInfo("etc/out/planted")
        inside.size = 1
        archive.addfile(inside, io.BytesIO(b"x"))
        up = tarfile.TarInfo("../../../../../../.." + str(tmp_path / "up"))
        up.size = 1
        archive.addfile(up, io.BytesIO(b"x"))
    stage.sets["site66.tgz"] = stream.getvalue()
    stage.run(limits=RehearsalLimits(20.0))
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_takes_less_than_five_seconds_of_processor_time(stage: Stage) -> None:
    before = os.times()
    assert stage.run().passed
    after = os.times()
    assert sum(after[:4]) - sum(before[:4]) < 5
