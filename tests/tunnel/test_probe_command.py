"""`obsdimg probe` as its user sees it: files in, sentences, JSON and exit codes out."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.tunnel import client as client_module
from obsdimg.tunnel import probe as probe_module
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey
from support.responder import Faults, Responder, ResponderCore, ResponderPeer


@dataclass
class Setup:
    """A server on loopback and its client's file."""

    responder: Responder
    path: Path
    client: WgPrivateKey
    preshared: PresharedKey

    @property
    def faults(self) -> Faults:
        return self.responder.core.faults

    def rewrite(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(client_module, "RETRY_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(probe_module, "REPLY_SECONDS", 0.3)
    monkeypatch.chdir(tmp_path)
    server, client, preshared = (
        WgPrivateKey.generate(),
        WgPrivateKey.generate(),
        PresharedKey.generate(),
    )
    core = ResponderCore(
        server,
        (ip_address("10.0.0.1"), ip_address("fd00:53::1")),
        (ResponderPeer(client.public(), preshared),),
    )
    with Responder(core) as responder:
        path = tmp_path / "laptop.conf"
        path.write_text(
            f"[Interface]\nPrivateKey = {client.reveal()}\n"
            "Address = 10.0.0.2/24, fd00:53::2/64\n"
            f"[Peer]\nPublicKey = {server.public()}\nPresharedKey = {preshared.reveal()}\n"
            f"AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {responder.endpoint}\n"
        )
        path.chmod(0o600)
        yield Setup(responder, path, client, preshared)


def probe(setup: Setup, *words: str) -> int:
    quick = ["--count", "2", "--interval", "0.02", "--timeout", "1"]
    return main(["probe", "--conf", str(setup.path), *quick, *words])


def test_a_working_tunnel_is_described_and_exits_0(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(setup) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("handshake: ")
    assert "(1 attempt)" in lines[0]
    assert lines[1].startswith("10.0.0.1 (server): 2 of 2 answered, ")
    assert lines[2].startswith("fd00:53::1 (server): 2 of 2 answered, ")
    assert lines[3].startswith("9.9.9.9 (outside): 2 of 2 answered, ")
    assert lines[4] == f"{setup.responder.endpoint}: the tunnel works"
    assert "error" not in err
    assert "warning" not in err


def test_json_holds_the_same_and_nothing_else_is_on_stdout(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(setup, "--json", "--outside", "192.0.2.7", "--outside", "2001:db8::7") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["verdict"] == "works"
    assert result["client"] == "laptop"
    assert [t["address"] for t in result["targets"]] == [
        "10.0.0.1",
        "fd00:53::1",
        "192.0.2.7",
        "2001:db8::7",
    ]
    assert result["targets"][0]["rtt_ms"]["min"] > 0


def test_a_tunnel_that_does_not_forward_exits_1_with_message_and_hint(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.faults.forwards = False
    assert probe(setup) == 1
    out, err = capsys.readouterr()
    assert "10.0.0.1 (server): 2 of 2 answered" in out
    assert "9.9.9.9 (outside): 0 of 2 answered" in out
    assert "error: " in err
    assert "nothing from 9.9.9.9" in err
    assert "hint: check net.inet.ip.forwarding" in err


def test_json_is_printed_for_a_failure_too(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.faults.drop_initiations = 100
    assert probe(setup, "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert result["verdict"] == "no-answer"
    assert result["hint"]
    assert result["targets"] == []


def test_outside_none_leaves_the_outside_alone(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.faults.forwards = False
    assert probe(setup, "--outside", "none") == 0
    assert "outside" not in capsys.readouterr().out


def test_a_split_tunnel_is_not_pinged_outside_by_default(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.rewrite("0.0.0.0/0, ::/0", "10.0.0.0/24, fd00:53::/64, 172.16.1.0/24")
    assert probe(setup) == 0
    assert "outside" not in capsys.readouterr().out
    assert probe(setup, "--outside", "172.16.1.9") == 0
    assert probe(setup, "--outside", "9.9.9.9") == 2
    assert "9.9.9.9 is not in this client's AllowedIPs" in capsys.readouterr().err


def test_the_servers_address_can_be_given(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    setup.rewrite("10.0.0.2/24, fd00:53::2/64", "10.0.0.2/32")
    assert probe(setup, "--outside", "none") == 2
    assert (
        "hint: give the server's address in the tunnel by --server-address"
        in capsys.readouterr().err
    )
    assert probe(setup, "--outside", "none", "--server-address", "10.0.0.1") == 0


def test_the_endpoint_can_be_given(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    real = str(setup.responder.endpoint)
    setup.rewrite(f"Endpoint = {real}\n", "")
    assert probe(setup) == 1
    assert "lacks the server's address\nhint: " in capsys.readouterr().err
    assert probe(setup, "--endpoint", real) == 0


def test_loss_is_a_warning(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    setup.faults.lose_every = 2
    assert probe(setup, "--outside", "none", "--server-address", "10.0.0.1") == 0
    assert "warning: 10.0.0.1: 50% of the pings were lost" in capsys.readouterr().err


def test_a_file_that_others_may_read_is_warned_of(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.path.chmod(0o644)
    assert probe(setup) == 0
    assert "others may read this private key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--count", "0"], "count of 0"),
        (["--timeout", "0"], "time limit"),
        (["--size", "4000"], "size of 4000 bytes"),
        (["--endpoint", "nowhere"], "--endpoint: no port in 'nowhere'"),
        (["laptop"], "NAME and --conf are both given"),
    ],
)
def test_bad_words_are_one_line(
    setup: Setup, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert probe(setup, *words) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_an_address_that_is_none_is_wrong_usage(setup: Setup) -> None:
    with pytest.raises(SystemExit) as caught:
        probe(setup, "--outside", "example.org")
    assert caught.value.code == 2


def test_without_a_project_the_hint_says_what_to_do(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "laptop"]) == 1
    err = capsys.readouterr().err
    assert "obsdimg.toml: there is no such configuration" in err
    assert "--conf CLIENT.conf" in err


def test_no_output_holds_a_key(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    for faults in (Faults(), Faults(forwards=False), Faults(drop_initiations=99)):
        setup.responder.core.faults = faults
        probe(setup)
        probe(setup, "--json")
    captured = capsys.readouterr()
    for secret in (setup.client, setup.preshared):
        assert secret.reveal()[:8] not in captured.out + captured.err


PROJECT = """\
[release]
version = "6.6"
[tunnel]
ipv4 = "10.0.0.1/24"
ipv6 = "fd00:53::1/64"
endpoint = "127.0.0.1"
port = PORT
dns = "none"
"""
PEER = '[[tunnel.peers]]\nname = "NAME"\nipv4 = "10.0.0.N"\nipv6 = "fd00:53::N"\n'


def make_project(folder: Path, *names: str) -> Iterator[Responder]:
    """A project with its keys, and its server on loopback."""
    from obsdimg.project.folder import Project

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = PROJECT.replace("PORT", str(port))
    for number, name in enumerate(names, start=2):
        text += PEER.replace("NAME", name).replace("N", str(number))
    (folder / "obsdimg.toml").write_text(text)
    project = Project.open(folder / "obsdimg.toml")
    keys = project.keys()
    assert keys.server is not None
    core = ResponderCore(
        keys.server,
        (ip_address("10.0.0.1"), ip_address("fd00:53::1")),
        tuple(ResponderPeer(peer.public, peer.preshared) for peer in keys.peers.values()),
    )
    with Responder(core, port=port) as responder:
        yield responder


def test_a_client_of_the_project_is_probed_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--count", "1", "--timeout", "2"]
    config = ["-c", str(tmp_path / "obsdimg.toml")]
    for _ in make_project(tmp_path, "laptop", "phone"):
        for name in ("laptop", "phone"):
            assert main(["probe", name, *quick, *config]) == 0
            out = capsys.readouterr().out
            assert "10.0.0.1 (server): 1 of 1 answered" in out
            assert "fd00:53::1 (server): 1 of 1 answered" in out
        assert main(["probe", *quick, *config]) == 2
        assert "hint: obsdimg probe laptop|phone" in capsys.readouterr().err
        assert main(["probe", "tablet", *quick, *config]) == 1
        err = capsys.readouterr().err
        assert "error: there is no client tablet" in err
        assert "in the configuration: laptop, phone" in err


def test_the_only_client_needs_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in make_project(tmp_path, "laptop"):
        assert main(["probe", "--count", "1", "--timeout", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["client"] == "laptop"
