"""Which questions the installer of a release asks, in order, on a given machine.

The wording is data: `response/questions/66.toml` holds every question of 6.6, each later file
what changed in that release (openbsd.md sections 2.1 and 2.2).  `expand` turns the table and a
`Scenario` into the list of questions as they will appear.
"""

from __future__ import annotations

import functools
import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.resources import resource

FIRST = "66"
"""The release whose file holds all questions."""


class QuestionsError(ObsdimgError):
    """The table of questions is missing, malformed, or does not know a release."""


@dataclass(frozen=True)
class Question:
    """One question of a release; the fields are explained at the top of 66.toml."""

    id: str
    text: str
    source: str
    default: str = ""
    defaults: tuple[tuple[tuple[str, ...], str], ...] = ()
    when: tuple[str, ...] = ()
    repeat: Literal["", "interface", "round"] = ""
    accept: str = ""
    secret: bool = False


@dataclass(frozen=True)
class Interface:
    """A network interface that the answers configure.

    `v4_prefix` and `v6_prefix` say that a static address is written with its prefix length
    (`192.0.2.2/24`); without it the installer asks for the netmask.
    """

    name: str
    v4: Literal["dhcp", "static", "none"] = "dhcp"
    v6: Literal["none", "autoconf", "static"] = "none"
    v4_prefix: bool = True
    v6_prefix: bool = True


@dataclass(frozen=True)
class Circumstances:
    """A machine, and those answers that decide which questions follow.

    `interfaces` in the order in which they are configured, `machine_interfaces` in the order
    of `ifconfig`, `disks` in the order of `bsort` (with encryption by the hook: the chunk's
    disk and the volume).  `set_rounds` counts the `Set name(s)` questions, the last one, which
    is answered `done`, included.
    """

    hostname: str = "host"
    domain: str = "my.domain"
    interfaces: tuple[Interface, ...] = (Interface("vio0"),)
    machine_interfaces: tuple[str, ...] = ("vio0",)
    dhcp_answers: bool = True
    dhcp_route: bool = True
    dhcp_domain: bool = False
    dhcp_nameservers: bool = False
    serial: bool = False
    console_speed: int = 9600
    com: str = "com0"
    com_console: bool = False
    display: bool = True
    aperture: bool = False
    sshd: bool = True
    user: str = ""
    disks: tuple[str, ...] = ("sd0",)
    root_disk: str = "sd0"
    openbsd_area: bool = False
    efi: bool = False
    acpi5: bool = False
    gpt_on_bios: bool = False
    template: bool = False
    softraid: bool = False
    native_encryption: bool = False
    native_keydisk: bool = False
    cdroms: tuple[str, ...] = ("cd0",)
    version: str = "6.6"
    arch: str = "amd64"
    set_rounds: int = 2
    index_file: bool = True
    verification: Literal["signed", "unsigned", "upstream"] = "signed"
    site_set: str = "site66.tgz"
    cgi: bool = False
    sub_timezone: str = ""


@dataclass(frozen=True)
class AskedQuestion:
    """A question as it appears: text and default filled in; `default` "" means it has none."""

    id: str
    text: str
    default: str
    source: str
    accept: str = ""
    secret: bool = False


@dataclass(frozen=True)
class _State:
    """Where the expansion stands: round of a repeated group, interfaces configured so far."""

    interface: Interface | None = None
    index: int = 0
    configured: int = 0


_FLAGS: Mapping[str, Callable[[Circumstances, _State], bool]] = {
    "serial": lambda s, _: s.serial,
    "display": lambda s, _: s.display,
    "aperture": lambda s, _: s.aperture,
    "com": lambda s, _: bool(s.com),
    "com_console": lambda s, _: s.com_console,
    "nic": lambda s, _: bool(s.machine_interfaces),
    "vlan": lambda s, at: at.interface is not None and at.interface.name.startswith("vlan"),
    "later_interface": lambda s, at: at.index > 0,
    "v4_netmask": lambda s, at: (
        at.interface is not None and at.interface.v4 == "static" and not at.interface.v4_prefix
    ),
    "v6_prefixlen": lambda s, at: (
        at.interface is not None and at.interface.v6 == "static" and not at.interface.v6_prefix
    ),
    # 6.6 to 6.9: an interface has an address, and no default route came by DHCP.
    "v4_route": lambda s, _: (
        (_leased(s) or any(i.v4 == "static" for i in s.interfaces))
        and not (_leased(s) and s.dhcp_route)
    ),
    # 7.0 and later: an interface was meant to have one, whatever became of that.
    "v4_route_meant": lambda s, _: (
        any(i.v4 != "none" for i in s.interfaces) and not (_leased(s) and s.dhcp_route)
    ),
    "dhcp": lambda s, _: any(i.v4 == "dhcp" for i in s.interfaces),
    "v6_static": lambda s, _: any(i.v6 == "static" for i in s.interfaces),
    "dhcp_domain": lambda s, _: s.dhcp_domain and _leased(s) and _single_dhcp(s),
    "dhcp_nameservers": lambda s, _: s.dhcp_nameservers and _leased(s) and _single_dhcp(s),
    "single_dhcp": lambda s, _: _single_dhcp(s),
    "learnt_nameservers": lambda s, _: s.dhcp_nameservers and _leased(s),
    "user": lambda s, _: bool(s.user),
    "sshd": lambda s, _: s.sshd,
    "openbsd_area": lambda s, _: s.openbsd_area,
    "efi": lambda s, _: s.efi,
    "acpi5": lambda s, _: s.acpi5,
    "gpt_on_bios": lambda s, _: s.gpt_on_bios,
    "template": lambda s, _: s.template,
    "softraid": lambda s, _: s.softraid,
    "native_encryption": lambda s, _: s.native_encryption,
    "native_keydisk": lambda s, _: s.native_keydisk,
    "other_disks": lambda s, _: len(s.disks) > 1,
    # 7.7 at the latest: the disk under an encrypted volume is not offered.
    "disks_left": lambda s, _: len(s.disks) - s.softraid > 1,
    "index_file": lambda s, _: s.index_file,
    "unsigned": lambda s, _: s.verification == "unsigned",
    "upstream_signature": lambda s, _: s.verification == "upstream",
    "cgi": lambda s, _: s.cgi,
    "sub_timezone": lambda s, _: bool(s.sub_timezone),
    "failure": lambda s, _: False,
}
"""The conditions of the table.  `failure`: asked only when something went wrong."""


def releases() -> tuple[str, ...]:
    """The releases with a table, oldest first, as `66`."""
    return tuple(sorted(path.stem for path in resource("response", "questions").glob("??.toml")))


@functools.cache
def load(release: str) -> tuple[Question, ...]:
    """Every question of `release` (`66`), conditional ones included, in order.

    Raises QuestionsError for an unknown release and a malformed table.
    """
    known = releases()
    if release not in known:
        raise QuestionsError(
            f"no table of installer questions for release {release}",
            f"known releases: {', '.join(known) or 'none'}",
        )
    folder = resource("response", "questions")
    questions = _all_of(folder / f"{FIRST}.toml")
    for later in known:
        if FIRST < later <= release:
            questions = _changed(questions, folder / f"{later}.toml")
    return tuple(questions)


def expand(questions: Iterable[Question], scenario: Circumstances) -> tuple[AskedQuestion, ...]:
    """The questions asked on `scenario`, in order, a repeated one as often as it appears."""
    return tuple(_expand(questions, scenario, _holds))


def expand_all(questions: Iterable[Question], scenario: Circumstances) -> tuple[AskedQuestion, ...]:
    """Every question with the names of `scenario` filled in, whether it is asked or not."""
    named = replace(
        scenario,
        user=scenario.user or "USER",
        interfaces=scenario.interfaces or (Interface("vio0"),),
    )
    return tuple(_expand(questions, named, lambda *_: True))


def _expand(
    questions: Iterable[Question],
    scenario: Circumstances,
    holds: Callable[[Sequence[str], Circumstances, _State], bool],
) -> Iterator[AskedQuestion]:
    configured = 0
    for repeat, members in itertools.groupby(questions, key=lambda q: q.repeat):
        group = list(members)
        for state in _rounds(repeat, scenario, configured):
            for question in group:
                if holds(question.when, scenario, state):
                    yield _filled(question, scenario, state)
        if repeat == "interface":
            configured = len(scenario.interfaces)


def _rounds(repeat: str, scenario: Circumstances, configured: int) -> Iterator[_State]:
    if repeat == "interface":
        for index, interface in enumerate(scenario.interfaces):
            yield _State(interface, index, index)
    elif repeat == "round":
        for index in range(scenario.set_rounds):
            yield _State(None, index, configured)
    else:
        yield _State(None, 0, configured)


def _holds(when: Sequence[str], scenario: Circumstances, state: _State) -> bool:
    return all(
        _FLAGS[flag.removeprefix("!")](scenario, state) != flag.startswith("!") for flag in when
    )


def _filled(question: Question, scenario: Circumstances, state: _State) -> AskedQuestion:
    names = _names(scenario, state)
    default = next(
        (value for when, value in question.defaults if _holds(when, scenario, state)),
        question.default,
    )
    return AskedQuestion(
        question.id,
        _fill(question.text, names),
        _fill(default, names),
        question.source,
        question.accept,
        question.secret,
    )


def _fill(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], found[0]), text)


def _names(scenario: Circumstances, state: _State) -> dict[str, str]:
    machine = scenario.machine_interfaces
    first = machine[0] if machine else "vlan0"
    interface = state.interface.name if state.interface else first
    return {
        "current_hostname": "",
        "hostname": scenario.hostname,
        "domain": scenario.domain,
        "interface": interface,
        "first_interface": first,
        "next_interface": first if state.configured == 0 else "done",
        "vlan_tag": interface.removeprefix("vlan"),
        "com": scenario.com,
        "console_speed": str(scenario.console_speed),
        "user": scenario.user,
        "first_disk": scenario.disks[0] if scenario.disks else "",
        "other_disk": next((d for d in scenario.disks if d != scenario.root_disk), "done"),
        "locations": " ".join((*scenario.cdroms, "disk", "http", "nfs")),
        "first_location": scenario.cdroms[0] if scenario.cdroms else "http",
        "sets_path": f"{scenario.version}/{scenario.arch}",
        "arch": scenario.arch,
        "site_set": scenario.site_set,
        "zone": scenario.sub_timezone,
        "cgi_timezone": "",
        "date": "DATE",
    }


def _leased(scenario: Circumstances) -> bool:
    return scenario.dhcp_answers and any(i.v4 == "dhcp" for i in scenario.interfaces)


def _single_dhcp(scenario: Circumstances) -> bool:
    """The installer takes domain and servers from DHCP only with one configured interface."""
    return len(scenario.interfaces) == 1 and scenario.interfaces[0].v4 == "dhcp"


def _all_of(path: Path) -> list[Question]:
    return [_question(path, entry) for entry in _toml(path).get("question", [])]


def _changed(questions: Sequence[Question], path: Path) -> list[Question]:
    table = _toml(path)
    result = list(questions)
    for entry in table.get("change", []):
        position = _position(path, result, str(entry.get("id")))
        result[position] = replace(result[position], **_fields(path, entry, table))
    for entry in table.get("insert", []):
        new = dict(entry)
        position = _position(path, result, str(new.pop("after", None)))
        result.insert(position + 1, Question(**_fields(path, new, table)))
    return result


def _position(path: Path, questions: Sequence[Question], wanted: str) -> int:
    for position, question in enumerate(questions):
        if question.id == wanted:
            return position
    raise QuestionsError(f"{path.name}: there is no question {wanted!r} to change")


def _question(path: Path, entry: Mapping[str, Any]) -> Question:
    return Question(**_fields(path, entry, {}))


def _fields(path: Path, entry: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{path.name}: question {entry.get('id', '?')!r}"
    unknown = set(entry) - set(Question.__dataclass_fields__)
    if unknown:
        raise QuestionsError(f"{where}: unknown field {min(unknown)!r}")
    fields = {"source": table.get("source", ""), **entry}
    fields["when"] = _flags(where, entry.get("when", ()))
    fields["defaults"] = tuple(
        (_flags(where, d["when"]), str(d["value"])) for d in entry.get("defaults", ())
    )
    if table:  # a change leaves alone what it does not name
        fields = {k: v for k, v in fields.items() if k in entry or k == "source"}
    missing = {"id", "text", "source"} - set(fields) if not table else set()
    if missing:
        raise QuestionsError(f"{where}: no {min(missing)!r}")
    return fields


def _flags(where: str, flags: Iterable[str]) -> tuple[str, ...]:
    for flag in flags:
        if flag.removeprefix("!") not in _FLAGS:
            raise QuestionsError(f"{where}: unknown condition {flag!r}")
    return tuple(flags)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise QuestionsError(f"{path.name}: not a table of questions: {error}") from error
