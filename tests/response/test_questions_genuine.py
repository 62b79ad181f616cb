"""The tables of questions against the genuine installers: text by text, and run.

Only where OBSDIMG_SRC66, 67, 68, 77 and 78 name source trees of those releases (tests/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest

from obsdimg.config.load import parse
from obsdimg.core.secret import Secret
from obsdimg.image.inputs import BuildInputs
from obsdimg.image.plan import BuildPlan, plan_build
from obsdimg.image.write import ramdisk_files, site_files
from obsdimg.rehearsal import (
    MachineChanges,
    RamdiskNode,
    Rehearsal,
    RehearsalLimits,
    RehearsalVerdict,
    likely_machine,
)
from obsdimg.rehearsal.machine import PASSPHRASE
from obsdimg.releases.release import load_release
from obsdimg.response.check import simulate
from obsdimg.response.hook import hooked
from obsdimg.response.install_conf import hook_lines, scenario
from obsdimg.response.matching import read_lines
from obsdimg.response.questions import expand, load
from obsdimg.response.script import asked_by
from obsdimg.site.files import site_set
from support.rehearsal_stage import Stage, dotted, make_source_stage
from support.site_fixtures import keys_for
from support.source_tree import installer_scripts

RELEASES = ("66", "67", "68", "77", "78")
EPOCH = 1_570_838_400
PATTERN = re.compile(r"\{\w*\}")

ELSEWHERE = (
    # looking for a response file, which lies in the ramdisk; the menu at the end
    "Which network interface should be used for the initial DHCP request?",
    "Response file location?",
    "(I)nstall or (U)pgrade?",
    "Exit to (S)hell, (H)alt or (R)eboot?",
    # upgrades, and file systems that are there already
    "Force checking of clean non-root filesystems?",
    "Continue anyway?",
    # a wireless network
    "Access point? (ESSID, 'any', list# or '?')",
    "Security protocol? (O)pen*",
    "WEP key?*",
    "WPA passphrase?*",
    # sets from elsewhere than the CD
    "HTTP *",
    "Unable to connect using https. Use http instead?",
    "Server directory?",
    "Server IP address or hostname?",
    "Filesystem on server to mount?",
    "Use TCP transport? (requires TCP-capable NFS server)",
    "Is the disk partition already mounted?",
    "Which disk contains the {} media?",
    "Which {} partition has the {} sets?",
    # of a medium that cannot be read, or a machine without room for the sets' check
    "Cannot fetch SHA256.sig. Continue without verification?",
    "Cannot create prefetch area. Continue without verification?",
    "Cannot determine prefetch area. Continue without verification?",
    # asked of a person only
    "IPv6 default router? (IPv6 address, list#, 'none' or '?')",
)
"""Questions of the scripts that an unattended installation from our CD never meets."""

SETTINGS = {
    "encrypted": """
[access.admin]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one"]
[disk]
random_fill = false
rounds = 16
""",
    "plain": """
[host]
name = "gw"
domain = "corp.example"
console = "com0"
[access]
sshd = false
[network]
ipv4 = "192.0.2.2/24"
gateway4 = "192.0.2.1"
ipv6 = "2001:db8::2/64"
gateway6 = "fe80::1"
dns = ["9.9.9.9"]
[[network.interfaces]]
name = "vio1"
ipv4 = "172.16.1.3/24"
[disk]
encryption = "none"
""",
    "two cards with DHCP": """
[network]
dns = ["9.9.9.9"]
ipv6 = "autoconf"
[[network.interfaces]]
name = "vio1"
[disk]
encryption = "none"
""",
}
TUNNEL = """
[tunnel]
endpoint = "vpn.example.net"
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
[packages]
carry = false
"""


def pattern(text: str) -> re.Pattern[str]:
    """`text` with anything in the place of each `{}` or `{name}`."""
    return re.compile(".+".join(map(re.escape, PATTERN.split(text))))


def same(one: str, other: str) -> bool:
    """Whether two texts with open places can be the same question."""
    return bool(
        pattern(one).fullmatch(PATTERN.sub("x", other))
        or pattern(other).fullmatch(PATTERN.sub("x", one))
    )


@pytest.mark.parametrize("digits", RELEASES)
def test_every_question_of_the_table_stands_in_the_script(digits: str) -> None:
    script = {question.text for question in asked_by(installer_scripts(digits))}
    built = {"Unverified sets: {site_set}. Continue without verification?"}  # of pieces, by `:=`
    missing = [
        question.text
        for question in load(digits)
        if question.text not in built and not any(same(question.text, text) for text in script)
    ]
    assert missing == []


@pytest.mark.parametrize("digits", RELEASES)
def test_every_question_of_the_script_is_in_the_table_or_never_met(digits: str) -> None:
    table = [question.text for question in load(digits)]
    unknown = [
        f"{question.function}:{question.line}: {question.text}"
        for question in asked_by(installer_scripts(digits))
        if not any(same(text, question.text) for text in table)
        and not any(fnmatchcase(question.text, _literal(one)) for one in ELSEWHERE)
    ]
    assert unknown == []


def _literal(text: str) -> str:
    """For fnmatch: only an asterisk at the end stands for anything."""
    return re.sub(r"[\[?]", r"[\g<0>]", text)


def plan_for(digits: str, settings: str) -> BuildPlan:
    release = load_release(dotted(digits))
    text = f'[release]\nversion = "{release.version}"\n{settings}{TUNNEL}'
    config = parse(text.encode())
    return plan_build(BuildInputs(config, "", release, release.port("amd64"), keys_for(config)))


def play(digits: str, plan: BuildPlan, changes: MachineChanges, acpi: str) -> Rehearsal:
    """The genuine installer with what a build puts into the ramdisk and on the CD."""
    stage: Stage = make_source_stage(digits)
    secret = Secret(PASSPHRASE)
    stage.key = plan.inputs.keys.image
    stage.tree["/install.md"] = RamdiskNode("file", 0o644, hooked(stage.tree["/install.md"].data))
    for entry in ramdisk_files(plan, secret):
        stage.tree[entry.path] = RamdiskNode("file", entry.mode, entry.data)
    stage.sets[f"site{digits}.tgz"] = site_set(site_files(plan, secret, EPOCH), EPOCH)
    machine = changes.applied(likely_machine(plan.response.data, stage.machine))
    stage.machine = replace(machine, acpi=acpi, aperture=True)
    return stage.run(limits=RehearsalLimits(120.0, 30.0))


WORLDS = {
    "bios": (MachineChanges(), "1.0", {}),
    "bios, ACPI 5": (MachineChanges(), "5.1", {"acpi5": True}),
    "uefi": (MachineChanges(efi=True), "1.0", {"efi": True, "aperture": False}),
    "no DHCP": (MachineChanges(dhcp=False), "1.0", {"dhcp_answers": False}),
}


PLAYED = (
    ("encrypted", "bios"),
    ("plain", "uefi"),
    ("two cards with DHCP", "no DHCP"),
)
LATER = (("encrypted", "uefi"), ("two cards with DHCP", "bios, ACPI 5"))
"""Where 7.7 and later decide in their own way."""


def cases() -> Iterator[tuple[str, str, str]]:
    for digits in RELEASES:
        for settings, world in PLAYED + (LATER if digits >= "77" else ()):
            yield digits, settings, world


@pytest.mark.slow(reason="each runs a whole installer, 19 in all: minutes")
@pytest.mark.parametrize(("digits", "settings", "world"), list(cases()))
def test_the_genuine_script_asks_what_check_says_in_this_order(
    digits: str, settings: str, world: str
) -> None:
    plan = plan_for(digits, SETTINGS[settings])
    changes, acpi, circumstances = WORLDS[world]
    result = play(digits, plan, changes, acpi)
    assert result.verdict is RehearsalVerdict.INSTALLED, result.message + result.transcript[-3000:]
    config, release = plan.inputs.config, plan.inputs.release
    here = scenario(config, release, plan.inputs.port, template=False)
    here = replace(here, **circumstances)  # type: ignore[arg-type]
    lines = (*read_lines(plan.response.data), *hook_lines(config, here))
    predicted = simulate(lines, expand(load(digits), here)).answers
    assert [(q.text, q.answer) for q in result.questions] == [
        (a.question.text, a.shown) for a in predicted
    ]
    for asked, said in zip(result.questions, predicted, strict=True):
        if asked.default and asked.line is None:
            assert asked.default == said.question.default
