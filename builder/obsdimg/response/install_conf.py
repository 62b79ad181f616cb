"""The response file of a configuration, and the check that every line of it is used.

Pure.  The installer's own matching (matching.py) decides what each question gets; the answer
that the ramdisk hook adds while it runs (the root disk) is simulated as a line numbered 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal

from obsdimg.config import Config
from obsdimg.config.model import InterfaceSettings
from obsdimg.config.types import DISABLED
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.templates import render
from obsdimg.releases.release import Port, Release
from obsdimg.response import questions
from obsdimg.response.check import Simulation, lint, simulate
from obsdimg.response.matching import Line, read_lines

LOGIN_DISABLED = "*" * 13
"""What the installer takes for "no password" (install.sub 6.6, `encr_pwd`)."""


class ResponseError(ObsdimgError):
    """The response file would not do what the configuration says."""


@dataclass(frozen=True)
class CheckedResponse:
    """The response file's bytes, what every question gets, and remarks that are no errors."""

    data: bytes
    simulation: Simulation
    remarks: tuple[str, ...]


def response_file(config: Config, release: Release, port: Port, template: bool) -> bytes:
    """The bytes of install.conf; `template`: an autopartitioning template is in the ramdisk."""
    access, network, admin = config.access, config.network, config.access.admin
    return render(
        "response",
        "install.conf.j2",
        version=release.version,
        network_question=release.installer.network_question,
        host=config.host,
        serial=config.host.console == "com0",
        interfaces=[
            {"name": i.name, "ipv4": str(i.ipv4), "ipv6": str(i.ipv6)}
            for i in (_egress(config), *network.interfaces)
        ],
        gateway4=network.gateway4,
        gateway6=network.gateway6,
        dns=[str(a) for a in network.dns],
        root_password=_password(access.root_password),
        root_key=access.root_keys[0] if access.root_keys else "none",
        sshd=access.sshd,
        admin=admin,
        admin_password=_password(admin.password) if admin else "",
        admin_key=admin.keys[0] if admin and admin.keys else "none",
        template=template,
        sets_path=port.directory,
        set_names=[*(f"-{pattern}" for pattern in config.sets.leave_out), "+site*"],
        extra=config.answers,
    )


def check_response(config: Config, release: Release, port: Port, template: bool) -> CheckedResponse:
    """Render, and let the installer's matching answer every question of that release.

    Raises ResponseError for a question without an answer, an answer the installer refuses, or
    a line that no question of that release takes.
    """
    data = response_file(config, release, port, template)
    situation = scenario(config, release, port, template)
    table = questions.load(release.question_table)
    asked = questions.expand(table, situation)
    known = questions.expand_all(table, situation)
    hook = Line(0, f"Which disk is the root disk = {situation.root_disk}")
    simulation = simulate((hook, *read_lines(data)), asked)
    for answered in simulation.answers:
        if answered.value is None or answered.problem:
            raise ResponseError(
                f"the installer's question {answered.question.text!r}: {answered.problem}",
                "answer it in [[answers]], or correct the setting it comes from",
            )
    problems = lint(data, asked, known)
    for problem in problems:
        if problem.severity == "error":
            raise ResponseError(
                f"install.conf:{problem.line}: {problem.message}",
                problem.hint or "correct the entry in [[answers]]",
            )
    return CheckedResponse(data, simulation, tuple(p.message for p in problems))


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
    interfaces = tuple(
        questions.Interface(i.name, _kind4(i.ipv4), _kind6(i.ipv6))
        for i in (_egress(config), *network.interfaces)
    )
    serial = config.host.console == "com0"
    return questions.Circumstances(
        hostname=config.host.name,
        domain=config.host.domain,
        interfaces=interfaces,
        machine_interfaces=tuple(i.name for i in interfaces),
        serial=serial,
        console_speed=config.host.console_speed,
        com_console=serial,
        display=not serial,
        sshd=config.access.sshd,
        user=config.access.admin.name if config.access.admin else "",
        disks=tuple(sorted({disk, volume})),
        root_disk=volume,
        softraid=encrypted,
        template=template,
        version=release.version,
        arch=port.name,
        dhcp_nameservers=network.ipv4 == "dhcp" and not network.dns,
        site_set=f"site{release.digits}.tgz",
        openbsd_area=False,
    )


def _egress(config: Config) -> InterfaceSettings:
    network = config.network
    return InterfaceSettings(name=network.interface, ipv4=network.ipv4, ipv6=network.ipv6)


def _password(value: str) -> str:
    return LOGIN_DISABLED if value == DISABLED else value


def _kind4(value: IPv4Interface | Literal["dhcp", "none"]) -> Literal["dhcp", "static", "none"]:
    return value if isinstance(value, str) else "static"


def _kind6(
    value: IPv6Interface | Literal["autoconf", "none"],
) -> Literal["none", "autoconf", "static"]:
    return value if isinstance(value, str) else "static"
