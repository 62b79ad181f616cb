"""The genuine installers of later releases, from source trees (OBSDIMG_SRC77, OBSDIMG_SRC78)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from obsdimg.rehearsal import (
    Dhcp,
    MachineDisk,
    MachineNic,
    Rehearsal,
    RehearsalLimits,
    RehearsalVerdict,
)
from support.rehearsal_stage import Stage, make_source_stage

ENCRYPT = """\
Encrypt the root disk with a (p)assphrase or (k)eydisk = passphrase
New passphrase = a long and secret one
Use (W)hole disk = whole
"""


@pytest.fixture(params=["77", "78"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return make_source_stage(request.param)


def play(stage: Stage, change: Callable[[str], str] = str, **machine: object) -> Rehearsal:
    stage.machine = replace(stage.machine, **machine)  # type: ignore[arg-type]
    stage.answer(change(stage.tree["/auto_install.conf"].data.decode()))
    return stage.run(limits=RehearsalLimits(90.0, 15.0))


def gpt(text: str) -> str:
    return text.replace("(W)hole disk = whole", "(W)hole disk = gpt")


def done_to_disks(result: Rehearsal) -> list[tuple[str, str, str]]:
    wanted = ("fdisk", "bioctl", "installboot")
    return [(a.program, a.target, a.detail) for a in result.actions if a.program in wanted]


def test_it_installs_with_a_bios_and_dhcp(stage: Stage) -> None:
    result = play(stage)
    assert result.verdict is RehearsalVerdict.INSTALLED, result.transcript
    assert result.signature == "verified"
    assert all(s.sha256 == s.listed for s in result.sets if s.installed)
    assert all(q.known for q in result.questions)
    assert "fw_update: a rehearsal fetches no firmware" in result.transcript
    assert done_to_disks(result) == [
        ("fdisk", "sd0", "MBR, one OpenBSD partition"),
        ("installboot", "sd0", "boot loader for sd0, boot blocks"),
    ]


def test_with_one_dhcp_interface_the_domain_is_not_asked_and_is_my_domain(stage: Stage) -> None:
    result = play(stage)
    assert not [q for q in result.questions if q.text.startswith("DNS ")]
    assert "site: gw.my.domain on OpenBSD" in result.site_output
    assert "Using DNS nameservers at 10.0.2.3" in result.transcript
    assert [number for number, text in result.unused if text.startswith("DNS domain name")] == [5]


def test_a_dhcp_server_that_names_the_domain_is_heard(stage: Stage) -> None:
    nics = (MachineNic("vio0", dhcp=Dhcp(domain="corp.example")),)
    assert "site: gw.corp.example on OpenBSD" in play(stage, nics=nics).site_output


def test_without_an_answer_from_dhcp_the_route_is_asked_and_has_no_default(stage: Stage) -> None:
    nics = (MachineNic("vio0", dhcp=None),)
    result = play(stage, nics=nics)
    assert result.verdict is RehearsalVerdict.NO_ANSWER
    assert "default ipv4 route?" in result.message
    assert "No dhcp address on interface vio0 in 30 seconds." in result.transcript
    answered = play(stage, lambda text: text + "Default IPv4 route = none\n", nics=nics)
    assert answered.verdict is RehearsalVerdict.INSTALLED, answered.transcript


def test_a_static_address_installs(stage: Stage) -> None:
    def static(text: str) -> str:
        text = text.replace("for vio0 = autoconf", "for vio0 = 192.0.2.2/24")
        text = text.replace("for vio0 = none", "for vio0 = 2001:db8::2/64")
        text += "Default IPv4 route = 192.0.2.1\nIPv6 default router = 2001:db8::1\n"
        return text + "DNS nameservers = 9.9.9.9\n"

    result = play(stage, static, nics=(MachineNic("vio0", dhcp=None),))
    assert result.verdict is RehearsalVerdict.INSTALLED, result.transcript
    assert "site: gw.example.com on OpenBSD" in result.site_output


def test_uefi_with_a_gpt_installs_and_with_an_mbr_would_not_start(stage: Stage) -> None:
    good = play(stage, gpt, efi=True)
    assert good.verdict is RehearsalVerdict.INSTALLED, good.transcript
    assert done_to_disks(good)[-1] == ("installboot", "sd0", "boot loader for sd0, EFI loaders")
    bad = play(stage, lambda text: text.replace("disk = gpt", "disk = whole"), efi=True)
    assert bad.verdict is RehearsalVerdict.DISK_LAYOUT
    assert "no EFI System partition" in bad.message


def test_a_bios_with_a_new_acpi_prefers_a_gpt_and_then_fails(stage: Stage) -> None:
    result = play(stage, gpt, acpi="5.1")
    assert "[gpt] gpt" in result.transcript
    assert result.verdict is RehearsalVerdict.DISK_LAYOUT
    assert "installboot: open: Device not configured" in result.transcript


@pytest.mark.parametrize("efi", [False, True])
def test_its_own_encryption_asks_twice_for_the_layout(stage: Stage, efi: bool) -> None:
    result = play(stage, lambda text: (gpt(text) if efi else text) + ENCRYPT, efi=efi)
    assert result.verdict is RehearsalVerdict.INSTALLED, result.transcript
    found = done_to_disks(result)
    assert [target for _, target, _ in found] == ["sd0", "sd0a", "sd1", "sd1"]
    assert found[-1][2].endswith("EFI loaders on sd0" if efi else "boot blocks on sd0")
    assert "a long and secret one" not in str(result)


def test_several_processors_and_a_serial_console(stage: Stage) -> None:
    stage.sets["bsd.mp"] = b"a kernel for several processors"
    result = play(stage, cpus=2, serial=True, speed=115200)
    asked = {q.text: q.answer for q in result.questions}
    assert asked["Change the default console to com0?"] == "yes"
    assert result.passed, result.transcript


def test_an_upgrade_is_looked_for_first_and_not_found(stage: Stage) -> None:
    """`/autoinstall -x` (7.7) or `/upgrade -ax` (7.8) before the menu, on a disk with a system."""
    result = play(stage, disks=(MachineDisk(contents="openbsd"),))
    assert "Performing non-interactive install" in result.transcript
    assert "Performing non-interactive upgrade" not in result.transcript
