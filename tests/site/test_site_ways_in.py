"""Who gets in by ssh, and which resolvers hold: the settings' small print, file by file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.server_bench import SHELLS, program
from support.site_fixtures import content, planned

KEYS = [
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f {name}"
    for name in ("first", "second", "third")
]
PEER = '[[tunnel.peers]]\nname = "a"\nipv4 = "10.0.0.2"\n'
OPEN = "pass in on egress proto tcp to (egress) port 22"


def test_every_key_is_added_by_the_sealed_steps_and_none_by_the_installer() -> None:
    settings = f"[access]\nroot_keys = {KEYS}\n"
    text = content(planned(settings), "/obsdimg.steps")
    assert all(f"'{key}' >>/root/.ssh/authorized_keys" in text for key in KEYS)
    assert "PermitRootLogin prohibit-password" in text
    assert "PermitRootLogin no" in content(planned(""), "/obsdimg.steps")


def test_every_name_of_the_card_gets_the_installers_file(tmp_path: Path) -> None:
    settings = '[network]\nalso = ["em0", "52:54:00:12:34:56"]\n'
    text = content(planned(settings, "7.5"), "/obsdimg.steps")
    part = text[text.index("for obsdimg_name") : text.index("done\n") + 5]
    (tmp_path / "hostname.vio0").write_text("inet autoconf\n")
    (tmp_path / "hostname.vio0").chmod(0o640)
    subprocess.run(["sh", "-ec", part.replace("/etc/", f"{tmp_path}/")], check=True)
    for name in ("em0", "52:54:00:12:34:56"):
        made = tmp_path / f"hostname.{name}"
        assert made.read_text() == "inet autoconf\n" and made.stat().st_mode & 0o777 == 0o640
    assert "obsdimg_name" not in content(planned(""), "/obsdimg.steps")


@pytest.mark.parametrize("shell", SHELLS)
def test_an_empty_pf_conf_is_replaced_before_it_is_loaded_even_if_hostname_wg0_is_empty(
    tmp_path: Path, shell: str
) -> None:
    """Seen on a private 7.7: both files empty, and pf loaded no rule at all."""
    text = content(planned('[network]\nalso = ["em0"]\n', "7.7"), "/obsdimg.steps")
    part = text[text.index("obsdimg_file=/etc/hostname.vio0") : text.index("# --- the name")]
    card = tmp_path / "hostname.vio0"
    run = f"obsdimg_die() {{ exit 1; }}\n{part.replace('/etc/', f'{tmp_path}/')}"
    subprocess.run([program(shell), "-ec", run], check=True)
    assert not card.exists(), "a card without an address has no file"
    card.write_text("inet autoconf\n")
    for _ in range(2):
        subprocess.run([program(shell), "-ec", run], check=True)
    assert card.read_text() == "inet autoconf\n!/usr/local/sbin/obsdimg-tunnel choose pf\n"
    assert text.index("obsdimg-tunnel choose pf") < text.index("for obsdimg_name"), "and its copies"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("gateway", ["fe80::1", "fe80::1%vio0"])
def test_a_link_local_gateway_is_behind_whichever_card_is_there(
    tmp_path: Path, gateway: str, shell: str
) -> None:
    """/etc/mygate would name vio0, where the card is em0 (a server that disk --write is for)."""
    six = f'[network]\nipv6 = "2001:db8::5/64"\ngateway6 = "{gateway}"\ndns = ["9.9.9.9"]\n'
    text = content(planned(six + 'also = ["em0"]\n', "7.7"), "/obsdimg.steps")
    part = text[text.index("obsdimg_gates=") : text.index("done\n") + 5]
    (tmp_path / "mygate").write_text("192.0.2.1\nfe80::1%vio0\n")
    (tmp_path / "hostname.vio0").write_text("inet6 2001:db8::5 64\n")
    run = f"obsdimg_die() {{ exit 1; }}\n{part.replace('/etc/', f'{tmp_path}/')}"
    subprocess.run([program(shell), "-ec", run], check=True)
    assert (tmp_path / "mygate").read_text() == "192.0.2.1\n"
    route = "!/sbin/route -qn add -host -inet6 default fe80::1%$if\n"
    for name in ("vio0", "em0"):
        assert (tmp_path / f"hostname.{name}").read_text() == "inet6 2001:db8::5 64\n" + route
    # One card: /etc/mygate is right as the installer writes it.
    assert "obsdimg_gates" not in content(planned(six, "7.7"), "/obsdimg.steps")
    of_all = six.replace(f'"{gateway}"', '"2001:db8::1"')
    assert "obsdimg_gates" not in content(
        planned(of_all + 'also = ["em0"]\n', "7.7"), "/obsdimg.steps"
    )


def test_no_name_of_the_card_takes_resolvers_from_dhcp() -> None:
    own = '[network]\ndns = ["9.9.9.9"]\nalso = ["em0"]\n'
    text = content(planned(own, "7.7"), "/etc/dhcpleased.conf")
    assert all(f"interface {name} {{\n\tignore dns\n}}" in text for name in ("vio0", "em0"))


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ("", True),  # without a peer nobody could come through the tunnel
        (PEER, False),
        ('[access]\nssh_from = "anywhere"\n' + PEER, True),
        ('[access]\nssh_from = "anywhere"\nsshd = false\n' + PEER, False),
        ("[access]\nsshd = false\n", False),
    ],
)
def test_ssh_is_open_to_all_only_where_it_must_be(settings: str, is_open: bool) -> None:
    assert (OPEN in content(planned(settings), "/etc/pf.conf")) is is_open


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ("[access]\nssh_window_minutes = 30\n" + PEER, True),
        (PEER, False),
        # what is open anyway needs no window, and would be closed by its end
        ('[access]\nssh_window_minutes = 30\nssh_from = "anywhere"\n' + PEER, False),
    ],
)
def test_the_window_is_opened_only_where_ssh_is_closed(settings: str, window: bool) -> None:
    plan = planned(settings)
    assert ("<window>" in content(plan, "/etc/pf.conf")) is window
    first = content(plan, "/usr/local/sbin/obsdimg-firsttime")
    assert ("sleep 1800" in first) is window


@pytest.mark.parametrize(
    ("version", "files"),
    [
        ("6.9", {"/etc/dhclient.conf"}),
        ("7.0", {"/etc/dhcpleased.conf"}),
        ("7.5", {"/etc/dhcpleased.conf"}),
    ],
)
def test_given_resolvers_win_over_those_of_dhcp(version: str, files: set[str]) -> None:
    settings = '[network]\ndns = ["9.9.9.9"]\n' + PEER
    paths = set(planned(settings, version).sealed)
    assert paths & {"/etc/dhclient.conf", "/etc/dhcpleased.conf"} == files
    # The installer writes over /etc/resolv.conf after the sets: the steps have the last word.
    script = content(planned(settings, version), "/obsdimg.steps")
    assert "print 'nameserver 9.9.9.9'" in script
    assert ">/etc/resolv.conf" in script
