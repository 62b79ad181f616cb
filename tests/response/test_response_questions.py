from __future__ import annotations

import re
from pathlib import Path

import pytest

from obsdimg.response import questions as module
from obsdimg.response.check import lint, simulate
from obsdimg.response.matching import Line, read_lines
from obsdimg.response.questions import (
    Circumstances,
    Interface,
    QuestionsError,
    expand,
    expand_all,
    load,
    releases,
)
from support.genuine_installer import genuine_file

RESPONSE = b"""\
# made for the tests
System hostname = gw
Which network interface do you wish to configure = vio0
IPv4 address for vio0 = dhcp
IPv6 address for vio0 = none
Which network interface do you wish to configure = done
DNS domain name = example.com
DNS nameservers = 192.0.2.53
Password for root account = *************
Setup a user = admin
Full name for user admin = The Administrator
Password for user admin = *************
Public ssh key for user admin = ssh-ed25519 AAAA admin
What timezone are you in = UTC
Location of sets = cd0
Set name(s) = -game* +site*
Set name(s) = done
"""

NETWORK_73 = "Network interface to configure? (name, lladdr, '?', or 'done')"
SCENARIO = Circumstances(user="admin", hostname="gw", disks=("sd0", "sd1"), root_disk="sd1")


def ids(scenario: Circumstances, release: str = "66") -> list[str]:
    return [q.id for q in expand(load(release), scenario)]


def test_every_release_from_66_to_80_has_a_table() -> None:
    assert releases() == tuple(str(n) for n in range(66, 81))
    for release in releases():
        identifiers = [q.id for q in load(release)]
        assert len(identifiers) == len(set(identifiers))


def test_an_unknown_release_is_named() -> None:
    with pytest.raises(QuestionsError, match="release 65"):
        load("65")


def test_questions_come_in_the_order_of_the_installer() -> None:
    assert ids(SCENARIO) == [
        "keyboard",
        "hostname",
        "interface",
        "interface.v4",
        "interface.v6",
        "interface.done",
        "domain",
        "nameservers",
        "root.password",
        "root.key",
        "sshd",
        "xenodm",
        "console",
        "user",
        "user.name",
        "user.password",
        "user.key",
        "root.ssh",
        "root.disk",
        "fdisk",
        "disklabel.template",
        "disklabel.layout",
        "disk.other",
        "sets.location",
        "sets.path",
        "sets.names",
        "sets.names",
        "sets.more",
        "timezone",
    ]


def test_a_second_interface_and_a_static_address_bring_their_questions() -> None:
    scenario = Circumstances(
        interfaces=(
            Interface("vio0", v4="static"),
            Interface("vio1", v4="static", v6="static", v4_prefix=False, v6_prefix=False),
        )
    )
    asked = ids(scenario)
    assert asked[2:14] == [
        "interface",
        "interface.v4",
        "interface.v6",
        "interface",
        "interface.name",
        "interface.v4",
        "interface.netmask",
        "interface.v6",
        "interface.prefixlen",
        "interface.done",
        "route4",
        "route6",
    ]
    defaults = [q.default for q in expand(load("66"), scenario) if q.id.startswith("interface")]
    assert defaults[0] == "vio0"
    assert [d for d in defaults if d == "done"] == ["done", "done"]


@pytest.mark.parametrize(
    ("release", "identifier", "text", "default"),
    [
        ("66", "interface.v4", "IPv4 address for vio0? (or 'dhcp' or 'none')", "dhcp"),
        ("69", "interface.v4", "IPv4 address for vio0? (or 'dhcp' or 'none')", "dhcp"),
        ("70", "interface.v4", "IPv4 address for vio0? (or 'autoconf' or 'none')", "autoconf"),
        ("72", "interface", "Which network interface do you wish to configure?", "vio0"),
        ("73", "interface", NETWORK_73, "vio0"),
        ("76", "encrypt", "Encrypt the root disk with a (p)assphrase or (k)eydisk?", "no"),
        ("78", "sets.location", "Location of sets? (cd0 disk http nfs or 'done')", "http"),
    ],
)
def test_wording_changes_with_the_release(
    release: str, identifier: str, text: str, default: str
) -> None:
    found = next(q for q in expand(load(release), SCENARIO) if q.id == identifier)
    assert (found.text, found.default) == (text, default)


def test_the_disk_under_the_encrypted_volume_is_offered_until_77() -> None:
    encrypted = Circumstances(disks=("sd0", "sd1"), root_disk="sd1", softraid=True)
    assert "disk.other" in ids(encrypted, "68")
    assert "disk.other" not in ids(encrypted, "77")
    three = Circumstances(disks=("sd0", "sd1", "sd2"), root_disk="sd2", softraid=True)
    assert "disk.other" in ids(three, "77")
    assert "disk.other" in ids(Circumstances(disks=("sd0", "sd1")), "77")


def test_the_native_key_disk_has_two_questions_in_the_place_of_the_passphrase() -> None:
    native = Circumstances(disks=("sd0", "sd1"), native_encryption=True)
    assert "encrypt.passphrase" in ids(native, "77")
    keydisk = Circumstances(disks=("sd0", "sd1"), native_encryption=True, native_keydisk=True)
    asked = {q.id: q.text for q in expand(load("77"), keydisk)}
    assert asked["encrypt.keydisk"] == "Which disk contains the key disk?"
    assert asked["encrypt.keydisk.partition"] == "Which sd1 partition is the key disk?"
    assert "encrypt.passphrase" not in asked


def test_encryption_is_not_asked_where_the_hook_made_a_volume() -> None:
    assert "encrypt" in ids(SCENARIO, "76")
    assert "encrypt" not in ids(Circumstances(softraid=True), "76")
    assert "encrypt" not in ids(SCENARIO, "75")


def test_every_question_gets_its_answer_or_default() -> None:
    hook = Line(0, "Which disk is the root disk = sd1")
    result = simulate((*read_lines(RESPONSE), hook), expand(load("66"), SCENARIO))
    answers = {a.question.id: a for a in result.answers}
    assert answers["hostname"].value == "gw"
    assert answers["hostname"].line == Line(2, "System hostname = gw")
    assert answers["sshd"].value == "yes"
    assert answers["sshd"].line is None
    assert answers["root.disk"].line == hook
    assert answers["root.password"].shown == "<provided>"
    assert not [a for a in result.answers if a.problem]
    assert result.unused == ()


def test_a_missing_answer_does_not_hide_the_next_one() -> None:
    result = simulate(read_lines(b"Setup a user = no\n"), expand(load("66"), Circumstances()))
    missing = [a.question.id for a in result.answers if a.value is None]
    assert missing == ["hostname", "root.password", "timezone"]


def test_an_answer_that_the_installer_refuses_is_a_problem() -> None:
    lines = read_lines(b"Start sshd(8) by default = maybe\n")
    result = simulate(lines, expand(load("66"), Circumstances()))
    assert [a.question.id for a in result.answers if "not a valid choice" in a.problem] == ["sshd"]


def problems(data: bytes) -> list[tuple[str, int]]:
    questions = load("66")
    found = lint(data, expand(questions, SCENARIO), expand_all(questions, SCENARIO))
    return [(p.severity, p.line) for p in found]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RESPONSE, []),
        (b"\n# x\n", []),
        (b"System hostname = a\nTerminal type = vt220\n", [("warning", 2)]),
        (b"System hostnam = a\n", [("error", 1)]),
        (b"System hostname = a", [("error", 1)]),
        (b"System hostname =\n", [("error", 1)]),
        (b"System hostname\n", [("error", 1)]),
        (b"System hostname = a\r\n", [("error", 1)]),
        (b"disk = sd1\n", [("error", 1)]),
        (b"System hostname = a\nSystem hostname = b\n", [("warning", 2)]),
        (b"Use (W)hole disk MBR = gpt\n", [("error", 1)]),
    ],
)
def test_lines_that_the_installer_would_misread_are_found(
    data: bytes, expected: list[tuple[str, int]]
) -> None:
    assert problems(data) == expected


def test_a_misspelt_key_gets_the_nearest_question() -> None:
    questions = load("66")
    (found,) = lint(
        b"Which disk is the rot disk = sd1\n",
        expand(questions, SCENARIO),
        expand_all(questions, SCENARIO),
    )
    assert found.hint == "did you mean: Which disk is the root disk"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('[[change]]\nid = "nothing"\n', "no question 'nothing'"),
        ('[[change]]\nid = "sshd"\nwhen = ["moon"]\n', "unknown condition 'moon'"),
        ('[[change]]\nid = "sshd"\ntxt = "x"\n', "unknown field 'txt'"),
        ("[[change\n", "not a table"),
    ],
)
def test_a_malformed_table_is_an_error_that_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    folder = tmp_path / "response" / "questions"
    folder.mkdir(parents=True)
    genuine = module.resource("response", "questions", "66.toml").read_text()
    (folder / "66.toml").write_text(genuine)
    (folder / "99.toml").write_text(f'release = "9.9"\nsource = "x"\n{change}')
    monkeypatch.setattr(module, "resource", lambda *parts: tmp_path.joinpath(*parts))
    load.cache_clear()
    try:
        with pytest.raises(QuestionsError, match=re.escape(message)):
            load("99")
    finally:
        load.cache_clear()


@pytest.mark.media
def test_wording_marked_R66_stands_in_the_genuine_installer() -> None:
    """Word by word: the pieces between placeholders and shell variables occur in install.sub."""
    script = genuine_file("/install.sub").decode()
    shell = re.sub(r"\$\{?[A-Za-z_]+\}?", "", script).replace('"', "")
    for question in load("66"):
        if question.source != "R66" or question.text.startswith("Which "):
            continue  # `ask_which` puts its text together from two arguments
        head = re.split(r"[{?]|[.] ", question.text)[0]
        if question.id == "sets.sure":
            head = "Are you *SURE* your"  # then a variable
        assert head.strip() in shell, question.id
