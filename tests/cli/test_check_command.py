"""`obsdimg check` writes nothing, and no command makes keys where others were lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.config import load
from obsdimg.project.folder import LostKeysError, Project


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything below `folder`."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "vpn"
    assert main(["init", str(folder), "-q"]) == 0
    return folder


def check(project: Path, *words: str) -> int:
    return main(["check", "-c", str(project / "obsdimg.toml"), *words])


def test_check_changes_no_file(project: Path) -> None:
    before = tree(project)
    assert check(project) == 0
    assert check(project, "--json") == 0
    assert tree(project) == before


def test_a_configuration_without_keys_is_checked_without_making_any(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(project / "obsdimg.toml", alone)
    (alone / "overlay").mkdir()
    before = tree(alone)
    assert check(alone) == 0
    assert tree(alone) == before
    assert "/install.site" in capsys.readouterr().out


def test_rules_of_the_users_own_that_shut_the_tunnel_out_are_seen(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(project) == 0
    assert "see that clients reach it" not in capsys.readouterr().err
    own = project / "overlay/etc/pf.conf"
    own.parent.mkdir(parents=True)
    own.write_text("block all\npass in on egress inet proto udp to (egress) port 51820 no state\n")
    assert check(project) == 0
    assert (
        "warning: overlay/etc/pf.conf: no rule known here lets UDP 53 over IPv4 in to the tunnel's"
        " daemon, port 51820: see that clients reach it"
    ) in capsys.readouterr().err
    own.write_text(
        "block all\npass in on egress inet proto udp to (egress) port 51820 no state\n"
        "pass in on egress inet proto udp to (egress:0) port 53 \\\n"
        "\tkeep state (max 20000) rdr-to (egress:0) port 51820\n# a comment\n"
    )
    assert check(project) == 0
    assert "see that clients reach it" not in capsys.readouterr().err


@pytest.mark.parametrize("held", ["clients/laptop.conf", "images/vpn.iso"])
@pytest.mark.parametrize("command", ["check", "build"])
def test_lost_keys_are_an_error_with_the_way_out(
    project: Path, held: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = project / held
    place.parent.mkdir(exist_ok=True)
    place.write_text("")
    shutil.rmtree(project / "secrets")
    before = tree(project)
    assert main([command, "-c", str(project / "obsdimg.toml")]) == 1
    said = capsys.readouterr().err
    assert f"but {place.parent.name}/ hold what was made with this project's keys" in said
    assert "hint: put secrets/ back (obsdimg restore FILE" in said
    assert tree(project) == before
    place.unlink()
    assert check(project) == 0, "the way out is one"
    assert not (project / "secrets").exists()


def test_a_server_key_that_was_lost_alone_is_not_made_anew(project: Path) -> None:
    (project / "secrets/server.key").unlink()
    config = project / "obsdimg.toml"
    for look in (Project(config, load(config)).keys, Project.open(config).keys_for_looking):
        with pytest.raises(LostKeysError, match=r"server\.key is not there, but laptop\.psk"):
            look()
    assert not (project / "secrets/server.key").exists()
