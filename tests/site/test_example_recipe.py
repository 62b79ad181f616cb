"""examples/recipe: the configuration is valid, and the files beside it are what it generates.

`OBSDIMG_REGENERATE=1 ./test tests/site` writes them anew; review them as a diff.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.config import load
from obsdimg.project.folder import ProjectKeys
from obsdimg.releases.release import load_release
from obsdimg.response.install_conf import check_response
from obsdimg.site.clients import client_conf, plan_client
from obsdimg.site.plan import Materials, install_site, plan_site
from support.site_fixtures import keys_for

EXAMPLE = Path(__file__).parents[2] / "examples/recipe"
GENERATED = EXAMPLE / "generated"


def blanked(data: bytes, keys: ProjectKeys) -> bytes:
    """No key is published, not even a worthless or a public one."""
    assert keys.server is not None
    assert keys.server_public is not None
    found = {
        keys.server.reveal(): "<the server's private key>",
        keys.server_public.text(): "<the server's public key>",
    }
    for name, peer in keys.peers.items():
        assert peer.private is not None
        assert peer.preshared is not None
        found[peer.private.reveal()] = f"<{name}'s private key>"
        found[peer.public.text()] = f"<{name}'s public key>"
        found[peer.preshared.reveal()] = f"<the key that the server and {name} share>"
    for key, name in found.items():
        data = data.replace(key.encode(), name.encode())
    return data


def generated() -> dict[str, bytes]:
    """Every file of the example that is worth reading, by its path under generated/."""
    config, release = load(EXAMPLE / "obsdimg.toml"), load_release("6.6")
    keys = keys_for(config)
    plan = plan_site(config, release, keys, Materials())
    files = {f"server{p}": f.data for p, f in plan.sealed.items() if f.kind == "file"}
    site = install_site(b"sealed").data
    files["server/install.site"] = re.sub(rb"\b[0-9a-f]{64}\b", b"<sha256 of the file>", site)
    answers = check_response(config, release, release.port("amd64"), False).data
    files["installer/auto_install.conf"] = answers
    for peer in config.tunnel.peers:
        files[f"clients/{peer.name}.conf"] = client_conf(plan_client(config, keys, peer))
    return {path: blanked(data, keys) for path, data in files.items()}


def test_the_files_beside_it_are_what_it_generates() -> None:
    files = generated()
    if os.environ.get("OBSDIMG_REGENERATE"):
        shutil.rmtree(GENERATED, ignore_errors=True)
        for path, data in files.items():
            (GENERATED / path).parent.mkdir(parents=True, exist_ok=True)
            (GENERATED / path).write_bytes(data)
    there = {
        str(p.relative_to(GENERATED)): p.read_bytes() for p in GENERATED.rglob("*") if p.is_file()
    }
    assert set(there) == set(files)
    for path, data in sorted(files.items()):
        assert there[path].decode() == data.decode(), path


def test_no_key_is_published() -> None:
    """Nothing there decodes as 32 bytes, as every WireGuard key does."""
    for path in EXAMPLE.rglob("*"):
        if path.is_file():
            for word in re.findall(rb"[A-Za-z0-9+/]{43}=", path.read_bytes()):
                assert len(base64.b64decode(word)) != 32, path


def test_check_accepts_it_and_shows_every_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "obsdimg.toml"
    copy.write_bytes((EXAMPLE / "obsdimg.toml").read_bytes())
    assert main(["check", "-c", str(copy)]) == 0
    out = capsys.readouterr().out
    for path in generated():
        if path.startswith("server/") and "install.site" not in path:
            assert path.removeprefix("server") in out, path


def test_it_is_the_recipe() -> None:
    pf = generated()["server/etc/pf.conf"].decode()
    assert "proto udp to (egress) port 53 no state" in pf
    assert "from 10.0.0.2 to 172.16.1.0/24 tag TO_PRIVATE" in pf
    assert "from 10.0.0.3 to 172.16.1.0/24" not in pf
    assert generated()["server/etc/sysctl.conf"] == b"net.inet.ip.forwarding=1\n"
    phone = generated()["clients/phone.conf"].decode()
    assert "DNS = 94.140.14.14, 94.140.15.15\n" in phone
    assert "PersistentKeepalive = 25\n" in phone
    assert "Endpoint = 203.0.113.5:53\n" in phone
