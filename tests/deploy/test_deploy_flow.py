"""`obsdimg upload` and `obsdimg deploy` as a user runs them, against the loopback provider."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from obsdimg.core.secret import Secret
from obsdimg.deploy.api import Api
from obsdimg.deploy.handshake import first_caller
from obsdimg.deploy.hosting import FromHere
from obsdimg.deploy.image import load_image
from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.serve import FileServer
from obsdimg.deploy.session import at_region, begin, store_of, wanted_instance
from obsdimg.deploy.state import State
from obsdimg.deploy.steps import Deployment
from obsdimg.deploy.uploading import Upload
from obsdimg.deploy.vultr import Vultr
from obsdimg.deploy.work import Waits
from obsdimg.iso.standin import PUBLISHER
from obsdimg.project.folder import Project
from obsdimg.site.clients import plan_clients
from support import fake_vultr
from support.deploy_bench import Bench, S3Store, bench, free_port
from support.fake_vultr import Fault

NOTHING = {"isos": 0, "instances": 0, "firewalls": 0, "vpcs": 0}


def test_from_an_iso_to_a_server_that_answers_and_to_nothing_again(b: Bench) -> None:
    result = b.deploy()
    assert result.returncode == 0, result.stderr
    assert "127.0.0.1 answers as laptop" in result.stdout
    assert "5.00 USD a month" in result.stderr
    assert "console: https://my.vultr.example/" in result.stderr
    assert b.fake.left() == {**NOTHING, "instances": 1, "firewalls": 1}
    (instance,) = b.fake.instances.values()
    assert (instance["label"], instance["hostname"], instance["_iso"]) == ("vpn", "vpn", None)
    (rules,) = b.fake.rules.values()
    assert [(r["ip_type"], r["protocol"], r["port"]) for r in rules] == [
        ("v4", "udp", str(b.port)),
        ("v6", "udp", str(b.port)),
    ]
    assert f"Endpoint = 127.0.0.1:{b.port}" in (b.root / "clients/phone.conf").read_text()
    state = b.state()
    assert state["done"] and state["rebooted"] and state["handshake"] > 0
    assert stat.S_IMODE(b.state_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(b.state_path.parent.stat().st_mode) == 0o700

    again = b.deploy()
    assert (again.returncode, again.stdout) == (0, result.stdout)
    assert b.fake.created.count("instance") == 1

    shown = json.loads(b.run("deploy", "status", "--json").stdout)
    assert shown["provider_says"] == {"instance": "active", "iso": None, "iso_attached": None}
    assert "handshake without the ISO" in b.run("deploy", "status").stdout

    wrong = b.run("deploy", "destroy", "--confirm", "other")
    assert (wrong.returncode, b.fake.left()["instances"]) == (1, 1)
    unasked = b.run("deploy", "destroy")
    assert "hint: --confirm vpn" in unasked.stderr
    gone = b.run("deploy", "destroy", "--confirm", "vpn")
    assert gone.returncode == 0, gone.stderr
    assert b.fake.left() == NOTHING
    assert not b.state_path.exists()
    assert "nothing deployed" in b.run("deploy", "status").stdout


def test_the_token_and_the_console_are_in_no_file(b: Bench) -> None:
    assert b.deploy().returncode == 0
    for path in b.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert fake_vultr.TOKEN.encode() not in data, path
            assert b"novnc" not in data, path
            assert b"do-not-log-this" not in data, path


def test_through_an_object_store_with_a_url_that_expires(b: Bench, store: S3Store) -> None:
    b.env |= store.env
    b.configure(store.table())
    result = b.run("deploy", "--yes", "--pause", "0.1")
    assert result.returncode == 0, result.stderr
    assert (store.keys(), store.uploads()) == ([], [])
    assert b.state()["object"]["gone"]
    assert store.secret not in result.stdout + result.stderr + b.state_path.read_text()
    assert "X-Amz-Signature" not in result.stdout + result.stderr + b.state_path.read_text()


def test_the_object_stays_where_it_is_to_stay_until_destroyed(b: Bench, store: S3Store) -> None:
    b.env |= store.env
    b.configure("keep_object = true\nkeep_iso = true\n" + store.table())
    assert b.run("deploy", "--yes", "--pause", "0.1").returncode == 0
    (key,) = store.keys()
    assert key.startswith("obsdimg/obsdimg-vpn-") and key.endswith(".iso")
    assert b.fake.left()["isos"] == 1
    assert b.run("deploy", "destroy", "--confirm", "vpn").returncode == 0
    assert (store.keys(), b.fake.left()) == ([], NOTHING)


def test_from_a_url_where_it_is_hosted_already(b: Bench) -> None:
    with FileServer(b.iso, "public", "mine.iso", ("127.0.0.1", 0)) as host:
        url = f"http://127.0.0.1:{host.port}/public/mine.iso"
        result = b.run("upload", "--pause", "0.1", "--url", url)
    assert result.returncode == 0, result.stderr
    assert "size and sha512 agree" in result.stdout
    assert b.fake.left()["isos"] == 1


def test_a_url_with_another_file_is_noticed_before_the_provider_is_asked(b: Bench) -> None:
    (b.root / "other").write_bytes(b"something else")
    with FileServer(b.root / "other", "public", "mine.iso", ("127.0.0.1", 0)) as host:
        url = f"http://127.0.0.1:{host.port}/public/mine.iso"
        result = b.run("upload", "--url", url)
    assert "error: --url: what is there has 14 bytes" in result.stderr
    assert b.fake.created == []


def test_what_upload_brought_deploy_uses(b: Bench) -> None:
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0
    result = b.run("deploy", "--yes", "--pause", "0.1")  # no host is needed any more
    assert result.returncode == 0, result.stderr
    assert b.fake.created.count("iso") == 1


def test_a_private_network_is_made_for_the_interface_and_removed(b: Bench) -> None:
    b.configure('private_network = "create"')
    assert b.deploy().returncode == 0
    (vpc,) = b.fake.vpcs.values()
    assert (vpc["v4_subnet"], vpc["v4_subnet_mask"], vpc["region"]) == ("172.16.1.0", 24, "ams")
    (instance,) = b.fake.instances.values()
    assert instance["_vpcs"] == [vpc["id"]]
    assert b.run("deploy", "destroy", "--confirm", "vpn").returncode == 0
    assert b.fake.left() == NOTHING


def test_a_machine_that_starts_from_the_iso_again_is_helped_by_the_operator(b: Bench) -> None:
    b.fake.starts_from_cd = True
    first = b.deploy("--install-limit", "0.03")
    assert "no handshake within" in first.stderr
    result = b.run("deploy", "--installed", "--yes", "--pause", "0.1")
    assert result.returncode == 0, result.stderr
    assert b.state()["handshake_before"] is None
    assert b.fake.created.count("instance") == 1


def test_a_server_that_makes_its_own_key_waits_for_being_told(b: Bench) -> None:
    config = b.root / "obsdimg.toml"
    config.write_text(config.read_text().replace("[tunnel]", '[tunnel]\nkeys = "first-boot"'))
    result = b.deploy()
    assert "no client here can call it" in result.stderr
    assert "--server-key" in result.stderr
    assert b.fake.left()["instances"] == 1


# -- what the provider does wrong


def test_a_copy_that_differs_is_removed_there_and_nothing_is_made(b: Bench, store: S3Store) -> None:
    b.fake.tamper = True
    b.env |= store.env
    b.configure(store.table())
    result = b.run("deploy", "--yes", "--pause", "0.1")
    assert result.returncode == 1
    assert "error: the provider's copy is not our ISO (sha512 " in result.stderr
    assert (b.fake.left(), b.fake.created) == (NOTHING, ["iso"])
    assert store.keys() == []
    b.fake.tamper = False
    assert b.run("deploy", "--yes", "--pause", "0.1").returncode == 0
    assert store.keys() == []


def test_a_size_in_kilobytes_is_understood(b: Bench) -> None:
    b.fake.size_unit = 1024
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0


def test_a_provider_that_cannot_fetch_it_is_said(b: Bench) -> None:
    url = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}/mine.iso"
    result = b.run("upload", "--pause", "0.1", "--url", url)
    assert "error: the provider dropped the ISO: it could not fetch it" in result.stderr
    assert b.fake.left() == NOTHING


def test_a_download_that_never_ends_is_given_up_and_removed(b: Bench) -> None:
    b.fake.keeps_failed = True
    url = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}/mine.iso"
    result = b.run("upload", "--pause", "0.1", "--upload-limit", "0.02", "--url", url)
    assert "for the provider's download of the ISO, in vain; it was removed there" in result.stderr
    assert b.fake.left() == NOTHING
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0


def test_a_slow_download_is_waited_for(tmp_path: Path) -> None:
    with bench(tmp_path, rate=1_500_000) as b:
        start = time.monotonic()
        assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0
        assert time.monotonic() - start > 2


@pytest.mark.parametrize("kind", ["cut", "cut-before", "garbage", "500"])
@pytest.mark.parametrize("what", ["POST /v2/iso", "POST /v2/instances", "POST /v2/firewalls"])
def test_lost_answers_never_make_two(b: Bench, what: str, kind: str) -> None:
    fault = Fault(what, kind)
    if kind == "500":
        fault.kind, fault.value = "status", 500
    b.fake.faults.append(fault)
    work, project = in_process(b)
    through(work, project, b)
    made = sorted(b.fake.created)
    assert made == ["firewall", "instance", "iso"]


def test_a_list_that_lags_behind_is_waited_for(b: Bench) -> None:
    b.fake.list_lag = 0.4
    b.fake.faults.append(Fault("POST /v2/instances", "cut"))
    work, project = in_process(b)
    through(work, project, b)
    assert b.fake.created.count("instance") == 1


def test_an_instance_that_stays_pending_has_a_limit_and_can_be_destroyed(b: Bench) -> None:
    b.fake.stuck = True
    work, project = in_process(b)
    with pytest.raises(DeployError, match="for the instance to become active, in vain"):
        through(work, project, b)
    assert b.run("deploy", "destroy", "--confirm", "vpn", "--pause", "0.1").returncode == 0
    assert b.fake.left() == NOTHING


def in_process(b: Bench) -> tuple[Deployment, Project]:
    """The deployment without the command line, with short limits."""
    project = Project.open(b.root / "obsdimg.toml")
    store = store_of(project)
    image = load_image(b.iso, False)
    state = begin(project, store, "vpn", "vpn", image)
    limits = Waits(
        download=20, activate=1.5, install=20, silence=20, unlock=20, first_pause=0.05,
        longest_pause=0.1, settle=(0.0, 0.1, 0.4),
    )  # fmt: skip
    api = Api("Vultr", b.fake.url, Secret(fake_vultr.TOKEN))
    return Deployment(Vultr(api), store, state, limits=limits), project


def through(work: Deployment, project: Project, b: Bench) -> None:
    place = ("127.0.0.1", free_port(socket.SOCK_STREAM))
    upload = Upload(work.provider, work.store, work.state, limits=work.limits)
    upload.upload(load_image(b.iso, False), FromHere(place, place), False)
    work.create(wanted_instance(project.config, None))
    caller = first_caller(plan_clients(project.config, project.keys(make=False)))
    assert caller is not None
    work.await_installation(caller, lambda: False)


@pytest.mark.parametrize(
    ("provider", "lives", "begun", "option", "found"),
    [
        ("libvirt", False, "", None, "ams"),
        ("libvirt", False, "", "fast", "fast"),
        ("libvirt", False, "fast", None, "fast"),
        ("libvirt", False, "fast", "fast", "fast"),
        ("libvirt", False, "fast", "slow", "begun in fast"),
        ("vultr", False, "fra", "ams", "ams"),
        ("vultr", False, "fra", None, "ams"),
        ("vultr", True, "fra", None, "fra"),
        ("vultr", True, "fra", "ams", "begun in fra"),
    ],
)
def test_everything_of_a_deployment_lies_in_one_region(
    tmp_path: Path, provider: str, lives: bool, begun: str, option: str | None, found: str
) -> None:
    """libvirt's is a storage pool: the ISO, the disk and the removal must mean the same one."""
    config = tmp_path / "obsdimg.toml"
    config.write_text(
        f'[release]\nversion = "7.9"\n[deploy]\nprovider = "{provider}"\nregion = "ams"\n'
    )
    project = Project.open(config)
    state = State.begin("vpn", provider, "vpn", "0" * 64, "0" * 128, 1, "iso")
    state.region, state.instance.id = begun, "17" if lives else None
    if found.startswith("begun"):
        with pytest.raises(DeployError, match=found) as caught:
            at_region(project, state, option)
        assert "leave --region out" in str(caught.value.hint)
        return
    assert at_region(project, state, option).config.deploy.region == found
    assert at_region(project, None, option).config.deploy.region == option or option is None


# -- bad input: each one message and, where something can be done, a hint


def test_without_a_token(b: Bench) -> None:
    del b.env["VULTR_API_KEY"]
    result = b.deploy()
    assert result.stderr.startswith("error: there is no token for the provider\nhint: set VULTR")


def test_with_a_wrong_token(b: Bench) -> None:
    b.env["VULTR_API_KEY"] = "WRONG"
    result = b.deploy()
    assert "error: Vultr: the token is not accepted: Invalid API token." in result.stderr
    assert "WRONG" not in result.stderr


def test_with_a_token_file_that_others_may_read(b: Bench) -> None:
    (b.root / "token").write_text(fake_vultr.TOKEN)
    (b.root / "token").chmod(0o644)
    assert "others may read it" in b.deploy("--token-file", "token").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--region", "xyz"], "error: deploy.region: there is no region 'xyz'\nhint: regions: ams"),
        (["--plan", "huge"], "error: deploy.plan: there is no plan 'huge'\nhint: plans in ams"),
        (["--plan", "tiny"], "error: deploy.plan: tiny has a disk of 2 GB, too small"),
        (["--name", "../x"], "error: '../x': no name for a deployment\nhint: lower-case"),
        (["--pause", "0"], "error: --pause: between"),
        (["--serve", "nowhere"], "error: --serve: 'nowhere' is not HOST:PORT\nhint: for instance"),
        (["--serve", "192.0.2.1:8080"], "error: 192.0.2.1:8080: cannot listen there"),
        (["--iso", "none.iso"], "error: none.iso: there is no such ISO\nhint: make it"),
    ],
)
def test_arguments_that_make_no_sense(b: Bench, words: list[str], message: str) -> None:
    result = b.deploy(*words)
    usage = "between" in message or "is not HOST:PORT" in message
    assert result.returncode == (2 if usage else 1)
    assert message in result.stderr
    assert b.fake.left()["instances"] == 0
    assert b.fake.created == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["upload"], "the provider fetches the ISO from a URL, and there is none"),
        (["upload", "--listen", "127.0.0.1:1"], "--listen goes with --serve"),
        (["upload", "--url", "gopher://x"], "is not a URL for http or https"),
        (["deploy", "--serve", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["deploy", "--pause", "-1"], "--pause: between"),
    ],
)
def test_wrong_usage_exits_2_before_a_token_is_looked_for(
    b: Bench, words: list[str], message: str
) -> None:
    del b.env["VULTR_API_KEY"]
    result = b.run(*words)
    assert result.returncode == 2 and message in result.stderr
    assert "hint: " in result.stderr and "token" not in result.stderr
    assert b.fake.log == []


def test_a_stand_in_is_refused_before_a_token_is_looked_for(b: Bench) -> None:
    data = bytearray(os.urandom(100_000))
    data[16 * 2048 + 318 : 16 * 2048 + 446] = PUBLISHER.encode().ljust(128)
    b.make_iso(bytes(data))
    del b.env["VULTR_API_KEY"]
    for command in ("upload", "deploy"):
        result = b.run(command, *b.serving())
        assert result.returncode == 1
        assert "was built on the stand-in medium: it is not OpenBSD" in result.stderr
    assert b.fake.log == []


def test_a_failed_first_upload_leaves_no_deployment(b: Bench) -> None:
    b.fake.faults.append(
        Fault("GET /v2/iso", "status", 403, body={"error": "Unauthorized IP address: 192.0.2.7"})
    )
    result = b.run("upload", "--pause", "0.1", *b.serving())
    assert result.returncode == 1
    assert "may not be used from this machine's address" in result.stderr
    assert "hint: allow the address in the account's API settings" in result.stderr
    assert not b.state_path.exists()
    assert "nothing deployed" in b.run("deploy", "status").stdout
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0
    assert b.state_path.exists()


def test_an_iso_that_is_not_ours(b: Bench) -> None:
    b.iso.with_name(b.iso.name + ".json").unlink()
    assert "not an ISO that obsdimg built here" in b.deploy().stderr
    b.iso.with_name(b.iso.name + ".json").write_text('{"tool": "other"}')
    assert "is no manifest of obsdimg" in b.deploy().stderr


def test_an_iso_that_changed_since_its_manifest(b: Bench) -> None:
    with b.iso.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"changed")
    result = b.deploy()
    assert "changed since it was built" in result.stderr
    assert "hint: build it again: obsdimg build" in result.stderr
    assert b.fake.created == []


def test_an_iso_with_a_secret_in_clear(b: Bench) -> None:
    b.make_iso(os.urandom(100_000), secrets=True)
    assert "holds its passphrase in clear" in b.deploy().stderr
    assert b.fake.created == []
    assert b.run("upload", "--pause", "0.1", "--allow-secrets", *b.serving()).returncode == 0


def test_another_iso_than_the_one_that_the_deployment_was_begun_with(b: Bench) -> None:
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0
    b.make_iso(os.urandom(100_000))
    result = b.deploy()
    assert "this deployment was begun with another ISO" in result.stderr
    assert "obsdimg deploy destroy" in result.stderr


def test_no_place_for_the_iso(b: Bench) -> None:
    result = b.run("deploy", "--yes")
    assert "the provider fetches the ISO from a URL, and there is none" in result.stderr
    assert "--serve HOST:PORT" in result.stderr


def test_a_bucket_without_keys(b: Bench, store: S3Store) -> None:
    b.configure(store.table())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        b.env.pop(name, None)
    result = b.run("deploy", "--yes")
    assert "error: there are no keys for the object store" in result.stderr


def test_nobody_to_ask_and_no_yes(b: Bench) -> None:
    result = b.run("deploy", *b.serving())
    assert "error: Make it? needs an answer\nhint: use --yes" in result.stderr
    assert b.fake.created == []


def test_a_name_that_is_taken(b: Bench) -> None:
    b.fake.stuck = True  # the other one never runs
    b.fake.isos["x"] = {"id": "x", "status": "complete", "filename": "x"}
    b.fake._born["x"] = 0.0
    b.fake.create_instance({}, {"iso_id": "x", "label": "vpn", "hostname": "o", "tags": [],
                                "region": "ams", "plan": "p"})  # fmt: skip
    result = b.deploy()
    assert "the account has an instance called vpn already" in result.stderr
    assert b.fake.created == ["instance"]
    b.fake.stuck = False
    assert b.deploy("--label", "other").returncode == 0


def test_a_quota_of_isos(b: Bench) -> None:
    b.fake.iso_limit = 0
    result = b.deploy()
    assert "You have reached the maximum number of ISOs" in result.stderr
    assert "hint: a limit of the account is reached" in result.stderr
    b.fake.iso_limit = 1
    assert b.deploy().returncode == 0


def test_a_quota_of_instances_leaves_what_is_there_for_the_next_try(b: Bench) -> None:
    b.fake.instance_limit = 0
    result = b.deploy()
    assert "not allowed: You have reached the maximum monthly fee limit" in result.stderr
    b.fake.instance_limit = 1
    assert b.deploy().returncode == 0
    assert b.fake.created == ["iso", "firewall", "instance"]


def test_two_at_once(b: Bench) -> None:
    b.fake.install_seconds = 6
    first = b.start("deploy", "--yes", "--pause", "0.1", *b.serving())
    end = time.monotonic() + 30
    while not b.state_path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    second = b.deploy()
    assert "another obsdimg works on this deployment" in second.stderr
    assert first.communicate(timeout=60)[0] and first.returncode == 0
    assert b.fake.created.count("instance") == 1


def test_a_damaged_state_file(b: Bench) -> None:
    b.state_path.parent.mkdir(mode=0o700)
    for text in ("", "[]", '{"format": 2}', "{"):
        b.state_path.write_text(text)
        assert "is damaged, or of another version" in b.deploy().stderr


def test_an_instance_that_somebody_else_removed(b: Bench) -> None:
    assert b.deploy().returncode == 0
    b.state_path.write_text(json.dumps({**b.state(), "installed": False, "done": False}))
    b.fake.answer("DELETE", f"/v2/instances/{b.state()['instance']['id']}", {}, None)
    assert "the provider has no instance" in b.deploy().stderr
    assert "instance: none" in b.run("deploy", "status").stdout
    assert b.run("deploy", "destroy", "--confirm", "vpn").returncode == 0
    assert b.fake.left() == NOTHING


def test_a_half_destroyed_deployment_can_only_be_destroyed(b: Bench) -> None:
    assert b.deploy().returncode == 0
    b.fake.faults.append(Fault("DELETE /v2/firewalls/.*", "status", 403))
    assert b.run("deploy", "destroy", "--confirm", "vpn").returncode == 1
    assert "is being destroyed" in b.deploy().stderr
    assert b.run("deploy", "destroy", "--confirm", "vpn").returncode == 0
    assert b.fake.left() == NOTHING
