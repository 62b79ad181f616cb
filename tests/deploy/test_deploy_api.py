"""The client of the provider's API against every fault, and what each becomes for the user."""

from __future__ import annotations

import email.utils
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.retries import Pace
from obsdimg.core.secret import Secret
from obsdimg.deploy.api import Api
from obsdimg.deploy.credentials import find_s3_keys, find_token
from obsdimg.deploy.provider import (
    InstanceSpec,
    MissingError,
    ProviderError,
    TokenError,
    UncertainError,
)
from obsdimg.deploy.vultr import Vultr
from support import fake_vultr
from support.deploy_bench import Bench, free_port
from support.fake_vultr import Fault

QUICK = Pace(connect=1, read=0.5, tries=3, first_wait=0.01, longest_wait=0.02)


@contextmanager
def vultr(
    b: Bench, token: str = fake_vultr.TOKEN, slept: list[float] | None = None
) -> Iterator[Vultr]:
    sleep = time.sleep if slept is None else slept.append
    with Api("Vultr", b.fake.url, Secret(token), QUICK, sleep) as api:
        yield Vultr(api)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (400, ProviderError, "refused (400): As asked"),
        (403, ProviderError, "not allowed: As asked"),
        (404, MissingError, "there is no such thing"),
        (412, ProviderError, "refused (412)"),
        (422, ProviderError, "refused (422)"),
        (302, ProviderError, "redirects (302)"),
    ],
)
def test_a_refusal_is_one_sentence_and_is_not_repeated(
    b: Bench, code: int, kind: type[ProviderError], words: str
) -> None:
    b.fake.faults.append(Fault("GET /v2/regions", "status", code, headers={"Location": "/x"}))
    with vultr(b) as provider, pytest.raises(kind) as caught:
        provider.offer("ams", "vc2-1c-1gb")
    assert words in caught.value.message
    assert b.fake.log == ["GET /v2/regions"]


def test_a_wrong_token_is_said_and_never_shown(b: Bench) -> None:
    wrong = "WRONGTOKENWRONGTOKEN"
    b.fake.faults.append(
        Fault("GET /v2/plans", "status", 401, body={"error": f"Invalid API token {wrong}."})
    )
    with vultr(b, wrong) as provider, pytest.raises(TokenError) as caught:
        provider.offer("ams", "vc2-1c-1gb")
    assert wrong not in caught.value.message
    assert "API settings" in str(caught.value.hint)
    with Api("Vultr", b.fake.url, Secret(wrong), QUICK) as api:
        with pytest.raises(TokenError) as caught:
            api.get("/plans")
        assert "[token]" in caught.value.message
        assert wrong not in repr(api.__dict__) + repr(caught.value)


@pytest.mark.parametrize("code", [401, 403])
def test_an_address_that_the_token_does_not_allow_says_so(b: Bench, code: int) -> None:
    words = {"error": "Unauthorized IP address: 192.0.2.7"}
    b.fake.faults.append(Fault("GET /v2/regions", "status", code, body=words))
    with vultr(b) as provider, pytest.raises(TokenError, match=r"address: Unauthorized IP") as e:
        provider.offer("ams", "vc2-1c-1gb")
    assert "access control" in str(e.value.hint)


def test_too_many_requests_are_waited_for_as_the_server_says(b: Bench) -> None:
    in_a_minute = email.utils.formatdate(time.time() + 55, usegmt=True)
    b.fake.faults += [
        Fault("GET /v2/regions", "status", 429, headers={"Retry-After": "3"}),
        Fault("GET /v2/regions", "status", 429, headers={"Retry-After": in_a_minute}),
    ]
    slept: list[float] = []
    with vultr(b, slept=slept) as provider:
        assert provider.offer("ams", "vc2-1c-1gb").place == "Amsterdam, NL"
    assert slept[0] == 3.0
    assert 5.0 < slept[1] <= 55.0


def test_a_server_that_asks_for_an_hour_is_not_waited_for(b: Bench) -> None:
    b.fake.faults.append(Fault("GET /v2/regions", "status", 429, headers={"Retry-After": "3600"}))
    with vultr(b) as provider, pytest.raises(ProviderError, match="it asks to wait 3600 s"):
        provider.offer("ams", "vc2-1c-1gb")


@pytest.mark.parametrize("kind", ["cut", "cut-before", "garbage", "stall", "500", "503"])
def test_reading_is_tried_again_whatever_breaks(b: Bench, kind: str) -> None:
    fault = Fault("GET /v2/regions", kind, 1.0, times=2)
    if kind.isdigit():
        fault.kind, fault.value = "status", int(kind)
    b.fake.faults.append(fault)
    with vultr(b) as provider:
        assert provider.offer("ams", "vc2-1c-1gb").disk == 25


@pytest.mark.parametrize("kind", ["cut", "cut-before", "garbage", "stall", "500"])
def test_creating_is_not_tried_again_when_the_answer_is_lost(b: Bench, kind: str) -> None:
    fault = Fault("POST /v2/firewalls", kind, 1.0, times=9)
    if kind.isdigit():
        fault.kind, fault.value = "status", int(kind)
    b.fake.faults.append(fault)
    with vultr(b) as provider, pytest.raises(UncertainError):
        provider.create_firewall("x")
    assert b.fake.log.count("POST /v2/firewalls") == 1


def test_creating_is_tried_again_when_it_was_only_too_early(b: Bench) -> None:
    b.fake.faults.append(Fault("POST /v2/firewalls", "status", 429, times=2))
    with vultr(b) as provider:
        provider.create_firewall("x")
    assert b.fake.created == ["firewall"]


def test_an_endpoint_that_takes_the_connection_and_never_answers_has_a_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/v2"
        start = time.monotonic()
        with (
            Api("Vultr", base, Secret("t"), QUICK) as api,
            pytest.raises(ProviderError, match=r"no answer within 0\.5 s"),
        ):
            api.get("/regions")
        assert time.monotonic() - start < 5


def test_an_endpoint_that_is_not_there_is_said() -> None:
    base = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}/v2"
    with (
        Api("Vultr", base, Secret("t"), QUICK) as api,
        pytest.raises(ProviderError, match="cannot be reached: refused"),
    ):
        api.post("/iso", {}, repeatable=False)


@pytest.mark.parametrize(
    "base", ["http://api.vultr.com/v2", "http://127.0.0.1.example/v2", "ftp://x"]
)
def test_the_token_is_not_sent_in_clear(base: str) -> None:
    with pytest.raises(ProviderError, match="in clear"):
        Api("Vultr", base, Secret("t"))


def test_the_token_does_not_follow_a_redirect(b: Bench) -> None:
    elsewhere = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}/"
    b.fake.faults.append(Fault("GET /v2/iso", "status", 307, headers={"Location": elsewhere}))
    with vultr(b) as provider, pytest.raises(ProviderError, match="not followed"):
        provider.isos()


def test_lists_of_several_pages_are_read_whole(b: Bench) -> None:
    with vultr(b) as provider:
        made = {provider.create_firewall(f"group {n}").id for n in range(5)}
        assert {group.id for group in provider.firewalls()} == made


@pytest.mark.parametrize(
    ("reported", "agrees"),
    [(3_000_000, True), (2929, True), (2930, True), (3000, True), (2_999_999, False), (0, False)],
)
def test_a_size_in_bytes_or_in_kilobytes_agrees(b: Bench, reported: int, agrees: bool) -> None:
    with vultr(b) as provider:
        assert provider.size_agrees(reported, 3_000_000) is agrees


@pytest.mark.parametrize(
    ("region", "plan", "message", "hint"),
    [
        ("", "vc2-1c-1gb", "deploy.region is not set", "regions: ams, fra"),
        ("xyz", "vc2-1c-1gb", "no region 'xyz'", "regions: ams, fra"),
        ("ams", "huge", "no plan 'huge'", "plans in ams: sold-out, tiny, vc2-1c-1gb"),
        ("ams", "vc2-1c-0.5gb-v6", "cannot be had in ams", "available there: tiny, vc2-1c-1gb"),
        ("ams", "sold-out", "cannot be had in ams", "available there: tiny, vc2-1c-1gb"),
    ],
)
def test_unknown_regions_and_plans_are_answered_with_those_there_are(
    b: Bench, region: str, plan: str, message: str, hint: str
) -> None:
    with vultr(b) as provider, pytest.raises(ProviderError) as caught:
        provider.offer(region, plan)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_what_is_gone_already_is_deleted_without_a_word(b: Bench) -> None:
    gone = "00000000-0000-0000-0000-000000000000"
    with vultr(b) as provider:
        provider.delete_iso(gone)
        provider.delete_instance(gone)
        provider.delete_firewall(gone)
        provider.delete_network(gone)
        assert provider.iso(gone) is None
        assert provider.instance(gone) is None


def test_an_answer_without_the_expected_fields_is_no_traceback(b: Bench) -> None:
    b.fake.faults.append(Fault("POST /v2/instances", "status", 202, body={"instance": {"id": 1}}))
    spec = InstanceSpec("ams", "vc2-1c-1gb", "a", "a", "a", "a")
    with vultr(b) as provider, pytest.raises(UncertainError, match="does not describe an instance"):
        provider.create_instance(spec)


def test_the_password_that_the_provider_sends_is_never_kept(b: Bench) -> None:
    b.fake.isos["x"] = {"id": "x", "status": "complete"}
    with vultr(b) as provider:
        made = provider.create_instance(InstanceSpec("ams", "p", "l", "h", "t", "x"))
    assert "do-not-log-this" not in repr(made)
    assert "novnc" not in repr(made)


# -- where tokens come from


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_comes_before_the_variable(tmp_path: Path) -> None:
    file = private(tmp_path / "token", "FROMFILE\n")
    assert find_token(file, {"VULTR_API_KEY": "FROMVARIABLE"}).reveal() == "FROMFILE"
    assert find_token(None, {"VULTR_API_KEY": "FROMVARIABLE"}).reveal() == "FROMVARIABLE"


def test_a_keyring_is_asked_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keyring.py").write_text(
        "def get_password(service, user):\n    return f'{service}-{user}-TOKEN'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    assert find_token(None, {}).reveal() == "obsdimg-vultr-TOKEN"
    del sys.modules["keyring"]  # by monkeypatch it would come back


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("TOKEN", 0o644, "others may read it"),
        ("", 0o600, "no token"),
        ("two words", 0o600, "no token"),
        ("schlüssel", 0o600, "no token"),
    ],
)
def test_token_files_that_will_not_do(tmp_path: Path, text: str, mode: int, message: str) -> None:
    with pytest.raises(ObsdimgError) as caught:
        find_token(private(tmp_path / "token", text, mode), {})
    assert message in caught.value.message
    assert not text or text not in caught.value.message


@pytest.mark.skipif(find_spec("keyring") is not None, reason="a keyring is installed here")
def test_no_token_anywhere_says_where_one_may_be() -> None:
    with pytest.raises(TokenError) as caught:
        find_token(None, {})
    assert "VULTR_API_KEY" in str(caught.value.hint)
    with pytest.raises(ObsdimgError):
        find_token(Path("/nonexistent/token"), {})


def test_keys_of_the_store_come_from_a_credentials_file_or_variables(tmp_path: Path) -> None:
    file = private(
        tmp_path / "credentials",
        "[default]\naws_access_key_id = AK\naws_secret_access_key=S/K+=\n[other]\nx = y\n",
    )
    keys = find_s3_keys(file, {})
    assert (keys.access, keys.secret.reveal()) == ("AK", "S/K+=")
    keys = find_s3_keys(None, {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"})
    assert (keys.access, keys.secret.reveal()) == ("A", "B")
    assert "B" not in repr(keys).replace("Bucket", "")
    with pytest.raises(TokenError, match="no keys for the object store"):
        find_s3_keys(None, {"AWS_ACCESS_KEY_ID": "A"})
