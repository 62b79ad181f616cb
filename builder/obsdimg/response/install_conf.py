"""The response file of a configuration, and the check that every line of it is used.

Pure.  The installer's own matching (matching.py) decides what each question gets; the answer
that the ramdisk hook adds while it runs (the root disk) is simulated as a line numbered 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

from obsdimg.config import Config
from obsdimg.config.types import LOGIN_DISABLED
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.templates import render
from obsdimg.releases.release import Port, Release
from obsdimg.response import questions
from obsdimg.response.check import Answered, Simulation, lint, simulate
from obsdimg.response.matching import Line, read_lines


class ResponseError(ObsdimgError):
    """The response file would not do what the configuration says."""


@dataclass(frozen=True)
class CheckedResponse:
    """The response file's bytes, what every question gets, and remarks that are no errors."""

    data: bytes
    simulation: Simulation
    remarks: tuple[str, ...]
    elsewhere: tuple[tuple[str, Answered], ...] = ()
    """What is asked on other machines only, with the circumstance."""


def response_file(config: Config, release: Release, port: Port, template: bool) -> bytes:
    """The bytes of install.conf; `template`: an autopartitioning template is in the ramdisk.

    Everybody who has the ISO can read it, so it says what the installer cannot do without and
    no more: install.site does the rest.
    """
    network = config.network
    return render(
        "response",
        "install.conf.j2",
        version=release.version,
        network_question=release.installer.network_question,
        host=config.host,
        serial=config.host.console == "com0",
        network=network,
        gateway4=network.gateway4,
        gateway6=_scoped(network.gateway6, network.interface),
        native_encryption=release.installer.native_encryption and config.disk.encryption == "none",
        dns=[str(a) for a in network.dns],
        login_disabled=LOGIN_DISABLED,
        sshd=config.access.sshd,
        template=template,
        sets_path=port.directory,
        set_names=[*(f"-{pattern}" for pattern in config.sets.leave_out), "+site*"],
        extra=config.answers,
    )


OWN_ANSWERS = "# From [[answers]]."
"""The comment above the user's own lines (response/install.conf.j2)."""

WORLDS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("", {}),
    ("nobody answers DHCP", {"dhcp_answers": False}),
    ("DHCP gives no route", {"dhcp_route": False}),
    ("UEFI starts it", {"efi": True, "aperture": False}),
    ("nobody answers DHCP, UEFI starts it", {"dhcp_answers": False, "efi": True}),
    ("it has no screen", {"display": False, "aperture": False}),
)
"""Machines on which the installation must go through, and what is another there."""


def check_response(config: Config, release: Release, port: Port, template: bool) -> CheckedResponse:
    """Render, and let the installer's matching answer every question of that release, in every
    world.

    Raises ResponseError for a question without an answer, an answer the installer refuses, or
    a line that no question of that release takes.
    """
    data = response_file(config, release, port, template)
    table = questions.load(release.question_table)
    usual = scenario(config, release, port, template)
    known = questions.expand_all(table, usual)
    lines = read_lines(data)
    simulations: list[tuple[str, Simulation]] = []
    asked: list[questions.AskedQuestion] = []
    for world, changes in WORLDS:
        about_dhcp = {"dhcp_answers", "dhcp_route"} & set(changes)
        if about_dhcp and not any(i.v4 == "dhcp" for i in usual.interfaces):
            continue
        situation = replace(usual, **changes)  # type: ignore[arg-type]
        here = questions.expand(table, situation)
        simulation = simulate((*lines, *hook_lines(config, situation)), here)
        for answered in simulation.answers:
            if answered.value is None or answered.problem:
                where = f" (where {world})" if world else ""
                raise ResponseError(
                    f"the installer's question {answered.question.text!r}{where}:"
                    f" {answered.problem}",
                    "answer it in [[answers]], or correct the setting it comes from",
                )
        simulations.append((world, simulation))
        asked += [q for q in here if q.text not in {a.text for a in asked}]
    # Of the generated lines more may stand there than this machine asks for; the user's own
    # should each be of use somewhere.
    own = next((n for n, ln in enumerate(lines, 1) if ln.text == OWN_ANSWERS), len(lines))
    never = set.intersection(*({ln.number for ln in s.unused} for _, s in simulations))
    problems = [
        p
        for p in lint(data, asked, known)
        if p.severity == "error" or (p.line > own and p.line in never)
    ]
    for problem in problems:
        if problem.severity == "error":
            raise ResponseError(
                f"install.conf:{problem.line}: {problem.message}",
                problem.hint or "correct the entry in [[answers]]",
            )
    first = simulations[0][1]
    seen = {answered.question.text for answered in first.answers}
    elsewhere = []
    for world, simulation in simulations[1:]:
        for answered in simulation.answers:
            if answered.question.text not in seen:
                seen.add(answered.question.text)
                elsewhere.append((world, answered))
    remarks = tuple(p.message for p in problems)
    return CheckedResponse(data, first, remarks, tuple(elsewhere))


def hook_lines(config: Config, situation: questions.Circumstances) -> tuple[Line, ...]:
    """What the encryption step appends to the response file on such a machine (obsdimg.sh)."""
    plain_uefi = situation.efi and config.disk.encryption == "none"
    return (
        Line(0, f"Which disk is the root disk = {situation.root_disk}"),
        Line(0, f"Use (W)hole disk = {'gpt' if plain_uefi else 'whole'}"),
        Line(0, "An EFI/GPT disk may not boot. Proceed = yes"),
    )


def scenario(
    config: Config, release: Release, port: Port, template: bool
) -> questions.Circumstances:
    """The machine that the configuration describes, as the questions depend on it."""
    network = config.network
    encrypted = config.disk.encryption != "none"
    disk = "sd0" if config.disk.device == "auto" else config.disk.device
    volume = f"sd{int(disk[2:]) + 1}" if encrypted and disk.startswith("sd") else disk
    if encrypted and not disk.startswith("sd"):
        volume = "sd0"
    interfaces = (
        questions.Interface(network.interface, _kind4(network.ipv4), _kind6(network.ipv6)),
    )
    serial = config.host.console == "com0"
    return questions.Circumstances(
        hostname=config.host.name,
        domain=config.host.domain,
        interfaces=interfaces,
        machine_interfaces=(network.interface, *(i.name for i in network.interfaces)),
        serial=serial,
        console_speed=config.host.console_speed,
        com_console=serial,
        aperture=True,
        sshd=config.access.sshd,
        disks=tuple(sorted({disk, volume})),
        root_disk=volume,
        softraid=encrypted,
        template=template,
        version=release.version,
        arch=port.name,
        dhcp_nameservers=True,
        site_set=f"site{release.digits}.tgz",
        openbsd_area=False,
    )


def _kind4(value: IPv4Interface | Literal["dhcp", "none"]) -> Literal["dhcp", "static", "none"]:
    return value if isinstance(value, str) else "static"


def _kind6(
    value: IPv6Interface | Literal["autoconf", "none"],
) -> Literal["none", "autoconf", "static"]:
    return value if isinstance(value, str) else "static"


def _scoped(gateway: IPv6Address | None, interface: str) -> str | None:
    """A link-local gateway needs its interface: `route add` takes fe80::1 nowhere else."""
    if gateway is None or not gateway.is_link_local or gateway.scope_id:
        return None if gateway is None else str(gateway)
    return f"{gateway}%{interface}"
