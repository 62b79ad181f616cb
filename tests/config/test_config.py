"""obsdimg.toml: every mistake is one error that names the key."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from obsdimg.config import Config, ConfigError, parse
from obsdimg.config.document import commented, reference, schema
from obsdimg.config.rules import warnings

PEER = '[[tunnel.peers]]\nname = "a"\nipv4 = "10.0.0.2"\n'
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

BAD = [
    ("", "x = 1", "x: there is no such setting", "known here: release, host"),
    ("unknown key", '[host]\nnmae = "x"', "host.nmae: there is no such", "did you mean name?"),
    ("not TOML", "[host]\nname =", "not TOML", "toml.io"),
    ("host name", '[host]\nname = "a.b"', "host.name: 'a.b' is not a short host name", None),
    ("no prefix", '[tunnel]\nipv4 = "10.0.0.1"', "tunnel.ipv4: '10.0.0.1' is not an", None),
    ("wrong word", '[network]\nipv4 = "fish"', "network.ipv4: 'fish' is not", None),
    ("text for a number", '[tunnel]\nport = "53"', "tunnel.port: input should be a valid", None),
    ("number too small", "[disk]\nrounds = 3", "disk.rounds: input should be greater", None),
    ("zone", '[host]\ntimezone = "Europe/Pariss"', "host.timezone: Europe/Pariss", "Europe/Paris?"),
    ("peer outside", PEER.replace("0.2", "1.3"), "tunnel.peers[0].ipv4: 10.0.1.3 is not in", None),
    (
        "peer twice",
        PEER + PEER.replace('"a"', '"b"'),
        "tunnel.peers[1].ipv4: 10.0.0.2 belongs",
        None,
    ),
    ("name twice", PEER + PEER.replace("0.2", "0.3"), "tunnel.peers[1].name: is the same", None),
    ("peer is server", PEER.replace("0.2", "0.1"), "10.0.0.1 belongs to the server", None),
    (
        "peer nameless",
        '[[tunnel.peers]]\nipv4 = "10.0.0.2"',
        "tunnel.peers[0].name: is missing",
        None,
    ),
    (
        "ssh key",
        '[access.admin]\nkeys = ["ssh-rsa AAAA"]',
        "access.admin.keys[0]: not a public",
        None,
    ),
    ("no way in", "[access.admin]\nname = 'joe'", "access.admin.keys: is empty", "id_ed25519.pub"),
    ("no route", '[network]\nipv4 = "192.0.2.2/24"', "network.gateway4: is missing", None),
    (
        "route outside",
        '[network]\nipv4 = "192.0.2.2/24"\ngateway4 = "198.51.100.1"\ndns = ["9.9.9.9"]',
        "network.gateway4: 198.51.100.1 is not in 192.0.2.0/24",
        None,
    ),
    (
        "overlap",
        '[[network.interfaces]]\nname = "vio1"\nipv4 = "10.0.0.9/16"',
        "tunnel.ipv4: 10.0.0.0/24 overlaps network.interfaces[0]",
        None,
    ),
    ("key disk missing", '[disk]\nencryption = "keydisk"', "disk.key_disk: is missing", None),
    ("wg key", PEER + 'public_key = "AAAA"', "tunnel.peers[0].public_key: not a WireGuard", None),
    ("reach all", PEER + 'reach = ["0.0.0.0/0"]', "tunnel.peers[0].reach", None),
    ("host bits", PEER + 'reach = ["172.16.1.1/24"]', "reach[0]: '172.16.1.1/24' is not", None),
    (
        "scope",
        '[network]\ndns = ["fe80::1%x\\nnameserver 192.0.2.6"]',
        "network.dns[0]: 'fe80",
        None,
    ),
    (
        "scoped peer",
        PEER + 'dns = ["fd00::1%vio0"]',
        "tunnel.peers[0].dns[0]: 'fd00::1%vio0'",
        None,
    ),
    ("scoped end", '[tunnel]\nendpoint = "fe80::1%a\\n!reboot"', "tunnel.endpoint: 'fe80", None),
    ("prefix of all", '[tunnel]\nipv4 = "10.0.0.1/0"', "tunnel.ipv4: 10.0.0.1/0 is no", None),
    ("multicast", '[tunnel]\nipv4 = "224.0.0.1/24"', "tunnel.ipv4: 224.0.0.1/24 is no", None),
    ("the server's name", PEER.replace('"a"', '"server"'), "peers[0].name: server is", "another"),
    ("the seal's name", PEER.replace('"a"', '"seal"'), "peers[0].name: seal is", "another"),
    ("login yes", "[access.admin]\nname = 'yes'", "access.admin.name: yes is not", None),
    ("login of a group", "[access.admin]\nname = 'staff'", "access.admin.name: staff is not", None),
    (
        "cut ssh key",
        "[access.admin]\nkeys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPqU']",
        "access.admin.keys[0]: not a whole",
        None,
    ),
    ("nested", "a = " + "[" * 5000 + "]" * 5000, "nested too deeply", None),
    ("no overlay", '[site]\noverlay = ""', "site.overlay: '' is not a path", None),
    ("zero byte", '[disk]\nlayout = "a\\u0000b"', "disk.layout: 'a\\x00b' is not", None),
    ("list unused", '[tunnel]\ndns = "none"\nblock_lists = ["x"]', "block_lists: only works", None),
    ("doas", "[access.admin]\nname = 'x'\ndoas = 'persist'\nkeys = ['" + SSH + "']", "doas", None),
    ("key disk", '[disk]\nencryption="keydisk"\nkey_disk="sd0a"', "sd0a is on the disk", None),
    ("no key disk", '[disk]\nkey_disk = "sd1a"', "key_disk: only goes with", None),
    (
        "own gateway",
        '[network]\nipv4 = "192.0.2.2/24"\ngateway4 = "192.0.2.2"\ndns = ["9.9.9.9"]',
        "192.0.2.2 is the server's own",
        None,
    ),
    ("also", '[network]\nalso = ["em0", "em0"]', "network.also[1]: em0 is named twice", None),
    ("also itself", '[network]\nalso = ["vio0"]', "network.also[0]: vio0 is named twice", None),
    ("also wg", '[network]\nalso = ["wg1"]', "network.also[0]: wg1 is not a network", None),
    (
        "also by MAC",
        '[release]\nversion = "6.6"\n[network]\nalso = ["52:54:00:12:34:56"]',
        "network.also[0]: OpenBSD 6.6 does not find a card by its MAC",
        "7.3",
    ),
    ("also path", '[network]\nalso = ["../x"]', "network.also[0]: '../x' is not an", None),
    ("twice", '[[network.interfaces]]\nname = "vio0"', "interfaces[0].name: vio0 is named", None),
    ("tunnel's", '[[network.interfaces]]\nname = "wg0"', "wg0 is not a network card", None),
    ("window", "[access]\nsshd = false\nssh_window_minutes = 5", "window_minutes: needs", None),
    ("no dns", '[network]\nipv4 = "192.0.2.2/24"\ngateway4 = "192.0.2.1"', "network.dns: is", None),
    ("no way out", '[network]\nipv4 = "none"', "there is no way out", None),
    ("peer is net", PEER.replace("0.2", "0.0"), "10.0.0.0 is the network's own", None),
    ("peer is all", PEER.replace("0.2", "0.255"), "10.0.0.255 is the network's own", None),
    (
        "gateway elsewhere",
        '[network]\nipv6 = "2001:db8::2/64"\ngateway6 = "fe80::1%em0"\ndns = ["9.9.9.9"]',
        "network.gateway6: fe80::1%em0 is behind another interface than network.interface, vio0",
        "leave %em0 out",
    ),
    (
        "no IPv6 there",
        '[tunnel]\nendpoint = "2001:db8::5"',
        "tunnel.endpoint: 2001:db8::5 is IPv6, and the server has none (network.ipv6 = none)",
        "set network.ipv6, or give a name or an IPv4 address",
    ),
    (
        "no IPv4 there",
        '[network]\nipv4 = "none"\nipv6 = "autoconf"\n[tunnel]\nendpoint = "192.0.2.5"',
        "tunnel.endpoint: 192.0.2.5 is IPv4, and the server has none (network.ipv4 = none)",
        "set network.ipv4",
    ),
    ("anywhere", '[tunnel]\nendpoint = "0.0.0.0"', "0.0.0.0 is no address that others", "public"),
    ("local end", '[tunnel]\nendpoint = "fe80::5"', "fe80::5 is no address that others", None),
    (
        "next server",
        '[tunnel.upstream]\nendpoint = "2001:db8::9"\nipv4 = "10.9.0.2/24"\n'
        'public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="',
        "tunnel.upstream.endpoint: 2001:db8::9 is IPv6, and the server has none",
        None,
    ),
    (
        "resolver of no family",
        '[network]\ndns = ["2001:db8::53"]',
        "network.dns: 2001:db8::53 is IPv6, and the server has none",
        "with an IPv4 address",
    ),
    (
        "clients' resolver",
        '[tunnel]\ndns = ["2001:db8::53"]',
        "tunnel.dns: 2001:db8::53 is IPv6, and the tunnel has none (tunnel.ipv6)",
        None,
    ),
    (
        "a client's resolver",
        PEER + 'dns = ["2001:db8::53"]',
        "tunnel.peers[0].dns: 2001:db8::53 is IPv6, and the tunnel has none",
        None,
    ),
    ("port twice", "[tunnel]\nalso_ports = [53]", "also_ports: names a port twice", None),
    ("newline", '[[answers]]\nquestion = "a\\nb"\nanswer = "x"', "answers[0].question", None),
]


@pytest.mark.parametrize(
    "text",
    [
        '[network]\nipv6 = "autoconf"\n[tunnel]\nendpoint = "2001:db8::5"',
        '[tunnel]\nendpoint = "192.0.2.5"',
        '[tunnel]\nendpoint = "vpn.example.net"',
        '[network]\ndns = ["2001:db8::53", "9.9.9.9"]',
        '[tunnel]\nipv6 = "fd00:66::1/64"\ndns = ["2001:db8::53"]',
        '[network]\nipv6 = "2001:db8::2/64"\ngateway6 = "fe80::1%vio0"\ndns = ["9.9.9.9"]',
    ],
)
def test_addresses_of_a_family_that_is_there_are_taken(text: str) -> None:
    parse(text.encode(), "obsdimg.toml")


@pytest.mark.parametrize(("text", "message", "hint"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_wrong_value_is_one_error_that_names_the_key(
    text: str, message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "obsdimg.toml")
    assert caught.value.message.startswith("obsdimg.toml: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    if hint:
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "[access]\nroot_password = 'hunter2'",
        "[access.admin]\npassword = 'hunter2'",
        "[access.admin]\nkeys = ['-----BEGIN OPENSSH PRIVATE hunter2']",
        PEER + "public_key = 'hunter2'",
    ],
)
def test_a_secret_put_in_the_wrong_place_is_not_repeated_in_the_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode())
    assert "hunter2" not in caught.value.message + (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 3_000_000 + " = 1",
        '[host]\nname = "' + "a" * 3_000_000 + '"',
        "[tunnel]\nport = [" + "1," * 1_000_000 + "]",
    ],
)
def test_the_error_of_a_very_long_value_is_short(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode())
    assert len(caught.value.message) < 1000


def test_a_link_local_gateway_may_name_its_interface() -> None:
    config = parse(
        b'[network]\nipv6 = "2001:db8::2/64"\ngateway6 = "fe80::1%vio0"\ndns = ["9.9.9.9"]'
    )
    assert str(config.network.gateway6) == "fe80::1%vio0"


def test_text_that_is_not_utf8_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match="not UTF-8 text at byte 3"):
        parse(b"# \n\xff")


def test_an_empty_file_is_a_valid_configuration_with_all_defaults() -> None:
    assert parse(b"") == Config()


def test_the_commented_file_is_valid_and_changes_nothing() -> None:
    assert parse(commented().encode()) == Config()


def test_the_commented_file_shows_every_setting_and_each_is_valid_when_uncommented() -> None:
    text = re.sub(r"^#(?=[a-z])", "", commented(), flags=re.MULTILINE)
    table = tomllib.loads(text)
    properties = Config.model_json_schema()["properties"]
    assert set(table) == set(properties)


def test_every_hidden_setting_may_be_uncommented_alone() -> None:
    """In any line and in any order, as the file says; what needs another setting says so."""
    text = commented({"tunnel": {"endpoint": "vpn.example.org"}})
    hidden = re.findall(r"^#([a-z][a-z0-9_.]* = .*)$", text, re.MULTILINE)
    assert len(hidden) > 70
    needs = 0
    for line in hidden:
        file = 'access.admin.keys = ["' + SSH + '"]'
        line = file if line.startswith("access.admin.keys") else line
        for changed in (text.replace(f"#{line}", line), f"{line}\n{text}"):
            try:
                parse(changed.encode())
            except ConfigError as error:
                assert "not TOML" not in error.message, line
                assert "no such setting" not in error.message, line
                needs += 1
    assert needs < 40


def test_the_first_part_is_short_and_holds_what_must_be_set() -> None:
    first, _, rest = commented().partition("# ---- Everything else")
    assert len(first.splitlines()) < 20
    for setting in ("release.version", "tunnel.endpoint", "tunnel.peers", "access.admin.keys"):
        assert f"#{setting} = " in first and f"#{setting} = " not in rest


def test_the_schema_is_json_and_forbids_unknown_keys() -> None:
    value = json.loads(schema())
    assert value["additionalProperties"] is False
    assert "timezone" in value["$defs"]["HostSettings"]["properties"]


def test_what_leaves_a_door_open_is_warned_about() -> None:
    config = parse(b'[access]\nssh_from = "anywhere"\n[upkeep]\nreboot = true\n' + PEER.encode())
    text = "\n".join(warnings(config))
    assert "ssh is open" in text
    assert "waits for its passphrase" in text
    assert "nobody can log in" in text
    assert "tunnel.endpoint is not set" in text


@pytest.mark.parametrize(
    ("mode", "asked"), [("passphrase", True), ("embedded", True), ("none", False)]
)
def test_where_the_loader_asks_at_every_start_it_is_said(mode: str, asked: bool) -> None:
    text = f'disk.encryption = "{mode}"\nhost.console = "com0"\nupkeep.reboot = true\n'
    said = "\n".join(warnings(parse(text.encode())))
    assert ("waits for its passphrase" in said) is asked
    assert ("a small partition in clear" in said) is asked
    said = "\n".join(warnings(parse(text.encode() + b'disk.loader = "firmware"\n')))
    assert ("the serial line stays silent until somebody types it" in said) is asked
    assert "a small partition in clear" not in said
    assert not any("loader" in line for line in warnings(parse(b'host.console = "vga"\n')))


def test_the_reference_in_the_docs_is_that_of_the_settings() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    assert page.partition("## Reference\n")[2].strip() == reference().strip()


class TestKeyFiles:
    """A public key may be given by its file's name."""

    def parsed(self, folder: Path, name: str, setting: str = "access.admin.keys") -> Config:
        return parse(f'{setting} = ["{name}"]\n'.encode(), "obsdimg.toml", folder)

    def test_the_line_in_the_file_is_the_key(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "id.pub").write_text(f"# mine\n{SSH} me@here\n")
        config = self.parsed(tmp_path, "id.pub")
        assert config.access.admin is not None and config.access.admin.keys == [f"{SSH} me@here"]
        monkeypatch.setenv("HOME", str(tmp_path))
        assert self.parsed(Path("/"), "~/id.pub").access.admin == config.access.admin
        assert self.parsed(tmp_path, "./id.pub", "access.root_keys").access.root_keys

    def test_a_file_that_is_not_there_or_no_key_is_one_error(self, tmp_path: Path) -> None:
        (tmp_path / "id").write_text("-----BEGIN OPENSSH " + "PRIVATE KEY-----\nhunter2\n")
        (tmp_path / "empty.pub").write_text("\n")
        for name, says in (
            ("no.pub", "cannot read the public ssh key: no such file"),
            ("./id", "is no public ssh key"),
            ("empty.pub", "is no public ssh key"),
            ("~nobody-like-that/id.pub", "cannot read"),
        ):
            with pytest.raises(ConfigError, match=says) as caught:
                self.parsed(tmp_path, name)
            assert caught.value.message.startswith(f"obsdimg.toml: access.admin.keys[0]: {name}: ")
            assert caught.value.hint
            assert "hunter2" not in caught.value.message

    def test_a_piece_of_a_private_key_is_not_repeated(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            self.parsed(tmp_path, "b3BlbnNzaC1rZXktdjEAAAAABG5v/bmUAAAAEbm9uZQ")
        assert "b3Blb" not in caught.value.message


def test_a_setting_whose_heading_is_missing_says_which_one() -> None:
    with pytest.raises(ConfigError, match=r"access\.keys: there is no such setting") as caught:
        parse(b'[access]\nkeys = ["ssh-ed25519 AAAA"]\n')
    assert "[access.admin]" in (caught.value.hint or "")


def test_a_section_that_stands_twice_says_where_to_write_it() -> None:
    text = commented({"tunnel": {"endpoint": "a.example"}}) + "\n[tunnel]\nport = 443\n"
    with pytest.raises(ConfigError, match="not TOML") as caught:
        parse(text.encode())
    assert "tunnel.port = 53" in (caught.value.hint or "")
