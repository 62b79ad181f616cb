"""Commands for several servers, as a user gives them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from obsdimg import standin
from obsdimg.cli import each
from obsdimg.cli.main import main
from obsdimg.cli.servers import for_one, with_names
from obsdimg.cli.ui import Ui
from obsdimg.core.crowd import Member
from obsdimg.core.relaunch import own_environment

TEXT = """\
[release]
version = "6.6"
[packages]
carry = false
[access]
root_keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
[servers.ams.tunnel]
endpoint = "ams.example.net"
ipv4 = "10.1.0.1/24"
[servers.fra.tunnel]
endpoint = "fra.example.net"
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "obsdimg.toml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_of_servers_stand_right_behind_the_command(folder: Path) -> None:
    assert with_names(["status", "fra", "ams", "--json"]) == [
        "status", "--server", "fra", "--server", "ams", "--json",
    ]  # fmt: skip
    assert with_names(["ssh", "ams", "fra"]) == ["ssh", "--server", "ams", "fra"], "a command"
    for words in (["client", "ams"], ["status", "--as", "ams"], ["rehearse", "x.iso", "ams"], []):
        assert with_names(words) == words
    elsewhere = ["status", "ams", "-c", "nowhere.toml"]
    assert with_names(elsewhere) == elsewhere


def test_what_names_servers_is_left_out_for_one_of_them() -> None:
    words = ["--server", "a", "-q", "--all", "--jobs=3", "-o", "x/{server}", "-j", "2", "status"]
    assert for_one(words) == ["-q", "-o", "x/{server}", "status"]


def test_one_server_is_shown_and_without_a_name_all_are_named(
    folder: Path, capsys: Capture
) -> None:
    assert main(["check"]) == 1
    said = capsys.readouterr().err
    assert "which server? ams, fra" in said
    assert "--all" in said
    assert main(["check", "fra"]) == 0
    assert "System hostname" in capsys.readouterr().out
    assert main(["check", "--server", "par"]) == 1
    assert "there is no server par" in capsys.readouterr().err
    assert main(["check", "--all", "--server", "ams"]) == 2
    assert "do not go together" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["check", "fra", "par"])
    assert "there is no server par" in capsys.readouterr().err


def test_all_are_checked_in_one_go(folder: Path, capsys: Capture) -> None:
    assert main(["check", "--all", "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["ams", "fra"]
    assert {value["exit_code"] for value in said.values()} == {0}
    answers = {
        n: {q["question"]: q["answer"] for q in v["result"]["questions"]} for n, v in said.items()
    }
    assert "ams" in str(answers["ams"])
    assert answers["ams"] != answers["fra"]


def test_one_that_fails_is_named_and_the_others_go_on(folder: Path, capsys: Capture) -> None:
    (folder / "obsdimg.toml").write_text(TEXT + "mtu = 9\n")
    assert main(["check", "ams", "fra"]) == 1
    captured = capsys.readouterr()
    assert "fra: error: obsdimg.toml [servers.fra]: tunnel.mtu: " in captured.err
    assert "1 of 2 servers: done; exit codes: fra (1)" in captured.err
    assert "== ams" in captured.out
    assert "== fra" not in captured.out


@pytest.mark.parametrize(
    "words",
    [
        ["build", "--all", "-o", "x.iso"],
        ["smoke", "--all", "--report", "here"],
        ["rehearse", "--all", "--transcript", "t"],
        ["status", "--all", "--prometheus", "vpn.prom"],
    ],
)
def test_servers_do_not_share_a_file(folder: Path, capsys: Capture, words: list[str]) -> None:
    assert main(words) == 2
    assert "is one file for several servers" in capsys.readouterr().err
    assert "{server}" in words[-1] or not (folder / words[-1]).exists()


def test_a_file_about_one_server_has_no_all(tmp_path: Path, capsys: Capture) -> None:
    assert main(["init", str(tmp_path), "-q"]) == 0
    assert main(["check", "--all", "-c", str(tmp_path / "obsdimg.toml")]) == 1
    assert "it has no [servers.NAME] tables" in capsys.readouterr().err


def member(name: str, code: int, output: bytes = b"") -> Member:
    return Member(name, code, output)


@pytest.mark.parametrize(("answer", "changed"), [(True, ["ams"]), (False, [])])
def test_apply_asks_once_and_changes_those_that_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, answer: bool, changed: list[str]
) -> None:
    runs: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def run(
        command: str, rest: Sequence[str], names: Sequence[str], jobs: int, ui: Ui
    ) -> list[Member]:
        runs.append((tuple(rest), tuple(names)))
        if "--check" in rest:
            return [member("ams", 3, b"+ peer x\n"), member("fra", 0), member("zrh", 1)]
        return [member(name, 0) for name in names]

    monkeypatch.setattr(each, "_run", run)
    monkeypatch.setattr(Ui, "confirm", lambda self, question: "ams" in question and answer)
    options = SimpleNamespace(yes=False, check=False, jobs=4)
    monkeypatch.setattr(each, "_refuse_shared_files", lambda options: None)
    assert each.run_each("apply", ["--as", "me"], ["ams", "fra", "zrh"], options, Ui()) == 1
    assert runs[0] == (("--as", "me", "--check"), ("ams", "fra", "zrh"))
    assert [list(names) for _, names in runs[1:]] == ([changed] if changed else [])
    captured = capsys.readouterr()
    assert "+ peer x" in captured.out
    assert "not compared, and left as they are: zrh" in captured.err


def test_clients_are_of_all_servers_and_one_file_may_be_for_several(
    folder: Path, capsys: Capture
) -> None:
    assert main(["client", "add", "phone", "-q"]) == 0
    for name, address in (("ams", "10.1.0.3"), ("fra", "10.0.0.3")):
        assert (
            f"Address = {address}/32" in (folder / f"servers/{name}/clients/phone.conf").read_text()
        )
    capsys.readouterr()
    assert main(["client", "phone", "--all"]) == 0
    assert capsys.readouterr().out.count("[Peer]") == 2
    assert main(["client", "phone"]) == 1
    assert "which server?" in capsys.readouterr().err
    before = (folder / "secrets/phone.key").read_text()
    psk = (folder / "servers/ams/secrets/phone.psk").read_text()
    assert main(["client", "rotate", "phone", "-q"]) == 0
    assert (folder / "secrets/phone.key").read_text() != before
    assert (folder / "servers/ams/secrets/phone.psk").read_text() != psk
    assert main(["client", "remove", "phone", "-q"]) == 0
    assert not list(folder.glob("**/phone.*"))
    for words in (["--server", "ams"], ["--apply"]):
        assert main(["client", "add", "phone", *words]) == 1
    said = capsys.readouterr().err
    assert "is for all servers of the file" in said
    assert "obsdimg apply --all" in said
    assert (folder / "obsdimg.toml").read_text() == TEXT


def test_a_client_that_a_server_has_of_its_own_is_not_half_removed(
    folder: Path, capsys: Capture
) -> None:
    assert main(["client", "add", "phone", "-q"]) == 0
    own = '[[servers.ams.tunnel.peers]]\nname = "phone"\nipv4 = "10.1.0.9"\n'
    text = (folder / "obsdimg.toml").read_text()
    (folder / "obsdimg.toml").write_text(text + own)
    keys = sorted(folder.rglob("secrets/phone.*"))
    capsys.readouterr()
    assert main(["client", "remove", "phone"]) == 1
    assert "phone also stands in the peers of [servers.ams.tunnel]" in capsys.readouterr().err
    assert (folder / "obsdimg.toml").read_text() == text + own
    assert sorted(folder.rglob("secrets/phone.*")) == keys


def test_a_new_client_takes_a_place_that_is_free_at_every_server(
    folder: Path, capsys: Capture
) -> None:
    own = '[[servers.ams.tunnel.peers]]\nname = "printer"\nipv4 = "10.0.0.3"\n'
    (folder / "obsdimg.toml").write_text(TEXT.replace("10.1.0.1/24", "10.0.0.1/24") + own)
    assert main(["client", "add", "phone", "-q"]) == 0, capsys.readouterr().err
    for name in ("ams", "fra"):
        conf = (folder / f"servers/{name}/clients/phone.conf").read_text()
        assert "Address = 10.0.0.4/32" in conf


@pytest.mark.parametrize(
    ("shared", "says"),
    [
        ("tunnel = 3\n[servers.a]\ntunnel.ipv4 = '10.0.0.1/24'\n", "tunnel: is no table"),
        ("[tunnel]\npeers = 'hunter2'\n[servers.a.tunnel]\npeers = []\n", "tunnel.peers: is no"),
    ],
)
def test_a_shared_table_of_the_wrong_kind_is_one_error_without_its_value(
    folder: Path, capsys: Capture, shared: str, says: str
) -> None:
    (folder / "obsdimg.toml").write_text(shared)
    assert main(["client", "add", "phone"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said, said
    assert "hunter2" not in said
    assert (folder / "obsdimg.toml").read_text() == shared


def build(folder: Path, *words: str) -> list[str]:
    phrase = folder / "phrase"
    phrase.touch(0o600)
    phrase.write_text("velvet orbit cactus mandolin seventeen\n")
    return [
        sys.executable, "-m", "obsdimg", "build", *words, "--iso", "up.iso", "--unverified",
        "--offline", "--passphrase-file", "phrase",
    ]  # fmt: skip


def test_isos_of_all_servers_are_built_in_parallel_and_are_each_their_own(folder: Path) -> None:
    standin.build_iso(folder / "up.iso")
    environment = {**own_environment(), "OBSDIMG_CACHE": str(folder / "cache")}
    done = subprocess.run(
        build(folder, "--all"), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 servers: done" in done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("== ")] == [
        "== ams",
        "== fra",
    ]
    isos = [folder / f"servers/{n}/images/{n}-66-amd64.iso" for n in ("ams", "fra")]
    assert isos[0].read_bytes() != isos[1].read_bytes()
    for name in ("ams", "fra"):
        words = [sys.executable, "-m", "obsdimg", "inspect", "--server", name, "--json"]
        seen = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        checks = {c["name"]: c["passed"] for c in json.loads(seen.stdout)["checks"]}
        assert checks["the ISO is what its manifest says"] is True, "by this server's own key"
        # Every server's secrets are looked for, wherever one points: none of them may be in it.
        for place in (".", f"servers/{name}"):
            seen = subprocess.run(
                [*words, "--secrets", place], cwd=folder, env=environment, text=True,
                capture_output=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            checks = {c["name"]: c for c in json.loads(seen.stdout)["checks"]}
            found = checks["no secret of the project is in the ISO"]
            assert found["passed"] is True, found
            count = int(found["detail"].split()[0])
            keys = [p for p in folder.rglob("secrets/*") if p.suffix in (".key", ".psk", ".sec")]
            assert count > len(keys) >= 7, (count, keys)


def test_a_build_of_all_that_is_ended_leaves_no_process_and_nothing_that_looks_finished(
    folder: Path,
) -> None:
    standin.build_iso(folder / "up.iso", iso_size_padding=30_000_000)
    environment = {**own_environment(), "OBSDIMG_CACHE": str(folder / "cache")}
    running = subprocess.Popen(
        build(folder, "--all"), cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    line = running.stderr.readline()  # one of them works
    assert line.startswith(("ams: ", "fra: "))
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 143
    for process in Path("/proc").glob("[0-9]*"):
        try:
            at_work = (process / "cwd").readlink() == folder
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert not (at_work and b"--server" in words)
    finished = list(folder.glob("servers/*/images/*.sha256"))
    for sha in finished:
        assert sha.with_suffix("").exists()
