"""Every generated file of the site set, against the one that was looked at and approved.

`OBSDIMG_REGENERATE=1 ./test tests/site` writes the golden files anew; review them as a diff.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from obsdimg.config import parse
from obsdimg.core.entry import Entry
from obsdimg.releases.release import load_release
from obsdimg.response.install_conf import ResponseError, check_response
from obsdimg.site.plan import STEPS, Materials, SitePlanError, install_site
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey
from support.site_fixtures import RECIPE, content, planned, secret

GOLDEN = Path(__file__).parent / "golden"
SCENARIOS = {
    "recipe-66": (RECIPE, "6.6"),
    "recipe-75": (RECIPE, "7.5"),
    "multihop-66": (
        RECIPE + '[tunnel.upstream]\nendpoint = "hop.example.net"\n'
        'public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="\nipv4 = "10.9.0.2/24"\n',
        "6.6",
    ),
    "multihop-75": (
        RECIPE + '[tunnel.upstream]\nendpoint = "hop.example.net"\n'
        'public_key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="\nipv4 = "10.9.0.2/24"\n',
        "7.5",
    ),
    "first-boot-66": (RECIPE.replace("[tunnel]\n", '[tunnel]\nkeys = "first-boot"\n'), "6.6"),
}


def without_keys(data: bytes) -> bytes:
    """Golden files hold no key, not even a worthless one."""
    for name in ("server", "laptop psk", "phone psk"):
        data = data.replace(WgPrivateKey(secret(name)).reveal().encode(), f"<{name}>".encode())
        data = data.replace(PresharedKey(secret(name)).reveal().encode(), f"<{name}>".encode())
    return data


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_file_is_as_approved(name: str) -> None:
    text, version = SCENARIOS[name]
    plan = planned(text, version)
    config, release = parse(text.encode()), load_release(version)
    files = {f.path: f.data for f in plan.files if f.kind == "file"}
    files |= {path: f.data for path, f in plan.sealed.items() if f.kind == "file"}
    files["/install.site"] = install_site(b"sealed").data
    files["/auto_install.conf"] = check_response(config, release, release.port("amd64"), False).data
    assert plan.files == (), "nothing of it is in the site set in clear"
    listing = [f"{f.mode:04o} {f.kind} {path}" for path, f in plan.sealed.items()]
    files["/LISTING"] = "".join(f"{line}\n" for line in sorted(listing)).encode()
    files = {path: without_keys(data) for path, data in files.items()}
    folder = GOLDEN / name
    if os.environ.get("OBSDIMG_REGENERATE"):
        shutil.rmtree(folder, ignore_errors=True)
        for path, data in files.items():
            target = folder / path[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    approved = {
        "/" + str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    assert set(files) == set(approved)
    for path in sorted(files):
        assert files[path].decode() == approved[path].decode(), path


def test_secrets_are_in_the_sealed_files_and_nowhere_else() -> None:
    plan = planned()
    values = [WgPrivateKey(secret(n)).reveal() for n in ("server", "laptop", "phone")]
    values += [PresharedKey(secret(n)).reveal() for n in ("laptop psk", "phone psk")]
    public = b"".join(f.data for f in plan.files)
    for value in values:
        assert value.encode() not in public
    sealed = b"".join(f.data for f in plan.sealed.values())
    assert values[0].encode() in sealed
    assert values[3].encode() in sealed
    assert values[1].encode() not in sealed, "a client's private key never goes to the server"


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.skipif(shutil.which("mksh") is None, reason="mksh is not installed")
def test_generated_scripts_are_valid_shell(name: str) -> None:
    text, version = SCENARIOS[name]
    scripts = [
        f.data
        for f in planned(text, version).sealed.values()
        if f.data.startswith((b"#!/bin/sh", b"#!/bin/ksh")) or f.path == STEPS
    ]
    scripts += [install_site(b"sealed").data, install_site(None).data]
    for data in scripts:
        done = subprocess.run(["mksh", "-n"], input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert b"{{" not in data
        assert b"{%" not in data


def test_the_overlay_replaces_files_of_ours_but_not_the_sealed_ones() -> None:
    mine = Entry("/etc/sysctl.conf", b"kern.maxproc=99\n", 0o644, "overlay/etc/sysctl.conf")
    plan = planned(materials=Materials(overlay=[mine]))
    assert content(plan, "/etc/sysctl.conf") == "kern.maxproc=99\n"
    for path in ("/etc/wireguard/server.conf", "/install.site", "/obsdimg.sealed"):
        bad = Entry(path, b"", 0o600, f"overlay{path}")
        with pytest.raises(SitePlanError, match=r"is written by obsdimg"):
            planned(materials=Materials(overlay=[bad]))


def test_an_answer_that_fits_no_question_is_an_error() -> None:
    release = load_release("6.6")
    text = RECIPE + '[[answers]]\nquestion = "Favourite colour"\nanswer = "blue"\n'
    with pytest.raises(ResponseError, match="favourite colour"):
        check_response(parse(text.encode()), release, release.port("amd64"), False)


def test_a_raw_answer_that_a_question_takes_is_used() -> None:
    release = load_release("6.6")
    text = (
        RECIPE + '[[answers]]\nquestion = "Which disk do you wish to initialize"\nanswer = "done"\n'
    )
    checked = check_response(parse(text.encode()), release, release.port("amd64"), False)
    assert b"Which disk do you wish to initialize = done\n" in checked.data


def test_from_6_8_there_is_no_package_and_no_daemon() -> None:
    plan = planned(version="6.8")
    assert "wireguard-go" not in content(plan, "/etc/rc.d/obsdimg_wg")
    assert "pkg_add -I" not in content(plan, "/usr/local/sbin/obsdimg-firsttime")
    assert "/etc/hostname.wg0" in plan.sealed
    assert plan.sealed["/etc/hostname.wg0"].mode == 0o640
