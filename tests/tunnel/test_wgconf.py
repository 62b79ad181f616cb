"""Client configurations are read strictly, and no error repeats what a line holds."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.core.files import FileError
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.errors import ConfError, EndpointError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, clamp
from obsdimg.tunnel.wgconf import load, parse

# The same in every process: they stand in the names of tests, which must agree between workers.
CLIENT = WgPrivateKey(clamp(hashlib.sha256(b"client").digest()))
SERVER = WgPrivateKey(clamp(hashlib.sha256(b"server").digest())).public()
PSK = PresharedKey(hashlib.sha256(b"psk").digest())

GOOD = f"""\
# laptop
[Interface]
PrivateKey = {CLIENT.reveal()}
Address = 10.0.0.2/32, fd00:53::2/128   # ours
DNS = 10.0.0.1, example.org
MTU = 1420

[Peer]
PublicKey = {SERVER}
PresharedKey = {PSK.reveal()}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.org:53
PersistentKeepalive = 25
"""


def test_every_setting_of_a_client_is_read() -> None:
    conf = parse(GOOD, "laptop.conf")
    (peer,) = conf.peers
    assert conf.private_key == CLIENT
    assert conf.addresses == (ip_interface("10.0.0.2/32"), ip_interface("fd00:53::2/128"))
    assert conf.dns == (ip_address("10.0.0.1"),)
    assert conf.search == ("example.org",)
    assert conf.mtu == 1420
    assert peer.public_key == SERVER
    assert peer.preshared_key == PSK
    assert peer.allowed_ips == (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert peer.endpoint == Endpoint("vpn.example.org", 53)
    assert peer.keepalive == 25


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("Address", "address"),
        lambda text: text.replace("[Interface]", "[interface]"),
        lambda text: text.replace(" = ", "="),
        lambda text: text.replace(" = ", "   =\t"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("MTU", "PostUp = echo hello # = 1\nMTU"),
        lambda text: text.replace("MTU", "Table = off\nSaveConfig = true\nFwMark = 0x1\nMTU"),
        lambda text: text.replace("0.0.0.0/0, ::/0", "0.0.0.0/0\nAllowedIPs=::/0"),
    ],
)
def test_spellings_that_wg_quick_takes_mean_the_same(change: object) -> None:
    assert callable(change)
    assert parse(change(GOOD), "x") == parse(GOOD, "x")


def test_the_least_file_is_enough() -> None:
    conf = parse(f"[Interface]\nPrivateKey={CLIENT.reveal()}\n[Peer]\nPublicKey={SERVER}", "x")
    assert conf.addresses == ()
    assert conf.peers[0].preshared_key is None
    assert conf.peers[0].endpoint is None


def test_host_bits_and_bare_addresses_are_networks_as_wg_takes_them() -> None:
    text = GOOD.replace("0.0.0.0/0, ::/0", "10.0.0.7/24, 192.0.2.1, 2001:db8::1")
    assert [str(n) for n in parse(text, "x").peers[0].allowed_ips] == [
        "10.0.0.0/24",
        "192.0.2.1/32",
        "2001:db8::1/128",
    ]
    assert parse(GOOD.replace("0.0.0.0/0, ::/0", ""), "x").peers[0].allowed_ips == ()


@pytest.mark.parametrize("text", ["off", "0"])
def test_keepalive_can_be_off(text: str) -> None:
    conf = parse(GOOD.replace("alive = 25", f"alive = {text}"), "x")
    assert conf.peers[0].keepalive is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[Interface]", "[Inter face]", "line 2: unknown section"),
        ("[Interface]", "[Interface", "line 2: unknown section"),
        ("[Interface]\n", "", "line 2: a setting before the first section"),
        ("[Peer]", "", "line 9: no setting of [Interface]"),
        ("MTU = 1420", "[Interface]", "line 6: a second [Interface]"),
        ("MTU = 1420", "MUT = 1420", "line 6: no setting of [Interface]"),
        ("MTU = 1420", "PublicKey = x", "line 6: no setting of [Interface]"),
        ("MTU = 1420", "whatever", "line 6: no setting of [Interface]"),
        ("MTU = 1420", "MTU =", "line 6: MTU has no value"),
        ("MTU = 1420", "MTU = 100", "line 6: MTU: not a number from 576 to 65535"),
        ("MTU = 1420", "MTU = ١٤٢٠", "line 6: MTU: not a number"),
        ("MTU = 1420", "MTU = 1420\nMTU = 1420", "line 7: MTU stands here for the second time"),
        ("MTU = 1420", "ListenPort = 70000", "line 6: ListenPort: not a number"),
        (CLIENT.reveal(), "x", "line 3: PrivateKey: the key is not base64"),
        (f"PrivateKey = {CLIENT.reveal()}", "", "line 2: [Interface] has no PrivateKey"),
        (f"PublicKey = {SERVER}", "", "line 8: [Peer] has no PublicKey"),
        (str(SERVER), "AAAA", "line 9: PublicKey: the key has 3 bytes"),
        (str(SERVER), "A" * 43 + "=", "line 9: PublicKey: the public key is all zero"),
        ("10.0.0.2/32,", "10.0.0.2/33,", "line 4: Address: not an address"),
        ("10.0.0.2/32,", ",", "line 4: Address: not an address"),
        ("10.0.0.1,", "10.0.0.256,", "line 5: DNS: an address is wrong"),
        ("10.0.0.1,", "fd00::x,", "line 5: DNS: an address is wrong"),
        ("0.0.0.0/0", "0.0.0.0/0/0", "line 11: AllowedIPs: not a network"),
        (".org:53", ".org", "line 12: Endpoint: not HOST:PORT"),
        (".org:53", ".org:0", "line 12: Endpoint: not HOST:PORT"),
        (".org:53", ".org:65536", "line 12: Endpoint: not HOST:PORT"),
        ("= 25", "= 65536", "line 13: PersistentKeepalive: not a number"),
        ("= 25", "= -1", "line 13: PersistentKeepalive: not a number"),
    ],
)
def test_mistakes_are_named_with_their_line(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfError) as caught:
        parse(GOOD.replace(old, new, 1), "laptop.conf")
    assert says in caught.value.message
    assert caught.value.message.startswith("laptop.conf: ")


@pytest.mark.parametrize("text", ["", "# nothing\n", f"[Peer]\nPublicKey = {SERVER}\n"])
def test_a_file_without_an_interface_is_refused(text: str) -> None:
    with pytest.raises(ConfError, match=r"no \[Interface\]"):
        parse(text, "x")


def test_a_file_without_a_peer_or_with_a_peer_twice_is_refused() -> None:
    with pytest.raises(ConfError, match=r"no \[Peer\]"):
        parse(GOOD[: GOOD.index("[Peer]")], "x")
    with pytest.raises(ConfError, match="same PublicKey"):
        parse(GOOD + GOOD[GOOD.index("[Peer]") :], "x")


def test_no_error_repeats_a_key_wherever_it_was_pasted() -> None:
    key = WgPrivateKey.generate().reveal()
    lines = GOOD.splitlines()
    tried = 0
    for number, line in enumerate(lines):
        name = line.partition("=")[0]
        for wrong in (key, f"{name} = {key}x", f"{name} = {key}{key}", f"[{key}]", f"{key} = 1"):
            text = "\n".join([*lines[:number], wrong, *lines[number + 1 :]])
            try:
                parse(text, "x")
            except ConfError as error:
                tried += 1
                shown = f"{error.message} {error.hint} {error!r}"
                assert key[:8] not in shown
                assert key[:8].lower() not in shown.lower()
    assert tried > 40


@given(
    st.lists(st.sampled_from([*GOOD.splitlines(), "[", "=", "[]", "Endpoint = [::1]:1", "\x00"]))
)
def test_any_order_of_lines_is_a_configuration_or_an_error(lines: list[str]) -> None:
    try:
        parse("\n".join(lines), "x")
    except ConfError as error:
        assert error.message.startswith("x")


@given(st.text())
def test_any_text_is_a_configuration_or_an_error(text: str) -> None:
    with pytest.raises(ConfError):
        parse(text, "x")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.conf"):
        load(tmp_path / "gone.conf")
    path = tmp_path / "latin.conf"
    path.write_bytes(b"[Interface]\n# caf\xe9\n")
    with pytest.raises(ConfError, match=r"latin\.conf: line 2: not text"):
        load(path)
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(path).private_key == CLIENT


@pytest.mark.skipif(shutil.which("wg-quick") is None, reason="wireguard-tools is missing")
def test_wg_quick_takes_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "laptop.conf"
    path.write_text(GOOD)
    path.chmod(0o600)
    done = subprocess.run(
        ["wg-quick", "strip", str(path)], capture_output=True, text=True, timeout=10
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("vpn.example.org:53", "vpn.example.org", 53),
        ("203.0.113.5:51820", "203.0.113.5", 51820),
        ("[2001:db8::1]:53", "2001:db8::1", 53),
        ("  localhost:1 ", "localhost", 1),
        ("a:65535", "a", 65535),
    ],
)
def test_endpoints_are_read_and_written_back(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(host, port)
    assert str(endpoint) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vpn.example.org",
        ":53",
        "host:",
        "host:0",
        "host:65536",
        "host:5a",
        "host:٥٣",
        "2001:db8::1:53",
        "[vpn]:53",
        "[]:53",
        "a b:53",
        "-x:53",
        "x" * 300 + ":53",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(EndpointError, match=r"^--endpoint: ") as caught:
        Endpoint.parse(text, "--endpoint")
    assert caught.value.hint
